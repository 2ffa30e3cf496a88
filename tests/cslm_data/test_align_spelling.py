"""Transcripts in the symbols of a model; the words can be found in the transcript again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.aligning.spelling import CannotSpell, make_alphabet, separator_of, spell
from cslm_data.interleave import locate_words
from cslm_data.records import Word

ROMANISED = make_alphabet(("-", *"abcdefghijklmnopqrstuvwxyz'"), "romanised")
UPPER = make_alphabet(("<pad>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'", "<unk>"), "characters")
LOWER = make_alphabet(("_", *"abcdefghijklmnopqrstuvwxyz'äöü"), "characters")
HAN = make_alphabet(("_", *"我有二十三个苹果你好世界"), "characters")


def spelled(text, language, alphabet):
    letters = {}
    for letter, column in alphabet.columns.items():
        letters.setdefault(column, letter)
    words = spell(text, language, alphabet)
    return [(w.word, "".join(letters[token] for token in w.tokens).lower()) for w in words]


def found_again(text, words):
    locate_words(text, [Word(word=word.word, start_s=0.0, end_s=0.0) for word in words])
    return True


@pytest.mark.parametrize(
    ("text", "language", "alphabet", "expected"),
    [
        (
            'Hello, world\'s "best" — naïve',
            "en",
            UPPER,
            [("Hello", "hello"), ("world's", "world's"), ("best", "best"), ("naïve", "naive")],
        ),
        ("Don’t", "en", UPPER, [("Don’t", "don't")]),
        ("Müßig", "de", LOWER, [("Müßig", "müssig")]),
        ("Müßig", "de", ROMANISED, [("Müßig", "mussig")]),
        ("ＡＢ ｃ", "en", LOWER, [("ＡＢ", "ab"), ("ｃ", "c")]),
        ("Łódź", "pl", ROMANISED, [("Łódź", "lodz")]),
        (
            "你好，绿色世界！",
            "zh",
            ROMANISED,
            [("你好", "nihao"), ("绿色", "luse"), ("世界", "shijie")],
        ),
        # The word decides how 长 and 行 are read.
        ("长城，银行", "zh", ROMANISED, [("长城", "changcheng"), ("银行", "yinhang")]),
        ("ペンの", "ja", ROMANISED, [("ペ", "pe"), ("ン", "n"), ("の", "no")]),
        ("bei1", "zh", ROMANISED, [("bei1", "bei")]),
        ("Привет, мир", "ru", ROMANISED, [("Привет", "privet"), ("мир", "mir")]),
        ("안녕 세계", "ko", ROMANISED, [("안녕", "annyeong"), ("세계", "segye")]),
    ],
)
def test_words_are_pieces_of_the_text_spelled_as_the_model_writes(
    text, language, alphabet, expected
):
    assert spelled(text, language, alphabet) == expected
    assert found_again(text, spell(text, language, alphabet))


@pytest.mark.parametrize(
    ("text", "language", "alphabet", "expected"),
    [
        ("I had 23", "en", UPPER, [("I", "i"), ("had", "had"), ("23", "twentythree")]),
        (
            "in the 1990s",
            "en",
            UPPER,
            [("in", "in"), ("the", "the"), ("1990s", "nineteennineties")],
        ),
        ("50 % of it", "en", UPPER, [("50", "fiftypercent"), ("of", "of"), ("it", "it")]),
        (
            "costs $5 million now",
            "en",
            UPPER,
            [("costs", "costs"), ("$5 million", "fivemilliondollars"), ("now", "now")],
        ),
        ("€ 5 ok", "en", UPPER, [("5", "fiveeuros"), ("ok", "ok")]),
        ("12:30 x", "en", UPPER, [("12:30", "twelvethirty"), ("x", "x")]),
        ("0.0,5 x", "en", UPPER, [("0.0,5", "zerozerofive"), ("x", "x")]),
        ("１２ x", "en", UPPER, [("１２", "twelve"), ("x", "x")]),
        ("3½ x", "en", UPPER, [("3½", "threeonetwo"), ("x", "x")]),
        ("3,5 Tage", "de", ROMANISED, [("3,5", "dreikommafunf"), ("Tage", "tage")]),
        ("我有23个", "zh", HAN, [("我", "我"), ("有", "有"), ("23", "二十三"), ("个", "个")]),
    ],
)
def test_numbers_are_spelled_as_they_are_read_and_written_as_they_stand(
    text, language, alphabet, expected
):
    assert spelled(text, language, alphabet) == expected
    assert found_again(text, spell(text, language, alphabet))


def test_what_has_no_symbol_joins_its_neighbour():
    assert spelled("我有苹果，A", "zh", HAN) == [("我", "我"), ("有", "有"), ("苹果，A", "苹果")]
    assert spelled("A，我有苹果", "zh", HAN) == [("A，我", "我"), ("有", "有"), ("苹果", "苹果")]
    assert spelled("これは23個", "ja", ROMANISED)[-2:] == [("23", "ershisan"), ("個", "ge")]


def test_a_tone_mark_belongs_to_its_letter():
    assert spelled("ดีครับ", "th", ROMANISED)[0] == ("ดี", "di")
    assert found_again("ดีครับ", spell("ดีครับ", "th", ROMANISED))


@pytest.mark.parametrize(
    ("text", "language", "reason", "detail"),
    [
        ("…!", "en", "no_words", "no word"),
        ("", "en", "no_words", "no word"),
        ("Привет", "ru", "unknown_letters", "п р и в е т"),
        ("ab привет cd", "en", "unknown_letters", "--aligner"),
        ("🙂 १", "xx", "unknown_letters", "does not know १|1"),
    ],
)
def test_a_transcript_of_other_letters_is_refused(text, language, reason, detail):
    with pytest.raises(CannotSpell, match=detail) as refused:
        spell(text, language, UPPER)
    assert refused.value.reason == reason


def test_one_unknown_letter_among_many_is_let_pass():
    assert spelled("the letter β stands here", "en", UPPER) == [
        ("the", "the"),
        ("letter β", "letter"),
        ("stands", "stands"),
        ("here", "here"),
    ]


def test_the_sign_between_words_is_used_where_spaces_are():
    assert separator_of(UPPER, "en") == 1
    assert separator_of(UPPER, "zh") is None
    assert separator_of(LOWER, "en") is None
    assert spelled("a | b", "en", UPPER) == [("a", "a"), ("b", "b")]


_TEXT = st.text(
    st.sampled_from("abcXYZ éßñ'’\"-.,!?%$€ 0123456789 你好世界行，。 のペン ά б １②½ \t|"),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(_TEXT, st.sampled_from(["en", "de", "zh", "ja", "th", "ru", "fr"]))
def test_the_words_of_any_text_spell_it_and_have_tokens(text, language):
    for alphabet in (ROMANISED, UPPER):
        try:
            words = spell(text, language, alphabet)
        except CannotSpell:
            continue
        assert words
        assert all(word.tokens and 0 not in word.tokens for word in words)
        assert found_again(text, words)
