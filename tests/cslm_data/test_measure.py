"""The measures of a workspace: by `measure`, and beside `quantize`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pytest
import soundfile
from speech_catalog import add, add_many, adds_up, copy_catalog, run, write_speech
from speech_catalog import files as unit_files

from cslm_data.errors import NoDataError, UsageError
from cslm_data.measure import measure
from cslm_data.query import run_query
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Twelve recordings of a second, in a catalog that tests copy."""
    folder = tmp_path_factory.mktemp("speech")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 12)
    return workspace


@pytest.fixture
def workspace(speech, tmp_path):
    return copy_catalog(speech, tmp_path / "workspace")


def files(workspace):
    return {path.name: path.read_bytes() for path in workspace.measures.glob("*.parquet")}


def measures(workspace):
    columns = "* exclude (audio_version)"
    return run_query(workspace, f"select {columns} from measures order by utt_id").rows


def counts(summary):
    assert adds_up(summary)
    return summary.num_out, summary.num_already, summary.num_rejected


def test_every_utterance_has_one_row_of_what_its_recording_is_like(workspace):
    summary = measure(workspace, num_workers=1)
    assert (summary.num_in, counts(summary)) == (12, (12, 0, 0))
    assert [(g.language, g.num_utterances) for g in summary.groups] == [("en", 9), ("zh", 3)]
    rows = run_query(
        workspace, "select audio, m.* from measures m join utterances using (utt_id) order by all"
    )
    assert len(rows.rows) == 12
    for row in rows.records():
        wave, rate_hz = soundfile.read(row["audio"])
        assert (row["sample_rate_hz"], row["num_channels"]) == (rate_hz, 1)
        assert row["num_samples"] == len(wave)
        assert row["rms_db"] == pytest.approx(10 * np.log10(np.mean(wave**2)), abs=0.001)
        assert row["peak"] == pytest.approx(np.abs(wave).max(), abs=1e-6)


def test_a_second_run_measures_new_and_changed_speech_only(workspace, tmp_path):
    measure(workspace, num_workers=1)
    before = files(workspace)
    assert counts(measure(workspace, num_workers=1)) == (0, 12, 0)
    assert files(workspace) == before
    path = write_speech(tmp_path / "a.wav", 50)
    add(workspace, path, "utt-a")
    assert counts(measure(workspace, num_workers=1)) == (1, 12, 0)
    write_speech(path, 51)
    add(workspace, path, "utt-a")
    assert counts(measure(workspace, num_workers=1)) == (1, 12, 0)


def test_bad_audio_becomes_rejects_and_can_be_tried_again(workspace, tmp_path):
    flac = write_speech(tmp_path / "whole.flac", 1)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    late = tmp_path / "late.wav"
    for path in (cut, broken, late):
        add(workspace, path, f"bad-{path.name}")
    add(workspace, flac, "bad-range", offset_s=0.5, duration_s=9.0)
    summary = measure(workspace, num_workers=1)
    assert counts(summary) == (12, 0, 4)
    reasons = {"missing": 1, "not_finite": 1, "out_of_range": 1, "truncated": 1}
    assert summary.reject_reasons == reasons
    rejects = run_query(workspace, 'select stage, corpus, "key", reason from rejects order by 3')
    assert rejects.rows == [
        ("measure", "test", "bad-cut.flac", "truncated"),
        ("measure", "test", "bad-late.wav", "missing"),
        ("measure", "test", "bad-nan.wav", "not_finite"),
        ("measure", "test", "bad-range", "out_of_range"),
    ]
    assert len(measures(workspace)) == 12
    write_speech(late, 7)
    assert counts(measure(workspace, num_workers=1)) == (0, 12, 4)
    again = measure(workspace, num_workers=1, retry_rejected=True)
    assert again.num_rejected == 3
    assert again.num_out + again.num_already == 13
    assert len(measures(workspace)) == 13


def test_quantize_measures_in_passing_and_its_units_are_the_same_without(
    workspace, speech, tmp_path
):
    plain, alone = (
        copy_catalog(speech, tmp_path / "plain"),
        copy_catalog(speech, tmp_path / "alone"),
    )
    assert run(workspace, part_seconds=2.0).num_measured == 12
    assert run(plain, part_seconds=2.0, measure=False).num_measured == 0
    assert unit_files(workspace) == unit_files(plain)
    assert not plain.measures.exists()
    measure(alone, num_workers=1)
    assert measures(workspace) == measures(alone)
    assert len(measures(workspace)) == 12
    assert counts(measure(workspace, num_workers=1)) == (0, 12, 0)


def test_quantize_measures_only_what_was_not_measured(workspace, tmp_path):
    measure(workspace, num_workers=1)
    before = files(workspace)
    assert run(workspace, num_units=4).num_measured == 0
    assert files(workspace) == before
    add(workspace, write_speech(tmp_path / "new.wav", 99), "utt-new")
    assert run(workspace, num_units=4).num_measured == 1
    assert run(workspace, num_units=8).num_measured == 0
    assert len(measures(workspace)) == 13


def test_a_recording_in_windows_is_measured_as_one_in_one_piece(tmp_path):
    workspace, alone = Workspace(tmp_path / "beside"), Workspace(tmp_path / "alone")
    path = write_speech(tmp_path / "long.flac", 0, duration_s=100, rate_hz=22_050)
    add(workspace, path, "long")
    add(workspace, path, "segment", offset_s=3.0, duration_s=90.0)
    alone.root.mkdir()
    alone.catalog.write_bytes(workspace.catalog.read_bytes())
    assert run(workspace, num_units=8).num_measured == 2
    measure(alone, num_workers=1)
    assert measures(workspace) == measures(alone)


def test_what_a_kill_left_unmeasured_is_measured_alone_to_the_same_bytes(workspace):
    made = run(workspace, part_seconds=2.0)
    whole, units = files(workspace), unit_files(workspace)
    names = sorted(name for name in whole if name.startswith("part-"))
    assert names == [f"part-{made.tokenizer_id}-0000-0000{i}.parquet" for i in range(6)]
    # After the units of a part and before its measures; before both; and the plan as well.
    (workspace.measures / names[1]).unlink()
    (workspace.measures / names[3]).unlink()
    (workspace.units / made.tokenizer_id / "part-0000-00003.parquet").unlink()
    resumed = run(workspace)
    assert (resumed.num_out, resumed.num_measured) == (2, 4)
    assert (files(workspace), unit_files(workspace)) == (whole, units)
    shutil.rmtree(workspace.measures)
    for name in units:
        if "part-" in name:
            (workspace.units / name).unlink()
    assert run(workspace).num_measured == 12
    assert (files(workspace), unit_files(workspace)) == (whole, units)


def test_measures_that_quantize_planned_and_never_took_are_taken_by_measure(workspace):
    run(workspace, part_seconds=2.0)
    whole = files(workspace)
    next(workspace.measures.glob("part-*")).unlink()
    assert counts(measure(workspace, num_workers=1)) == (2, 10, 0)
    assert files(workspace) == whole


def test_what_was_measured_twice_is_one_row(workspace):
    run(workspace, part_seconds=2.0)
    expected = measures(workspace)
    for path in list(workspace.measures.glob("part-*")):
        shutil.copy(path, path.with_name(path.name.replace("part-", "part-z-")))
    assert measures(workspace) == expected
    assert counts(measure(workspace, num_workers=1)) == (0, 12, 0)


def test_a_refusal_that_quantize_tries_again_is_measured_again(workspace, tmp_path):
    late = tmp_path / "late.wav"
    add(workspace, late, "late")
    assert run(workspace).num_rejected == 1
    stages = run_query(workspace, 'select stage, "key" from rejects order by all').rows
    assert stages == [("measure", "late"), ("quantize", "late")]
    write_speech(late, 5)
    assert run(workspace, retry_rejected=True).num_rejected == 0
    assert run_query(workspace, "select * from rejects").rows == []
    assert len(measures(workspace)) == 13


def test_quantize_goes_on_without_measuring_where_another_measures(workspace, caplog):
    with workspace.lock("measures", "measure"):
        assert run(workspace).num_measured == 0
    assert "cslm-data measure" in caplog.text
    assert counts(measure(workspace, num_workers=1)) == (12, 0, 0)


def test_the_number_of_workers_does_not_change_a_byte(workspace, speech, tmp_path):
    other = copy_catalog(speech, tmp_path / "other")
    measure(workspace, num_workers=1, part_seconds=2.0)
    measure(other, num_workers=2, part_seconds=2.0)
    assert files(workspace) == files(other)
    assert len(files(other)) == 1 + 6


_KILLED = """
import sys
from pathlib import Path
from cslm_data.measure import measure
from cslm_data.workspace import Workspace
if __name__ == "__main__":
    measure(Workspace(Path(sys.argv[1])), num_workers=int(sys.argv[2]), part_seconds=0.1)
"""
_KILLED_BESIDE = """
import sys
from pathlib import Path
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace
if __name__ == "__main__":
    quantize(Workspace(Path(sys.argv[1])), num_units=8, num_workers=int(sys.argv[2]),
             part_seconds=0.1)
"""


@pytest.mark.parametrize(("script", "workers"), [(_KILLED, 1), (_KILLED, 2), (_KILLED_BESIDE, 1)])
def test_a_kill_in_the_middle_loses_and_repeats_nothing(tmp_path, script, workers):
    workspace, whole = Workspace(tmp_path / "killed"), Workspace(tmp_path / "whole")
    add_many(workspace, tmp_path / "audio", 150, duration_s=0.3)
    whole.root.mkdir()
    whole.catalog.write_bytes(workspace.catalog.read_bytes())
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, str(tmp_path / "run.py"), str(workspace.root), str(workers)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not list(workspace.measures.glob("part-*.parquet")):
        assert process.poll() is None, "it ended before its first part"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.3 if workers > 1 else 0.0)
    survived = {path: path.stat().st_mtime_ns for path in workspace.measures.glob("part-*")}
    assert 0 < len(survived) < 150, "killed in the middle"
    if script is _KILLED:
        again = measure(workspace, num_workers=workers, part_seconds=0.1)
        assert counts(again) == (150 - len(survived), len(survived), 0)
        measure(whole, num_workers=1, part_seconds=0.1)
    else:
        run(workspace, part_seconds=0.1)
        run(whole, part_seconds=0.1)
        assert unit_files(workspace) == unit_files(whole)
    assert files(workspace) == files(whole)
    assert {path: path.stat().st_mtime_ns for path in survived} == survived, "not done again"
    assert len(measures(workspace)) == 150
    assert not list(workspace.measures.glob(".*"))


def test_parts_are_plain_parquet_and_the_view_has_all_but_refusals(workspace):
    measure(workspace, num_workers=1)
    parts = duckdb.sql(f"describe from read_parquet('{workspace.measures}/part-*.parquet')")
    columns = {row[0]: row[1] for row in parts.fetchall()}
    view = run_query(workspace, "describe measures").rows
    assert columns == {
        **{row[0]: row[1] for row in view},
        "reject_reason": "VARCHAR",
        "reject_detail": "VARCHAR",
    }


def test_nothing_to_measure_and_bad_options_are_said(tmp_path, workspace):
    with pytest.raises(UsageError, match="num-workers"):
        measure(workspace, num_workers=0)
    with pytest.raises(UsageError, match="slurm"):
        measure(workspace, engine="slurm")
    empty = Workspace(tmp_path / "empty")
    add(empty, write_speech(tmp_path / "a.wav", 1), "a")
    with duckdb.connect(str(empty.catalog)) as connection:
        connection.execute("delete from all_utterances")
    with pytest.raises(NoDataError, match="no speech to measure"):
        measure(empty)
