"""Statistics of signals whose figures are known by hand, or computed by SciPy another way."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from cslm_data.audio import listen_to
from cslm_data.measuring.hearing import Hearing
from cslm_data.measuring.statistics import Statistics

RATE = 16_000


def measure(samples, rate_hz=RATE, block=None):
    wave = np.asarray(samples, np.float32)
    wave = wave[:, None] if wave.ndim == 1 else wave
    statistics = Statistics(rate_hz, wave.shape[1])
    for start in range(0, len(wave), block or len(wave)):
        statistics.add(wave[start : start + (block or len(wave))])
    return statistics.result()


def sine(amplitude, hz=440.0, seconds=2.0, rate_hz=RATE):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def noise(amplitude, seconds=2.0, seed=0, rate_hz=RATE):
    return amplitude * np.random.default_rng(seed).standard_normal(round(seconds * rate_hz))


def as_int16(wave):
    return np.clip(np.round(np.asarray(wave) * 32768), -32768, 32767) / 32768


def test_a_sine_has_the_level_peak_and_length_of_a_sine():
    found = measure(sine(0.5))
    assert found.num_samples == 32_000
    assert found.decoded_s == 2.0
    assert found.rms_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.002)
    assert found.peak == pytest.approx(0.5, abs=1e-4)
    assert (found.dc_offset, found.silence_share, found.leading_silence_s) == (0, 0, 0)


def test_digital_silence_is_at_the_floor_and_has_neither_noise_nor_band():
    found = measure(np.zeros(8_000))
    assert (found.rms_db, found.peak, found.clipped_share) == (-120.0, 0.0, 0.0)
    assert (found.snr_db, found.bandwidth_hz) == (None, None)
    assert (found.leading_silence_s, found.trailing_silence_s) == (0.5, 0.0)
    assert found.silence_share == 1.0


def test_an_offset_is_the_largest_mean_of_a_channel():
    wave = noise(0.05)
    two = np.stack([wave - wave.mean() + 0.02, wave - wave.mean() - 0.1], axis=1)
    assert measure(two).dc_offset == pytest.approx(0.1, abs=1e-5)


def test_clipped_samples_are_those_of_flat_tops():
    wave = as_int16(sine(2.0, hz=100.0))
    flat = np.abs(wave) >= 32767 / 32768
    assert 0.6 < flat.mean() < 0.7
    assert measure(wave).clipped_share == pytest.approx(flat.mean(), abs=1e-4)


def test_flat_tops_that_were_turned_down_are_clipped_all_the_same():
    wave = np.clip(noise(0.5), -0.4, 0.7) * 0.5
    edges = {0.35, -0.2}
    assert {round(float(wave.max()), 6), round(float(wave.min()), 6)} == edges
    runs = 0
    for at_edge in (wave == wave.max(), wave == wave.min()):
        padded = np.concatenate([[0], at_edge.astype(int), [0]])
        starts, ends = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
        runs += (ends - starts)[(ends - starts) >= 3].sum()
    assert runs > 500
    assert measure(wave).clipped_share == pytest.approx(runs / len(wave), abs=1e-7)


@pytest.mark.parametrize("hz", [50.0, 100.0, 440.0, 1000.0, 3999.0])
def test_a_sine_that_just_touches_full_scale_is_not_clipped(hz):
    assert measure(as_int16(sine(32767 / 32768, hz=hz))).clipped_share < 1e-4


def test_steps_of_a_very_quiet_recording_are_not_clipping():
    assert measure(as_int16(noise(2 / 32768))).clipped_share == 0


def test_one_clipped_channel_of_two_is_half_of_it():
    clipped = as_int16(sine(2.0, hz=100.0))
    two = np.stack([clipped, sine(0.3)], axis=1)
    assert measure(two).clipped_share == pytest.approx(measure(clipped).clipped_share / 2, abs=1e-6)


def test_lossy_overshoots_count_and_the_peak_is_beyond_one():
    wave = sine(1.2, hz=100.0)
    found = measure(wave)
    assert found.peak == pytest.approx(1.2, abs=1e-3)
    assert found.clipped_share == pytest.approx((np.abs(wave) >= 32767 / 32768).mean(), abs=1e-4)


@pytest.mark.parametrize("pause", [0.0, 0.001])
@pytest.mark.parametrize("loudness", [0.3, 0.01])
def test_silence_is_found_at_both_ends_and_inside_of_loud_and_quiet_speech(pause, loudness):
    def rest(seconds, seed):
        return noise(pause * loudness / 0.3, seconds, seed)

    speech = noise(loudness, 0.96, 1)
    wave = np.concatenate([rest(0.48, 2), speech, rest(0.32, 3), speech, rest(0.64, 4)])
    found = measure(wave)
    assert found.leading_silence_s == pytest.approx(0.48, abs=0.02)
    assert found.trailing_silence_s == pytest.approx(0.64, abs=0.02)
    assert found.silence_share == pytest.approx(1.44 / 3.36, abs=0.02)


def test_steady_noise_is_not_silence():
    assert measure(noise(0.01)).silence_share == 0


@pytest.mark.parametrize("snr_db", [0, 10, 20, 30, 40])
def test_the_ratio_of_bursts_to_white_noise_is_recovered(snr_db):
    bursts = noise(0.2, 10.0) * (np.arange(160_000) % 16_000 < 8_000)
    power = np.mean(bursts**2)
    both = bursts + noise(np.sqrt(power) * 10 ** (-snr_db / 20), 10.0, 1)
    assert measure(both).snr_db == pytest.approx(snr_db, abs=1.5)


def test_zeros_at_the_ends_do_not_make_a_noisy_recording_clean():
    bursts = noise(0.2, 10.0) * (np.arange(160_000) % 16_000 < 8_000) + noise(0.02, 10.0, 1)
    padded = np.concatenate([np.zeros(16_000), bursts, np.zeros(16_000)])
    assert measure(padded).snr_db == pytest.approx(measure(bursts).snr_db, abs=0.3)


@pytest.mark.parametrize("edge_hz", [2000, 3400, 4000, 5500, 7000])
@pytest.mark.parametrize("seconds", [0.3, 5.0])
def test_a_cut_band_shows_its_edge(edge_hz, seconds):
    taps = scipy.signal.firwin(801, edge_hz, fs=RATE)
    wave = as_int16(scipy.signal.lfilter(taps, 1, noise(0.1, seconds + 0.1))[1600:])
    assert measure(wave).bandwidth_hz == pytest.approx(edge_hz, abs=150)


def test_eight_kilohertz_dressed_as_sixteen_shows_and_full_bands_do_not():
    wave = noise(0.1, 4.0)
    dressed = soxr.resample(soxr.resample(wave, 16_000, 8_000), 8_000, 16_000)
    assert measure(as_int16(dressed)).bandwidth_hz == pytest.approx(4000, abs=200)
    assert measure(as_int16(wave)).bandwidth_hz == 8000
    assert measure(as_int16(noise(0.1, 4.0, rate_hz=8_000)), 8_000).bandwidth_hz == 4000
    assert measure(as_int16(noise(0.1, 4.0, rate_hz=44_100)), 44_100).bandwidth_hz == 22_050


def test_equal_samples_have_equal_hashes_whatever_the_container(tmp_path):
    rng = np.random.default_rng(3)
    for subtype, bits in (("PCM_16", 16), ("PCM_24", 24)):
        values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (5_000, 2)) << (32 - bits)
        hashes = set()
        for name in ("a.wav", "b.flac"):
            soundfile.write(tmp_path / name, values.astype(np.int32), RATE, subtype=subtype)
            hashes.add(heard(tmp_path / name).samples_hash)
        assert len(hashes) == 1


def test_another_sample_rate_or_channel_count_is_another_hash(tmp_path):
    wave = as_int16(noise(0.1))
    hashes = [
        measure(wave).samples_hash,
        measure(wave, 8_000).samples_hash,
        measure(wave.reshape(-1, 2)).samples_hash,
        measure(np.concatenate([wave, [0]])).samples_hash,
    ]
    assert len(set(hashes)) == 4
    assert len(hashes[0]) == 32


def heard(path, **stretch):
    hearing = Hearing()
    listen_to(str(path), hearing, **stretch)
    return hearing.result


def test_a_stretch_is_measured_alone(tmp_path):
    wave = as_int16(noise(0.1, 3.0))
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    part = heard(tmp_path / "a.wav", offset_s=1.0, duration_s=0.5)
    assert part == measure(wave[16_000:24_000])


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_blocks_do_not_show_in_a_single_bit(rate_hz, channels):
    rng = np.random.default_rng(rate_hz)
    wave = np.clip(rng.standard_normal((rate_hz * 9 + 77, channels)) * 2, -0.9, 0.8)
    whole = measure(wave, rate_hz)
    assert whole.clipped_share > 0.01
    for block in (1_000, 9_973, 65_536):
        assert measure(wave, rate_hz, block) == whole


def test_equal_channels_say_what_one_says():
    wave = as_int16(noise(0.1))
    one, two = measure(wave), measure(np.stack([wave, wave], axis=1))
    differ = {"num_channels", "samples_hash"}
    for field in dataclasses.fields(one):
        if field.name not in differ:
            assert getattr(one, field.name) == pytest.approx(getattr(two, field.name)), field.name


def test_channels_that_cancel_out_are_loud_and_silent():
    wave = noise(0.1)
    found = measure(np.stack([wave, -wave], axis=1))
    assert found.rms_db == pytest.approx(-20, abs=0.2)
    assert (found.silence_share, found.snr_db) == (1.0, None)


@pytest.mark.parametrize("length", [1, 5, 300, 513])
def test_very_short_recordings_have_all_figures(length):
    found = measure(noise(0.1)[:length])
    assert found.num_samples == length
    assert found.bandwidth_hz == 8000
    assert found.rms_db > -60


def test_samples_that_are_no_sound_do_no_harm():
    found = measure(np.full(40_000, 3e38))
    assert found.rms_db > 100
    assert found.bandwidth_hz is None


def test_an_hour_takes_little_more_memory_than_a_minute():
    def peak(minutes):
        block = noise(0.1, 60.0).astype(np.float32)[:, None]
        tracemalloc.start()
        statistics = Statistics(RATE, 1)
        for _ in range(minutes):
            statistics.add(block)
        statistics.result()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(60) < peak(1) + 8e6


def test_few_levels_of_quantisation_are_no_flat_tops():
    # A quiet recording of 8 bits: about a dozen levels, whose neighbours are equal everywhere.
    quiet = np.round(sine(0.1, hz=110.0) * 128) / 128
    assert (np.abs(quiet) == np.abs(quiet).max()).mean() > 0.05
    assert measure(quiet.astype(np.float32)).clipped_share == 0
    # Overdriven before it was made 8 bits, and loud: it is clipped still.
    loud = np.round(np.clip(sine(2.0, hz=110.0), -0.9, 0.9) * 128) / 128
    assert measure(loud.astype(np.float32)).clipped_share > 0.5
