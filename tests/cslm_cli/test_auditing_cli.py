from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_files import write_rows, write_tone


def audit(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "cslm_cli.data", "audit", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "CSLM_WORKSPACE"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a warning and, with `--use commercial`, an error."""
    folder = tmp_path_factory.mktemp("corpus")
    rows: list[dict[str, object]] = []
    for index in range(3):
        write_tone(folder / f"{index}.wav", seconds=1.0, hz=200 + 100 * index)
        text = f"{('first', 'second', 'third')[index]} [noise] of these"
        row = {"id": f"u{index}", "audio": f"{index}.wav", "text": text, "language": "en"}
        rows.append(row | {"license": "CC BY-NC 4.0"})
    write_rows(folder / "speech.jsonl", rows)
    command = [sys.executable, "-m", "cslm_cli.data", "ingest", str(folder), "-w"]
    subprocess.run([*command, str(folder / "ws")], check=True, capture_output=True)
    return folder / "ws"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--fail-on", "warning"], 1),
        (["--use", "commercial"], 1),
        (["--use", "commercial", "--fail-on", "none"], 0),
        (["--use", "research", "hours"], 0),
        (["--fail-on", "warning", "hours"], 0),
        (["--against", "nowhere.jsonl"], 2),
        (["--langs", "klingon"], 2),
        (["no_such_audit"], 2),
    ],
)
def test_the_exit_code_says_what_was_found(where: Path, options: list[str], code: int) -> None:
    done = audit("-w", where, *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") == (code == 2)


def test_json_holds_each_audit_with_its_count_hours_and_examples(where: Path) -> None:
    done = audit("-w", where, "--json", "--limit", "1", "markup", "clipped_audio")
    assert done.returncode == 0, done.stderr
    markup, clipped = json.loads(done.stdout)
    assert {key: markup[key] for key in ("name", "severity", "count", "skipped", "failed")} == {
        "name": "markup",
        "severity": "warning",
        "count": 3,
        "skipped": None,
        "failed": False,
    }
    assert markup["hours"] == pytest.approx(3 / 3600)
    [example] = markup["examples"]
    assert (example["utt_id"], example["found"]) == ("u0", "[noise]")
    assert markup["title"]
    assert markup["why"]
    assert "cslm-data filter" in markup["fix"]
    assert "cslm-data measure" in clipped["skipped"]


def test_a_broken_audit_of_ones_own_is_named_and_the_others_are_printed(
    where: Path, tmp_path: Path
) -> None:
    header = "-- title: Mine\n-- severity: error\n-- why: Because.\n-- fix: Do.\n"
    (tmp_path / "broken.sql").write_text(header + "selec 1")
    (tmp_path / "mine.sql").write_text(header + "select utt_id from utterances where false")
    done = audit("-w", where, "--audits", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / "broken.sql") in done.stderr
    assert "[noise]" in done.stdout
    assert "Traceback" not in done.stderr
    (tmp_path / "broken.sql").unlink()
    assert audit("-w", where, "--audits", tmp_path, "--only").returncode == 0
    (tmp_path / "mine.sql").write_text(header + "select utt_id from utterances")
    assert audit("-w", where, "--audits", tmp_path, "--only").returncode == 1


def test_a_page_is_not_written_over_another_file(where: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    done = audit("-w", where, "--html", page, "hours")
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert page.read_text() == "mine"
    assert "give a file" in audit("-w", where, "--html", tmp_path).stderr
