from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.interleave import (
    AlignmentMismatch,
    chunk_sizes,
    cut_runs,
    interleave,
    locate_words,
)
from cslm_data.records import Word


def words_at(*pairs):
    """Words with start times; each lasts until the next."""
    starts = [start for _, start in pairs] + [pairs[-1][1] + 0.1]
    return [
        Word(word=word, start_s=start, end_s=end)
        for (word, start), end in zip(pairs, starts[1:], strict=True)
    ]


def spell(text, words):
    starts = locate_words(text, words_at(*[(w, 0.1 * i) for i, w in enumerate(words)]))
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def test_words_are_found_with_spaces_before_and_punctuation_behind():
    assert spell("Mr. Quilter said, “Go away!”", ["mr", "quilter", "SAID", "go", "away"]) == [
        "Mr.",
        " Quilter",
        " said,",
        " “Go",
        " away!”",
    ]


def test_mandarin_words_without_spaces_take_their_punctuation():
    assert spell("他说：“你好，”走了。", ["他", "说", "你好", "走", "了"]) == [
        "他",
        "说：",
        "“你好，”",
        "走",
        "了。",
    ]


def test_letters_decide_not_case_apostrophes_or_width():
    assert spell("DON’T ＡＢＣ well-known", ["don't", "abc", "well", "known"]) == [
        "DON’T",
        " ＡＢＣ",
        " well-",
        "known",
    ]


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("I have 3 cats", ["i", "have", "three", "cats"], "'three' where the text goes on with"),
        ("the cat", ["the", "a", "cat"], "'a' where"),
        ("one two three", ["one", "two"], "ends before 'three'"),
        ("one", ["one", "two"], "'two' where the text goes on with ''"),
        ("...", ["one"], "no word"),
    ],
)
def test_an_alignment_of_other_words_is_a_mismatch_that_says_where(text, words, says):
    with pytest.raises(AlignmentMismatch, match=says):
        spell(text, words)


@pytest.mark.parametrize(
    ("clauses", "sizes"),
    [
        ("", []),
        ("...", [3]),
        (".......", [7]),
        (".,.....", [7]),  # 7 words are one chunk, whatever is inside
        ("........", [8]),  # the end is a cut in reach of word 9
        (".........", [9]),
        ("..........", [7, 3]),
        (".,........", [7, 3]),  # a comma after word 2 is too early
        ("...,......", [4, 6]),
        ("...,...,..", [8, 2]),  # the last in reach
        ("........,.", [9, 1]),
        (".........,", [7, 3]),  # a comma after word 10 is too late
    ],
)
def test_chunks_are_seven_words_or_end_at_punctuation_after_words_4_to_9(clauses, sizes):
    assert chunk_sizes([c == "," for c in clauses], 7) == sizes


def test_runs_are_cut_at_the_time_nearest_their_middle_and_no_part_is_empty():
    durations = np.array([4, 2, 4], np.uint16)  # middles 2, 5, 8
    assert cut_runs(durations, [5.5]) == [2]
    assert cut_runs(durations, [4.5]) == [1]
    assert cut_runs(durations, [0.0]) == [1]
    assert cut_runs(durations, [99.0]) == [2]
    assert cut_runs(durations, [0.0, 0.0]) == [1, 2]


def test_silence_goes_to_the_chunk_it_follows():
    text = "a b, c d e"
    words = words_at(("a", 0.4), ("b", 0.6), ("c", 2.0), ("d", 2.1), ("e", 2.2))
    # 10 frames/s: 0.4 s lead, a b until 0.8, silence until 2.0, c d e
    units = np.array([9, 1, 2, 9, 3, 4], np.uint16)
    durations = np.array([4, 2, 2, 12, 2, 2], np.uint16)
    chunks = interleave(text, words, units, durations, frame_rate_hz=10, chunk_words=2)
    assert [(c.text, c.units.tolist()) for c in chunks] == [
        ("a b,", [9, 1, 2, 9]),
        (" c d e", [3, 4]),
    ]


def test_silence_words_of_an_aligner_are_not_words():
    words = words_at(("sil", 0.0), ("hi", 0.2), ("<eps>", 0.4), ("", 0.5))
    (chunk,) = interleave(
        "Hi!", words, np.array([1], np.uint16), np.array([30], np.uint16), frame_rate_hz=50
    )
    assert (chunk.text, chunk.num_words) == ("Hi!", 1)


def test_fewer_runs_than_chunks_join_the_last_chunks():
    text = "a b c d e f"
    words = words_at(*[(w, 0.1 * i) for i, w in enumerate(text.split())])
    units, durations = np.array([1, 2], np.uint16), np.array([30, 30], np.uint16)
    chunks = interleave(text, words, units, durations, frame_rate_hz=100, chunk_words=1)
    assert "".join(c.text for c in chunks) == text and len(chunks) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (words_at(("a", 1.0), ("b", 0.5)), "go back"),
        (words_at(("a", 0.0), ("b", 9.0)), "ends at 9.10 s, the speech at 0.20 s"),
    ],
)
def test_times_of_another_recording_are_a_mismatch(words, says):
    with pytest.raises(AlignmentMismatch, match=says):
        interleave(
            "a b", words, np.array([1], np.uint16), np.array([10], np.uint16), frame_rate_hz=50
        )


WORD = st.text(st.sampled_from("abcéß你好3ﬁ'"), min_size=1, max_size=4).filter(
    lambda w: any(c.isalnum() for c in w)
)
GAP = st.sampled_from([" ", ", ", ". ", "，", " “", "! ", "  ", " - ", " ("])


@st.composite
def spoken(draw):
    words = draw(st.lists(WORD, min_size=1, max_size=40))
    gaps = draw(st.lists(GAP, min_size=len(words), max_size=len(words)))
    text = draw(st.sampled_from(["", "¡", " “"])) + "".join(
        word + gap for word, gap in zip(words, gaps, strict=True)
    )
    durations = draw(st.lists(st.integers(1, 40), min_size=1, max_size=80))
    end_s = sum(durations) / 50
    starts = sorted(draw(st.lists(st.floats(0, end_s), min_size=len(words), max_size=len(words))))
    return (
        text,
        [Word(word=w, start_s=s, end_s=s) for w, s in zip(words, starts, strict=True)],
        (np.array(durations, np.uint16)),
    )


@settings(max_examples=200, deadline=None)
@given(spoken(), st.integers(1, 9))
def test_chunks_give_back_text_and_units_and_none_is_empty(source, chunk_words):
    text, words, durations = source
    units = np.arange(len(durations), dtype=np.uint16)
    chunks = interleave(text, words, units, durations, frame_rate_hz=50.0, chunk_words=chunk_words)
    assert "".join(chunk.text for chunk in chunks) == text
    assert np.concatenate([chunk.units for chunk in chunks]).tolist() == units.tolist()
    assert all(len(chunk.units) and chunk.text.strip() for chunk in chunks)
    assert sum(chunk.num_words for chunk in chunks) == len(words)
    if len(chunks) < len(units):
        assert all(chunk.num_words <= chunk_words + 2 for chunk in chunks)
