from __future__ import annotations

import pytest

from cslm_data.text import normalise, text_key


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Hello,  World!", "en", "hello world"),
        ("Don’t stop — it's 5 o'clock.", "en", "don't stop it's 5 o'clock"),
        ("ＡＢＣ，１２３。", "zh", "abc123"),
        ("她 住在一栋大房子里。", "zh", "她住在一栋大房子里"),
        ("Straße", "de", "strasse"),
        ("…?!", "en", ""),
    ],
)
def test_normalising_keeps_words_and_drops_the_rest(
    text: str, language: str, expected: str
) -> None:
    assert normalise(text, language) == expected


def test_sentences_that_differ_in_case_and_punctuation_have_one_key() -> None:
    assert text_key("Hi there!", "en") == text_key("hi THERE", "en")
    assert text_key("Hi there!", "en") != text_key("hi their", "en")
