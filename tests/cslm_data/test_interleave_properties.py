"""What holds for the chunks of every mode, in every language."""

from __future__ import annotations

import unicodedata
from typing import get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from interleaved import cut, shown

from cslm_data.interleave import TIMED_MODES, InterleaveMode
from cslm_data.records import Word
from cslm_data.text.words import split_words

LETTERS = {
    "en": "abcéß'3ﬁ",
    "zh": "我们一起去公园吃饭好3",
    "yue": "佢哋今日食飯a",
    "ja": "はい東京ー3",
    "hi": "कितबाी",
    "fi": "abä",
}
GAP = st.sampled_from([" ", ", ", ". ", "，", " “", "! ", "  ", " - ", " (", "。", ""])


@st.composite
def spoken(draw):
    """Language, text, its words with times on a grid of frames, durations of its runs.

    Every word is some runs, and silence of some runs may follow it: so no run is of two words.
    """
    language = draw(st.sampled_from(list(LETTERS)))
    letters = st.text(st.sampled_from(LETTERS[language]), min_size=1, max_size=4)
    spellings = draw(
        st.lists(letters.filter(lambda w: any(c.isalnum() for c in w)), min_size=1, max_size=30)
    )
    text = draw(st.sampled_from(["", "¡", " “"]))
    durations = draw(st.lists(st.integers(1, 9), max_size=2))
    words, owners = [], [0] * len(durations)
    for index, spelling in enumerate(spellings):
        runs = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
        silence = draw(st.lists(st.integers(1, 9), max_size=2))
        start = sum(durations)
        words.append(Word(word=spelling, start_s=start / 50, end_s=(start + sum(runs)) / 50))
        durations += runs + silence
        owners += [index] * len(runs + silence)
        text += spelling + draw(GAP)
    return language, text, words, durations, owners


how = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(get_args(InterleaveMode)),
        "chunk_words": st.integers(1, 9),
        "ratio": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    }
)


@settings(max_examples=150, deadline=None)
@given(spoken(), how)
def test_chunks_give_back_text_and_units_whole_and_none_is_empty(source, how):
    language, text, words, durations, _ = source
    chunks = cut(text, words, durations, language=language, **how)
    assert "".join(chunk.text for chunk in chunks) == text
    units = [unit for chunk in chunks for unit in chunk.units.tolist()]
    assert units == list(range(len(durations)))
    for chunk in chunks:
        assert len(chunk.units) and chunk.num_words >= 1
        assert any(character.isalnum() for character in chunk.text)


@settings(max_examples=150, deadline=None)
@given(spoken(), st.sampled_from(sorted(TIMED_MODES)), st.integers(1, 9))
def test_each_run_is_in_the_chunk_of_the_word_that_it_speaks_or_follows(source, mode, chunk_words):
    language, text, words, durations, owners = source
    chunks = cut(text, words, durations, language=language, mode=mode, chunk_words=chunk_words)
    # Whole words: every chunk ends where a word of the alignment does.
    letters = [len(_folded(word.word)) for word in words]
    ends = list(np.cumsum(letters))
    chunk_of_word = []
    total = 0
    for number, chunk in enumerate(chunks):
        total += len(_folded(chunk.text))
        assert total in ends
        chunk_of_word += [number] * (ends.index(total) + 1 - len(chunk_of_word))
    chunk_of_run = [number for number, chunk in enumerate(chunks) for _ in chunk.units]
    assert chunk_of_run == [chunk_of_word[word] for word in owners]


@settings(max_examples=100, deadline=None)
@given(spoken(), st.sampled_from(sorted(TIMED_MODES)), st.integers(1, 9))
def test_a_chunk_has_the_words_that_its_mode_allows(source, mode, chunk_words):
    language, text, words, durations, _ = source
    chunks = cut(text, words, durations, language=language, mode=mode, chunk_words=chunk_words)
    most = 1 if mode == "word" else chunk_words + 2
    assert all(chunk.num_words <= most for chunk in chunks)
    if language not in ("zh", "yue"):
        assert sum(chunk.num_words for chunk in chunks) == len(words)
    else:
        # No word of the segmenter is cut: its pieces end at every end of a chunk.
        ends = set(np.cumsum([len(piece) for piece in split_words(text, language)]).tolist())
        letters = [i for i, character in enumerate(text) if character.isalnum()]
        at = 0
        for chunk in chunks[:-1]:
            at += len(chunk.text)
            last = max(i for i in letters if i < at)
            following = min(i for i in letters if i >= at)
            assert ends & set(range(last + 1, following + 1))


@settings(max_examples=100, deadline=None)
@given(spoken(), st.integers(1, 9), st.integers(1, 9))
def test_only_the_last_chunk_of_a_ratio_has_other_counts(source, num_words, num_units):
    language, text, _, durations, _ = source
    how = {"mode": "ratio", "ratio": (num_words, num_units)}
    *before, last = cut(text, [], durations, language=language, **how)
    assert all((c.num_words, len(c.units)) == (num_words, num_units) for c in before)
    assert last.num_words <= num_words or len(last.units) <= num_units


@settings(max_examples=100, deadline=None)
@given(spoken(), how, st.data())
def test_labels_of_silence_change_nothing(source, how, data):
    language, text, words, durations, _ = source
    labelled = []
    for word in words:
        if data.draw(st.booleans()):
            label = data.draw(st.sampled_from(["sil", "SIL", "sp", "<eps>", "", "<p>"]))
            labelled.append(Word(word=label, start_s=word.start_s, end_s=word.start_s))
        labelled.append(word)
    labelled.append(Word(word="sil", start_s=words[-1].end_s, end_s=words[-1].end_s))
    expected = shown(cut(text, words, durations, language=language, **how))
    assert shown(cut(text, labelled, durations, language=language, **how)) == expected


@settings(max_examples=100, deadline=None)
@given(spoken(), how, st.data())
def test_any_rising_times_and_any_number_of_runs_still_give_all_back(source, how, data):
    language, text, words, _, _ = source
    durations = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    end_s = sum(durations) / 50
    starts = sorted(
        data.draw(st.lists(st.floats(0, end_s), min_size=len(words), max_size=len(words)))
    )
    words = [
        Word(word=word.word, start_s=start, end_s=start)
        for word, start in zip(words, starts, strict=True)
    ]
    chunks = cut(text, words, durations, language=language, **how)
    assert "".join(chunk.text for chunk in chunks) == text
    assert [u for chunk in chunks for u in chunk.units.tolist()] == list(range(len(durations)))
    assert all(len(chunk.units) and chunk.num_words for chunk in chunks)


def _folded(text):
    folded = "".join(unicodedata.normalize("NFKC", c).casefold() for c in text)
    return "".join(c for c in folded if c.isalnum())
