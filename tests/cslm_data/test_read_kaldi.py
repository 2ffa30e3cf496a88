from __future__ import annotations

import logging
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from corpus_trees import kaldi, query, reasons, tone_bytes, write_text
from small_files import write_tone

from cslm_data.audio import decode
from cslm_data.corpora import Defaults
from cslm_data.corpora.pipes import run_pipe
from cslm_data.errors import AudioError
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

ENGLISH = Defaults(language="en")
PIPES = Defaults(language="en", allow_pipes=True)


def test_segments_are_stretches_of_their_recordings(workspace: Workspace, tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    ingest(workspace, [folder])
    assert query(
        workspace,
        "select utt_id, audio, offset_s, duration_s, sample_rate_hz, language, speaker, text, "
        "split, corpus, place from utterances order by utt_id",
    ) == [
        ("u1", str(tmp_path / "audio/a.wav"), 0.0, 0.5, 16000, "en", "spk1", "one  two")
        + ("dev", "dev", "segments:1"),
        ("u2", str(tmp_path / "audio/a.wav"), 0.5, 1.0, 16000, "en", "spk1", "three")
        + ("dev", "dev", "segments:2"),
        ("u3", str(tmp_path / "audio/b.wav"), 1.0, 1.0, 8000, "en", "spk2", "four")
        + ("dev", "dev", "segments:3"),
    ]
    assert not workspace.audio.exists()


def test_without_segments_every_recording_is_an_utterance(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = kaldi(tmp_path)
    for name in ("segments", "utt2spk", "utt2lang"):
        (folder / name).unlink()
    write_text(folder / "text", "rec-b zwei\nrec-a eins\nrec-c drei\n")
    ingest(workspace, [folder], defaults=Defaults(language="de", corpus="k", split="train"))
    assert query(
        workspace, "select utt_id, corpus, text, duration_s, split from utterances order by utt_id"
    ) == [("rec-a", "k", "eins", 2.0, "train"), ("rec-b", "k", "zwei", 2.0, "train")]
    assert reasons(workspace) == {"rec-c": "no_audio"}


def test_awkward_segments_are_refused_one_by_one(workspace: Workspace, tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    lines = [
        "\ufeffok rec-a 0.0 0.5\r",
        "",
        "beyond rec-a 1.5 2.5",
        "after rec-a 5 6",
        "back rec-a 1.0 0.5",
        "minus rec-a -0.5 0.5",
        "nan rec-a nan -1",
        "words rec-a zero one",
        "nowhere rec-z 0 1",
        "short rec-a 0",
        "stereo rec-a 0 1 1",
        "blink rec-a 0.5 0.51",
        "ok rec-a 1.0 1.5",
        "gone rec-gone 0 1",
        "lang rec-a 0 1",
        "untranscribed rec-b 0 -1",
    ]
    write_text(folder / "segments", "\n".join(lines))
    with (folder / "wav.scp").open("a") as scp:
        scp.write(f"rec-gone {tmp_path}/gone.wav\nrec-a {tmp_path}/audio/b.wav\n")
    write_text(folder / "utt2lang", "lang klingon\nok English\n")
    write_text(folder / "text", "zz not there\nok fine\nwords w\nwords twice\n")
    summary = ingest(workspace, [folder], defaults=ENGLISH)
    assert query(workspace, "select utt_id, text, audio from utterances order by utt_id") == [
        ("ok", "fine", str(tmp_path / "audio/a.wav")),
        ("untranscribed", None, str(tmp_path / "audio/b.wav")),
    ]
    assert sorted(query(workspace, "select key, reason from rejects")) == [
        ("after", "beyond_end"),
        ("back", "negative_time"),
        ("beyond", "beyond_end"),
        ("blink", "too_short"),
        ("gone", "missing"),
        ("lang", "unknown_language"),
        ("minus", "negative_time"),
        ("nan", "negative_time"),
        ("nowhere", "no_audio"),
        ("ok", "duplicate_id"),
        ("rec-a", "duplicate_id"),
        ("short", "bad_row"),
        ("stereo", "channel"),
        ("words", "bad_number"),
        ("words", "no_audio"),
        ("zz", "no_audio"),
    ]
    assert summary.num_rows == 2 + summary.num_rejected


def test_paths_with_blanks_and_other_letters_and_relative_ones(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_tone(tmp_path / "recipe" / "wavs ü" / "ein wort.wav")
    write_tone(tmp_path / "recipe" / "data" / "train" / "here.wav")
    folder = tmp_path / "recipe" / "data" / "train"
    write_text(folder / "wav.scp", "a wavs ü/ein wort.wav\n")
    ingest(workspace, [folder], defaults=ENGLISH)
    assert query(workspace, "select audio, split from utterances") == [
        (str(tmp_path / "recipe/wavs ü/ein wort.wav"), "train")
    ]
    write_text(folder / "wav.scp", "a here.wav\n")
    ingest(workspace, [folder], defaults=ENGLISH)
    assert query(workspace, "select audio from utterances") == [(str(folder / "here.wav"),)]


def test_pipes_are_refused_and_never_run_unless_allowed(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = kaldi(tmp_path)
    mark = tmp_path / "ran"
    write_text(
        folder / "wav.scp",
        f"rec-a touch {mark}; cat {tmp_path}/audio/a.wav |\nrec-b | cat\n",
    )
    ingest(workspace, [folder])
    assert reasons(workspace) == {"u1": "pipe", "u2": "pipe", "u3": "pipe"}
    assert "--allow-pipes" in query(workspace, "select detail from rejects where key = 'u1'")[0][0]
    assert not mark.exists()


def test_an_allowed_pipe_runs_once_and_what_it_prints_is_kept(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = kaldi(tmp_path)
    runs = tmp_path / "runs"
    write_text(
        folder / "wav.scp",
        f"rec-a echo x >> {runs}; cat {tmp_path}/audio/a.wav |\nrec-b cat {tmp_path}/nothing |\n",
    )
    ingest(workspace, [folder], defaults=PIPES)
    assert runs.read_text() == "x\n"
    rows = query(workspace, "select utt_id, audio, offset_s, duration_s from utterances order by 1")
    assert [(row[0], *row[2:]) for row in rows] == [("u1", 0.0, 0.5), ("u2", 0.5, 1.0)]
    assert rows[0][1] == rows[1][1]
    np.testing.assert_array_equal(
        decode(rows[1][1], offset_s=0.5, duration_s=1.0),
        decode(str(tmp_path / "audio/a.wav"), offset_s=0.5, duration_s=1.0),
    )
    assert reasons(workspace) == {"u3": "pipe"}
    detail = query(workspace, "select detail from rejects")[0][0]
    assert "status 1" in detail and "No such file" in detail
    [pack] = workspace.audio.iterdir()
    assert pack.read_bytes() == (tmp_path / "audio/a.wav").read_bytes()


def test_a_pipe_that_hangs_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    pid = tmp_path / "pid"
    with pytest.raises(AudioError, match="more than 0.5 s"):
        run_pipe(f"(sleep 60 & echo $! > {pid}; wait)", timeout_s=0.5)
    assert time.monotonic() - started < 10
    child = int(pid.read_text())
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True).stdout
        if not state.strip() or state.strip().startswith(b"Z"):
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("what the command started still runs")


def test_a_pipe_that_prints_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cslm_data.corpora.pipes.MAX_BYTES", 1 << 22)
    with pytest.raises(AudioError, match="printed more than"):
        run_pipe("cat /dev/zero")
    with pytest.raises(AudioError, match="0 bytes"):
        run_pipe("true")


def test_wav_inside_of_an_archive_is_read_in_place(workspace: Workspace, tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    wavs = [(tmp_path / f"audio/{name}.wav").read_bytes() for name in ("a", "b")]
    archive = tmp_path / "raw.ark"
    archive.write_bytes(b"rec-a " + wavs[0] + b"rec-b " + wavs[1] + b"rec-c " + tone_bytes())
    at_b = 6 + len(wavs[0]) + 6
    at_c = at_b + len(wavs[1]) + 6
    (folder / "segments").unlink()
    (folder / "text").unlink()
    write_text(
        folder / "wav.scp",
        f"rec-a {archive}:6\nrec-b {archive}:{at_b}\nrec-c {archive}:{at_c}\n"
        f"rec-d {archive}:99999999\nrec-e {tmp_path}/other.ark:6\n",
    )
    ingest(workspace, [folder], defaults=ENGLISH)
    rows = query(workspace, "select utt_id, audio, sample_rate_hz from utterances order by utt_id")
    assert rows == [
        ("rec-a", f"{archive}#bytes=6-{len(wavs[0])}", 16000),
        ("rec-b", f"{archive}#bytes={at_b}-{len(wavs[1])}", 8000),
    ]
    np.testing.assert_array_equal(decode(rows[1][1]), decode(str(tmp_path / "audio/b.wav")))
    assert reasons(workspace) == {"rec-c": "archive", "rec-d": "archive", "rec-e": "missing"}


def test_recordings_without_segments_are_counted_aloud(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = kaldi(tmp_path)
    write_text(folder / "segments", "u1 rec-a 0 1\n")
    write_text(folder / "text", "u1 one\n")
    with caplog.at_level(logging.WARNING):
        ingest(workspace, [folder])
    assert "1 recordings of wav.scp have no segment" in caplog.text
