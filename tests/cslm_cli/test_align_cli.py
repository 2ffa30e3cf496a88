"""`cslm-data align` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_files import write_rows
from tone_speech import register_tones, write_said

TESTS = Path(__file__).parents[1]


def cslm(*arguments, path=()):
    folders = [*map(str, path), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )


@pytest.fixture
def workspace(tmp_path):
    rows = []
    for name, language, text, words in [
        ("a", "en", "Abba cab", ["abba", "cab"]),
        ("b", "zh", "你好世界", ["你好", "世界"]),
        ("c", "en", None, ["abc"]),
        ("d", "en", "zzz yyy", ["abc"]),
    ]:
        write_said(tmp_path / f"{name}.wav", words)
        rows.append({"id": name, "audio": f"{name}.wav", "language": language, "text": text})
    write_rows(tmp_path / "m.jsonl", rows)
    workspace = tmp_path / "workspace"
    assert cslm("ingest", tmp_path / "m.jsonl", "-w", workspace).returncode == 0
    return workspace


def test_words_get_times_and_every_utterance_is_accounted_for(workspace, tmp_path):
    path = [register_tones(tmp_path / "tones"), TESTS]
    arguments = ("align", "-w", workspace, "--aligner", "tones", "--num-workers", "1")
    failed = cslm(*arguments, path=path)
    assert failed.returncode == 2
    assert "4 utterances = 2 aligned + 0 already + 2 rejected" in failed.stdout
    # The one without a transcript does not count against the limit.
    assert "align: 1 of 3 rows were rejected, over --max-reject-rate" in failed.stderr
    again = cslm(*arguments, "--max-reject-rate", "0.5", "--langs", "en", "--json", path=path)
    assert again.returncode == 0, again.stderr
    said = json.loads(again.stdout)
    assert (said["num_in"], said["num_already"], said["num_rejected"]) == (3, 1, 2)
    assert said["reject_reasons"] == {"low_score": 1, "no_text": 1}
    asked = cslm(
        *("sql", "-w", workspace, "--json"),
        "select unnest(words, recursive := true) from best_alignments where utt_id = 'a'",
    )
    words = json.loads(asked.stdout)
    assert [word["word"] for word in words] == ["Abba", "cab"]
    assert [word["start_s"] for word in words] == pytest.approx([0.2, 0.88])


def test_mistakes_are_one_clear_line(workspace, tmp_path):
    for options, message in [
        (("--aligner", "nobody"), "neither a name"),
        (("--aligner", tmp_path / "tones"), "neither a name"),
        (("--aligner", f"mms_fa:{tmp_path}/no.pt"), "no such file"),
        (("--aligner", "mms_fa", "--epochs", "3"), "only the embedded aligner"),
    ]:
        done = cslm("align", "-w", workspace, *options)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
    nowhere = cslm("align", "-w", tmp_path / "nowhere")
    assert (nowhere.returncode, "cslm-data ingest" in nowhere.stderr) == (2, True)
