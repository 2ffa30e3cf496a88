"""Which scripts each language is written in, for Python and for SQL. Script names of ISO 15924."""

from __future__ import annotations

import functools

_LANGUAGES = {
    "Arab": "ar fa ps ur",
    "Arab Cyrl": "ky tg",
    "Arab Cyrl Latn": "az kk ku ug uz",
    "Arab Deva": "ks sd",
    "Arab Guru": "pa",
    "Arab Latn": "ha ms",
    "Armn": "hy",
    "Beng": "as bn",
    "Beng Deva Latn Olck Orya": "sat",
    "Beng Latn Mtei": "mni",
    "Bopo Hani": "cmn wuu yue zh",
    "Bopo Hani Latn": "hak hmn nan",
    "Cans Latn": "cr iu oj",
    "Cyrl": "ab av ba be bg ce cu cv kv mk os ru uk",
    "Cyrl Latn": "bs sr tk tt",
    "Cyrl Mong": "mn",
    "Deva": "hi mr ne sa",
    "Ethi": "am ti",
    "Geor": "ka",
    "Grek": "el",
    "Gujr": "gu",
    "Hang Hani": "ko",
    "Hani Hira Kana": "ja",
    "Hebr": "he yi",
    "Khmr": "km",
    "Knda": "kn",
    "Laoo": "lo",
    "Latn": (
        "af ast bar bi bm br ca ceb ch co cs cy da de dsb ee en eo es et eu ff fi fil fj fo fr fy "
        "ga gd gl gn gsw gv haw hr hsb ht hu hz id ig ik io is it jv kab kg ki kj kl kr kw la lb "
        "lg li ln lt lu lv mg mh mi mt na nb nd nds ng nl nn no nr nv ny oc om pap pl pt qu rm rn "
        "ro rw sc scn se sg sk sl sm sn so sq ss st su sv sw szl tl tn to tpi tr ts tw ty ve vi vo "
        "wa wo xh yo za zu"
    ),
    "Mlym": "ml",
    "Mymr": "my",
    "Orya": "or",
    "Sinh": "si",
    "Taml": "ta",
    "Telu": "te",
    "Thaa": "dv",
    "Thai": "th",
    "Tibt": "bo dz",
    "Yiii": "ii",
}
"""Scripts → the languages written in any of them. A language that is not here is not checked."""

_RE2 = {
    "Arab": "Arabic",
    "Armn": "Armenian",
    "Beng": "Bengali",
    "Bopo": "Bopomofo",
    "Cans": "Canadian_Aboriginal",
    "Cyrl": "Cyrillic",
    "Deva": "Devanagari",
    "Ethi": "Ethiopic",
    "Geor": "Georgian",
    "Grek": "Greek",
    "Gujr": "Gujarati",
    "Guru": "Gurmukhi",
    "Hang": "Hangul",
    "Hani": "Han",
    "Hebr": "Hebrew",
    "Hira": "Hiragana",
    "Kana": "Katakana",
    "Khmr": "Khmer",
    "Knda": "Kannada",
    "Laoo": "Lao",
    "Latn": "Latin",
    "Mlym": "Malayalam",
    "Mong": "Mongolian",
    "Mtei": "Meetei_Mayek",
    "Mymr": "Myanmar",
    "Olck": "Ol_Chiki",
    "Orya": "Oriya",
    "Sinh": "Sinhala",
    "Taml": "Tamil",
    "Telu": "Telugu",
    "Thaa": "Thaana",
    "Thai": "Thai",
    "Tibt": "Tibetan",
    "Yiii": "Yi",
}
"""ISO 15924 → what RE2 calls the script."""


@functools.cache
def language_scripts() -> dict[str, tuple[str, ...]]:
    """Language → its scripts; languages that are not checked are absent."""
    rows = ((code, scripts) for scripts, codes in _LANGUAGES.items() for code in codes.split())
    return {code: tuple(scripts.split()) for code, scripts in sorted(rows)}


def script_class(scripts: tuple[str, ...]) -> str:
    r"""RE2 character class of the letters of some scripts, and of those that all share: ー, ʼ."""
    names = [*(_RE2[script] for script in scripts), "Common", "Inherited"]
    return "[" + "".join(rf"\p{{{name}}}" for name in names) + "]"


@functools.cache
def fill_scripts(query: str) -> str:
    """`text_scripts.sql` with the table of languages and a constant pattern per set of scripts.

    A pattern that came from a column would be compiled anew for every row.
    """
    table = language_scripts()
    rows = ",\n    ".join(
        f"('{code}', [{', '.join(map(repr, scripts))}])" for code, scripts in table.items()
    )
    by_scripts: dict[tuple[str, ...], list[str]] = {}
    for code, scripts in table.items():
        by_scripts.setdefault(scripts, []).append(code)
    cases = "\n        ".join(
        f"when language in ({', '.join(map(repr, codes))}) "
        f"then length(regexp_replace(text, '[^\\p{{L}}]+|{script_class(scripts)}+', '', 'g'))"
        for scripts, codes in by_scripts.items()
    )
    return query.replace("{language_scripts}", rows).replace("{outside}", cases)
