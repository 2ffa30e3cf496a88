from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cslm_cli.answers import printable, safe_json
from forked_commands import run_forked

from cslm_data.ingest import ingest
from cslm_data.mix import build_mix
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace

TINY = ["model_dim=32", "num_layers=1", "num_heads=2", "num_kv_heads=1", "ffn_inner_dim=32"]
RECIPE = """
stage: pretrain
splits: {by: manifest}
sources:
  - {task: asr, weight: 0.5, languages: each, max_epochs: 1}
  - {task: tts, weight: 0.5, languages: each, max_epochs: 1}
"""


def cslm_train(*arguments: object, workspace: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "cslm_cli.train", *map(str, arguments)]
    environment = {**os.environ, "CSLM_WORKSPACE": str(workspace)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def forked_cslm_train(*arguments: object, workspace: Path) -> subprocess.CompletedProcess[str]:
    """The same, forked from a process that has its imports."""
    return run_forked(
        "cslm_cli.train",
        list(map(str, arguments)),
        environment={"CSLM_WORKSPACE": str(workspace)},
        folder=workspace.parent,
        timeout_s=240,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a mix of tones that say numbers."""
    folder = tmp_path_factory.mktemp("built")
    rows: list[dict[str, object]] = []
    for index, word in enumerate(["one", "two", "three", "four"] * 3):
        tone = 0.3 * np.sin(np.arange(12_800) * (0.06 + 0.04 * (index % 4)))
        noise = np.random.default_rng(index).normal(0, 0.01, len(tone))
        soundfile.write(folder / f"{index}.wav", tone + noise, 16_000)
        split = "train" if index < 8 else "valid" if index < 10 else "test"
        rows.append(
            {
                "id": f"u{index}",
                "audio": f"{index}.wav",
                "text": f"{word} {word}",
                "language": "en",
                "split": split,
            }
        )
    workspace = Workspace(folder / "workspace")
    manifest = folder / "speech.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ingest(workspace, [manifest])
    quantize(workspace, num_workers=1)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    build_mix(workspace, languages=["en"], recipe=recipe)
    return workspace


def test_help_comes_without_loading_torch(tmp_path: Path) -> None:
    start = time.monotonic()
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["generate", "--help"],
        ["evaluate", "--help"],
        ["export", "--help"],
    ):
        done = cslm_train(*arguments, workspace=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "generate" in cslm_train("--help", workspace=tmp_path).stdout
    # Importing torch and fairseq2 alone takes longer than this for each.
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "no trained model yet"),
        (["evaluate", "--stage", "sft"], "train it with: cslm-train run --stage sft"),
        (["generate", "asr", "--audio", "x.wav"], "no trained model yet"),
        (["generate", "asr", "--run", "nope", "--audio", "x.wav"], "nope: no such run"),
        (["generate", "asr", "--utt", "u", "--prompts", "no"], "no: no such folder of prompts"),
        (["export", "out"], "no trained model yet"),
        (["run"], "no finished mix here; run: cslm-data build-mix"),
        (["run", "--mix", "pretrain"], "--mix is of one stage: name it with --stage"),
        (["run", "--set", "model.size=3"], "model.size: no such field"),
        (["run", "--config", "nope.yaml"], "nope.yaml: no such configuration"),
        (["run", "--stage", "pretrain"], "no finished mix here"),
        (["run", "--stage", "pretrain", "--init-checkpoint", "best"], "of which run? name it with"),
    ],
)
def test_a_mistake_is_one_message_without_a_traceback(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = cslm_train(*arguments, workspace=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_a_model_is_trained_asked_and_measured_from_the_command_line(built: Workspace) -> None:
    where = built.root
    settings = [f"model.{field}" for field in TINY] + ["trainer.num_steps=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    done = cslm_train("run", "--stage", "pretrain", *options, "--json", workspace=where)
    assert done.returncode == 0, done.stderr
    (summary,) = json.loads(done.stdout)
    assert summary["finished"]
    assert summary["steps"] == 2

    audio = where.parent / "0.wav"
    asked = ["generate", "asr", "--audio", audio, "--max-tokens", 5]
    done = forked_cslm_train(*asked, "--json", workspace=where)
    assert done.returncode == 0, done.stderr
    *chunks, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert {chunk["event"] for chunk in chunks} <= {"chunk"}
    assert {chunk["part"] for chunk in chunks} <= {"ta"}
    assert end["event"] == "end"
    assert end["num_tokens"] <= 5
    stored = forked_cslm_train("generate", "asr", "--utt", "u0", "--max-tokens", 5, workspace=where)
    assert "asr: " in stored.stderr
    assert stored.stdout == "".join(f"ta [en] {printable(c['text'])}\n" for c in chunks)

    done = forked_cslm_train("evaluate", "--json", workspace=where)
    assert done.returncode == 0, done.stderr
    evaluation = json.loads(done.stdout)
    assert [(g["task"], g["num_answered"]) for g in evaluation["groups"]] == [
        ("asr", 2),
        ("tts", 2),
    ]
    assert (where / "runs" / "pretrain" / "evaluation-test.json").is_file()

    wrong = forked_cslm_train("generate", "asr", "--text", "hi", workspace=where)
    assert "asr takes one of --audio, --utt; given: --text" in wrong.stderr
    form = forked_cslm_train("generate", "st", "--utt", "u0", "--answer", "text", workspace=where)
    assert "--answer is of chat" in form.stderr
    goes_on = forked_cslm_train(
        "generate", "continuation", "--utt", "u1", "--json", workspace=where
    )
    assert goes_on.returncode == 0, goes_on.stderr
    assert {json.loads(line).get("part", "sa") for line in goes_on.stdout.splitlines()} == {"sa"}
    unknown = forked_cslm_train("generate", "tts", "--text", "hi", "--lang", "xx", workspace=where)
    assert "--lang: unknown language code 'xx'" in unknown.stderr
    assert (wrong.returncode, unknown.returncode) == (2, 2)


def test_what_a_model_writes_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2Jb\r\n\x9b") == "a\\u001b[2Jb\\r\\n\\u009b"
    assert printable("你好\u3000é ‮") == "你好\u3000é \\u202e"
    line = safe_json({"text": "\x1b\x7f\x9b\n🙂\U000e0001"})
    assert line.isprintable()
    assert json.loads(line) == {"text": "\x1b\x7f\x9b\n🙂\U000e0001"}
