"""Requested against realised tokens of both stages, for three sets of languages, as Markdown.

Every manifest of `--data` (folders `real/` and `synthetic/`, *.jsonl) goes into a workspace and is
quantized with MFCC units; then `mix-plan` says what each mix would hold. A workspace that is there
is taken as it is.

    python benchmarks/mix_tables.py WORKSPACE --data SHARED_DATA
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SETS = ("en,zh", "en,zh,de", "en,zh,de,es,fr,ja,nl")
STAGES = ("pretrain", "sft")
COLUMNS = {
    "split": "split",
    "task": "task",
    "languages": "langs",
    "requested_share": "asked",
    "realised_share": "got",
    "requested_tokens": "tokens asked",
    "realised_tokens": "tokens got",
    "num_samples": "samples",
    "available_tokens": "available",
    "epochs": "epochs",
    "note": "note",
}
_NUMBERS = tuple(name for name in COLUMNS if name not in ("split", "task", "languages", "note"))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cslm_cli.data", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def make_workspace(workspace: Path, data: Path) -> None:
    """Speech, alignments, translations, instructions and dialogues of the folders, and units."""
    manifests = sorted(
        path for part in ("real", "synthetic") for path in (data / part).glob("*.jsonl")
    )
    assert manifests, f"{data}: no real/*.jsonl or synthetic/*.jsonl"
    for step in (("ingest", *manifests), ("quantize", "--extractor", "mfcc")):
        done = run(*step, "--max-reject-rate", "1", "-w", workspace)
        assert done.returncode == 0, f"{step[0]}: {done.stderr}"
        print(done.stdout, done.stderr, file=sys.stderr)


def cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("share"):
        return f"{value:.3%}"
    if name == "epochs":
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| " + " | ".join(COLUMNS.values()) + " |")
    print("|" + "|".join("--:" if name in _NUMBERS else "---" for name in COLUMNS) + "|")
    for row in rows:
        print("| " + " | ".join(cell(name, row[name]) for name in COLUMNS) + " |")


def summarise(rows: list[dict[str, Any]]) -> str:
    """How far the shares are from those asked for, with and without a reason."""
    asked = [row for row in rows if row["requested_share"]]
    off = {True: 0.0, False: 0.0}
    for row in asked:
        distance = abs(row["realised_share"] / row["requested_share"] - 1)
        off[bool(row["note"])] = max(off[bool(row["note"])], distance)
    tokens = sum(row["realised_tokens"] for row in asked)
    noted = sum(1 for row in asked if row["note"])
    return (
        f"{tokens:,} training tokens; {len(asked) - noted} of {len(asked)} shares without a note, "
        f"at most {off[False]:.3%} off; {noted} with one, at most {off[True]:.1%} off"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--data", type=Path, help="folder with real/ and synthetic/")
    parser.add_argument("--command", default="mix-plan", help="or build-mix, which also writes")
    parser.add_argument("--held-out", action="store_true", help="rows of valid and test, too")
    options = parser.parse_args()
    if not (options.workspace / "catalog.duckdb").exists():
        assert options.data, "--data: name the folder, for there is no workspace yet"
        make_workspace(options.workspace, options.data.resolve())
    for languages in SETS:
        for stage in STAGES:
            print(f"\n### {stage}, `--langs {languages}`\n")
            words = ["--langs", languages, "--stage", stage, "--json", "-w", options.workspace]
            words.append("--allow-missing")
            if options.command == "build-mix":
                words += ["--name", f"{stage}-{languages.replace(',', '-')}", "--overwrite"]
                words += ["--max-reject-rate", "1"]
            done = run(options.command, *words)
            if done.returncode:  # that a stage cannot be built of some languages is an answer too
                said = done.stderr.strip().splitlines()
                print("\n".join(line for line in said if line.startswith("error:")) or done.stderr)
                continue
            document = json.loads(done.stdout)
            found = document.get("info", document)
            rows = found["realised"]
            print_table([r for r in rows if options.held_out or r["split"] == "train"])
            print(f"\n{summarise(rows)}\n", flush=True)
            for said in found["missing"]:
                print(f"- {said}")


if __name__ == "__main__":
    main()
