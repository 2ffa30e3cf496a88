from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import scipy.signal
import torch

from cslm_data.features.kaldi import LogMel, _mel_filters
from cslm_data.features.mfcc import MfccExtractor, _slopes
from cslm_data.records import Word
from cslm_data.resynthesis import cepstra, regression, spectrum
from cslm_data.resynthesis.distance import distance, log_mel
from cslm_data.resynthesis.picture import Panels, draw

RATE_HZ = 16_000


def buzz(seconds, hz=120, formant_hz=700, seed=0):
    """Pulses through a resonance, as a vowel is made, with a little noise."""
    pulses = np.zeros(int(seconds * RATE_HZ))
    pulses[:: RATE_HZ // hz] = 1.0
    vowel = scipy.signal.lfilter([1], np.poly(formant(formant_hz)), pulses).real
    noise = np.random.default_rng(seed).normal(0, 1e-3, len(pulses))
    return (0.3 * vowel / np.abs(vowel).max() + noise).astype(np.float32)


def formant(hz, radius=0.97):
    turn = 2 * np.pi * hz / RATE_HZ
    return radius * np.exp([1j * turn, -1j * turn])


# ------------------------------------------------------------------------------- energies to sound
def test_sound_made_from_log_mel_energies_has_these_energies():
    original_T = np.concatenate([buzz(0.6), buzz(0.6, hz=200, formant_hz=2000)])
    wave_T = spectrum.waveform_of(log_mel(original_T), num_samples=len(original_T), seed=3)
    assert len(wave_T) == len(original_T)
    far = distance(wave_T, original_T)
    assert far.mel_db < 2
    # The level is right without being told: pre-emphasis and window are undone, not guessed.
    assert np.std(wave_T) == pytest.approx(np.std(original_T), rel=0.1)


def test_a_spectrum_made_from_mel_energies_is_positive_and_gives_them_back():
    rng = np.random.default_rng(0)
    smooth_S = np.exp(np.cumsum(rng.normal(0, 0.1, 257)))
    for num_bins in (23, 80):
        mel_1B = (smooth_S @ _mel_filters(num_bins).astype(np.float64))[None]
        power_1S = spectrum.power_spectrum(mel_1B)
        assert (power_1S >= 0).all()
        assert np.abs(np.log(power_1S @ _mel_filters(num_bins) / mel_1B)).max() < 0.1


def test_the_same_energies_and_seed_give_the_same_sound_and_leave_torch_alone():
    mel_FB = log_mel(buzz(0.3))
    torch.manual_seed(7)
    first_T = spectrum.waveform_of(mel_FB, num_samples=4800, seed=1)
    after = torch.rand(1)
    assert np.array_equal(first_T, spectrum.waveform_of(mel_FB, num_samples=4800, seed=1))
    assert not np.array_equal(first_T, spectrum.waveform_of(mel_FB, num_samples=4800, seed=2))
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))


def test_a_long_sound_made_in_pieces_has_no_seams(monkeypatch):
    monkeypatch.setattr(spectrum, "_PIECE_FRAMES", 100)
    steady_FB = np.repeat(log_mel(buzz(0.3)).mean(axis=0)[None], 300, axis=0)
    wave_T = spectrum.waveform_of(steady_FB, num_samples=300 * 160, seed=0)
    levels = np.sqrt(np.square(wave_T.reshape(-1, 1600)).mean(axis=1))
    assert levels[1:-1].min() > 0.5 * np.median(levels)
    assert levels.max() < 2 * np.median(levels)


def test_loudness_is_that_of_the_original_unless_it_would_be_cut_off():
    wave_T = np.random.default_rng(0).normal(0, 0.01, 1000).astype(np.float32)
    quiet_T = np.full(1000, 0.05, np.float32)
    assert np.square(spectrum.match_loudness(wave_T, quiet_T)).mean() == pytest.approx(0.0025)
    loud_T = np.full(1000, 0.9, np.float32)
    assert np.abs(spectrum.match_loudness(wave_T, loud_T)).max() == pytest.approx(0.99)
    silence_T = np.zeros(1000, np.float32)
    assert np.array_equal(spectrum.match_loudness(wave_T, silence_T), wave_T)
    assert np.array_equal(spectrum.match_loudness(silence_T, wave_T), silence_T)


# ------------------------------------------------------------------------------- the cepstra
@pytest.mark.parametrize("num_frames", [1, 2, 3, 9])
def test_the_slopes_that_are_undone_are_those_of_the_extractor(num_frames):
    values_FC = np.random.default_rng(0).normal(size=(num_frames, 13)).astype(np.float32)
    ours_FC = cepstra.slope_matrix(num_frames) @ values_FC
    assert np.allclose(ours_FC, _slopes(values_FC), atol=1e-5)


def test_values_and_slopes_of_a_straight_line_give_the_line_between_the_frames_too():
    num_frames = 20
    line_F = 0.5 * np.arange(2 * num_frames)
    features_ND = np.zeros((num_frames, 39), np.float32)
    features_ND[:, 0] = line_F[::2]
    features_ND[:, 13] = 0.5
    course_FC = cepstra.course_of(features_ND)
    # At the very edges the extractor repeats the outermost frame, which a line does not.
    assert np.allclose(course_FC[8:-8, 0], line_F[8:-8], atol=0.05)
    assert np.allclose(course_FC[:, 1:], 0, atol=1e-9)


def test_a_slope_that_the_values_do_not_show_is_believed_between_the_frames():
    features_ND = np.zeros((21, 39), np.float32)
    features_ND[10, 13] = 1.0
    course_FC = cepstra.course_of(features_ND)
    assert course_FC[21, 0] > 0.01 > -0.01 > course_FC[19, 0]


@pytest.mark.parametrize("num_frames", [1, 2])
def test_an_utterance_of_a_frame_or_two_has_a_course(num_frames):
    features_ND = np.ones((num_frames, 39), np.float32)
    course_FC = cepstra.course_of(features_ND)
    assert course_FC.shape == (2 * num_frames, 13)
    assert np.isfinite(course_FC).all()


def test_log_mel_energies_of_cepstra_have_these_cepstra():
    wanted_FC = np.random.default_rng(0).normal(size=(5, 13))
    log_mel_FB = cepstra.log_mel_of_cepstra(wanted_FC)
    # Kaldi's orthonormal DCT-II with lifter 22, written out.
    c, b = np.arange(13), np.arange(23)
    dct_BC = np.cos(np.pi / 23 * (b[:, None] + 0.5) * c) * np.where(c == 0, 1 / 23, 2 / 23) ** 0.5
    assert np.allclose(log_mel_FB @ (dct_BC * (1 + 11 * np.sin(np.pi * c / 22))), wanted_FC, 1e-3)


def test_sound_made_from_units_is_heard_as_the_same_units():
    sounds = [buzz(0.5), buzz(0.5, formant_hz=2500), np.zeros(8000, np.float32)]
    sounds[2] += np.random.default_rng(1).normal(0, 0.05, 8000).astype(np.float32)
    mfcc = MfccExtractor()
    features_KD = np.stack([mfcc(sound)[5:-5].mean(axis=0) for sound in sounds])
    units_N = np.repeat(np.array([0, 1, 2, 1, 0], np.uint16), 20)
    mel_FB = cepstra.log_mel_of_units(units_N, features_KD)
    wave_T = spectrum.waveform_of(mel_FB, num_samples=len(units_N) * 320 + 80, seed=0)
    heard_N = np.square(mfcc(wave_T)[:, None] - features_KD).sum(axis=2).argmin(axis=1)
    assert len(heard_N) == len(units_N)
    assert (heard_N == units_N).mean() > 0.9


# ------------------------------------------------------------------------------- distances
def test_twice_the_amplitude_is_six_decibels_away_and_no_distortion():
    noise_T = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    far = distance(2 * noise_T, noise_T)
    assert far.mel_db == pytest.approx(20 * np.log10(2), abs=0.01)
    assert far.mcd_db == pytest.approx(0, abs=0.1)
    assert distance(noise_T, noise_T).mel_db == 0


def test_distortion_of_one_cepstral_coefficient_is_its_textbook_value(monkeypatch):
    # 0.3 nepers of amplitude along the third cosine of the energies, against a flat spectrum.
    cosine_B = 2 * 0.3 * np.cos(np.pi * 3 * (np.arange(80) + 0.5) / 80)
    energies = [np.zeros((4, 80)), np.tile(cosine_B, (4, 1))]
    monkeypatch.setattr(
        "cslm_data.resynthesis.distance.log_mel", lambda which: energies[int(which[0])]
    )
    far = distance(np.ones(1, np.float32), np.zeros(1, np.float32))
    assert far.mcd_db == pytest.approx(10 / np.log(10) * np.sqrt(2 * 0.3**2), rel=1e-6)


# ------------------------------------------------------------------------------- regression
def spoken_units(rng, table_KB, rate_hz, num_utterances=30):
    """Utterances whose energies are a table's, unit by unit, at 100 frames a second."""
    for _ in range(num_utterances):
        units_N = np.repeat(rng.integers(0, len(table_KB), 12), 6).astype(np.uint16)
        num_mel_frames = int(len(units_N) / rate_hz * 100) - 2
        at_F = ((np.arange(num_mel_frames) * 160 + 200) / 16_000 * rate_hz).astype(int)
        noise_FB = rng.normal(0, 0.05, (num_mel_frames, table_KB.shape[1]))
        yield units_N, (table_KB[units_N[at_F]] + noise_FB).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [12.5, 25.0, 50.0, 75.0])
@pytest.mark.parametrize("codes", [False, True], ids=["centroids", "codes"])
def test_a_regression_learns_what_each_unit_sounds_like_at_any_frame_rate(rate_hz, codes):
    rng = np.random.default_rng(0)
    table_KB = rng.normal(0, 2, (6, 80))
    centroids_KE = np.arange(6.0)[:, None] if codes else rng.normal(size=(6, 10))
    fitted = regression.fit(
        spoken_units(rng, table_KB, rate_hz),
        centroids_KE=centroids_KE.astype(np.float32),
        frame_rate_hz=rate_hz,
    )
    units_N, wanted_FB = next(spoken_units(rng, table_KB, rate_hz, 1))
    found_FB = fitted.log_mel_of_units(units_N, len(wanted_FB))
    assert found_FB.shape == wanted_FB.shape
    at_F = ((np.arange(len(wanted_FB)) * 160 + 200) / 16_000 * rate_hz).astype(int)
    steady_F = (at_F % 6 == 2) | (at_F % 6 == 3)
    error = np.abs(found_FB - table_KB[units_N[at_F]])[steady_F].mean()
    assert error < 0.15 < np.abs(table_KB - table_KB.mean(axis=0)).mean()


def test_a_unit_never_heard_sounds_like_the_mean():
    rng = np.random.default_rng(0)
    table_KB = rng.normal(0, 2, (4, 80))
    codes_K1 = np.arange(9, dtype=np.float32)[:, None]
    fitted = regression.fit(
        spoken_units(rng, table_KB, 50.0), centroids_KE=codes_K1, frame_rate_hz=50.0
    )
    found_FB = fitted.log_mel_of_units(np.full(20, 8, np.uint16), 38)
    assert np.abs(found_FB - table_KB.mean(axis=0)).mean() < 0.5


def test_a_regression_is_kept_and_a_damaged_or_older_one_is_not_taken(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    fitted = regression.fit(
        spoken_units(rng, rng.normal(size=(4, 80)), 50.0),
        centroids_KE=rng.normal(size=(4, 3)).astype(np.float32),
        frame_rate_hz=50.0,
    )
    assert regression.load(tmp_path) is None
    regression.save(fitted, tmp_path, {"tokenizer_id": "x-4-1"})
    kept, about = regression.load(tmp_path)
    assert about["tokenizer_id"] == "x-4-1"
    units_N = np.array([0, 1, 1, 3], np.uint16)
    assert np.array_equal(kept.log_mel_of_units(units_N, 7), fitted.log_mel_of_units(units_N, 7))
    monkeypatch.setitem(regression.RECIPE, "format", 2)
    assert regression.load(tmp_path) is None
    monkeypatch.undo()
    weights = np.load(tmp_path / "weights.npy")
    weights[0, 0, 0] += 1
    np.save(tmp_path / "weights.npy", weights)
    assert regression.load(tmp_path) is None
    (tmp_path / "weights.npy").write_bytes(b"cut short")
    assert regression.load(tmp_path) is None


# ------------------------------------------------------------------------------- the picture
def panels(seconds, **options):
    mel_FB = np.random.default_rng(0).normal(size=(int(seconds * 100), 80)).astype(np.float32)
    units_R = np.arange(int(seconds * 10), dtype=np.uint16)
    return Panels(
        **{
            "title": "an <utterance> & its units",
            "original_FB": mel_FB,
            "resynthesis_FB": mel_FB,
            "units": units_R,
            "durations": np.full(len(units_R), 5, np.uint16),
            "frame_rate_hz": 50.0,
            **options,
        }
    )


def texts(drawing):
    return [element.text for element in ElementTree.fromstring(drawing).iter() if element.text]


def test_the_picture_names_every_unit_and_word_and_takes_text_as_text():
    said = texts(draw(panels(2.0, words=[Word(word="<b>你好", start_s=0.5, end_s=1.0)])))
    assert "an <utterance> & its units" in said
    assert "<b>你好" in said
    assert {str(unit) for unit in range(20)} < set(said)
    assert {"original", "from units", "0 s", "1.5 s", "2 s"} < set(said)


def test_the_picture_of_a_long_recording_wraps_and_says_where_it_ends():
    drawing = draw(panels(70.0))
    assert drawing.count("<image") == 2 * 12
    assert "(the first 60 s of 70.0 s)" in drawing


def test_units_without_an_original_are_drawn_alone():
    drawing = draw(panels(1.0, original_FB=None))
    assert drawing.count("<image") == 1
    assert "original" not in drawing


def test_eighty_bins_of_silence_are_drawn():
    assert "<image" in draw(
        panels(1.0, original_FB=LogMel(80, floor=1e-10)(np.zeros(16_000, "f4")))
    )
