"""Mandarin text → stretches that espeak-ng reads rightly: pinyin with tones, and Latin words.

Pinyin comes from pypinyin, whose dictionary of phrases tells readings apart (银行 yin2 hang2, 行走
xing2 zou3). The tones of 不 and 一 change as it says; those of third tones in a row espeak-ng
changes itself.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

from cslm_data.synthesis.backend import UnspeakableError
from cslm_data.text.numbers import fold_digits, mark_digits, spell_numbers

_HAN = r"㐀-䶿一-鿿豈-﫿〇\U00020000-\U0003ffff"
_RUN = re.compile(rf"(?P<han>[{_HAN}]+)|(?P<latin>[A-Za-zÀ-ɏ][A-Za-zÀ-ɏ'’ .-]*)|(?P<other>.)")
_SYLLABLE = re.compile(r"[a-zêü]+[1-5]")
_SYMBOLS = str.maketrans(
    {
        "℃": "摄氏度",
        "℉": "华氏度",
        "+": "加",
        "=": "等于",
        "×": "乘以",
        "÷": "除以",
        "<": "小于",
        ">": "大于",
        "≤": "小于等于",
        "≥": "大于等于",
        "&": "和",
    }
)
"""What is said for them; other symbols are not said."""
_ALONE = {"长": "chang2", "地": "de5", "得": "de5"}
"""What these are outside of phrases; the dictionary has their readings inside of them."""
_PAUSES = {
    **dict.fromkeys(",，、：:;；·—…()（）", ","),
    **dict.fromkeys(".。", "."),
    **dict.fromkeys("!！", "!"),
    **dict.fromkeys("?？", "?"),
}


class Stretch(NamedTuple):
    """Text of one kind."""

    text: str
    is_pinyin: bool
    """Else words of Latin letters."""


def read_mandarin(text: str) -> list[Stretch]:
    """The stretches of a text, numbers spelled out. Raises UnspeakableError: `unsupported_text`.

    Latin words stand apart: among pinyin, `he` or `can` would be read as syllables.
    """
    plus = re.sub(r"(?<=[A-Za-z])\++", lambda found: " plus" * len(found[0]) + " ", text)
    said = plus.translate(_SYMBOLS)
    wide = unicodedata.normalize("NFKC", mark_digits(said, "zh"))
    plain = re.sub(r"\s+", " ", spell_numbers(fold_digits(wide), "zh"))
    stretches: list[Stretch] = []
    pinyin: list[str] = []
    for run in _RUN.finditer(plain):
        if run["latin"]:
            _end_pinyin(pinyin, stretches)
            stretches.append(Stretch(run["latin"].strip(), is_pinyin=False))
        elif run["han"]:
            pinyin += syllables(run["han"])
        elif pause := _PAUSES.get(run["other"]):
            pinyin.append(pause)
    _end_pinyin(pinyin, stretches)
    return stretches


def syllables(han: str) -> list[str]:
    """The pinyin of Hanzi, one syllable each with its tone, 5 for none. Raises UnspeakableError."""
    from pypinyin import Style, lazy_pinyin
    from pypinyin.seg.mmseg import seg

    read = functools.partial(lazy_pinyin, han, style=Style.TONE3, neutral_tone_with_five=True)
    plain: list[str] = read()
    changed: list[str] = read(tone_sandhi=True)
    for syllable in plain:
        if not _SYLLABLE.fullmatch(syllable):
            detail = f"no pinyin is known of {syllable!r}"
            raise UnspeakableError("unsupported_text", detail)
    alone = [len(word) == 1 for word in seg.cut(han) for _ in word]
    return [
        _ALONE[letter] if is_word and letter in _ALONE else after if letter in "一不" else before
        for letter, is_word, before, after in zip(han, alone, plain, changed, strict=True)
    ]


def _end_pinyin(pinyin: list[str], stretches: list[Stretch]) -> None:
    """Make a stretch of the syllables and pauses so far; of pauses alone, none."""
    if any(_SYLLABLE.fullmatch(each) for each in pinyin):
        stretches.append(Stretch(" ".join(pinyin), is_pinyin=True))
    pinyin.clear()
