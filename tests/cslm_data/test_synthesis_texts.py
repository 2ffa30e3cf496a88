"""Which texts are spoken, and how Mandarin is read."""

from __future__ import annotations

import pytest

from cslm_data.synthesis.backend import UnspeakableError
from cslm_data.synthesis.espeak import check_script
from cslm_data.synthesis.mandarin import read_mandarin, syllables
from cslm_data.synthesis.speakable import UNFIT, speakable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Hello there.", "Hello there."),
        ("  many\t spaces \n", "many spaces"),
        ("# Title\n**Bold** and `plain`\n- one\n- two", "Title, Bold and plain, one, two"),
        ("你好。\n世界", "你好。 世界"),
        ("a\x00b\x01c\x1b[0m", "a b c [0m"),
        ("; rm -rf / --no-preserve-root", "; rm -rf / --no-preserve-root"),
        ("-v en --stdin", "-v en --stdin"),
        ("$(touch x) `touch y`", "$(touch x) touch y"),
        ("Is 3 < 5?", "Is 3 < 5?"),
        ("It costs $5 & more (maybe).", "It costs $5 & more (maybe)."),
        ("first one;\nreturn the book:", "first one; return the book:"),
        ("2 * 3 = 6", "2 * 3 = 6"),
    ],
)
def test_a_text_becomes_one_line(text: str, line: str) -> None:
    assert speakable(text, max_seconds=10) == line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_words"),
        ("... !?", "no_words"),
        ("\x00\x00", "no_words"),
        ("word " * 61, "too_long"),
        ("好" * 101, "too_long"),
        ("Look:\n```\nx\n```", "code"),
        ("def area(r):\n    return r", "code"),
        ("for (i = 0; i < 3; i++) {\n  go();\n}", "code"),
        ("x = f(y);", "code"),
        ("a^2+b^2=c^2+d^2*e/f", "code"),
        ("See https://example.org for more.", "address"),
        ("Write to me@example.org", "address"),
        ("<speak>loud <break time='1s'/></speak>", "markup"),
        ("fish &amp; chips", "markup"),
        ("| a | b |\n|---|---|", "table"),
    ],
)
def test_what_nobody_says_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnspeakableError) as refusal:
        speakable(text, max_seconds=10)
    assert refusal.value.reason == reason
    assert reason in UNFIT


@pytest.mark.parametrize(
    ("han", "pinyin"),
    [
        ("银行行长", "yin2 hang2 hang2 zhang3"),
        ("行走", "xing2 zou3"),
        ("重庆很重要", "chong2 qing4 hen3 zhong4 yao4"),
        ("音乐让人快乐", "yin1 yue4 rang4 ren2 kuai4 le4"),
        ("睡觉觉得", "shui4 jiao4 jue2 de5"),
        ("这条路很长", "zhe4 tiao2 lu4 hen3 chang2"),
        ("慢慢地走", "man4 man4 de5 zou3"),
        ("一个不是", "yi2 ge4 bu2 shi4"),
        ("绿女", "lv4 nv3"),
    ],
)
def test_readings_of_polyphones_come_from_their_phrases(han: str, pinyin: str) -> None:
    assert syllables(han) == pinyin.split()


def test_mandarin_is_read_with_numbers_spelled_and_latin_words_apart() -> None:
    assert read_mandarin("我在2024年用 Python 写了3个程序，好吗？") == [
        ("wo3 zai4 er4 ling2 er4 si4 nian2 yong4", True),
        ("Python", False),
        ("xie3 le5 san1 ge4 cheng2 xu4 , hao3 ma5 ?", True),
    ]
    assert read_mandarin("50%") == [("bai3 fen1 zhi1 wu3 shi2", True)]
    assert read_mandarin("，。") == []
    assert read_mandarin("20℃") == [("er4 shi2 she4 shi4 du4", True)]
    assert read_mandarin("C++") == [("C plus plus", False)]
    # Characters of espeak's own language stay out of what it is given.
    assert all("[" not in stretch.text for stretch in read_mandarin("[[好]]<好>"))


def test_a_character_without_pinyin_is_refused() -> None:
    with pytest.raises(UnspeakableError, match="unsupported_text: no pinyin"):
        read_mandarin("好\U00020bb7")


@pytest.mark.parametrize(
    ("text", "language"),
    [("こんにちは、コーヒー", "ja"), ("naïve OK", "en"), ("Да, OK 5", "ru"), ("한국", "ko")],
)
def test_letters_that_a_voice_reads_pass(text: str, language: str) -> None:
    check_script(text, language)


@pytest.mark.parametrize(
    ("text", "language"), [("日本", "ja"), ("你", "en"), ("привет", "de"), ("大韓", "ko")]
)
def test_letters_that_a_voice_would_only_name_are_refused(text: str, language: str) -> None:
    with pytest.raises(UnspeakableError, match="unsupported_text"):
        check_script(text, language)
