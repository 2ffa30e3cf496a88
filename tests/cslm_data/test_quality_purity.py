from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from cslm_data.quality.phone_frames import (
    PhonedUtterance,
    exact_phone,
    fold_phone,
    phone_of_frames,
    spoken_phones,
)
from cslm_data.quality.purity import joint_counts, measure_purity, shuffle_units
from cslm_data.quality.usage import (
    divergence_bits,
    entropy_bits,
    find_exclusive,
    measure_usage,
)


def test_purities_and_pnmi_are_those_worked_out_by_hand():
    # Phones of 4 and 4 frames: H(phone) = 1 bit. Units of 3, 3 and 2 frames; only the second says
    # two phones, 1 : 2, so H(phone | unit) = 3/8 · 0.918296 bit.
    joint = np.array([[3, 1, 0], [0, 2, 2]])
    found = measure_purity([joint])
    assert found.phone_entropy_bits == pytest.approx(1)
    assert found.information_bits == pytest.approx(1 - 3 / 8 * 0.9182958)
    assert found.pnmi == pytest.approx(0.6556391)
    assert found.phone_purity == pytest.approx((3 + 2 + 2) / 8)
    assert found.cluster_purity == pytest.approx((3 + 2) / 8)
    assert (found.num_frames, found.num_phones) == (8, 2)


def test_units_that_are_the_phones_tell_all_and_a_single_unit_tells_nothing():
    perfect = measure_purity([np.diag([5, 3, 2])])
    assert (perfect.pnmi, perfect.phone_purity, perfect.cluster_purity) == pytest.approx((1, 1, 1))
    blind = measure_purity([np.array([[5], [3]])])
    assert (blind.pnmi, blind.phone_purity, blind.cluster_purity) == (0, 5 / 8, 1)
    assert measure_purity([np.array([[5, 3]])]).pnmi is None
    with pytest.raises(ValueError, match="no frames"):
        measure_purity([np.zeros((2, 2), int)])


def test_phones_of_two_corpora_are_never_taken_for_the_same():
    # The units tell everything in one corpus and nothing in the other, each of 4 frames and 1 bit.
    knows, guesses = np.array([[2, 0], [0, 2]]), np.array([[1, 1], [1, 1]])
    both = measure_purity([knows, guesses])
    assert both.pnmi == pytest.approx(0.5)
    assert both.phone_purity == pytest.approx((4 + 2) / 8)
    assert both.num_phones == 4
    # Twice the frames, twice the weight.
    assert measure_purity([knows * 2, guesses]).pnmi == pytest.approx(2 / 3)


def test_information_is_that_of_an_independent_implementation():
    rng = np.random.default_rng(0)
    units = rng.integers(0, 40, 3000).astype(np.uint16)
    phones = (units // 7 + rng.integers(0, 2, 3000)).astype(np.int32)
    joint = joint_counts(phones, units, num_phones=8, num_units=64)
    assert joint.shape == (8, 64)
    assert joint[phones[0], units[0]] == np.sum((phones == phones[0]) & (units == units[0]))
    information = measure_purity([joint]).information_bits
    assert information == pytest.approx(mutual_info_score(phones, units) / np.log(2))
    shuffled = shuffle_units(units, seed=1, key="a")
    assert sorted(shuffled) == sorted(units)
    assert np.array_equal(shuffled, shuffle_units(units, seed=1, key="a"))
    assert not np.array_equal(shuffled, shuffle_units(units, seed=1, key="b"))
    chance = measure_purity([joint_counts(phones, shuffled, num_phones=8, num_units=64)])
    assert chance.pnmi < 0.1


def test_usage_is_worked_out_by_hand():
    usage = measure_usage(
        np.array([2, 1, 1, 0]), np.array([4, 2, 2, 0]), num_utterances=1, frame_rate_hz=4
    )
    assert (usage.seconds, usage.num_frames, usage.num_tokens) == (2, 8, 4)
    assert (usage.tokens_per_s, usage.frames_per_s, usage.mean_run_frames) == (2, 4, 2)
    assert usage.entropy_bits == pytest.approx(1.5)
    assert usage.perplexity == pytest.approx(2**1.5)
    assert usage.bitrate == pytest.approx(3)
    assert usage.frame_bitrate == pytest.approx(6)
    assert (usage.num_used, usage.num_dead) == (3, 1)
    assert entropy_bits(np.array([7, 0])) == 0
    with pytest.raises(ValueError, match="no tokens"):
        measure_usage(np.zeros(2, int), np.zeros(2, int), num_utterances=0, frame_rate_hz=50)


def test_divergence_is_none_for_equal_use_and_a_bit_for_disjoint_use():
    counts = np.array([[5, 5, 0], [100, 100, 0], [7, 0, 0], [0, 0, 9]])
    found = divergence_bits(counts)
    assert found[0, 1] == pytest.approx(0)
    assert found[2, 3] == pytest.approx(1)
    # (½, ½) and (1, 0): H(¾, ¼) − (1 + 0) / 2.
    assert found[0, 2] == pytest.approx(0.8112781 - 0.5)
    assert np.array_equal(found, found.T)
    assert np.array_equal(np.diag(found), np.zeros(4))


def test_a_unit_is_a_languages_own_when_it_has_nearly_all_of_its_uses():
    # Shares of en: 0.48 0.02 0 0.5, of zh: 0.04 0.96 0 0. Unit 0 is en's by 0.48 / 0.52 = 92 %.
    counts = np.array([[96, 4, 0, 100], [4, 96, 0, 0]])
    found = find_exclusive(["en", "zh"], counts)
    assert found.num_units == {"en": 1, "zh": 1}
    assert found.share_of_units == pytest.approx(2 / 3)
    assert found.share_of_tokens == pytest.approx((0.98 + 0.5) / 2)
    assert find_exclusive(["en", "zh"], counts, threshold=0.9).num_units == {"en": 2, "zh": 1}


def test_stress_and_tone_come_off_and_silences_are_one():
    folded = {"AH0": "AH", "iang4": "iang", "ˈaː": "aː", "ma˥˩": "ma", "tɕʰ": "tɕʰ", "n̩5": "n̩"}
    assert {label: fold_phone(label) for label in folded} == folded
    assert [fold_phone(label) for label in ("2:", "9", "E2")] == ["2:", "9", "E"]
    assert {fold_phone(label) for label in ("sil", "SIL", "sp", "spn", "", " <eps>")} == {"sil"}
    assert [exact_phone(label) for label in ("AH0", "SP")] == ["AH0", "sil"]


def test_a_frame_has_the_phone_at_its_middle():
    # Frames of 0.1 s, middles at 0.05, 0.15, …; a gap from 0.30 to 0.35 and nothing after 0.5.
    starts, ends = np.array([0.0, 0.15, 0.35]), np.array([0.15, 0.30, 0.5])
    found = phone_of_frames(starts, ends, num_frames=7, frame_rate_hz=10)
    assert found.tolist() == [0, 1, 1, 2, 2, -1, -1]
    gap = phone_of_frames(starts, np.array([0.15, 0.2, 0.5]), num_frames=4, frame_rate_hz=10)
    assert gap.tolist() == [0, 1, -1, 2]


def utterance(phones, *, speaker="s"):
    """Phones of two frames of 0.1 s each; the units are the numbers of the frames."""
    starts = 0.2 * np.arange(len(phones))
    return PhonedUtterance(
        utt_id="u",
        corpus="c",
        speaker=speaker,
        units_N=np.arange(2 * len(phones), dtype=np.uint16),
        phones=phones,
        starts_s=starts,
        ends_s=starts + 0.2,
    )


def test_spoken_phones_are_cut_alone_or_with_their_neighbours():
    said = utterance(["sil", "a", "b", "a", "sil", "b"])
    alone = list(spoken_phones(said, frame_rate_hz=10, with_neighbours=False))
    assert [(item.phone, item.units_S.tolist()) for item in alone] == [
        ("c/a", [2, 3]),
        ("c/b", [4, 5]),
        ("c/a", [6, 7]),
        ("c/b", [10, 11]),
    ]
    assert {item.context for item in alone} == {"c"}
    [triphone] = spoken_phones(said, frame_rate_hz=10, with_neighbours=True)
    assert (triphone.phone, triphone.context) == ("c/b", "c/a c/a")
    assert triphone.units_S.tolist() == [2, 3, 4, 5, 6, 7]
    assert triphone.speaker == "c/s"
    nameless = utterance(["a", "b"], speaker=None)
    assert list(spoken_phones(nameless, frame_rate_hz=10, with_neighbours=False)) == []
