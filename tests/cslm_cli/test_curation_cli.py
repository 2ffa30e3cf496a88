"""filter and dedup as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_files import write_rows, write_tone


def cslm_data(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    rows: list[dict[str, object]] = []
    for index in range(4):
        write_tone(tmp_path / "c" / f"{index}.wav", seconds=0.3 + index / 10, seed=index)
        row: dict[str, object] = {"id": f"u{index}", "audio": f"{index}.wav", "text": "Yes."}
        rows.append({**row, "language": "en", "speaker": "s", "corpus": "c"})
    write_rows(tmp_path / "c" / "speech.jsonl", rows)
    done = cslm_data("ingest", tmp_path / "c", "-w", tmp_path / "ws")
    assert done.returncode == 0, done.stderr
    return tmp_path / "ws"


def test_what_was_moved_out_is_printed_with_the_way_back(ws: Path) -> None:
    asked = cslm_data("filter", "duration_s < 0.45", "--reason", "short", "--dry-run", "-w", ws)
    assert "2 rows of utterances" in asked.stdout and "would be moved out" in asked.stdout
    assert "--undo" not in asked.stdout
    done = cslm_data("filter", "duration_s < 0.45", "--reason", "short", "-w", ws)
    assert done.returncode == 0, done.stderr
    assert "2 rows of utterances (0.000 h) are moved out" in done.stdout
    assert "undo with: cslm-data filter --undo 1" in done.stdout
    again = cslm_data("filter", "duration_s < 0.45", "--reason", "short", "-w", ws)
    assert (again.returncode, "nothing matched" in again.stdout) == (0, True)
    dedup = json.loads(cslm_data("dedup", "--keep", "longest", "--json", "-w", ws).stdout)
    assert (dedup["num_rows"], dedup["curation_id"], dedup["kind"]) == (1, 2, "dedup")
    listed = json.loads(cslm_data("filter", "--list", "--json", "-w", ws).stdout)
    assert [(c["curation_id"], c["kind"], c["undone"]) for c in listed] == [
        (2, "dedup", False),
        (1, "filter", False),
    ]
    back = cslm_data("filter", "--undo", "last", "-w", ws)
    assert back.stdout == "1 rows of utterances are back (dedup 2: duplicate_text)\n"
    story = cslm_data("sql", "--explain-row", "u0", "-w", ws).stdout
    assert "filter 1 (in force): short; duration_s < 0.45" in story


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filter"], "give one of: a predicate, --undo, --list"),
        (["filter", "true", "--undo", "1"], "give one of"),
        (["filter", "true"], "--reason: say why"),
        (["filter", "nothing > 3", "--reason", "r"], 'Referenced column "nothing" not found'),
        (["filter", "--undo", "x"], "no such filter or dedup"),
        (["filter", "--undo", "last"], "nothing is moved out"),
        (["dedup", "--table", "bitext", "--by", "audio"], "no audio of their own"),
        (["dedup", "--keep", "best-snr"], "cslm-data measure"),
    ],
)
def test_a_mistake_is_one_message(ws: Path, arguments: list[str], message: str) -> None:
    done = cslm_data(*arguments, "-w", ws)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_filter_meets_a_writer_with_a_clear_message(ws: Path) -> None:
    from cslm_data.catalog import open_catalog
    from cslm_data.workspace import Workspace

    with open_catalog(Workspace(ws), write=True, doing="something long"):
        done = cslm_data("filter", "true", "--reason", "r", "-w", ws)
    assert done.returncode == 2 and "something long" in done.stderr
