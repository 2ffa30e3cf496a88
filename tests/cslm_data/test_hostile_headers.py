"""Headers that promise more than there is: little memory, no hang, a reason."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import soundfile
from small_files import write_rows

from cslm_data.audio import decode, decode_blocks, probe
from cslm_data.corpora import Defaults
from cslm_data.errors import AudioError
from cslm_data.ingest import ingest
from cslm_data.measure import measure
from cslm_data.query import run_query

RATE = 16_000


def write_flac(path, claimed_samples, num_samples=32_000):
    """A flac whose STREAMINFO claims another number of samples (its 36 bits from byte 21 on)."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    soundfile.write(path, wave, RATE, format="FLAC")
    data = bytearray(path.read_bytes())
    field = int.from_bytes(data[18:26], "big")
    assert field % 2**36 == num_samples
    data[18:26] = (field - num_samples + claimed_samples).to_bytes(8, "big")
    path.write_bytes(data)
    return path


def write_mp3(path, claimed_frames):
    """An mp3 whose Xing header claims another number of frames (of 576 samples at this rate)."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 64_000)
    soundfile.write(path, wave, RATE, format="MP3")
    data = bytearray(path.read_bytes())
    place = max(data.find(b"Xing"), data.find(b"Info"))
    assert place > 0
    assert data[place + 7] & 1, "it says the number of frames"
    data[place + 8 : place + 12] = claimed_frames.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def write_wav(path, claimed_bytes):
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), RATE)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = claimed_bytes.to_bytes(4, "little")
    path.write_bytes(data)
    return path


_IN_LITTLE_MEMORY = """
    import resource, sys
    import numpy, soundfile, soxr
    from cslm_data.audio import decode, decode_blocks, listen_to, probe
    from cslm_data.errors import AudioError
    from cslm_data.measuring.hearing import Hearing
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, used + 100_000_000))
    uri = sys.argv[1]
    length = {"duration_s": float(sys.argv[2])} if len(sys.argv) > 2 else {}
    calls = {
        "decode": lambda: decode(uri, **length),
        "blocks": lambda: list(decode_blocks(uri, **length)),
        "listen": lambda: listen_to(uri, Hearing(), **length),
    }
    for name, call in calls.items():
        try:
            call()
            print(name, "read")
        except AudioError as error:
            print(name, error.reason)
"""


def in_little_memory(path, *arguments):
    script = textwrap.dedent(_IN_LITTLE_MEMORY)
    command = [sys.executable, "-c", script, str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [line.split()[1] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("claimed", [2**36 - 1, 10 * 3600 * RATE])
def test_a_flac_that_claims_ages_is_refused_in_little_memory(tmp_path, claimed):
    path = write_flac(tmp_path / "lie.flac", claimed)
    assert in_little_memory(path) == ["truncated"] * 3


def test_an_mp3_that_claims_hours_is_refused_in_little_memory(tmp_path):
    path = write_mp3(tmp_path / "lie.mp3", 10**8)
    assert in_little_memory(path) == ["truncated"] * 3


def test_a_wav_that_claims_gigabytes_is_refused(tmp_path):
    path = write_wav(tmp_path / "lie.wav", 0x7FFF0000)
    assert in_little_memory(path) == ["truncated"] * 3


def test_a_stretch_inside_of_the_lie_is_refused_and_one_before_it_is_read(tmp_path):
    path = write_flac(tmp_path / "lie.flac", 10 * 3600 * RATE)
    assert len(decode(str(path), offset_s=0.5, duration_s=1.0)) == RATE
    for offset_s in (1.5, 100.0, 20_000.0):
        with pytest.raises(AudioError, match=r"truncated.*576000000 in its header"):
            decode(str(path), offset_s=offset_s, duration_s=2.0)
        with pytest.raises(AudioError, match="truncated"):
            list(decode_blocks(str(path), offset_s=offset_s, duration_s=2.0))


def test_a_header_that_its_bytes_cannot_hold_is_refused_unread(tmp_path):
    path = write_flac(tmp_path / "lie.flac", 2**36 - 1)
    with pytest.raises(AudioError, match=r"truncated.*bytes cannot hold the 68719476735 samples"):
        probe(str(path))
    honest = write_flac(tmp_path / "zeros.flac", 32_000)
    assert probe(str(honest)).num_frames == 32_000


def test_a_flac_that_was_written_to_a_pipe_is_refused_by_its_own_reason(tmp_path):
    path = write_flac(tmp_path / "piped.flac", 0)
    with pytest.raises(AudioError, match="unreadable.*does not say how long"):
        probe(str(path))


def test_a_wav_of_a_thousand_channels_is_read_in_little_memory(tmp_path):
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.full((40_000, 1000), 0.25, np.float32), RATE, subtype="PCM_16")
    assert in_little_memory(path)[0] == "read"
    assert len(decode(str(path))) == 40_000


def test_a_segment_inside_of_the_lie_passes_ingest_and_is_refused_when_decoded(workspace, tmp_path):
    lie = write_flac(tmp_path / "lie.flac", 10 * 3600 * RATE)
    write_flac(tmp_path / "ages.flac", 2**36 - 1)
    row = {"audio": lie.name, "language": "en", "text": "a"}
    rows = [
        {**row, "id": "whole"},
        {**row, "id": "inside", "offset": 7200.0, "duration": 5.0},
        {**row, "id": "honest", "offset": 0.5, "duration": 1.0},
        {**row, "id": "ages", "audio": "ages.flac", "offset": 7200.0, "duration": 5.0},
    ]
    ingest(workspace, [write_rows(tmp_path / "m.jsonl", rows)], defaults=Defaults(corpus="lies"))
    summary = measure(workspace, num_workers=1)
    assert (summary.num_in, summary.num_out, summary.reject_reasons) == (2, 1, {"truncated": 1})
    sql = 'select stage, corpus, "key", reason from rejects order by "key"'
    assert run_query(workspace, sql).rows == [
        ("ingest", "lies", "ages", "truncated"),
        ("measure", "lies", "inside", "truncated"),
        ("ingest", "lies", "whole", "too_long"),
    ]
