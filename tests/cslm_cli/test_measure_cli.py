"""`cslm-data measure` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

from small_files import write_rows, write_tone


def cslm(*arguments):
    command = [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_recordings_are_measured_and_summed_up(tmp_path):
    workspace = tmp_path / "workspace"
    rows = []
    for index in range(3):
        path = write_tone(tmp_path / f"{index}.wav", seed=index, channels=1 + index % 2)
        rows.append({"audio": path.name, "language": "en", "id": f"u{index}"})
    write_rows(tmp_path / "m.jsonl", rows)
    assert cslm("ingest", tmp_path / "m.jsonl", "-w", workspace).returncode == 0
    done = cslm("measure", "-w", workspace, "--num-workers", "1")
    assert done.returncode == 0, done.stderr
    assert "3 utterances = 3 measured + 0 already + 0 rejected" in done.stdout
    again = json.loads(cslm("measure", "-w", workspace, "--json").stdout)["audio"]
    assert (again["num_out"], again["num_already"]) == (0, 3)
    assert again["groups"][0]["num_utterances"] == 3
    (tmp_path / "1.wav").unlink()
    for name in (workspace / "measures").iterdir():
        name.unlink()
    failed = cslm("measure", "-w", workspace, "--num-workers", "1")
    assert failed.returncode == 2
    assert "1 of 3 rows were rejected, over --max-reject-rate" in failed.stderr
    assert cslm("measure", "-w", workspace, "--max-reject-rate", "0.5").returncode == 0


def test_mistakes_are_one_clear_line(tmp_path):
    for options in ((), ("--engine", "slurm")):
        done = cslm("measure", "-w", tmp_path / "nowhere", *options)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("error: ")
