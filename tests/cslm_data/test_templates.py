from __future__ import annotations

import logging

import duckdb
import numpy as np
import pytest

from cslm_data import wordings as files
from cslm_data.framing import frame
from cslm_data.keys import finalise64, key64
from cslm_data.templates import (
    PROMPT_KINDS,
    Prompts,
    Slot,
    all_literals,
    choose_system,
    choose_wording,
    fill_wording,
    literals,
    load_prompts,
    num_system_prompts,
    prompts_id,
    shipped_prompts,
    system_segments,
    wordings,
)


@pytest.fixture
def own(tmp_path) -> Prompts:
    """Wordings of a team for two tasks."""
    (tmp_path / "mt.yaml").write_text('en: ["{text} <|user|> in {language}?"]\n')
    (tmp_path / "system.yaml").write_text('en: ["Be brief."]\n')
    return load_prompts(tmp_path)


SPELLED = "{speech} {language} {text} {question} {0} <sosp> <|eot_id|> <|end|>"


@pytest.mark.parametrize("kind", [kind for kind, slots in PROMPT_KINDS.items() if slots])
def test_what_the_user_says_is_never_formatted(kind):
    for choice in range(len(wordings(kind, "en"))):
        filled = fill_wording(kind, choice, language="en", answer_language="zh", text=SPELLED)
        assert [s.text for s in filled if s.text == SPELLED] == [SPELLED]
        others = "".join(s.text for s in filled if s.text != SPELLED)
        assert "{" not in others
        assert ("Chinese" in others) == ("language" in PROMPT_KINDS[kind])
        controls = [piece.text for piece in frame(filled) if piece.kind == "control"]
        assert controls == ["<|bos|>", "<|user|>", "<|end|>"]


def test_literals_and_the_users_words_are_segments_of_their_own():
    units = np.array([3, 1], np.uint16)
    number = wordings("asr", "en").index((Slot("speech"), "\nWrite this down."))
    filled = fill_wording("asr", number, language="en", units=units)
    assert [s.modality for s in filled] == ["speech", "text"]
    assert filled[0].units.tolist() == [3, 1]
    assert filled[1].text == "\nWrite this down."
    assert all(s.role == "user" and not s.trained for s in filled)
    assert literals("asr", number, language="en") == ["\nWrite this down."]


def test_the_name_of_the_answers_language_is_in_the_language_of_the_question():
    text = "".join(
        s.text for s in fill_wording("chat_cross", 0, language="zh", answer_language="en", text="?")
    )
    assert "英语" in text


def test_a_language_without_wordings_gets_english_ones_and_says_so_once(caplog):
    files._say_fallback.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert wordings("asr", "fi") == wordings("asr", "en")
        assert wordings("asr", "fi")
        all_literals(["fi"])
    assert [r.getMessage() for r in caplog.records] == [
        "manifests/prompts/asr.yaml has no wordings in fi: the English ones are used"
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


def test_literals_of_all_wordings_are_listed_once():
    texts = all_literals(["en", "zh"])
    assert len(texts) == len(set(texts)) and "Say:\n" in texts and "朗读：\n" in texts
    assert "Answer in Chinese:\n" in texts and "You are a helpful voice assistant." in texts
    # Wordings of one language with the name of each of them: nothing of the others.
    assert not any("German" in text or "Deutsch" in text for text in texts)
    assert [text for text in all_literals(["fi"]) if "{" in text] == []
    assert "Transcribe:\n" in all_literals(["fi"])


def test_a_teams_wordings_are_used_where_they_are_given(own):
    assert len(wordings("mt", "en", prompts=own)) == 1
    filled = fill_wording("mt", 0, language="en", answer_language="zh", text="a", prompts=own)
    assert [s.text for s in filled] == ["a", " <|user|> in Chinese?"]
    assert literals("mt", 0, language="en", answer_language="de", prompts=own) == [
        " <|user|> in German?"
    ]
    assert prompts_id(own) == own.identity != prompts_id() == shipped_prompts().identity
    ours = all_literals(["en", "zh"], prompts=own)
    assert {" <|user|> in Chinese?", "Be brief.", "Transcribe:\n"} <= set(ours)
    assert "Translate into Chinese:\n" not in ours


# --- system prompts --------------------------------------------------------------------------


def test_a_system_prompt_is_a_turn_of_its_own_that_is_not_trained(own):
    (segment,) = system_segments("de", choice=0)
    assert (segment.role, segment.language, segment.trained) == ("system", "de", False)
    assert segment.text == "Du bist ein hilfreicher Sprachassistent."
    pieces = frame((segment, *fill_wording("tts", 1, language="de", text="a")))
    controls = [piece.text for piece in pieces if piece.kind == "control"]
    assert controls == ["<|bos|>", "<|system|>", "<|end|>", "<|user|>", "<|end|>"]
    assert not any(piece.trained for piece in pieces)
    assert num_system_prompts("de") >= 8
    assert num_system_prompts("en", prompts=own) == 1
    (english,) = system_segments("fi", choice=0, prompts=own)
    assert (english.text, english.language) == ("Be brief.", "en")


SQL_CHOICE = """
with keyed as (
    select i, xor(h, $key::ubigint) as z from (select unnest($i) as i, unnest($h::ubigint[]) as h)
),
first as (
    select
        i,
        ((xor(z, z >> 30)::uhugeint * 13787848793156543929::uhugeint)
            % 18446744073709551616::uhugeint)::ubigint as z,
    from keyed
),
second as (
    select
        i,
        ((xor(z, z >> 27)::uhugeint * 10723151780598845931::uhugeint)
            % 18446744073709551616::uhugeint)::ubigint as z,
    from first
)
select if((xor(z, z >> 31) >> 11) / 9007199254740992 < 0.3, (xor(z, z >> 31) & 2047) % 8, null)
from second
order by i
"""
"""choose_system as the SplitMix64 finaliser is published, in another language."""


def test_the_choice_of_a_system_prompt_is_what_sql_computes():
    hashes = [key64("sample", str(i)) for i in range(3000)]
    chosen = [choose_system("en", seed=5, sample_hash=h, share=0.3) for h in hashes]
    bound = {"key": key64("system", "5"), "i": list(range(3000)), "h": hashes}
    assert num_system_prompts("en") == 8
    assert [row[0] for row in duckdb.execute(SQL_CHOICE, bound).fetchall()] == chosen
    given = [choice for choice in chosen if choice is not None]
    # Four standard deviations of a binomial of 3000 draws.
    assert abs(len(given) / 3000 - 0.3) < 4 * (0.3 * 0.7 / 3000) ** 0.5
    assert set(given) == set(range(8))
    assert max(given.count(number) for number in range(8)) < 1.5 * len(given) / 8


def test_more_system_prompts_keep_those_that_were_there():
    hashes = [key64(str(i)) for i in range(500)]
    few, more, every, none = (
        [choose_system("zh", seed=1, sample_hash=h, share=share) for h in hashes]
        for share in (0.2, 0.6, 1.0, 0.0)
    )
    assert set(none) == {None}
    assert None not in every
    assert all(a in (None, b) for a, b in zip(few, more, strict=True))
    assert all(b in (None, c) for b, c in zip(more, every, strict=True))
    other = [choose_system("zh", seed=2, sample_hash=h, share=0.6) for h in hashes]
    assert other != more
