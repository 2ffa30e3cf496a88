from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from speech_catalog import add_many, adds_up, copy_catalog, files, run

from cslm_data.errors import (
    LockedError,
)
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


_KILLED = """
import sys
from pathlib import Path
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace
if __name__ == "__main__":
    num_workers = int(sys.argv[2])
    quantize(Workspace(Path(sys.argv[1])), num_units=8, num_workers=num_workers, part_seconds=0.1)
"""


def test_the_number_of_workers_does_not_change_a_byte(workspace, speech, tmp_path):
    other = Workspace(tmp_path / "other")
    other.root.mkdir()
    other.catalog.write_bytes(speech.catalog.read_bytes())
    one = run(workspace, part_seconds=2.0, num_workers=1)
    two = run(other, part_seconds=2.0, num_workers=2)
    assert one.tokenizer_id == two.tokenizer_id
    assert files(workspace) == files(other)
    assert len(files(workspace)) == 1 + 6


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


def test_a_fault_in_a_part_stops_the_run_and_is_not_hidden(workspace, monkeypatch):
    def broken(self, features):
        raise ZeroDivisionError("a fault of ours")

    run(workspace, part_seconds=2)
    for path in workspace.units.glob("*/part-*"):
        path.unlink()
    monkeypatch.setattr("cslm_data.speech_tokenizer.SpeechTokenizer.units_of", broken)
    with pytest.raises(ZeroDivisionError):
        run(workspace)
    monkeypatch.undo()
    assert run(workspace).num_out == 12, "parts that were lost are made again from their plan"


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
        run(workspace, part_seconds=2, measure=False)
    assert len(files(workspace)) == 1 + 2
    assert not list(workspace.units.glob("*/.*"))
    monkeypatch.undo()
    assert run(workspace).num_already == 4
