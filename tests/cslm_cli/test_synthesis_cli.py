"""`cslm-data synthesize` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

from small_files import write_rows, write_tone

from cslm_data.ingest import ingest
from cslm_data.query import stream_query
from cslm_data.workspace import Workspace


def cslm(*arguments, **options):
    command = [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def make_workspace(tmp_path):
    workspace = tmp_path / "workspace"
    rows = [
        {"id": "a", "language": "en", "prompt": "Hello", "response": "Hi"},
        {"id": "b", "language": "en", "prompt": "Code?", "response": "```\nx\n```"},
    ]
    write_rows(tmp_path / "talk.jsonl", rows)
    ingest(Workspace(workspace), [tmp_path / "talk.jsonl"])
    return workspace


def test_texts_get_speech_and_the_summary_adds_up(tmp_path):
    workspace = make_workspace(tmp_path)
    sound = write_tone(tmp_path / "tone.wav", seconds=0.5)
    command = f"cp {sound} {{out}}"
    options = ("dialogues", "--langs", "en", "-w", workspace, "--command", command)
    done = cslm("synthesize", *options)
    assert done.returncode == 0, done.stderr
    assert "2 rows = 1 spoken + 0 already + 1 rejected {'code': 1}" in done.stdout
    assert "one voice of en" in done.stderr
    again = json.loads(cslm("synthesize", *options, "--json").stdout)
    assert (again["num_out"], again["num_already"], again["backend"]) == (0, 1, "cp")
    (group,) = again["groups"]
    assert (group["num_texts"], group["seconds"], group["num_rejected"]) == (2, 1.0, 2)
    with stream_query(Workspace(workspace), "select kind, speaker from utterances") as found:
        assert list(found.rows) == [("synthetic", "cp:default")] * 2


def test_a_backend_that_always_fails_ends_with_an_error(tmp_path):
    workspace = make_workspace(tmp_path)
    options = ("synthesize", "dialogues", "--langs", "en", "-w", workspace)
    done = cslm(*options, "--command", "false {out}")
    assert done.returncode == 2
    assert "1 of 2 rows were rejected, over --max-reject-rate" in done.stderr


def test_mistakes_are_one_clear_line(tmp_path):
    workspace = make_workspace(tmp_path)
    for options, error in (
        (("--langs", "en", "--command", "no-such-tts {out}"), "no program 'no-such-tts'"),
        (("--langs", "en", "--backend", "a:b", "--command", "x"), "give one of them"),
    ):
        done = cslm("synthesize", "dialogues", *options, "-w", workspace)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert error in done.stderr
        assert "Traceback" not in done.stderr
    assert not list((workspace / "synthesized").glob("*"))
