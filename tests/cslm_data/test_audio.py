from __future__ import annotations

import hashlib
import tracemalloc

import fsspec
import numpy as np
import pytest
import soundfile

from cslm_data.audio import audio_version, decode, decode_blocks, probe, resampler_identity
from cslm_data.errors import AudioError


def tone(duration_s=0.5, rate_hz=16_000, frequency_hz=440.0):
    times = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.4 * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def reason(call, *arguments, **options):
    with pytest.raises(AudioError) as caught:
        call(*arguments, **options)
    assert str(arguments[0]) in caught.value.detail, "the message says where"
    return caught.value.reason


def test_header_of_a_recording_is_read_without_decoding_it(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([tone(rate_hz=22_050)] * 2, axis=1), 22_050)
    header = probe(str(path))
    assert (header.sample_rate_hz, header.num_channels, header.num_frames) == (22_050, 2, 11_025)
    assert header.duration_s == 0.5


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".wav", {"subtype": "PCM_16"}),
        (".wav", {"subtype": "FLOAT"}),
        (".flac", {}),
        (".ogg", {"subtype": "VORBIS"}),
        (".opus", {"format": "OGG", "subtype": "OPUS"}),
        (".mp3", {}),
    ],
)
def test_each_format_decodes_to_the_sound_it_holds(tmp_path, suffix, options):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(), 16_000, **options)
    wave = decode(str(path))
    assert wave.dtype == np.float32
    assert abs(len(wave) - 8_000) <= 1_200, "lossy codecs may pad to whole frames"
    spectrum = np.abs(np.fft.rfft(wave[1_000:7_000] * np.hanning(6_000)))
    assert abs(np.argmax(spectrum) * 16_000 / 6_000 - 440) < 4


def test_eight_channels_at_96_khz_are_averaged_and_resampled(tmp_path):
    path = tmp_path / "array.wav"
    gains = np.arange(8) / 8
    channels = tone(1.0, 96_000)[:, None] * gains
    soundfile.write(path, channels, 96_000, subtype="PCM_24")
    assert probe(str(path)).num_channels == 8
    wave = decode(str(path))
    assert len(wave) == 16_000
    inside = slice(500, -500)
    expected = tone(1.0, 16_000) * gains.mean()
    np.testing.assert_allclose(wave[inside], expected[inside], atol=1e-3)


def test_a_stretch_equals_that_slice_of_the_whole(tmp_path):
    path = tmp_path / "long.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    soundfile.write(path, noise, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(
        decode(str(path), offset_s=1.0, duration_s=0.5), noise[16000:24000]
    )
    np.testing.assert_array_equal(decode(str(path), offset_s=2.5), noise[40_000:])


def test_a_stretch_beyond_the_end_is_refused_and_a_rounded_one_is_not(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0), 16_000)
    assert len(decode(str(path), offset_s=0.5, duration_s=0.55)) == 8_000
    assert reason(decode, str(path), offset_s=0.5, duration_s=0.7) == "out_of_range"
    assert reason(decode, str(path), offset_s=1.0) == "out_of_range"
    assert reason(decode, str(path), offset_s=-0.1) == "out_of_range"
    assert reason(decode, str(path), duration_s=0.0) == "empty"


def test_bad_recordings_say_what_is_wrong(tmp_path):
    missing = tmp_path / "nowhere.wav"
    assert reason(probe, str(missing)) == reason(decode, str(missing)) == "missing"
    assert reason(audio_version, str(missing)) == "missing"
    assert reason(probe, str(tmp_path)) == "missing", "a folder is no recording"
    nothing = tmp_path / "nothing.wav"
    nothing.write_bytes(b"")
    assert reason(probe, str(nothing)) == "empty"
    silent = tmp_path / "zero-length.wav"
    soundfile.write(silent, np.zeros(0, np.float32), 16_000)
    assert reason(probe, str(silent)) == reason(decode, str(silent)) == "empty"
    text = tmp_path / "text.flac"
    text.write_text("this is no sound at all, " * 99)
    assert reason(probe, str(text)) == "unreadable"
    raw = tmp_path / "headerless.raw"
    raw.write_bytes(bytes(4_000))
    assert reason(probe, str(raw)) == "unreadable"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_flac_cut_short_is_refused(tmp_path, share):
    whole = tmp_path / "whole.flac"
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 32_000)
    soundfile.write(whole, noise, 16_000)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    assert reason(decode, str(cut)) == "truncated"


def test_a_wav_cut_short_is_refused_and_one_of_unknown_length_is_read(tmp_path):
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, tone(), 16_000)
    data = whole.read_bytes()
    cut = tmp_path / "cut.wav"
    cut.write_bytes(data[:6_000])
    assert reason(probe, str(cut)) == reason(decode, str(cut)) == "truncated"
    piped = tmp_path / "piped.wav"
    place = data.index(b"data") + 4
    piped.write_bytes(data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :])
    assert len(decode(str(piped))) == 8_000


def test_nan_and_infinity_are_refused(tmp_path):
    for index, value in enumerate([np.nan, np.inf]):
        wave = tone()
        wave[77] = value
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, wave, 16_000, subtype="FLOAT")
        assert reason(decode, str(path)) == "not_finite"


def test_uris_are_read_like_paths(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(), 16_000)
    with fsspec.open("memory://bucket/a.flac", "wb") as stream:
        stream.write(path.read_bytes())
    for uri in (f"file://{path}", "memory://bucket/a.flac"):
        assert probe(uri) == probe(str(path))
        assert audio_version(uri) == audio_version(str(path))
        np.testing.assert_array_equal(decode(uri), decode(str(path)))
    assert reason(probe, "memory://bucket/none.flac") == "missing"
    assert reason(probe, "nosuch://bucket/a.flac") == "unreadable"


def test_the_fingerprint_follows_size_and_both_ends(tmp_path):
    data = bytearray(np.random.default_rng(2).bytes(300_000))
    path = tmp_path / "a.bin"

    def version():
        path.write_bytes(bytes(data))
        return audio_version(str(path))

    first = version()
    digest = hashlib.blake2b((300_000).to_bytes(8, "little"), digest_size=8)
    digest.update(bytes(data[:65_536]) + bytes(data[-65_536:]))
    assert first == digest.hexdigest()
    data[10] ^= 1
    second = version()
    data[-10] ^= 1
    third = version()
    data.insert(150_000, 7)
    assert len({first, second, third, version()}) == 4


def test_the_resampler_has_a_name():
    assert resampler_identity().startswith("soxr-hq-")


def test_a_stretch_of_a_lossy_recording_is_the_same_sound_as_in_the_whole(tmp_path):
    noise = np.random.default_rng(3).uniform(-0.3, 0.3, 80_000).astype(np.float32)
    for suffix, options in [
        (".ogg", {}),
        (".opus", {"format": "OGG", "subtype": "OPUS"}),
        (".mp3", {}),
    ]:
        path = tmp_path / f"a{suffix}"
        soundfile.write(path, noise, 16_000, **options)
        whole = decode(str(path))
        part = decode(str(path), offset_s=2.0, duration_s=1.0)
        assert np.corrcoef(part, whole[32_000:48_000])[0, 1] > 0.999, suffix


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "options"),
    [
        (".wav", 16_000, {"subtype": "PCM_16"}),
        (".flac", 44_100, {}),
        (".wav", 8_000, {"subtype": "FLOAT"}),
        (".opus", 48_000, {"format": "OGG", "subtype": "OPUS"}),
        (".mp3", 22_050, {}),
    ],
)
def test_blocks_are_the_samples_of_the_whole(tmp_path, monkeypatch, suffix, rate_hz, options):
    monkeypatch.setattr("cslm_data.audio._BLOCK_FRAMES", 9_973)
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(4).uniform(-0.4, 0.4, (5 * rate_hz + 77, 2))
    soundfile.write(path, noise, rate_hz, **options)
    for stretch in ({}, {"offset_s": 1.25, "duration_s": 2.5}, {"duration_s": 0.001}):
        whole = decode(str(path), **stretch)
        blocks = list(decode_blocks(str(path), **stretch))
        assert len(blocks) > 1 or len(whole) < 1_000
        assert blocks[0].dtype == np.float32
        np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_blocks_of_a_bad_recording_raise_what_the_whole_raises(tmp_path, monkeypatch):
    monkeypatch.setattr("cslm_data.audio._BLOCK_FRAMES", 1_600)

    def read(uri, **options):
        return list(decode_blocks(uri, **options))

    path = tmp_path / "a.wav"
    wave = tone()
    wave[7_000] = np.nan
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    assert reason(read, str(path)) == "not_finite"
    assert reason(read, str(path), offset_s=2.0) == "out_of_range"
    assert reason(read, str(path), duration_s=0.0) == "empty"
    assert reason(read, str(tmp_path / "nowhere.wav")) == "missing"
    whole = tmp_path / "whole.flac"
    soundfile.write(whole, np.random.default_rng(1).uniform(-0.5, 0.5, 32_000), 16_000)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    blocks = decode_blocks(str(cut))
    assert len(next(blocks)) == 1_600, "what comes before the tear is there"
    with pytest.raises(AudioError, match="truncated"):
        list(blocks)


def test_blocks_of_a_long_recording_take_the_memory_of_a_block(tmp_path):
    path = tmp_path / "long.wav"
    second = np.random.default_rng(5).integers(-9_000, 9_000, 44_100).astype(np.int16)
    with soundfile.SoundFile(path, "w", 44_100, 1) as sound:
        for _ in range(600):
            sound.write(second)
    list(decode_blocks(str(path), duration_s=1.0))
    tracemalloc.start()
    total = sum(len(block) for block in decode_blocks(str(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 600 * 16_000
    assert peak < 25e6, "ten minutes would be 100 MB"
