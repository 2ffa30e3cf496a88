"""What stands around numbers, as words: decimal point, sign, percent, money, ordinals.

The numbers themselves come from num2words, whose decimals, signs and amounts of money are left
aside: they are wrong in several languages (Turkish decimals are empty, -5 is 15 in Vietnamese,
Italian drops the decimals).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class NumberWords:
    """How a language writes and reads what stands around numbers; None: left unread."""

    point: str | None = None
    """Between the whole part and the decimals, which are read one by one."""
    minus: str | None = None
    percent: str | None = None
    """After the number; before it where it ends in `…`."""
    money: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Symbol → the currency after one, and after any other number."""
    one: str | None = None
    """The number one before a currency, where it is another word than in counting."""
    ordinal: str | None = None
    """RE of what makes an ordinal of the number before it."""
    dotted: str | None = None
    """RE of the words before which `21.` is an ordinal."""


def _money(text: str) -> dict[str, tuple[str, str]]:
    pairs = [word.split("/") for word in text.split()]
    return {symbol: (pair[0], pair[-1]) for symbol, pair in zip("$€£¥", pairs, strict=True)}


_GERMANIC_MONTHS = (
    r"j[aä]n(?:n?er|uar)|feb(?:er|ruar)|mars|marts|märz|april|maj|mai|ju[nl]i|august|"
    r"[sz]eptember|o[kc]tober|oktober|november|de[zs]ember|december"
)

WORDS: dict[str, NumberWords] = {
    "ca": NumberWords(point="coma", minus="menys", percent="per cent"),
    "cs": NumberWords(minus="minus", percent="procent"),
    "da": NumberWords(
        point="komma",
        minus="minus",
        percent="procent",
        money=_money("dollar euro pund yen"),
        dotted=_GERMANIC_MONTHS,
    ),
    "de": NumberWords(
        point="Komma",
        minus="minus",
        percent="Prozent",
        money=_money("Dollar Euro Pfund Yen"),
        one="ein",
        dotted=_GERMANIC_MONTHS,
    ),
    "en": NumberWords(
        point="point",
        minus="minus",
        percent="percent",
        money=_money("dollar/dollars euro/euros pound/pounds yen"),
        ordinal="st|nd|rd|th",
    ),
    "es": NumberWords(
        point="coma",
        minus="menos",
        percent="por ciento",
        money=_money("dólar/dólares euro/euros libra/libras yen/yenes"),
        one="un",
    ),
    "fi": NumberWords(point="pilkku", minus="miinus", percent="prosenttia"),
    "fr": NumberWords(
        point="virgule",
        minus="moins",
        percent="pour cent",
        money=_money("dollar/dollars euro/euros livre/livres yen/yens"),
        ordinal="ère|ere|ème|eme|er|re|e",
    ),
    "id": NumberWords(point="koma", minus="minus", percent="persen"),
    "it": NumberWords(
        point="virgola",
        minus="meno",
        percent="per cento",
        money=_money("dollaro/dollari euro sterlina/sterline yen"),
        one="un",
    ),
    "ja": NumberWords(
        point="点", minus="マイナス", percent="パーセント", money=_money("ドル ユーロ ポンド 円")
    ),
    "ko": NumberWords(
        point="점", minus="마이너스", percent="퍼센트", money=_money("달러 유로 파운드 엔")
    ),
    "nl": NumberWords(
        point="komma",
        minus="min",
        percent="procent",
        money=_money("dollar euro pond yen"),
        ordinal="ste|de|e",
    ),
    "no": NumberWords(
        point="komma",
        minus="minus",
        percent="prosent",
        money=_money("dollar euro pund yen"),
        dotted=_GERMANIC_MONTHS,
    ),
    "pl": NumberWords(point="przecinek", minus="minus", percent="procent"),
    "pt": NumberWords(
        point="vírgula",
        minus="menos",
        percent="por cento",
        money=_money("dólar/dólares euro/euros libra/libras iene/ienes"),
    ),
    "ro": NumberWords(point="virgulă", minus="minus", percent="la sută"),
    "ru": NumberWords(minus="минус"),
    "sv": NumberWords(
        point="komma",
        minus="minus",
        percent="procent",
        money=_money("dollar euro pund yen"),
        ordinal=":[ae]",
    ),
    "th": NumberWords(point="จุด", minus="ลบ", percent="เปอร์เซ็นต์"),
    "uk": NumberWords(minus="мінус"),
    "vi": NumberWords(point="phẩy", minus="âm", percent="phần trăm"),
    "zh": NumberWords(point="点", minus="负", percent="百分之…", money=_money("美元 欧元 英镑 元")),
}
NONE = NumberWords()

FEMININE = frozenset({"es", "it", "pt"})
"""Languages whose ordinals end in -o, and in -a before `ª`."""

_COUNTED = """
    ar az be bn ca ce cs cy da de en eo es fa fi fr he hu id is it ja kn ko lt lv nl no pl pt ro ru
    sk sl sv te tg th uk vi
"""
_GROUPED_BY_SPACE = "be bg cs fi fr hu kk lt lv nb no pl pt ru sk sv uk"

COUNTED = {**{code: code for code in _COUNTED.split()}, "kk": "kz", "nb": "no"}
"""Languages → what num2words calls them.

Left out of its list: am (it never ends from a million on), sr (Latin letters, whatever the text is
in), tr (all in one word, which nobody writes), tet and variants of countries.
"""

POINTED = frozenset({"bn", "cmn", "cy", "en", "he", "ja", "kn", "ko", "te", "th", "yue", "zh"})
"""Languages that write 1,234.5; the others write 1.234,5."""

GROUPED_BY_SPACE = frozenset(_GROUPED_BY_SPACE.split())
"""Languages that also write 1 234,5."""
