"""Forced alignment against every path there is, and against torchaudio's."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.aligning import forced
from cslm_data.aligning.forced import Boundaries, CannotAlign, align_words, best_path

EXACT = Boundaries(join_s=0.0, lead_s=0.0, trail_s=0.0)


def log_softmax(scores_NV):
    shifted = scores_NV - scores_NV.max(axis=1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).astype(np.float32)


def spoken(symbols, num_symbols=5, sure=20.0):
    """Emissions that say one symbol a frame: 0 is blank."""
    scores = np.zeros((len(symbols), num_symbols))
    scores[np.arange(len(symbols)), symbols] = sure
    return log_softmax(scores)


def collapse(path):
    return [s for s, _ in itertools.groupby(path) if s]


def best_by_trying_all(emissions_NV, tokens):
    """The probability of the best of all V to the N paths that collapse to the tokens."""
    num_frames, num_symbols = emissions_NV.shape
    best = None
    for path in itertools.product(range(num_symbols), repeat=num_frames):
        if collapse(path) == list(tokens):
            total = sum(float(emissions_NV[n, s]) for n, s in enumerate(path))
            best = total if best is None else max(best, total)
    return best


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.integers(1, 2), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_the_path_is_the_best_of_all_that_spell_the_tokens(num_frames, tokens, seed):
    rng = np.random.default_rng(seed)
    emissions_NV = log_softmax(rng.normal(0, 2, (num_frames, 3)))
    best = best_by_trying_all(emissions_NV, tokens)
    if best is None:
        with pytest.raises(CannotAlign, match="too_short_for_text"):
            best_path(emissions_NV, np.array(tokens))
        return
    places = best_path(emissions_NV, np.array(tokens))
    symbols = [tokens[place] if place >= 0 else 0 for place in places]
    assert collapse(symbols) == tokens
    assert [p for p, _ in itertools.groupby(places[places >= 0])] == list(range(len(tokens)))
    assert sum(float(emissions_NV[n, s]) for n, s in enumerate(symbols)) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_that_of_torchaudio(seed):
    import torch
    from torchaudio.functional import forced_align

    rng = np.random.default_rng(seed)
    emissions_NV = log_softmax(rng.normal(0, 3, (200, 12)))
    tokens = rng.integers(1, 12, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        path, _ = forced_align(
            torch.from_numpy(emissions_NV)[None], torch.from_numpy(tokens.astype(np.int32))[None]
        )
    places = best_path(emissions_NV, tokens)
    assert [tokens[p] if p >= 0 else 0 for p in places] == path[0].tolist()


def test_words_get_the_frames_of_their_symbols_and_how_sure_these_are():
    emissions_NV = spoken([0, 1, 1, 2, 0, 0, 0, 3, 0, 3, 4, 0])
    words = align_words(emissions_NV, [[1, 2], [3, 3, 4]], frame_rate_hz=10.0, boundaries=EXACT)
    assert [(w.start_s, w.end_s) for w in words] == [(0.1, 0.4), (0.7, 1.1)]
    sure = np.exp(emissions_NV[1, 1])
    assert [w.score for w in words] == pytest.approx([sure, sure])
    # Five symbols, of which the speech says none: each has the same chance in each frame.
    silent = np.full((12, 5), np.log(0.2), np.float32)
    assert [w.score for w in align_words(silent, [[1, 2], [3]], frame_rate_hz=10.0)] == (
        pytest.approx([0.2, 0.2])
    )


def test_near_words_touch_and_a_pause_stays_one():
    near = spoken([0, 1, 0, 0, 2, 0])
    far = spoken([0, 1, *[0] * 10, 2, 0])
    rules = Boundaries(join_s=0.25, share=0.25, lead_s=0.04, trail_s=0.06)
    first, second = align_words(near, [[1], [2]], frame_rate_hz=10.0, boundaries=rules)
    assert (first.start_s, first.end_s) == pytest.approx((0.06, 0.25))
    assert (second.start_s, second.end_s) == pytest.approx((0.25, 0.56))
    first, second = align_words(far, [[1], [2]], frame_rate_hz=10.0, boundaries=rules)
    assert (first.end_s, second.start_s) == pytest.approx((0.26, 1.16))


def test_no_time_lies_outside_the_speech_and_none_goes_back():
    emissions_NV = spoken([1, 2])
    rules = Boundaries(join_s=0.0, lead_s=0.5, trail_s=0.5)
    words = align_words(emissions_NV, [[1], [2]], frame_rate_hz=50.0, boundaries=rules)
    assert [(w.start_s, w.end_s) for w in words] == [(0.0, 0.02), (0.02, 0.04)]
    cut = align_words(
        emissions_NV, [[1], [2]], frame_rate_hz=50.0, boundaries=rules, duration_s=0.035
    )
    assert cut[1].end_s == 0.035


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.5),
    st.floats(0, 1),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
)
def test_times_are_in_order_whatever_the_boundaries(words, seed, join_s, share, lead_s, trail_s):
    emissions_NV = log_softmax(np.random.default_rng(seed).normal(0, 2, (60, 4)))
    rules = Boundaries(join_s=join_s, share=share, lead_s=lead_s, trail_s=trail_s)
    timed = align_words(emissions_NV, words, frame_rate_hz=50.0, boundaries=rules)
    times = [time for word in timed for time in (word.start_s, word.end_s)]
    assert len(timed) == len(words)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(times))
    assert all(0 <= word.score <= 1 and word.end_s > word.start_s for word in timed)


def test_the_sign_between_words_belongs_to_neither():
    emissions_NV = spoken([1, 4, 4, 2])
    words = align_words(emissions_NV, [[1], [2]], frame_rate_hz=10.0, separator=4, boundaries=EXACT)
    assert [w.start_s for w in words] == pytest.approx([0.0, 0.3])
    assert [w.end_s for w in words] == pytest.approx([0.1, 0.4])
    with pytest.raises(CannotAlign, match="2 frames for 3 symbols"):
        align_words(emissions_NV[:2], [[1], [2]], frame_rate_hz=10.0, separator=4)


def test_one_symbol_in_one_frame_repeats_and_nothing_at_all():
    (word,) = align_words(spoken([1]), [[1]], frame_rate_hz=50.0)
    assert (word.start_s, word.end_s) == (0.0, 0.02)
    assert align_words(spoken([0, 0]), [], frame_rate_hz=50.0) == []
    assert align_words(np.zeros((0, 5), np.float32), [], frame_rate_hz=50.0) == []
    assert best_path(spoken([1, 0, 1]), np.array([1, 1])).tolist() == [0, -1, 1]
    with pytest.raises(CannotAlign, match="2 frames for 3 symbols"):
        align_words(spoken([1, 1]), [[1, 1]], frame_rate_hz=50.0)
    with pytest.raises(CannotAlign, match="too_short_for_text"):
        align_words(np.zeros((0, 5), np.float32), [[1]], frame_rate_hz=50.0)
    with pytest.raises(ValueError, match="without tokens"):
        align_words(spoken([1]), [[1], []], frame_rate_hz=50.0)


def test_what_would_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(forced, "MOST_CELLS", 20)
    with pytest.raises(CannotAlign, match="too_long_to_align.*cut the recording"):
        best_path(spoken([1, 2, 0, 0, 0]), np.array([1, 2]))
    assert len(best_path(spoken([1, 2, 0, 0]), np.array([1, 2]))) == 4
