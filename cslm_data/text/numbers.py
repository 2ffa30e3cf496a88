"""Numbers in text → words. `23` is `twenty-three` in English, `二十三` in Chinese.

Whole numbers come from num2words; Chinese ones, which it lacks, from the rule below. What is not
read as one number (leading zeros, more than 15 digits, telephone numbers) is read digit by digit,
so a text takes time in proportion to its length whatever stands in it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

from cslm_data.text.number_words import (
    COUNTED,
    FEMININE,
    GROUPED_BY_SPACE,
    NONE,
    POINTED,
    WORDS,
    NumberWords,
)

MAX_DIGITS = 15
_MAX_ENGLISH_YEAR, _MAX_GERMAN_YEAR, _MIN_YEAR = 2099, 1999, 1100
_SMALL = "¹²³⁰-⁹₀-₉¼-¾⅐-⅟↉"
_CHINESE_DIGITS = "零一二三四五六七八九"
_NOT_ASCII_DIGIT = re.compile(r"[^\D0-9]")
_BEFORE_SMALL = re.compile(rf"(?<=\d)(?=[{_SMALL}])")
_INDICATED = re.compile(r"(?<!\d)(\d{1,15})\.?([ºª])")


def can_count(language: str) -> bool:
    """Whether numbers are spelled out in a language; its digits stay otherwise."""
    return language in COUNTED or language in ("zh", "cmn", "yue")


def mark_digits(text: str, language: str) -> str:
    """What NFKC would blur, in words or apart: 10² is not 102, and 3½ not 31⁄2."""
    if not can_count(language):
        return text
    if _family(language) in FEMININE:
        text = _INDICATED.sub(lambda found: _indicated(found, language), text)
    return _BEFORE_SMALL.sub(" ", text)


def fold_digits(text: str) -> str:
    """The decimal digits of every script as 0-9."""
    return _NOT_ASCII_DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), text)


def spell_numbers(text: str, language: str) -> str:
    """Text in NFKC with the numbers in it as words, as far as we can count in its language.

    Decimals, signs, percent, amounts of money and ordinals are read where the language's words for
    them are known. Numbers of four digits are read as years where English (1100 to 2099), German
    (to 1999) and Chinese (before 年) do. Times, dates and versions are numbers one after another.
    """
    if not can_count(language) or not _has_digit(text):
        return text
    return _pattern(language).sub(lambda found: f" {_spell(found, language)} ", text)


class SpelledNumber(NamedTuple):
    """A number of a text, with its sign, currency and ending, and how it is read."""

    start: int
    end: int
    digits: int
    """Where its digits begin."""
    words: str


def find_numbers(text: str, language: str) -> list[SpelledNumber]:
    """The numbers that `spell_numbers` would spell, each with its place in the text."""
    if not can_count(language) or not _has_digit(text):
        return []
    return [
        SpelledNumber(found.start(), found.end(), found.start("number"), _spell(found, language))
        for found in _pattern(language).finditer(text)
    ]


def _has_digit(text: str) -> bool:
    return re.search("[0-9]", text) is not None


def _family(language: str) -> str:
    return {"nb": "no", "cmn": "zh", "yue": "zh"}.get(language, language)


@functools.cache
def _pattern(language: str) -> re.Pattern[str]:
    words = WORDS.get(_family(language), NONE)
    number = r"[0-9]+(?:[.,][0-9]+)*"
    if language in GROUPED_BY_SPACE:
        number = rf"[0-9]{{1,3}}(?: [0-9]{{3}})+(?![0-9])(?:,[0-9]+)?|{number}"
    endings = [r"(?P<percent>\s?%)", r"(?P<after>\s?[$€£¥])(?![0-9])"]
    if words.ordinal:
        endings.append(rf"(?P<ordinal>{words.ordinal})(?!\w)")
    if words.dotted:
        endings.append(rf"(?P<dotted>\.)(?=\s(?:{words.dotted})(?!\w))")
    if language == "en":
        endings.append(r"(?P<decade>'?s)(?!\w)")
        endings.append(r"(?P<scale>\s(?:thousand|million|billion|trillion))(?!\w)")
    if _family(language) == "zh":
        endings.append(r"(?=(?P<year>年))")
        # A tone of pinyin (bei1) and a name in Latin letters (mp3) are no numbers of Chinese.
        number = rf"(?<![A-Za-z0-9]){number}"
    return re.compile(
        rf"(?P<minus>(?<![\w.,])[-−])?(?P<before>[$€£¥]\s?)?(?P<number>{number})"
        rf"(?:{'|'.join(endings)})?",
        re.IGNORECASE,
    )


def _spell(found: re.Match[str], language: str) -> str:
    parts, number = found.groupdict(), found["number"]
    words = WORDS.get(_family(language), NONE)
    if number.isdigit() and len(number) <= MAX_DIGITS:
        if parts.get("ordinal") or parts.get("dotted"):
            return _ordinal(int(number), language, parts.get("ordinal") or "")
        if parts.get("decade"):
            return _decade(number)
        if parts.get("year") and len(number) == 4:
            return _digits(number, language)
    symbol = (found["before"] or found["after"] or "").strip()
    spelled = _money(found, symbol, language, words) if symbol else _read(number, language)
    if found["percent"] and words.percent:
        before, _, after = words.percent.rpartition("…")
        spelled = f"{before} {spelled} {after}"
    if found["minus"] and words.minus:
        spelled = f"{words.minus} {spelled}"
    unread = "" if symbol else parts.get("scale")
    return spelled + (parts.get("ordinal") or parts.get("decade") or unread or "")


def _read(number: str, language: str) -> str:
    """A number with its separators: grouped, with decimals, or several numbers in a row."""
    whole, decimals = _split(number, language)
    if whole is None:
        return " ".join(_whole(part, language) for part in re.split("[., ]", number))
    if decimals is None:
        is_year = len(number) == 4 and not number.startswith("0")
        return _year(int(number), language) if is_year else _whole(whole, language)
    point = WORDS.get(_family(language), NONE).point
    if point is None:
        return f"{_whole(whole, language)} {_whole(decimals, language)}"
    return f"{_whole(whole, language)} {point} {_digits(decimals, language)}"


def _split(number: str, language: str) -> tuple[str | None, str | None]:
    """Whole part without separators and decimals; None, None: not one number."""
    group, point = (",", ".") if language in POINTED else (".", ",")
    whole, *rest = number.split(point)
    if len(rest) > 1 or (rest and not rest[0].isdigit()):
        return None, None
    for separator in (group, " "):
        first, *groups = whole.split(separator)
        if groups and len(first) <= 3 and all(len(digits) == 3 for digits in groups):
            whole = "".join([first, *groups])
    return (whole, rest[0] if rest else None) if whole.isdigit() else (None, None)


def _money(found: re.Match[str], symbol: str, language: str, words: NumberWords) -> str:
    number = found["number"]
    if symbol not in words.money:
        return _read(number, language)
    one, many = words.money[symbol]
    if "scale" in found.groupdict() and found["scale"]:
        return f"{_read(number, language)}{found['scale']} {many}"
    whole, decimals = _split(number, language)
    if whole is not None and decimals is not None and len(decimals) == 2:
        cents = "" if decimals == "00" else _whole(decimals.lstrip("0"), language)
        if whole == "1":
            return f"{words.one or _whole(whole, language)} {one} {cents}"
        if language not in ("zh", "cmn", "yue", "ja", "ko") or not cents:
            return f"{_whole(whole, language)} {many} {cents}"
    if whole == "1" and decimals is None:
        return f"{words.one or _whole(whole, language)} {one}"
    plain = whole is not None and decimals is None
    amount = _whole(str(whole), language) if plain else _read(number, language)
    return f"{amount} {many}"


def _year(number: int, language: str) -> str:
    if language == "en" and _MIN_YEAR <= number <= _MAX_ENGLISH_YEAR:
        return _num2words(number, "en", "year")
    if language == "de" and _MIN_YEAR <= number <= _MAX_GERMAN_YEAR:
        return _num2words(number, "de", "year")
    return _whole(str(number), language)


def _decade(number: str) -> str:
    """`1990` as in 1990s: nineteen nineties."""
    spelled = _year(int(number), "en") if len(number) == 4 else _whole(number, "en")
    return f"{spelled[:-1]}ies" if spelled.endswith("y") else f"{spelled}s"


def _ordinal(number: int, language: str, suffix: str = "") -> str:
    if language == "fr" and number == 1 and suffix.casefold() not in ("e", "er"):
        return "première"
    return _num2words(number, COUNTED[language], "ordinal")


def _indicated(found: re.Match[str], language: str) -> str:
    spelled = _ordinal(int(found[1]), language)
    if found[2] == "ª":
        spelled = " ".join(
            f"{word[:-1]}a" if word.endswith("o") else word for word in spelled.split()
        )
    return f" {spelled} "


def _whole(digits: str, language: str) -> str:
    """A whole number; digit by digit with leading zeros or beyond 15 digits."""
    if len(digits) > MAX_DIGITS or (len(digits) > 1 and digits.startswith("0")):
        return _digits(digits, language)
    try:
        return _number(int(digits), language)
    except (ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError):
        # Some languages of num2words end early: Telugu and Kannada at 10¹⁰.
        return _digits(digits, language)


def _digits(digits: str, language: str) -> str:
    names = [_number(digit, language) for digit in range(10)]
    return " ".join(names[int(digit)] for digit in digits)


@functools.lru_cache(1 << 14)
def _number(number: int, language: str) -> str:
    if _family(language) == "zh":
        return read_chinese(number)
    return _num2words(number, COUNTED[language], "cardinal")


@functools.lru_cache(1 << 12)
def _num2words(number: int, name: str, to: str) -> str:
    from num2words import num2words

    return str(num2words(number, lang=name, to=to))


def read_chinese(number: int) -> str:
    """A whole number from 0 to 10¹⁶ - 1 in Chinese, simplified: 10010 → 一万零一十."""
    if number == 0:
        return _CHINESE_DIGITS[0]
    read = _below(number)
    return read[1:] if read.startswith("一十") else read


def _below(number: int) -> str:
    for unit, name in ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十")):
        if number >= unit:
            high, low = divmod(number, unit)
            gap = _CHINESE_DIGITS[0] if 0 < low < unit // 10 else ""
            return _below(high) + name + gap + (_below(low) if low else "")
    return _CHINESE_DIGITS[number]
