from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pytest
import soundfile

from cslm_data import speech_tokenizer
from cslm_data.audio import audio_version, probe
from cslm_data.catalog import open_catalog
from cslm_data.errors import (
    AudioError,
    LockedError,
    MissingArtefactError,
    NoDataError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.keys import key64
from cslm_data.quantize import quantize
from cslm_data.speech_tokenizer import expand, load
from cslm_data.unit_parts import make_encoder
from cslm_data.workspace import Workspace


def write_speech(path, seed, duration_s=1.0, rate_hz=16_000, **options):
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * rate_hz)
    loudness = np.repeat(rng.uniform(0.01, 0.3, num_samples // 800 + 1), 800)[:num_samples]
    soundfile.write(path, rng.standard_normal(num_samples) * loudness, rate_hz, **options)
    return path


def describe(path):
    """What ingest would put into the catalog."""
    try:
        header, version = probe(str(path)), audio_version(str(path))
    except AudioError:
        return 1.0, 16_000, 1, "unknown"
    return header.duration_s, header.sample_rate_hz, header.num_channels, version


def add(workspace, path, utt_id, **options):
    add_rows(workspace, [(path, utt_id, options)])


def add_rows(workspace, rows):
    with open_catalog(workspace, write=True, doing="test") as connection:
        for path, utt_id, options in rows:
            duration_s, rate_hz, num_channels, version = describe(path)
            connection.execute("delete from utterances where utt_id = ?", [utt_id])
            connection.execute(
                "insert into utterances by name select ? as utt_id, 'test' as corpus, ? as audio, "
                "? as offset_s, ? as duration_s, ? as sample_rate_hz, ? as num_channels, "
                "? as language, ? as speaker, 'human' as kind, ? as audio_version, "
                "?::ubigint as key_hash, 'm.jsonl' as source_uri, 0 as row_hash",
                [
                    utt_id,
                    str(path),
                    options.get("offset_s", 0.0),
                    options.get("duration_s", duration_s),
                    rate_hz,
                    num_channels,
                    options.get("language", "en"),
                    options.get("speaker"),
                    version,
                    key64("test", utt_id),
                ],
            )


def add_many(workspace, folder, count, duration_s=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        language = "zh" if index % 4 == 0 else "en"
        path = write_speech(folder / f"{index}.wav", index, duration_s)
        rows.append((path, f"utt-{index}", {"language": language}))
    add_rows(workspace, rows)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Twelve recordings of a second, in a catalog that tests copy."""
    folder = tmp_path_factory.mktemp("speech")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 12)
    return workspace


@pytest.fixture
def workspace(speech, tmp_path):
    copy = Workspace(tmp_path / "workspace")
    copy.root.mkdir()
    copy.catalog.write_bytes(speech.catalog.read_bytes())
    return copy


def files(workspace):
    """Every plan and part with its bytes."""
    found = sorted(workspace.units.glob("*/*.parquet"))
    return {str(path.relative_to(workspace.units)): path.read_bytes() for path in found}


def units(workspace):
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute("select * from units order by utt_id").fetchall()


def run(workspace, **options):
    return quantize(workspace, **{"num_units": 8, "num_workers": 1, **options})


def adds_up(summary):
    counted = summary.num_out + summary.num_rejected + summary.num_already
    return summary.num_in == counted


def test_every_utterance_becomes_units(workspace):
    summary = run(workspace)
    assert adds_up(summary)
    assert (summary.num_in, summary.num_out, summary.fitted) == (12, 12, True)
    assert summary.name == "mfcc-8"
    tokenizer = load(workspace.tokenizers / "mfcc-8")
    rows = units(workspace)
    assert [row[1] for row in rows] == sorted(f"utt-{i}" for i in range(12))
    for tokenizer_id, _, run_units, durations, num_frames, version in rows:
        assert tokenizer_id == summary.tokenizer_id
        assert num_frames == sum(durations) == 49
        assert len(version) == 16
        assert all(a != b for a, b in zip(run_units, run_units[1:], strict=False))
    with open_catalog(workspace, doing="test") as connection:
        [(audio,)] = connection.execute(
            "select audio from utterances where utt_id = 'utt-0'"
        ).fetchall()
        columns = connection.execute("describe units").fetchall()
    expected = tokenizer.encode(soundfile.read(audio, dtype="float32")[0])
    assert rows[0][2] == expected.units.tolist()
    assert len(expand(np.array(rows[0][2]), np.array(rows[0][3]))) == 49
    kinds = {row[0]: row[1] for row in columns}
    assert (kinds["units"], kinds["num_frames"]) == ("USMALLINT[]", "UINTEGER")
    english, chinese = summary.languages
    assert (english.language, english.num_utterances, english.num_frames) == ("en", 9, 9 * 49)
    assert (chinese.language, chinese.num_utterances) == ("zh", 3)
    assert summary.num_units_total == sum(len(row[2]) for row in rows)
    assert summary.dedup_ratio == pytest.approx(summary.num_frames / summary.num_units_total)
    assert english.units_per_s == pytest.approx(english.num_units / (9 * 49 / 50))


def test_a_second_run_does_nothing_and_new_speech_only(workspace, tmp_path):
    first = run(workspace)
    before = files(workspace)
    again = run(workspace, num_units=None)
    assert (again.num_out, again.num_already, again.fitted) == (0, 12, False)
    assert again.tokenizer_id == first.tokenizer_id
    assert files(workspace) == before
    add(workspace, write_speech(tmp_path / "new.wav", 99), "utt-new")
    more = run(workspace)
    assert (more.num_in, more.num_out, more.num_already) == (13, 1, 12)
    assert set(files(workspace)) - set(before) == {
        f"{first.tokenizer_id}/plan-0001.parquet",
        f"{first.tokenizer_id}/part-0001-00000.parquet",
    }


def test_audio_that_changed_is_encoded_anew(workspace, tmp_path):
    path = write_speech(tmp_path / "a.wav", 50)
    add(workspace, path, "utt-a")
    run(workspace)
    write_speech(path, 51)
    add(workspace, path, "utt-a")
    summary = run(workspace)
    assert (summary.num_in, summary.num_out, summary.num_already) == (13, 1, 12)
    assert adds_up(summary)


def test_the_number_of_workers_does_not_change_a_byte(workspace, speech, tmp_path):
    other = Workspace(tmp_path / "other")
    other.root.mkdir()
    other.catalog.write_bytes(speech.catalog.read_bytes())
    one = run(workspace, part_seconds=2.0, num_workers=1)
    two = run(other, part_seconds=2.0, num_workers=2)
    assert one.tokenizer_id == two.tokenizer_id
    assert files(workspace) == files(other)
    assert len(files(workspace)) == 1 + 6


_KILLED = """
import sys
from pathlib import Path
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace
if __name__ == "__main__":
    num_workers = int(sys.argv[2])
    quantize(Workspace(Path(sys.argv[1])), num_units=8, num_workers=num_workers, part_seconds=0.1)
"""


@pytest.mark.parametrize("num_workers", [1, 2])
def test_kill_between_parts_loses_and_repeats_nothing(tmp_path, num_workers):
    workspace, whole = Workspace(tmp_path / "killed"), Workspace(tmp_path / "whole")
    add_many(workspace, tmp_path / "audio", 200, duration_s=0.3)
    whole.root.mkdir()
    whole.catalog.write_bytes(workspace.catalog.read_bytes())
    script = tmp_path / "run.py"
    script.write_text(_KILLED)
    command = [sys.executable, str(script), str(workspace.root), str(num_workers)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not list(workspace.units.glob("*/part-*.parquet")):
        assert process.poll() is None, "it ended before its first part"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.3 if num_workers > 1 else 0.0)
    survived = {path: path.stat().st_mtime_ns for path in workspace.units.glob("*/part-*")}
    expected = run(whole, part_seconds=0.1)
    assert 0 < len(survived) < 200, "killed in the middle"
    summary = run(workspace, part_seconds=0.1, num_workers=num_workers)
    assert files(workspace) == files(whole)
    assert {path: path.stat().st_mtime_ns for path in survived} == survived, "not done again"
    assert adds_up(summary)
    assert summary.num_already > 0
    assert summary.num_units_total == expected.num_units_total
    assert not list(workspace.units.glob("*/.*.tmp"))


def test_bad_audio_becomes_rejects_and_the_rest_goes_on(workspace, tmp_path):
    flac = write_speech(tmp_path / "whole.flac", 1)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), 16_000)
    wide = tmp_path / "wide.wav"
    channels = np.random.default_rng(0).standard_normal((96_000, 8)) * 0.1
    soundfile.write(wide, channels, 96_000, subtype="PCM_24")
    for path in (cut, empty, wide, tmp_path / "nowhere.wav"):
        add(workspace, path, f"bad-{path.name}", speaker="x")
    add(workspace, flac, "bad-range", offset_s=0.5, duration_s=9.0)
    summary = run(workspace)
    assert adds_up(summary)
    assert (summary.num_in, summary.num_out, summary.num_rejected) == (17, 13, 4)
    assert summary.reject_reasons == {"empty": 1, "missing": 1, "out_of_range": 1, "truncated": 1}
    with open_catalog(workspace, doing="test") as connection:
        rows = connection.execute(
            'select stage, corpus, "key", reason, detail from rejects order by "key"'
        ).fetchall()
        frames = connection.execute(
            "select num_frames from units where utt_id = 'bad-wide.wav'"
        ).fetchone()
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        ("quantize", "test", "bad-cut.flac", "truncated"),
        ("quantize", "test", "bad-empty.wav", "empty"),
        ("quantize", "test", "bad-nowhere.wav", "missing"),
        ("quantize", "test", "bad-range", "out_of_range"),
    ]
    assert all(row[4] for row in rows)
    assert frames == (49,), "eight channels at 96 kHz are a second of speech like any other"
    again = run(workspace)
    assert (again.num_out, again.num_rejected, again.num_already) == (0, 4, 13)


def test_the_tokenizer_is_chosen_by_what_is_asked(workspace):
    eight = run(workspace)
    four = run(workspace, num_units=4)
    assert (eight.name, four.name, four.fitted) == ("mfcc-8", "mfcc-4", True)
    assert run(workspace, num_units=4).fitted is False
    assert run(workspace, num_units=None, tokenizer="mfcc-8").tokenizer_id == eight.tokenizer_id
    with pytest.raises(UsageError, match=r"mfcc-8 .*mfcc-4 "):
        run(workspace, num_units=None)
    with pytest.raises(MissingArtefactError, match="nosuch"):
        run(workspace, tokenizer="nosuch")
    with pytest.raises(UsageError, match="local"):
        run(workspace, engine="slurm")
    with pytest.raises(UsageError, match="num-workers"):
        run(workspace, num_workers=0)
    with pytest.raises(UsageError, match="kinds are"):
        run(workspace, extractor="nosuch:x")


def test_units_asked_for_in_vain_are_remembered(workspace):
    small = run(workspace, num_units=500)
    assert small.name == f"mfcc-{12 * 49 // 39}"
    assert run(workspace, num_units=500).fitted is False


def test_the_sample_is_bounded_balanced_and_keyed(workspace, tmp_path):
    run(workspace, max_frames=400)
    tokenizer = load(workspace.tokenizers / "mfcc-8")
    per_language = tokenizer.fit["frames_per_language"]
    # Nine seconds and three share as the square roots, 253.6 : 146.4; the rest of 146.4 goes on.
    assert per_language == {"en": 254, "zh": 146}
    assert tokenizer.fit["num_frames"] == 400
    other = run(workspace, num_units=7, max_frames=400, seed=1)
    assert other.fitted


def test_a_speaker_is_capped(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    for index in range(8):
        path = write_speech(tmp_path / f"{index}.wav", index)
        add(workspace, path, f"utt-{index}", speaker="loud" if index < 7 else "quiet")
    run(workspace, num_units=2, max_speaker_s=2.0)
    assert load(workspace.tokenizers / "mfcc-2").fit["num_utterances"] == 3


def test_nothing_to_quantize_is_said(tmp_path):
    with pytest.raises(MissingArtefactError, match="cslm-data ingest"):
        run(Workspace(tmp_path))
    workspace = Workspace(tmp_path / "workspace")
    with open_catalog(workspace, write=True, doing="test"):
        pass
    with pytest.raises(NoDataError, match="no speech"):
        run(workspace)
    add(workspace, tmp_path / "nowhere.wav", "a")
    with pytest.raises(NoDataError, match=r"none of 1 utterances can be read.*nowhere\.wav"):
        run(workspace)
    assert not list(workspace.tokenizers.glob("*.json"))


def test_a_second_process_is_told_who_is_at_work(workspace):
    first = run(workspace)
    lock = workspace.lock(f"units-{first.tokenizer_id}", "quantize")
    script = (
        "import sys; from pathlib import Path; from cslm_data.quantize import quantize; "
        "from cslm_data.workspace import Workspace; quantize(Workspace(Path(sys.argv[1])))"
    )
    with lock:
        done = subprocess.run(
            [sys.executable, "-c", script, str(workspace.root)], capture_output=True, text=True
        )
    assert done.returncode
    assert LockedError.__name__ in done.stderr
    assert f"process {os.getpid()}" in done.stderr


def test_a_hubert_of_ones_own_quantizes_and_must_stay_the_same(workspace, tmp_path):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8, 8),
        conv_kernel=(10, 8, 8),
        conv_stride=(5, 8, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    model = transformers.HubertModel(config)
    model.save_pretrained(tmp_path / "my-hubert")
    summary = run(workspace, extractor=f"hf:{tmp_path / 'my-hubert'}", layer=1, device="cpu")
    assert (summary.name, summary.num_out) == ("my-hubert-l1-8", 12)
    with torch.no_grad():
        model.encoder.layers[0].attention.q_proj.weight.mul_(2)
    model.save_pretrained(tmp_path / "my-hubert")
    add(workspace, write_speech(tmp_path / "new.wav", 99), "utt-new")
    with pytest.raises(TokenizerMismatchError, match="fit a new"):
        run(workspace, tokenizer="my-hubert-l1-8", device="cpu")


def test_a_fault_in_a_part_stops_the_run_and_is_not_hidden(workspace, monkeypatch):
    def broken(self, waveform):
        raise ZeroDivisionError("a fault of ours")

    run(workspace, part_seconds=2)
    for path in workspace.units.glob("*/part-*"):
        path.unlink()
    monkeypatch.setattr("cslm_data.speech_tokenizer.SpeechTokenizer.encode", broken)
    with pytest.raises(ZeroDivisionError):
        run(workspace)
    monkeypatch.undo()
    assert run(workspace).num_out == 12, "parts that were lost are made again from their plan"


def test_an_encoder_is_whole_before_its_first_part(workspace):
    # The engine limits the threads of what is loaded when the worker is made, not of later comers.
    run(workspace)
    loaded = []
    original = speech_tokenizer.load_extractor

    def noting(*arguments, **options):
        loaded.append(arguments)
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cslm_data.speech_tokenizer.load_extractor", noting)
        make_encoder(workspace.tokenizers / "mfcc-8", device="cpu", dtype="float32")
    assert loaded


def test_a_full_disk_leaves_no_half_part(workspace, monkeypatch):
    import pyarrow.parquet as pq

    written = []
    original = pq.write_table

    def filling(table, path, **options):
        original(table, path, **options)
        written.append(path)
        if len(written) == 3:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", filling)
    with pytest.raises(OSError, match="No space left"):
        run(workspace, part_seconds=2)
    assert len(files(workspace)) == 1 + 2
    assert not list(workspace.units.glob("*/.*"))
    monkeypatch.undo()
    assert run(workspace).num_already == 4


def test_parts_are_plain_parquet(workspace):
    summary = run(workspace)
    pattern = str(workspace.units / summary.tokenizer_id / "part-*.parquet")
    names = [row[0] for row in duckdb.sql(f"describe from read_parquet('{pattern}')").fetchall()]
    assert names == [
        "utt_id",
        "units",
        "durations",
        "num_frames",
        "audio_version",
        "reject_reason",
        "reject_detail",
    ]
