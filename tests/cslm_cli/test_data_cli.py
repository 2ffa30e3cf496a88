from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_files import write_rows, write_tone


def cslm_data(
    *arguments: object, workspace: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "CSLM_WORKSPACE"}
    if workspace is not None:
        environment["CSLM_WORKSPACE"] = str(workspace)
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    rows: list[dict[str, object]] = []
    for index in range(3):
        write_tone(folder / f"{index}.wav", seconds=0.3, hz=200 + 100 * index)
        rows.append({"id": f"u{index}", "audio": f"{index}.wav", "text": "a", "language": "en"})
    write_rows(folder / "speech.jsonl", rows)
    return folder


def test_the_workspace_comes_from_the_variable_and_answers_come_in_three_forms(
    corpus: Path, tmp_path: Path
) -> None:
    where = tmp_path / "ws"
    done = cslm_data("ingest", corpus, "--json", workspace=where)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sources"][0]["added"] == 3
    query = "select utt_id, text from utterances order by utt_id limit 2"
    csv = cslm_data("sql", query, "-o", "csv", workspace=where)
    assert csv.stdout == "utt_id,text\nu0,a\nu1,a\n"
    rows = json.loads(cslm_data("sql", query, "-o", "json", workspace=where).stdout)
    assert rows == [{"utt_id": "u0", "text": "a"}, {"utt_id": "u1", "text": "a"}]
    assert "utt_id" in cslm_data("sql", query, workspace=where).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sql", "select 1"], "no catalog here"),
        (["ingest", "nowhere.jsonl"], "no such file"),
        (["quantize"], "no catalog here"),
        (["build-mix", "--langs", "en,klingon"], "klingon"),
        (["audit"], "no catalog here"),
        (["show", "x"], "no catalog here"),
    ],
)
def test_a_users_mistake_is_one_message_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = cslm_data(*arguments, "--workspace", tmp_path / "none")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_too_many_rejects_end_with_an_error_unless_they_are_allowed(
    corpus: Path, tmp_path: Path
) -> None:
    (corpus / "0.wav").unlink()
    where = tmp_path / "ws"
    refused = cslm_data("ingest", corpus, workspace=where)
    assert refused.returncode == 2
    assert "1 of 3 rows were rejected" in refused.stderr
    allowed = cslm_data("ingest", corpus, "--max-reject-rate", "0.5", workspace=where)
    assert allowed.returncode == 0
    rows = cslm_data("sql", "select key, reason from rejects", "-o", "csv", workspace=where)
    assert rows.stdout == "key,reason\nu0,missing\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, mounted for the test."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root outside a locked sandbox can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    return ballast


def test_a_full_disk_is_a_clear_message_and_the_same_command_then_goes_on(
    corpus: Path, small_disk: Path
) -> None:
    steps = (
        ["ingest", corpus],
        ["quantize", "--num-units", "10", "--num-workers", "1"],
        ["build-mix", "--langs", "en", "--recipe", corpus / "recipe.yaml"],
    )
    source = "{task: asr, weight: 1, languages: each}"
    recipe = f"stage: pretrain\nsplits: {{by: manifest}}\nsources: [{source}]\n"
    (corpus / "recipe.yaml").write_text(recipe)
    for step in steps:
        ballast = fill(small_disk)
        full = cslm_data(*step, workspace=small_disk)
        assert full.returncode == 2, (step, full.stderr)
        assert "no space left" in full.stderr, (step, full.stderr)
        assert "Traceback" not in full.stderr, (step, full.stderr)
        ballast.unlink()
        again = cslm_data(*step, workspace=small_disk)
        assert again.returncode == 0, (step, again.stderr)
    shards = cslm_data("sql", "select num_samples from shards", "-o", "csv", workspace=small_disk)
    assert shards.stdout == "num_samples\n3\n"
    litter = [p for p in small_disk.rglob("*.*") if p.is_file() and ".tmp" in p.name]
    assert litter == []


def test_the_demo_corpus_is_laid_out_once(tmp_path: Path) -> None:
    assert cslm_data("demo", tmp_path / "demo").returncode == 0
    again = cslm_data("demo", tmp_path / "demo")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert cslm_data("demo", tmp_path / "demo", "--overwrite").returncode == 0
    assert (tmp_path / "demo" / "speech_zh.jsonl").exists()
