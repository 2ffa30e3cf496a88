"""The whole pipeline on the demo corpus, as a user types it: what `make demo` runs.

Speech, translations, instructions and dialogues in English and Mandarin become units, two audited
mixes, shards, a small model trained in both alignment stages, two spoken answers, an evaluation and
a folder that transformers loads.
Everything lies in `demo/`; run again, it goes on where it stopped.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path("demo")
CORPUS, WORKSPACE = FOLDER / "corpus", FOLDER / "workspace"

QUESTIONS = """
select turns.utt_id, turns.text
from mix_samples
inner join dialogue_turns as turns on turns.dialogue_id = mix_samples.source_ids[1]
where
    mix_samples.mix = 'sft'
    and mix_samples.split = 'test'
    and mix_samples.task = 's2s'
    and turns.role = 'user'
    and turns.language = 'en'
order by turns.utt_id
limit 2
"""


def run(program: str, *arguments: object, quiet: bool = False) -> str:
    """Type a command; its output is shown, or returned if `quiet`."""
    words = [str(argument) for argument in arguments]
    if not quiet:
        print(f"\n$ {shlex.join([program, *words])}", flush=True)
    module = {"cslm-data": "cslm_cli.data", "cslm-train": "cslm_cli.train"}[program]
    command = [sys.executable, "-m", module, *words, "--workspace", str(WORKSPACE)]
    if program == "cslm-data" and words[0] == "demo":
        command = command[:-2]
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, text=True)
    if done.returncode:
        sys.exit(f"{program} {words[0]} ended with {done.returncode}")
    return done.stdout or ""


def ask(query: str) -> list[dict[str, Any]]:
    """Rows of a query."""
    rows: list[dict[str, Any]] = json.loads(
        run("cslm-data", "sql", query, "-o", "json", quiet=True)
    )
    return rows


def main() -> None:
    start = time.monotonic()
    if not CORPUS.exists():
        run("cslm-data", "demo", CORPUS)
    run("cslm-data", "ingest", CORPUS)
    run("cslm-data", "quantize")
    run("cslm-data", "build-mix", "--langs", "en,zh")
    run("cslm-data", "build-mix", "--langs", "en,zh", "--stage", "sft")
    run("cslm-data", "measure")
    run("cslm-data", "audit", "--html", FOLDER / "audit.html", "--overwrite", "--limit", 3)
    run(
        "cslm-train",
        "plan",
        "--stage",
        "pretrain",
        "--gpu",
        "laptop",
        "--memory-gb",
        8,
        "--peak-tflops",
        0.2,
    )
    run("cslm-train", "run")
    spoken, typed = ask(QUESTIONS)
    print(f"\nA spoken question that was held out of training: {spoken['text']}")
    run("cslm-train", "generate", "chat", "--utt", spoken["utt_id"], "--lang", "en")
    print("\nA typed one, answered across languages:")
    asked = ("--text", typed["text"], "--lang", "en", "--answer-lang", "zh")
    run("cslm-train", "generate", "chat", *asked)
    run("cslm-train", "evaluate", "--stage", "pretrain")
    run("cslm-train", "evaluate", "--stage", "sft")
    run("cslm-train", "export", FOLDER / "model", "--stage", "sft", "--overwrite")
    summarise(time.monotonic() - start)


def summarise(seconds: float) -> None:
    """The demo in one screen."""
    speech = ask("select count(*) as n, sum(duration_s) / 3600 as hours from utterances")[0]
    units = ask("select count(*) as n, sum(len(units)) as units from units")[0]
    print("\n=== summary ===")
    print(f"speech: {speech['n']} utterances, {speech['hours']:.2f} hours")
    print(f"units:  {units['units']:,} of {units['n']} utterances")
    for stage in ("pretrain", "sft"):
        shares = ask(
            f"select task, sum(num_tokens) as tokens from mix_samples where mix = '{stage}' "
            "and split = 'train' group by task order by task"
        )
        total = sum(row["tokens"] for row in shares)
        mix = ", ".join(f"{row['task']} {row['tokens'] / total:.0%}" for row in shares)
        print(f"{stage:8} mix: {total:,} training tokens: {mix}")
    for stage in ("pretrain", "sft"):
        for kind in ("train", "valid"):
            rows = (WORKSPACE / f"runs/{stage}/metrics/{kind}.jsonl").read_text().splitlines()
            losses = [json.loads(row)["nll"] for row in rows]
            print(f"{stage:8} {kind} loss: {losses[0]:.3f} → {losses[-1]:.3f}")
    print(f"took {seconds / 60:.1f} minutes; everything is in {FOLDER}/")


if __name__ == "__main__":
    main()
