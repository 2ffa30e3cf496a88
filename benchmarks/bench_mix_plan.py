"""Ten million rows to the plan of a mix: `cslm-data mix-plan` against polars and pandas.

Six million utterances with units, three million translations and one million instructions, in
English, Mandarin and German (`large_catalog.py`, not timed). Asked for: half of the tokens, so much
of each task, inside of a task by temperature 2 over the languages, chosen and put in order by keyed
hashes.

Ours reads the catalog, counts every token with the text tokenizer, compiles, keeps sentences of
valid and test apart, chooses, prints what came out and writes the samples as Parquet; the first
plan counts (cold), later ones find the counts (warm). Theirs is given the tokens of each row as a
column and does what is left: join utterances with their units, weights, a cumulative sum in hash
order per task and language, one shuffle, a Parquet file. It holds out nothing and knows no limit of
epochs. pandas gets a tenth of the rows. Every run is a process of its own, its start included.

    python benchmarks/bench_mix_plan.py                      ten million rows, about 3 GB
    python benchmarks/bench_mix_plan.py --rows 200000 --folder /tmp
"""

from __future__ import annotations

import argparse
import json
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

WEIGHTS = {"asr": 0.6, "mt": 0.2, "instruct": 0.2}
TEMPERATURE = 2.0
LANGUAGES = "en,zh,de"
PANDAS_SHARE = 10
RECIPE = """
stage: pretrain
total_tokens: {total}
temperature: 2
splits: {{by: content, valid: 0.001, test: 0.001, max_per_source: 500}}
sources:
  - {{task: asr, weight: 0.6, languages: each, max_epochs: 3}}
  - {{task: mt, weight: 0.2, languages: pairs, only: [en-zh, en-de], max_epochs: 3}}
  - {{task: instruct, weight: 0.2, languages: each, max_epochs: 3}}
"""
TIME_BAR, PEAK_BAR_MB = 3.0, 1000.0


# ----------------------------------------------------------------------------- theirs
def polars_plan(theirs: Path, out: Path, total: int, rows: int | None) -> list[dict[str, Any]]:
    import polars as pl

    def scan(name: str) -> pl.LazyFrame:
        found = pl.scan_parquet(theirs / f"{name}.parquet")
        return found.head(rows) if rows else found

    spoken = scan("utterances").select("id", "language", "text_tokens")
    units = scan("utterances").select("id", "num_units")
    speech = spoken.join(units, on="id").select(
        pl.lit("asr").alias("task"),
        "language",
        "id",
        (pl.col("text_tokens") + pl.col("num_units")).alias("num_tokens"),
    )

    def numbered(name: str, task: str, letter: str) -> pl.LazyFrame:
        key = pl.concat_str(pl.lit(letter), pl.col("number").cast(pl.String))
        return scan(name).select(
            pl.lit(task).alias("task"), "language", key.alias("id"), "num_tokens"
        )

    group = ["task", "language"]
    candidates = pl.concat(
        [speech, numbered("bitext", "mt", "p"), numbered("dialogues", "instruct", "d")]
    ).collect()
    has = candidates.group_by(group).agg(pl.col("num_tokens").sum().cast(pl.Float64).alias("has"))
    flat = pl.col("has").pow(1 / TEMPERATURE)
    targets = has.with_columns(
        target=pl.col("task").replace_strict(WEIGHTS) * total * flat / flat.sum().over("task")
    )
    plan = (
        candidates.lazy()
        .with_columns(order=pl.col("id").hash(seed=1))
        .sort("order")
        .with_columns(running=pl.col("num_tokens").cast(pl.Int64).cum_sum().over(group))
        .join(targets.lazy(), on=group)
        .filter(pl.col("running") <= pl.col("target"))
        .with_columns(place=pl.col("id").hash(seed=2))
        .sort("place")
        .select(*group, "id", "num_tokens", "place")
        .with_row_index("position")
        .collect()
    )
    plan.write_parquet(out)
    found = plan.group_by(group).agg(pl.col("num_tokens").sum()).join(targets, on=group)
    return found.sort(group).select(*group, "num_tokens", "target").to_dicts()


def pandas_plan(theirs: Path, out: Path, total: int, rows: int | None) -> list[dict[str, Any]]:
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq

    def read(name: str) -> pd.DataFrame:
        count = pq.read_metadata(theirs / f"{name}.parquet").num_rows // PANDAS_SHARE
        return pd.read_parquet(theirs / f"{name}.parquet").head(count if rows else None)

    spoken = read("utterances")
    joined = spoken[["id", "language", "text_tokens"]].merge(spoken[["id", "num_units"]], on="id")
    joined["num_tokens"] = joined["text_tokens"] + joined["num_units"]
    parts = [joined[["id", "language", "num_tokens"]].assign(task="asr")]
    for name, task, letter in (("bitext", "mt", "p"), ("dialogues", "instruct", "d")):
        rows_of = read(name)
        rows_of["id"] = letter + rows_of["number"].astype(str)
        parts.append(rows_of[["id", "language", "num_tokens"]].assign(task=task))
    candidates = pd.concat(parts, ignore_index=True)
    group = ["task", "language"]
    has = candidates.groupby(group)["num_tokens"].sum().astype(float).rename("has").reset_index()
    flat = has["has"] ** (1 / TEMPERATURE)
    share = flat / flat.groupby(has["task"]).transform("sum")
    has["target"] = has["task"].map(WEIGHTS) * total * share
    candidates["order"] = pd.util.hash_array(candidates["id"].to_numpy(object), hash_key="1" * 16)
    candidates = candidates.sort_values("order").merge(has, on=group, how="left", sort=False)
    running = candidates.groupby(group)["num_tokens"].cumsum()
    plan = candidates[running <= candidates["target"]].copy()
    plan["place"] = pd.util.hash_array(plan["id"].to_numpy(object), hash_key="2" * 16)
    plan = plan.sort_values("place")
    plan["position"] = np.arange(len(plan))
    plan[["position", *group, "id", "num_tokens", "place"]].to_parquet(out)
    found = plan.groupby(group).agg(num_tokens=("num_tokens", "sum"), target=("target", "first"))
    return found.reset_index().to_dict("records")


SIDES = {"polars": polars_plan, "pandas": pandas_plan}


# ----------------------------------------------------------------------------- measuring
def make(folder: Path, rows: int, mean_units: int) -> None:
    """Six, three and one tenths of the rows. In another process: this one must stay small."""
    sizes = {"utterances": rows * 6 // 10, "pairs": rows * 3 // 10, "dialogues": rows // 10}
    command = [sys.executable, str(Path(__file__).with_name("large_catalog.py"))]
    command += [str(folder / "workspace"), "--mean-units", str(mean_units)]
    for name, count in sizes.items():
        command += [f"--{name}", str(count)]
    show("make the catalog", run_measured(command))


def count_rows(theirs: Path) -> tuple[int, int]:
    """Rows, and the tokens that the other side is told they have together."""
    code = """if True:
        import sys, pyarrow.compute as pc, pyarrow.parquet as pq
        names = {"utterances": ["text_tokens", "num_units"], "bitext": ["num_tokens"],
                 "dialogues": ["num_tokens"]}
        tables = [pq.read_table(f"{sys.argv[1]}/{n}.parquet", columns=c) for n, c in names.items()]
        print(sum(len(table) for table in tables))
        print(sum(pc.sum(column).as_py() for table in tables for column in table.columns))
    """
    rows, tokens = run_measured([sys.executable, "-c", code, str(theirs)]).output.split()
    return int(rows), int(tokens)


def ours(folder: Path, name: str) -> tuple[Measured, list[dict[str, Any]]]:
    plan = folder / "ours.parquet"
    plan.unlink(missing_ok=True)
    measured = run_measured(
        cslm_data(
            *("mix-plan", "--langs", LANGUAGES, "--recipe", folder / "recipe.yaml", "--json"),
            *("--text-tokenizer", "bpe", "-w", folder / "workspace"),
            *("--output", plan),
        )
    )
    return show(name, measured), realised_rows(json.loads(measured.output))


def other(side: str, folder: Path, total: int) -> tuple[Measured, list[dict[str, Any]]]:
    words = [str(folder / "theirs"), str(folder / f"{side}.parquet"), str(total)]
    measured = run_measured([sys.executable, __file__, "--side", side, *words])
    return show(side, measured), json.loads(measured.output.splitlines()[-1])


def print_shares(name: str, rows: list[dict[str, Any]], total: int) -> None:
    worst = max(abs(row["num_tokens"] - row["target"]) / row["target"] for row in rows)
    tokens = sum(row["num_tokens"] for row in rows)
    print(f"{name}: {tokens:,} of {total:,} tokens; shares at most {worst:.3%} off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--mean-units", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="plans after the first, cold one")
    parser.add_argument("--no-pandas", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="leave the catalog, or use that there")
    parser.add_argument("--skip-cold", action="store_true", help="with --keep: counts are there")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, theirs, out, total = options.side
        part = None if side == "polars" else PANDAS_SHARE
        print(json.dumps(SIDES[side](Path(theirs), Path(out), int(total), part), default=float))
        return
    if options.keep:
        assert options.folder, "--keep needs --folder"
        options.folder.mkdir(parents=True, exist_ok=True)
        compare(options.folder, options)
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            compare(Path(temporary), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Make what is missing, plan in turn, report."""
    if not (folder / "workspace").exists():
        make(folder, options.rows, options.mean_units)
    num_rows, num_tokens = count_rows(folder / "theirs")
    total = num_tokens // 2
    print(f"{num_rows:,} rows, {total:,} tokens asked for", flush=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(total=total), encoding="utf-8")
    cold = None
    if not options.skip_cold:
        shutil.rmtree(folder / "workspace" / "token_counts", ignore_errors=True)
        cold, _ = ours(folder, "ours, cold")
    runs: list[tuple[Measured, Measured]] = []
    for _ in range(options.rounds):
        warm, rows = ours(folder, "ours, warm")
        theirs, their_rows = other("polars", folder, total)
        runs.append((warm, theirs))
    print(f"ours: shares at most {check_shares(rows):.3%} off where nothing is lacking")
    print_shares("polars", their_rows, total)
    if not options.no_pandas:
        tenth, their_rows = other("pandas", folder, total // PANDAS_SHARE)
        print_shares("pandas, a tenth of the rows", their_rows, total // PANDAS_SHARE)
        warm_s = statistics.median(warm.wall_s for warm, _ in runs)
        print(f"pandas, ten times that: {PANDAS_SHARE * tenth.wall_s / warm_s:.2f} × ours, warm")
    polars_s = statistics.median(theirs.wall_s for _, theirs in runs)
    if cold:
        print(f"cold, every text counted: {cold.wall_s:.1f} s, polars {polars_s:.1f} s")
    peak_mb = max(run.peak_mb for run in (*(warm for warm, _ in runs), *([cold] if cold else ())))
    ratio = statistics.median(theirs.wall_s / warm.wall_s for warm, theirs in runs)
    report("plan, token counts known, against polars with counts given", ratio, TIME_BAR)
    of_theirs = statistics.median(theirs.peak_mb for _, theirs in runs) / peak_mb
    print(f"peak memory: {peak_mb:.0f} MB, polars {of_theirs:.1f} times that")
    report(f"peak memory against {PEAK_BAR_MB:.0f} MB, cold or warm", PEAK_BAR_MB / peak_mb, 1)


if __name__ == "__main__":
    main()
