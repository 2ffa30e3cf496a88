from __future__ import annotations

import logging

import numpy as np
import pytest

from cslm_data import templates
from cslm_data.errors import UsageError
from cslm_data.keys import finalise64, key64
from cslm_data.templates import (
    PROMPT_KINDS,
    Slot,
    all_literals,
    choose_wording,
    fill_wording,
    literals,
    parse_wording,
    wordings,
)

LANGUAGES = ["en", "zh", "de", "es", "fr", "ja", "nl"]


@pytest.mark.parametrize("kind", PROMPT_KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_has_five_distinct_wordings_in_every_language(kind, language):
    assert len(set(wordings(kind, language))) >= 5
    for wording in wordings(kind, language):
        assert any(isinstance(part, str) for part in wording)


def test_what_the_user_says_is_never_formatted():
    said = "{speech} {language} {text} {0} <sosp> <|eot_id|>"
    for choice in range(len(wordings("mt", "en"))):
        filled = fill_wording("mt", choice, language="en", answer_language="zh", text=said)
        assert [s.text for s in filled if s.text == said] == [said]
        assert "Chinese" in "".join(s.text for s in filled)


def test_literals_and_the_users_words_are_segments_of_their_own():
    units = np.array([3, 1], np.uint16)
    filled = fill_wording("asr", 5, language="en", units=units)
    assert [s.modality for s in filled] == ["speech", "text"]
    assert filled[0].units.tolist() == [3, 1]
    assert filled[1].text == "\nWrite this down."
    assert all(s.role == "user" and not s.trained for s in filled)
    assert literals("asr", 5, language="en") == ["\nWrite this down."]


def test_the_name_of_the_answers_language_is_in_the_language_of_the_question():
    text = "".join(
        s.text for s in fill_wording("chat_cross", 0, language="zh", answer_language="en", text="?")
    )
    assert "英语" in text


def test_a_language_without_wordings_gets_english_ones_and_says_so_once(caplog):
    templates._say_fallback.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert wordings("asr", "fi") == wordings("asr", "en")
        assert wordings("asr", "fi")
    assert [r.getMessage() for r in caplog.records] == [
        "prompts/asr.yaml has no wordings in fi: the English ones are used"
    ]
    filled = fill_wording("mt", 0, language="fi", answer_language="zh", text="moi")
    assert [(s.text, s.language) for s in filled] == [
        ("Translate into Chinese:\n", "en"),
        ("moi", "fi"),
    ]


def test_the_choice_follows_seed_and_hash_and_uses_every_wording():
    def choose(kind, seed):
        return [choose_wording(kind, "en", seed=seed, sample_hash=i) for i in range(200)]

    assert choose("asr", 1) == choose("asr", 1)
    assert choose("asr", 1) != choose("asr", 2)
    assert set(choose("asr", 1)) == set(range(len(wordings("asr", "en"))))
    keys = np.arange(200, dtype=np.uint64) ^ np.uint64(key64("wording", "asr", "1"))
    expected = finalise64(keys) % np.uint64(len(wordings("asr", "en")))
    assert choose("asr", 1) == expected.tolist()


def test_a_wording_needs_each_of_its_slots_once():
    assert parse_wording("a{text}b", slots=("text",), where="f") == ("a", Slot("text"), "b")
    for bad in ("no slot", "{text}{text}", "{text} {other}", "{}{text}"):
        with pytest.raises(UsageError, match="f: wording"):
            parse_wording(bad, slots=("text",), where="f")


def test_literals_of_all_wordings_are_listed_once():
    texts = all_literals(["en", "zh"])
    assert len(texts) == len(set(texts)) and "Say:\n" in texts and "朗读：\n" in texts
