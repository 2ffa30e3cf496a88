from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_catalog import write_speech

from cslm_data.errors import UsageError
from cslm_data.features import load_extractor
from cslm_data.tokenizers.sampling import (
    FrameReservoir,
    frame_priorities,
    language_quotas,
    make_frame_sampler,
    share_bound,
)
from cslm_data.units.stretches import Stretch

EVERY = 0xFFFFFFFFFFFFFFFF


def stretch(utt_id, audio="", offset_s=0.0, duration_s=1.0, language="en"):
    return Stretch(utt_id, str(audio), offset_s, duration_s, language, "v")


def test_quotas_by_hand():
    # Square roots 100 : 10 : 1 of 1110 frames, and the smallest has only one.
    assert language_quotas({"en": 10_000, "zh": 100, "sw": 1}, max_frames=111) == {
        "en": 100,
        "sw": 1,
        "zh": 10,
    }
    assert language_quotas({"en": 900, "zh": 100}, max_frames=100, temperature=1) == {
        "en": 90,
        "zh": 10,
    }
    # zh is owed 50 and has 20: en takes what zh leaves.
    even = language_quotas({"en": 5_000, "zh": 20}, max_frames=100, temperature=1e9)
    assert even == {"en": 80, "zh": 20}
    assert language_quotas({"en": 30, "zh": 20}, max_frames=100) == {"en": 30, "zh": 20}
    assert language_quotas({}, max_frames=100) == {}
    with pytest.raises(UsageError, match=r"temperature 0\.5"):
        language_quotas({"en": 30}, max_frames=100, temperature=0.5)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**7)),
    st.integers(1, 10**6),
    st.floats(1, 10),
)
def test_quotas_never_exceed_what_there_is(available, max_frames, temperature):
    quotas = language_quotas(available, max_frames=max_frames, temperature=temperature)
    assert sum(quotas.values()) <= max_frames
    assert all(quotas[name] <= available[name] for name in quotas)
    if quotas:
        missing = min(max_frames, sum(available.values())) - sum(quotas.values())
        assert missing <= len(quotas), "all is given out but for the rounding"


def sample(quotas, utterances, seed=0):
    """Through the reservoir: utterances are (language, name, frames)."""
    reservoir = FrameReservoir(quotas)
    for language, name, frames in utterances:
        reservoir.add(language, frame_priorities(stretch(name), 0, len(frames), seed), frames)
    return reservoir.result()


def made_up(count=300, longest=400):
    """Frames (N, 2) that say which utterance they are of, and which frame."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, longest, count)
    return [
        ("zh" if i % 3 == 0 else "en", f"utt{i}", np.stack([np.full(n, i), np.arange(n)], 1) * 1.0)
        for i, n in enumerate(sizes)
    ]


def test_the_reservoir_keeps_the_lowest_priorities_of_each_language_in_their_order():
    utterances = made_up()
    frames, counts = sample({"en": 7_000, "zh": 500}, utterances)
    assert counts == {"en": 7_000, "zh": 500}
    kept = []
    for wanted, quota in (("en", 7_000), ("zh", 500)):
        every = [
            (priority, *frame)
            for language, name, all_frames in utterances
            if language == wanted
            for priority, frame in zip(
                frame_priorities(stretch(name), 0, len(all_frames), 0).tolist(),
                all_frames.tolist(),
                strict=True,
            )
        ]
        kept += sorted(every)[:quota]
    np.testing.assert_array_equal(frames, np.array(sorted(kept))[:, 1:])
    assert frames.dtype == np.float32
    assert len(np.unique(frames, axis=0)) == 7_500, "no frame twice"
    assert 120 < frames[:, 0].mean() < 180, "no part of the corpus is preferred"


def test_the_sample_depends_on_the_seed_and_not_on_the_order():
    utterances = made_up()
    quotas = {"en": 2_000, "zh": 300}
    forward, _ = sample(quotas, utterances)
    backward, _ = sample(quotas, utterances[::-1])
    np.testing.assert_array_equal(forward, backward)
    assert not np.array_equal(forward, sample(quotas, utterances, seed=1)[0])


def test_the_memory_of_a_reservoir_is_that_of_its_sample():
    reservoir = FrameReservoir({"en": 20_000, "zh": 4_000})
    for language, name, frames in made_up(count=1_000):
        reservoir.add(language, frame_priorities(stretch(name), 0, len(frames), 0), frames)
        assert len(reservoir._frames_ND) == 20_000 + 2_500 + 4_000 + 1_024
    frames, _ = reservoir.result()
    assert np.shares_memory(frames, reservoir._frames_ND), "the sample is no second copy"


def test_a_reservoir_larger_than_the_corpus_keeps_every_frame():
    assert FrameReservoir({"en": 100}).result()[0].size == 0
    frames, counts = sample({"en": 100, "zh": 0}, [("en", "a", np.arange(12.0).reshape(6, 2))])
    assert sorted(frames[:, 0]) == [0, 2, 4, 6, 8, 10]
    assert counts == {"en": 6, "zh": 0}


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5_000), st.integers(1, 5_000), st.integers(0, 3), st.integers(1, 70))
def test_one_large_piece_overflows_nothing(quota, num_frames, seed, dim):
    frames = np.arange(num_frames, dtype=np.float32)[:, None] + np.zeros((1, dim), np.float32)
    kept, _ = sample({"en": quota, "zh": 3}, [("en", "a", frames)], seed)
    assert kept.shape == (min(quota, num_frames), dim)
    order = np.argsort(frame_priorities(stretch("a"), 0, num_frames, seed))[:quota]
    np.testing.assert_array_equal(kept[:, -1], order)


def test_the_priorities_of_a_frame_do_not_depend_on_the_block_it_came_in():
    whole = frame_priorities(stretch("a"), 0, 100, 3)
    np.testing.assert_array_equal(whole[60:], frame_priorities(stretch("a"), 60, 40, 3))
    assert not np.array_equal(whole, frame_priorities(stretch("a", offset_s=60.0), 0, 100, 3))
    assert len(np.unique(whole)) == 100


def test_a_worker_sends_on_the_frames_under_the_bound_of_their_language(tmp_path):
    path = write_speech(tmp_path / "a.wav", 1, 4.0)
    part = (
        stretch("a", path, 0.0, 3.0),
        stretch("a", path, 3.0, 1.0, language="zh"),
        stretch("b", tmp_path / "nowhere.wav"),
    )
    load = functools.partial(load_extractor, "mfcc")
    work = make_frame_sampler(load, bounds={"en": share_bound(0.25), "zh": share_bound(2)}, seed=5)
    some, every, missing = work(part)
    assert "missing" in missing
    assert len(every.frames_ND) == 49
    frames = load()(part[0].waveform())
    low = np.flatnonzero(frame_priorities(part[0], 0, len(frames), 5) < EVERY // 4)
    assert 15 < len(low) < 65
    np.testing.assert_array_equal(some.frames_ND, frames[low])
