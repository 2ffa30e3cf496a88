"""Reader: shards to batches of token ids, ours packed against the loop that people write; CPU time.

Theirs: plain webdataset over the same shard, `.decode()`, a shuffle buffer, transformers' fast
tokenizer on each text of a sample, units added as numbers, a collate that pads batches of 2, and
of 8. Ours: the pack plan and `ShardReader`, packs of 4096. Both read every sample of the shard once
and end with tensors; asserted beside it: the same ids, as many of each, on both sides. A token is
useful when it belongs to a sample.

The mix is that of the real pack where CSLM_SHARED_DATA says where it lies (built first, in some
two minutes, or `--workspace` of an earlier run), else of the demo corpus. Of the real mixes it also
says how full packs are.

    python benchmarks/bench_reader.py [--samples 4000] [--workspace FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mix_tables
import numpy as np
import torch
import webdataset
from paired import cpu_s, median_ratio, report
from transformers import PreTrainedTokenizerFast

from cslm_data.framing import ANSWER, BOS, END, OWN, PAD, QUESTION, ROLES, SPEECH_END, SPEECH_START
from cslm_data.shards import MixInfo, iter_samples, write_shard
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.packing.plan import PackPlan, load_or_make_plan
from cslm_train.packing.reader import ShardReader
from cslm_train.vocabulary import JointVocabulary

PACK, WINDOW = 4096, 1024
BATCHES = (2, 8)
SHUFFLED = 1000
IGNORED = -100
READER_BAR, FILL_BAR = 5, 0.99
LANGUAGES = "en,zh"
STAGES = ("pretrain", "sft")


# --- the mixes -------------------------------------------------------------------------------


def real_mixes(workspace: Path, data: Path) -> dict[str, MixInfo]:
    """Both stages of the real pack."""
    if not (workspace / "catalog.duckdb").exists():
        mix_tables.make_workspace(workspace, data)
    for stage in STAGES:
        if not (workspace / "mixes" / stage / "mix.json").exists():
            words = ["--langs", LANGUAGES, "--stage", stage, "--allow-missing"]
            done = mix_tables.run(
                "build-mix", *words, "--max-reject-rate", "1", "-w", workspace, "--name", stage
            )
            assert done.returncode == 0, done.stderr
    return {stage: MixInfo.load(workspace / "mixes" / stage) for stage in STAGES}


def demo_mix(workspace: Path) -> MixInfo:
    """The pretrain mix of the demo corpus."""
    from cslm_data.demo import lay_out
    from cslm_data.ingest import ingest
    from cslm_data.mix import build_mix
    from cslm_data.quantize import quantize
    from cslm_data.workspace import Workspace

    lay_out(workspace / "corpus")
    ingest(Workspace(workspace), [workspace / "corpus"])
    quantize(Workspace(workspace))
    build_mix(Workspace(workspace), languages=["en", "zh"], stage="pretrain")
    return MixInfo.load(workspace / "mixes" / "pretrain")


def first_samples(mix: MixInfo, folder: Path, count: int) -> MixInfo:
    """A mix of one shard with the first samples of another; its order is a shuffled one."""
    samples = list(itertools.islice(iter_samples(mix.folder, "train"), count))
    (folder / "shards").mkdir(parents=True)
    entry = write_shard(
        folder / "shards" / "train-000000.tar",
        samples,
        split="train",
        tokenizer_id=mix.tokenizer_id,
        num_units=mix.num_units,
        text_tokenizer_id=mix.text_tokenizer_id,
        template_version=mix.template_version,
    )
    return dataclasses.replace(mix, folder=folder, entries=(entry,))


def plan_of(mix: MixInfo, vocabulary: JointVocabulary, folder: Path, length: int) -> PackPlan:
    path = folder / f"packs-{mix.name}-{length}.parquet"
    return load_or_make_plan(
        path, mix, vocabulary, split="train", pack_length=length, window=WINDOW
    )


# --- the two sides ---------------------------------------------------------------------------


def read_ours(plan: PackPlan, mix: MixInfo, vocabulary: JointVocabulary) -> Iterator[torch.Tensor]:
    """The inputs of one epoch."""
    reader = ShardReader(plan, mix.folder / "shards", vocabulary, groups=plan.groups, seed=1)
    for _ in range(plan.num_packs):
        yield from (batch.inputs_S for batch in next(reader))
    reader.close()


def make_tokenise(
    tokenizer: PreTrainedTokenizerFast, controls: dict[str, int], first_unit: int
) -> Callable[[dict[str, Any]], dict[str, list[int]]]:
    """A sample of webdataset → its ids and labels, turn by turn."""

    def tokenise(sample: dict[str, Any]) -> dict[str, list[int]]:
        ids, labels = [controls[BOS]], [IGNORED]

        def add(tokens: list[int], trained: bool) -> None:
            ids.extend(tokens)
            labels.extend(tokens if trained else [IGNORED] * len(tokens))

        role, trained = None, False
        for segment in sample["json"]["segments"]:
            if segment["role"] != role:
                if role is not None:
                    add([controls[END]], trained)
                role = segment["role"]
                add([controls[ROLES[role]]], False)
            trained = segment["trained"]
            if "units" in segment:
                start, stop = segment["units"]
                units = [first_unit + unit for unit in sample["units.npy"][start:stop].tolist()]
                add([controls[SPEECH_START], *units, controls[SPEECH_END]], trained)
                continue
            text = tokenizer(segment["text"], add_special_tokens=False)["input_ids"]
            if segment["part"] == "tq":
                text = [controls[QUESTION], *text, controls[ANSWER]]
            add(text, trained)
        add([controls[END]], trained)
        return {"ids": ids, "labels": labels}

    return tokenise


def read_theirs(
    shard: Path, tokenise: Callable[[dict[str, Any]], dict[str, list[int]]], size: int, pad: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Padded batches of one epoch."""

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["ids"]) for row in rows)
        ids = torch.full((len(rows), width), pad)
        labels = torch.full((len(rows), width), IGNORED)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["ids"])
            ids[index, :length] = torch.tensor(row["ids"])
            labels[index, :length] = torch.tensor(row["labels"])
            mask[index, :length] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = (
            webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False)
            .decode()
            .shuffle(SHUFFLED)
            .map(tokenise)
            .batched(size, collation_fn=collate)
        )
        yield from dataset


def compare(mix: MixInfo, folder: Path, count: int, rounds: int) -> None:
    few = first_samples(mix, folder / "few", count)
    text = load_text_tokenizer(mix.text_tokenizer_path())
    assert text.framing == OWN, "their loop frames turns in our own way alone"
    vocabulary = JointVocabulary(text, mix.num_units)
    plan = plan_of(few, vocabulary, few.folder, PACK)
    tokenise = make_tokenise(
        PreTrainedTokenizerFast(tokenizer_file=str(text.folder / "tokenizer.json")),
        {name: vocabulary.control_id(name) for name in (*_CONTROLS, *ROLES.values())},
        vocabulary.unit_id(0),
    )
    [shard] = few.shards("train")
    pad = vocabulary.control_id(PAD)

    def theirs(size: int) -> Callable[[], list[dict[str, torch.Tensor]]]:
        return lambda: list(read_theirs(shard, tokenise, size, pad))

    def ours() -> list[torch.Tensor]:
        return list(read_ours(plan, few, vocabulary))

    # Theirs also holds the last token of each sample, which in ours is only ever a target.
    batches = theirs(2)()
    rows = [
        ids[mask > 0]
        for b in batches
        for ids, mask in zip(b["input_ids"], b["attention_mask"], strict=True)
    ]
    same = [torch.cat([row[:-1] for row in rows]), torch.cat(ours())]
    counts = [np.bincount(side.numpy(), minlength=vocabulary.size) for side in same]
    assert plan.num_skipped == 0 and np.array_equal(*counts), "the ids are not the same"
    useful = len(same[0])
    began = time.perf_counter()
    seconds = cpu_s(ours)
    print(
        f"{mix.name}: {useful:,} tokens of {len(rows):,} samples; ours {useful / seconds / 1e6:.2f}"
        f" M useful tokens a CPU second, {useful / (time.perf_counter() - began) / 1e6:.2f} M a "
        "second"
    )
    for size in BATCHES:
        seconds = cpu_s(theirs(size))
        print(
            f"padded batches of {size}: {useful / seconds / 1e6:.3f} M useful tokens a CPU second"
        )
        ratio = median_ratio(ours, theirs(size), rounds=rounds)
        report(
            f"read + encode to packs of {PACK}, against padded batches of {size}", ratio, READER_BAR
        )


_CONTROLS = (BOS, END, QUESTION, ANSWER, SPEECH_START, SPEECH_END)


# --- how full packs are ----------------------------------------------------------------------


def print_fill(mixes: dict[str, MixInfo], folder: Path) -> None:
    for mix in mixes.values():
        vocabulary = JointVocabulary(load_text_tokenizer(mix.text_tokenizer_path()), mix.num_units)
        for length in (1024, 2048, PACK):
            plan = plan_of(mix, vocabulary, folder, length)
            fewest = -(-plan.num_tokens // length)
            print(
                f"{mix.name}, packs of {length}: {plan.fill:.4f} filled, {plan.num_packs} packs "
                f"({fewest} is the fewest that hold {plan.num_tokens:,} tokens), "
                f"{plan.num_skipped} samples too long"
            )
            if length == PACK:
                # No packing does better than full packs and what remains in one more.
                print(f"{mix.name}: {fewest / plan.num_packs:.4f} of the best possible fill")
            if length == PACK and mix.stage == "pretrain":
                print(f"pack fill at {PACK} on the real {mix.name} mix")
                print(f"ratio: {plan.fill:.4f} (bar: {FILL_BAR})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workspace", type=Path, help="keep it, or use the one of an earlier run")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    data = os.environ.get("CSLM_SHARED_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        workspace = options.workspace or folder / "workspace"
        if data:
            mixes = real_mixes(workspace, Path(data).resolve())
            print_fill(mixes, folder)
            mix = mixes["pretrain"]
        else:
            print("pack fill on the real mix: skipped, CSLM_SHARED_DATA does not say where it lies")
            mix = demo_mix(workspace)
        compare(mix, folder, options.samples, options.rounds)


if __name__ == "__main__":
    main()
