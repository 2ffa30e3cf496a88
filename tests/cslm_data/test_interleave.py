from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from interleaved import cut, shown

from cslm_data.interleave import (
    AlignmentMismatch,
    InterleaveMode,
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


def by_character(text):
    """Each letter a word of a second."""
    return words_at(*[(c, 1.0 * i) for i, c in enumerate(c for c in text if c.isalnum())])


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
    chunks = interleave(
        text, words, units, durations, language="en", frame_rate_hz=10, chunk_words=2
    )
    assert [(c.text, c.units.tolist()) for c in chunks] == [
        ("a b,", [9, 1, 2, 9]),
        (" c d e", [3, 4]),
    ]


def test_silence_words_of_an_aligner_are_not_words():
    words = words_at(("sil", 0.0), ("hi", 0.2), ("<eps>", 0.4), ("", 0.5))
    (chunk,) = cut("Hi!", words, [30])
    assert (chunk.text, chunk.num_words) == ("Hi!", 1)


def test_fewer_runs_than_chunks_join_the_last_chunks():
    text = "a b c d e f"
    words = words_at(*[(w, 0.1 * i) for i, w in enumerate(text.split())])
    chunks = cut(text, words, [30, 30], chunk_words=1, frame_rate_hz=100)
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
        cut("a b", words, [10])


@pytest.mark.parametrize("language", ["zh", "yue"])
def test_mandarin_aligned_by_character_is_chunked_by_words_of_the_segmenter(language):
    text = "“我们”一起去公园。"  # 我们 / 一起 / 去 / 公园
    chunks = cut(text, by_character(text), [50] * 7, language=language, mode="word")
    assert shown(chunks) == [("“我们”", [0, 1]), ("一起", [2, 3]), ("去", [4]), ("公园。", [5, 6])]
    chunks = cut(text, by_character(text), [50] * 7, language=language, chunk_words=1)
    # A chunk of 1 to 3 words: the quotation mark ends the first, the text the second.
    assert [(c.text, c.num_words) for c in chunks] == [("“我们”", 1), ("一起去公园。", 3)]


def test_mandarin_aligned_by_word_is_cut_where_both_kinds_of_words_end():
    # Of one character, of two words of the segmenter, and of a half of one and a half of another.
    words = words_at(
        ("我", 0.0), ("们", 1.0), ("一起去", 2.0), ("公", 3.0), ("园吃", 4.0), ("饭", 5.0)
    )
    chunks = cut("我们一起去公园吃饭", words, [50] * 6, language="zh", mode="word")
    assert shown(chunks) == [("我们", [0, 1]), ("一起去", [2]), ("公园吃饭", [3, 4, 5])]


def test_other_languages_keep_the_words_of_the_alignment():
    text = "well-known 我们"
    words = words_at(("well", 0.0), ("known", 1.0), ("我", 2.0), ("们", 3.0))
    assert [c.text for c in cut(text, words, [50] * 4, mode="word")] == [
        "well-",
        "known",
        " 我",
        "们",
    ]


def test_words_that_share_a_character_are_one():
    words = words_at(("f", 0.0), ("ish", 1.0), ("and", 2.0))
    assert shown(cut("ﬁsh and", words, [50] * 3, mode="word")) == [("ﬁsh", [0, 1]), (" and", [2])]
    with pytest.raises(AlignmentMismatch, match="share one character"):
        locate_words("ﬁsh and", words)


def test_a_word_that_an_aligner_writes_like_a_silence_is_a_word():
    words = words_at(("sil", 0.0), ("vous", 1.0), ("plaît", 2.0))
    assert [c.text for c in cut("S'il vous plaît.", words, [50] * 3, mode="word")] == [
        "S'il",
        " vous",
        " plaît.",
    ]


@pytest.mark.parametrize(
    ("text", "num_units", "expected"),
    [
        # 5 words and 7 units, 2 : 3
        ("a b, c d e", 7, [("a b,", [0, 1, 2]), (" c d", [3, 4, 5]), (" e", [6])]),
        # units left over go to the end
        ("a b", 7, [("a b", [0, 1, 2, 3, 4, 5, 6])]),
        ("a b c", 9, [("a b", [0, 1, 2]), (" c", [3, 4, 5, 6, 7, 8])]),
        # words left over come before the last units
        ("a b c d e f g", 4, [("a b", [0, 1, 2]), (" c d e f g", [3])]),
        ("a b c d e f g", 3, [("a b c d e f g", [0, 1, 2])]),
        ("a", 1, [("a", [0])]),
        # punctuation by itself is no word
        ("a - b ... c", 4, [("a - b ...", [0, 1, 2]), (" c", [3])]),
    ],
)
def test_a_ratio_counts_words_and_units_and_the_last_chunk_takes_what_is_left(
    text, num_units, expected
):
    chunks = cut(text, [], [1] * num_units, mode="ratio", ratio=(2, 3))
    assert shown(chunks) == expected


def test_a_ratio_counts_words_of_the_segmenter_and_characters_where_there_is_none():
    mandarin = cut("我们一起去公园。", [], [1] * 9, language="zh", mode="ratio", ratio=(2, 3))
    assert [(c.text, c.num_words) for c in mandarin] == [("我们一起", 2), ("去公园。", 2)]
    japanese = cut("「はい」。そう", [], [1] * 9, language="ja", mode="ratio", ratio=(2, 3))
    assert [c.text for c in japanese] == ["「はい」。", "そう"]


def test_a_full_answer_is_all_the_text_and_then_all_the_units():
    (chunk,) = cut("Go to the sea, now.", [], [1] * 4, mode="full")
    assert (chunk.text, chunk.units.tolist(), chunk.num_words) == (
        "Go to the sea, now.",
        [0, 1, 2, 3],
        5,
    )


@pytest.mark.parametrize("mode", get_args(InterleaveMode))
def test_no_mode_makes_chunks_of_nothing(mode):
    with pytest.raises(AlignmentMismatch, match="no word"):
        cut("?! …", [], [1, 2], mode=mode)
    with pytest.raises(AlignmentMismatch, match="no units"):
        cut("a", words_at(("a", 0.0)), [], mode=mode)
