"""A text model learns to listen: continual pre-training on the shared real pack, end to end.

Step 1. The pack becomes a catalog and units (`real_pack` says what is in, and in which split).
Step 2. A small LLaMA is trained by transformers on the pack's text alone: the base model.
Step 3. `cslm-train run --set model.base=…` goes on with it on asr, tts, mt and instructions; valid
        loss per task, held-out text before and after, spoken digits of the test takes.
Step 4. The same tokens with mt left out: what becomes of the ties between the languages? Likeness
        of parallel sentences, and speech translation, which no arm was trained on.

A step that is done is not done again, so the same command goes on after a stop.

    python benchmarks/continual_pretraining.py --folder FOLDER [--data SHARED_DATA] [--seeds 1,2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from real_pack import (
    DIGITS,
    LANGUAGES,
    NUMBER_WORDS,
    NUMBERS,
    documents,
    read_rows,
    repeated_takes,
    test_pairs,
    write_manifests,
)

from cslm_data.workspace import write_json

DIGITS_BAR = 0.95
NUM_UNITS = 1000
"""Digits are of 8 kHz and lie in a corner of the frames: of 200 units they use 33, of 1000 194."""
TOKENIZER = f"mfcc-{NUM_UNITS}"
TOTAL_TOKENS = 1_300_000
BASE_EPOCHS = 2.0
NUM_TEXT_PAIRS = 300
HELD_OUT_SAMPLES = 100
"""Of each task and languages, in an arm's valid and in its test split."""
SETTINGS = (
    "model.max_seq_len=2048",
    "model.dropout=0.1",
    "model.new_rows=kmeans",
    "model.new_rows_noise=1",
    "data.pack_length=2048",
    "optimizer.lr=0.002",
    "trainer.num_steps=null",
    "trainer.num_epochs=1",
    "trainer.precision=bf16",
    "validation.every_n_steps=100",
    "checkpoint.every_n_steps=100",
    "metrics.every_n_steps=10",
    "metrics.tensorboard=false",
)

_SPOKEN, _OTHER = f"corpus = '{DIGITS}'", f"corpus <> '{DIGITS}'"
SPEECH_SOURCES = [
    {"task": "asr", "weight": 0.3, "only": ["en"], "where": _SPOKEN, "max_epochs": 12},
    {"task": "asr", "weight": 0.15, "where": _OTHER, "temperature": 2, "max_epochs": 6},
    {"task": "tts", "weight": 0.04, "only": ["en"], "where": _SPOKEN, "max_epochs": 6},
    {"task": "tts", "weight": 0.11, "where": _OTHER, "temperature": 2, "max_epochs": 6},
    {"task": "instruct", "weight": 0.16, "max_epochs": 6, "optional": True},
]
_PAIRS = {"languages": "pairs", "temperature": 2}
MT_SOURCES = [
    {"task": "mt", "weight": 0.22, "only": ["en-zh", "zh-en", "en-de", "de-en"], **_PAIRS}
    | {"where": f"corpus <> '{NUMBER_WORDS}'"},
    {"task": "mt", "weight": 0.02, "only": ["en-zh", "zh-en"], **_PAIRS}
    | {"where": f"corpus = '{NUMBER_WORDS}'", "max_epochs": 100},
]
ARMS = {"with-mt": [*SPEECH_SOURCES, *MT_SOURCES], "no-mt": SPEECH_SOURCES}
_SPEECH_TRANSLATION = {"task": "st", "weight": 1, "languages": "pairs", "only": ["en-zh"]}
MEASURES = {
    "digits": [{"task": "asr", "weight": 1, "only": ["en"], "where": _SPOKEN}],
    "st-digits": [{**_SPEECH_TRANSLATION, "where": _SPOKEN}],
    "st-sentences": [{**_SPEECH_TRANSLATION, "where": _OTHER}],
}
"""Mixes that are never trained on: their test split is answered."""
ANSWERED = (
    ("with-mt", ("asr", "mt"), 100),
    ("with-mt", ("tts", "instruct"), 0),
    ("digits", (), 200),
    ("st-digits", (), 200),
    ("st-sentences", (), 200),
)
"""Mix, tasks (none: all) and how many of each group are answered; of the others, the loss."""


def command(program: str, *words: object) -> None:
    """Run a command as a user does, its output shown."""
    said = [str(word) for word in words]
    print(f"$ cslm-{program} {' '.join(said)}", flush=True)
    subprocess.run([sys.executable, "-m", f"cslm_cli.{program}", *said], check=True)


def run_dir(folder: Path, arm: str, seed: int) -> Path:
    return folder / "workspace" / "runs" / f"{arm}-{seed}"


# --- steps 1 to 3 ----------------------------------------------------------------------------


def make_catalog(data: Path, folder: Path) -> None:
    """Step 1: manifests with splits, catalog, units."""
    if not (folder / "manifests").is_dir():
        manifests = write_manifests(data, folder / "manifests.tmp")
        digits = next(path for path in manifests if path.stem == DIGITS)
        repeated = repeated_takes(read_rows(digits))
        assert not repeated, f"takes that are the same recording: {repeated}"
        (folder / "manifests.tmp").rename(folder / "manifests")
    place = ("--workspace", folder / "workspace")
    if not list((folder / "workspace" / "tokenizers").glob("*/tokenizer.json")):
        command("data", "ingest", folder / "manifests", *place)
        command("data", "fit-tokenizer", "--name", TOKENIZER, "--num-units", NUM_UNITS, *place)
    command("data", "quantize", "--tokenizer", TOKENIZER, *place)


def make_base(folder: Path) -> None:
    """Step 2: the base model, a Hugging Face folder."""
    if (folder / "base").is_dir():
        return
    from base_llm import train_base

    train_base(
        documents(folder / "manifests", "train"),
        documents(folder / "manifests", "valid"),
        folder / "base",
        num_epochs=BASE_EPOCHS,
        seed=1,
    )


def make_mixes(folder: Path) -> None:
    """The mix of each arm, and those that are only measured on."""
    recipes = folder / "recipes"
    recipes.mkdir(exist_ok=True)
    for name, sources in (ARMS | MEASURES).items():
        splits: dict[str, Any] = {"by": "manifest"}
        recipe: dict[str, Any] = {"stage": "pretrain", "splits": splits, "sources": sources}
        if name in ARMS:
            recipe["total_tokens"] = TOTAL_TOKENS
            splits["max_per_source"] = HELD_OUT_SAMPLES
        path = recipes / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        words = ("--langs", ",".join(LANGUAGES), "--recipe", path, "--name", name)
        words += ("--text-tokenizer", folder / "base", "--allow-missing")
        command("data", "build-mix", *words, "--workspace", folder / "workspace")


def train(folder: Path, arm: str, seed: int, more: Sequence[str]) -> None:
    """Steps 3 and 4: the base model goes on with the mix of an arm."""
    settings = (f"model.base={folder / 'base'}", *SETTINGS, f"trainer.seed={seed}", *more)
    words = [word for setting in settings for word in ("--set", setting)]
    words += ["--mix", arm, "--output-dir", str(run_dir(folder, arm, seed)), "--stage", "pretrain"]
    command("train", "run", *words, "--workspace", folder / "workspace")


# --- measures --------------------------------------------------------------------------------


def measure(folder: Path, arm: str, seed: int) -> dict[str, Any]:
    """All figures of a run, kept beside it."""
    where = run_dir(folder, arm, seed)
    kept = where / "measures.json"
    if not kept.exists():
        write_json(kept, _measured(folder, where))
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    found["groups"]["st-digits: st/en-zh"] |= translated_digits(where)
    return found


def translated_digits(where: Path) -> dict[str, float]:
    """How often a spoken digit became the right Mandarin word, and how often the English one."""
    rows = read_rows(where / "predictions-st-digits-test.jsonl")
    english = {zh: en for en, zh in NUMBERS.items()}
    said = [(row["reference"], row["hypothesis"].strip()) for row in rows]
    return {
        "exact_match": statistics.mean(expected == found for expected, found in said),
        "transcript instead": statistics.mean(
            english[expected] == found for expected, found in said
        ),
    }


def _measured(folder: Path, where: Path) -> dict[str, Any]:
    from likeness import reader_of, text_loss

    from cslm_data.workspace import Workspace
    from cslm_train.evaluate import evaluate
    from cslm_train.models.loading import load_run

    workspace = Workspace(folder / "workspace")
    run = load_run(where)
    groups = {}
    for mix, tasks, most in ANSWERED:
        result = evaluate(
            workspace, run, where, mix=mix, split="test", tasks=tasks, max_samples=most
        )
        for group in result.groups:
            groups[f"{mix}: {group.task}/{group.languages}"] = {
                "loss": group.loss,
                "answered": group.num_answered,
                **group.scores,
            }
    return {
        "valid": valid_losses(where),
        "groups": groups,
        "likeness": likenesses(folder, run.vocabulary, reader_of(run), speech=True),
        "text_loss": {
            kind: text_loss(run, encoded) for kind, encoded in held_out_text(folder).items()
        },
    }


def valid_losses(where: Path) -> dict[str, tuple[float, float]]:
    """First and last valid loss of each task and languages."""
    rows = read_rows(where / "metrics" / "valid.jsonl")
    return {
        name.removeprefix("nll/"): (rows[0][name], rows[-1][name])
        for name in sorted(rows[0])
        if name.startswith("nll")
    }


def measure_base(folder: Path) -> dict[str, Any]:
    """Likeness of translations and the loss on held-out text of the base model."""
    import base_llm
    import torch
    from transformers import LlamaForCausalLM

    from cslm_data.text_tokenizer import load_text_tokenizer
    from cslm_train.vocabulary import JointVocabulary

    model = LlamaForCausalLM.from_pretrained(folder / "base").eval()
    vocabulary = JointVocabulary(load_text_tokenizer(folder / "base"), NUM_UNITS)

    def read(ids: Any) -> torch.Tensor:
        states: torch.Tensor = model.model(torch.from_numpy(ids).long()[None]).last_hidden_state[0]
        return states

    return {
        "likeness": likenesses(folder, vocabulary, read, speech=False),
        "text_loss": {
            kind: base_llm.text_loss(model, encoded)
            for kind, encoded in held_out_text(folder).items()
        },
    }


def held_out_text(folder: Path) -> dict[str, list[list[int]]]:
    """Ids of the test split's sentences, and of its instructions with their answers."""
    from base_llm import encode
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    tests = documents(folder / "manifests", "test")
    return {
        "sentences": encode(tokenizer, [text for text in tests if isinstance(text, str)]),
        "instructions": encode(tokenizer, [text for text in tests if not isinstance(text, str)]),
    }


def likenesses(folder: Path, vocabulary: Any, read: Any, *, speech: bool) -> dict[str, Any]:
    """Text with its translation; speech with its transcript, and with a translation of it."""
    from likeness import class_likeness, embed, pair_likeness

    from cslm_data.records import Segment

    def text(words: str, language: str) -> Segment:
        return Segment(modality="text", language=language, role="user", trained=False, text=words)

    pairs = {
        "text en, text zh": [
            (text(en, "en"), text(zh, "zh"))
            for en, zh in test_pairs(folder / "manifests", NUM_TEXT_PAIRS)
        ]
    }
    if speech:
        for language in ("en", "zh"):
            pairs[f"speech {language}, text {language}"] = list(
                spoken(folder, "with-mt", "asr", language)
            )
        pairs["speech en, text zh"] = list(spoken(folder, "st-sentences", "st", "en-zh"))
    found: dict[str, Any] = {}
    for name, both in pairs.items():
        one, other = ([pair[side] for pair in both] for side in (0, 1))
        vectors = embed(read, vocabulary, one), embed(read, vocabulary, other)
        found[name] = pair_likeness(*vectors)
    if not speech:
        return found
    takes = list(spoken(folder, "digits", "asr", "en"))
    vectors = embed(read, vocabulary, [take for take, _ in takes])
    classes = [list(NUMBERS).index(said.text) for _, said in takes]
    for language, names in (("en", NUMBERS), ("zh", NUMBERS.values())):
        named = embed(read, vocabulary, [text(name, language) for name in names])
        found[f"digit en, number word {language}"] = class_likeness(vectors, named, classes)
    return found


def spoken(folder: Path, mix: str, task: str, languages: str) -> Iterator[tuple[Any, Any]]:
    """Speech of the test split and the text that answers it; digits only of their own mix."""
    from cslm_data.shards import iter_samples

    for sample in iter_samples(folder / "workspace" / "mixes" / mix, "test"):
        if (sample.task, sample.languages) != (task, languages):
            continue
        speech = next(s for s in sample.segments if s.modality == "speech")
        said = next(s for s in sample.segments if s.role == "assistant")
        if mix == "digits" or said.text not in NUMBERS:
            yield speech, said


# --- tables ----------------------------------------------------------------------------------


def flatten(measures: dict[str, Any]) -> dict[str, float]:
    """The figures that the tables show, by name."""
    found: dict[str, float] = {}
    for name, (first, last) in measures.get("valid", {}).items():
        found[f"valid loss {name}, step 0"] = first
        found[f"valid loss {name}, end"] = last
    for name, value in measures["text_loss"].items():
        found[f"held-out text, {name}: loss"] = value
    for name, scores in measures.get("groups", {}).items():
        for score, value in scores.items():
            if score != "answered" and value is not None:
                found[f"test {name}: {score}"] = value
    for name, scores in measures["likeness"].items():
        for score in ("cosine", "retrieval", "chance"):
            if score in scores:
                found[f"{name} ({scores['pairs']}): {score}"] = scores[score]
    return found


def print_table(columns: dict[str, list[dict[str, float]]]) -> None:
    """A row for each figure; every seed of an arm in its cell."""
    names = dict.fromkeys(name for column in columns.values() for row in column for name in row)
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "--:|" * len(columns))
    for name in names:
        cells = [
            ", ".join(f"{row[name]:.3f}" for row in column if name in row)
            for column in columns.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="keep everything here")
    parser.add_argument("--data", default=os.environ.get("CSLM_SHARED_DATA"))
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--only", choices=("catalog", "base", "mixes", "train", "measure"))
    parser.add_argument("--set", action="append", default=[], help="settings of cslm-train run")
    options = parser.parse_args()
    if not options.data or not (Path(options.data) / "real").is_dir():
        print(f"skipped: no data in {options.data}; name its folder: --data or CSLM_SHARED_DATA")
        return
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    runs = [
        (arm, int(seed)) for arm in options.arms.split(",") for seed in options.seeds.split(",")
    ]
    wanted = {options.only} if options.only else {"catalog", "base", "mixes", "train", "measure"}
    if "catalog" in wanted:
        make_catalog(Path(options.data), folder)
    if "base" in wanted:
        make_base(folder)
    if "mixes" in wanted:
        make_mixes(folder)
    for arm, seed in runs if "train" in wanted else ():
        began = time.monotonic()
        train(folder, arm, seed, options.set)
        print(f"{arm}, seed {seed}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    if "measure" in wanted:
        columns = {"base": [flatten(measure_base(folder))]}
        for arm, seed in runs:
            columns.setdefault(arm, []).append(flatten(measure(folder, arm, seed)))
        print_table(columns)
        for arm, seed in runs:
            right = measure(folder, arm, seed)["groups"]["digits: asr/en"]["exact_match"]
            print(f"digits, {arm}, seed {seed}: {right:.3f} (bar: {DIGITS_BAR})")


if __name__ == "__main__":
    main()
