"""Spoken digits from the first command to the last: proof that the chain learns.

Drives the command line: ingest → quantize → build-mix → train on CPU → evaluate, and prints the
share of the test takes whose transcript is exactly right. `--data` is a manifest (`id, audio, text,
take`) of spoken digits; takes 0 to 4 are the test, take 5 validates, the rest trains.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

BAR = 0.90
TEST_TAKES, VALID_TAKES = range(5), range(5, 6)
RECIPE = {
    "stage": "pretrain",
    "splits": {"by": "manifest"},
    "sources": [
        {"task": "asr", "weight": 0.75, "languages": "each", "max_epochs": 1},
        {"task": "tts", "weight": 0.25, "languages": "each", "max_epochs": 1},
    ],
}
SETTINGS = ["trainer.num_steps=800", "model.dropout=0.1"]


def command(module: str, *arguments: object) -> float:
    """Run a command as a user does, its output shown; seconds it took."""
    words = [str(argument) for argument in arguments]
    print(f"$ {'cslm-data' if module == 'data' else 'cslm-train'} {' '.join(words)}", flush=True)
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", f"cslm_cli.{module}", *words], check=True)
    return time.monotonic() - start


def write_manifest(data: Path, path: Path) -> None:
    """The rows of `data` with absolute paths and the split of their take."""
    with path.open("w", encoding="utf-8") as stream:
        for line in data.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            take = int(row["take"])
            split = "test" if take in TEST_TAKES else "valid" if take in VALID_TAKES else "train"
            audio = str((data.parent / row["audio"]).resolve())
            stream.write(json.dumps({**row, "audio": audio, "split": split}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="manifest of spoken digits")
    parser.add_argument("--workspace", type=Path, help="keep the workspace here")
    parser.add_argument("--set", action="append", default=[], help="settings of cslm-train run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = options.workspace or Path(folder) / "workspace"
        manifest, recipe = Path(folder) / "digits.jsonl", Path(folder) / "digits.yaml"
        write_manifest(options.data, manifest)
        recipe.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
        place = ("--workspace", where)
        command("data", "ingest", manifest, *place)
        command("data", "quantize", *place)
        command("data", "build-mix", "--langs", "en", "--recipe", recipe, *place)
        settings = [word for s in (*SETTINGS, *options.set) for word in ("--set", s)]
        training_s = command("train", "run", "--stage", "pretrain", *settings, *place)
        asked = ("--stage", "pretrain", "--tasks", "asr", "--max-samples", 100_000)
        command("train", "evaluate", *asked, *place)
        result = json.loads((where / "runs/pretrain/evaluation-test.json").read_text())
    [digits] = result["groups"]
    assert digits["num_answered"] == digits["num_samples"], "not every test take was answered"
    accuracy = digits["scores"]["exact_match"]
    print(f"test takes: {digits['num_answered']}")
    print(f"training took {training_s / 60:.1f} minutes")
    print(f"accuracy: {accuracy:.3f} (bar: {BAR:.2f})")


if __name__ == "__main__":
    main()
