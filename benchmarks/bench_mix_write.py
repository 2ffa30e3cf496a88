"""Catalog to shards: `cslm-data build-mix` against a script of pandas and webdataset.ShardWriter.

Both begin with the same catalog of transcribed speech with units, translations and instructions,
count text with the same tokenizer, choose samples to the same token shares, shuffle, and write JSON
and units in shards of the same size; every run is a process of its own, its start included, and
nothing is left of the run before. The script is what people write: tables in memory, a cumulative
sum per task and language, `numpy` for the order, ShardWriter as it comes. It knows one wording per
task and keeps nothing apart for validation; ours also writes an index, checksums, mix.parquet.

Asserted beside it: the shares of ours within 0.1 %, equal numbers of samples within 5 %, and every
file of ours the same byte for byte in all rounds, with one worker and with two.

    python benchmarks/bench_mix_write.py [--samples 50000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measured_commands import (
    Measured,
    check_shares,
    cslm_data,
    realised_rows,
    run_measured,
    show,
)
from paired import report

SHARES = {"asr": 0.45, "tts": 0.45, "mt": 0.02, "instruct": 0.08}
LANGUAGES = "en,zh,de"
MEAN_UNITS = 150
TOKENS_OF_SAMPLE = 165
SHARD_MB = 16
RECIPE = """
stage: pretrain
total_tokens: {total}
temperature: 1
splits: {{by: content, valid: 0.001, test: 0.001, max_per_source: 500}}
sources:
  - {{task: asr, weight: 0.45, languages: each, max_epochs: 3}}
  - {{task: tts, weight: 0.45, languages: each, max_epochs: 3}}
  - {{task: mt, weight: 0.02, languages: pairs, only: [en-zh, en-de], max_epochs: 3}}
  - {{task: instruct, weight: 0.08, languages: each, max_epochs: 3}}
"""
TIME_BAR, SIZE_BAR = 4.0, 1.5
"""The writer alone has a bar of 8 (bench_shards.py); here both sides also read and tokenize."""


# ----------------------------------------------------------------------------- theirs
PROMPTS = {"asr": "Write down what you hear:\n", "tts": "Say this:\n", "mt": "Translate:\n"}


def script(workspace: Path, out: Path, total: int) -> int:
    """What people write. Returns the number of samples."""
    import duckdb
    import numpy as np
    import pandas as pd
    import webdataset
    from tokenizers import Tokenizer

    catalog = duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True)
    spoken = catalog.execute("select utt_id as id, language, text from all_utterances").df()
    texts = catalog.execute(
        "select pair_id as id, src_lang || '-' || tgt_lang as language, src, tgt from all_bitext"
    ).df()
    asked = catalog.execute(
        "select dialogue_id as id, language, turns[1].text as src, turns[2].text as tgt "
        "from all_dialogues"
    ).df()
    units = pd.concat(
        pd.read_parquet(path, columns=["utt_id", "units"])
        for path in sorted((workspace / "units").glob("*/part-*.parquet"))
    )
    spoken = spoken.merge(units, left_on="id", right_on="utt_id").drop(columns="utt_id")
    tokenizer = Tokenizer.from_file(str(workspace / "text_tokenizers" / "bpe" / "tokenizer.json"))

    def count(column: pd.Series) -> np.ndarray:
        values = column.tolist()
        batches = [values[start : start + 1000] for start in range(0, len(values), 1000)]
        encoded = (tokenizer.encode_batch_fast(b, add_special_tokens=False) for b in batches)
        return np.array([len(each.ids) for batch in encoded for each in batch])

    spoken["num_tokens"] = count(spoken["text"]) + spoken["units"].map(len) + 19
    for table in (texts, asked):
        table["num_tokens"] = count(table["src"]) + count(table["tgt"]) + 12
    rng = np.random.default_rng(0)
    chosen = []
    for task, table in (("asr", spoken), ("tts", spoken), ("mt", texts), ("instruct", asked)):
        for _, rows in table.groupby("language"):
            of_language = rows["num_tokens"].sum() / table["num_tokens"].sum()
            target = SHARES[task] * total * of_language
            order = rows.iloc[rng.permutation(len(rows))]
            chosen.append(order[order["num_tokens"].cumsum() <= target].assign(task=task))
    samples = pd.concat(chosen, ignore_index=True)
    samples = samples.iloc[rng.permutation(len(samples))]
    samples.drop(columns="units").to_parquet(out / "plan.parquet")
    pattern = str(out / "train-%06d.tar")
    with webdataset.ShardWriter(pattern, maxsize=SHARD_MB * 1e6, maxcount=10**9, verbose=0) as tar:
        for row in samples.itertuples():
            key = f"{row.task}-{row.language}-{row.id}"
            speech = {"role": "user", "modality": "speech", "language": row.language}
            if row.task == "asr":
                user = [{"role": "user", "modality": "text", "text": PROMPTS["asr"]}, speech]
                answer = {"role": "assistant", "modality": "text", "text": row.text}
            elif row.task == "tts":
                asks = PROMPTS["tts"] + row.text
                user = [{"role": "user", "modality": "text", "text": asks}]
                answer = {**speech, "role": "assistant"}
            else:
                asks = PROMPTS.get(row.task, "") + row.src
                user = [{"role": "user", "modality": "text", "text": asks}]
                answer = {"role": "assistant", "modality": "text", "text": row.tgt}
            document = {"task": row.task, "language": row.language, "segments": [*user, answer]}
            sample: dict[str, Any] = {"__key__": key, "json": document}
            if row.task in ("asr", "tts"):
                sample["units.npy"] = np.asarray(row.units, np.uint16)
            tar.write(sample)
    return len(samples)


# ----------------------------------------------------------------------------- measuring
def ours(folder: Path, num_workers: int) -> tuple[Measured, list[dict[str, Any]], dict[str, str]]:
    """Build the mix in a fresh copy of the workspace; its shares, and a hash of each file."""
    workspace = folder / "ours"
    shutil.rmtree(workspace, ignore_errors=True)
    shutil.copytree(folder / "workspace", workspace)
    measured = run_measured(
        cslm_data(
            *("build-mix", "--langs", LANGUAGES, "--recipe", folder / "recipe.yaml", "--json"),
            *("--text-tokenizer", "bpe", "--shard-mb", SHARD_MB, "-w", workspace),
            *("--num-workers", num_workers),
        )
    )
    mix = workspace / "mixes" / "pretrain"
    files = {
        path.relative_to(mix).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(mix.rglob("*"))
        if path.is_file()
    }
    rows = realised_rows(json.loads(measured.output))
    return show(f"ours, {num_workers} workers", measured), rows, files


def theirs(folder: Path, total: int) -> tuple[Measured, int]:
    out = folder / "theirs-out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    words = ["--script", str(folder / "workspace"), str(out), str(total)]
    measured = run_measured([sys.executable, __file__, *words])
    return show("pandas + ShardWriter", measured), int(measured.output.splitlines()[-1])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.tar"))


def compare(folder: Path, samples: int, rounds: int) -> None:
    sizes = {"utterances": samples // 2, "pairs": samples // 10, "dialogues": samples // 6}
    command = [sys.executable, str(Path(__file__).with_name("large_catalog.py"))]
    command += [str(folder / "workspace"), "--mean-units", str(MEAN_UNITS)]
    for name, count in sizes.items():
        command += [f"--{name}", str(count)]
    show("make the catalog", run_measured(command))
    total = samples * TOKENS_OF_SAMPLE
    (folder / "recipe.yaml").write_text(RECIPE.format(total=total), encoding="utf-8")
    ratios: dict[int, list[float]] = {1: [], 2: []}
    first: dict[str, str] = {}
    for _ in range(rounds):
        script_run, num_theirs = theirs(folder, total)
        for num_workers, found in ratios.items():
            measured, rows, files = ours(folder, num_workers)
            first = first or files
            assert files == first, "the files of a mix depend on the run or on the workers"
            found.append(script_run.wall_s / measured.wall_s)
    num_ours = sum(row["num_samples"] for row in rows)
    print(f"{num_ours} samples of ours, {num_theirs} of theirs, {total:,} tokens asked for")
    print(f"ours: shares at most {check_shares(rows):.3%} off; {len(first)} files, always the same")
    assert abs(num_ours - num_theirs) < 0.05 * num_theirs, "the two mixes are not alike"
    of_sizes = size_of(folder / "theirs-out") / size_of(folder / "ours" / "mixes" / "pretrain")
    for num_workers, found in ratios.items():
        if num_workers <= len(os.sched_getaffinity(0)):
            name = f"plan + write, {num_workers} workers, against pandas + ShardWriter"
            report(name, statistics.median(found), TIME_BAR)
    report("size of the shards", of_sizes * num_ours / num_theirs, SIZE_BAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--script", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.script:
        workspace, out, total = options.script
        print(script(Path(workspace), Path(out), int(total)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        compare(Path(temporary), options.samples, options.rounds)


if __name__ == "__main__":
    main()
