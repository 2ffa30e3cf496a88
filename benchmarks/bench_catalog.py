"""Ten million utterances from a manifest to answers: ours against pandas and polars.

Each side reads the manifest, normalises every transcript (NFKC, case, punctuation), keeps a 64-bit
hash of it, drops rows whose id came before, and writes what it has; then it is asked for the hours
of each language and corpus and for sentences that are said more than once. The answers are compared
before anything is reported. Every step runs in a process of its own, whose wall time (without
imports) and peak memory count.

    python benchmarks/bench_catalog.py                  ten million rows, 2.4 GB of JSONL
    python benchmarks/bench_catalog.py --rows 20000 --rounds 3
    python benchmarks/bench_catalog.py --mix-rows 1000000    also a mix of so many translations
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HOURS = """
    select language, corpus, count(*)::bigint as n, sum(duration_s) / 3600 as hours
    from utterances group by all order by all
"""
REPEATED = """
    select count(*)::bigint as sentences, coalesce(sum(n), 0)::bigint as n
    from (select count(*) as n from utterances group by text_key having count(*) > 1)
"""
MIX = """
stage: pretrain
total_tokens: 2000000
splits: {by: content, valid: 0.001, test: 0.001, max_per_source: 500}
sources:
  - {task: mt, weight: 1.0, languages: pairs}
"""
PUNCTUATION = r"[^\p{L}\p{M}\p{N}]+"
STEPS = ("ingest", "query")
BARS = {
    ("ingest", "pandas"): (1.0, 2.0),
    ("ingest", "polars"): (0.4, 3.0),
    ("query", "pandas"): (1.5, 1.5),
    ("query", "polars"): (0.3, 0.7),
}
"""Time and peak memory, theirs over ours, at ten million rows. Theirs hold all rows in memory and
keep no sources, rejects or splits; ours is bounded, and polars is faster while its memory lasts."""


class Measured(NamedTuple):
    """One run of one step."""

    wall_s: float
    peak_mb: float
    answer: Any


# ----------------------------------------------------------------------------- ours
def ours_ingest(manifest: Path, folder: Path) -> Any:
    from cslm_data.ingest import ingest
    from cslm_data.workspace import Workspace

    trusted = "trust_manifest" in inspect.signature(ingest).parameters
    options = {"trust_manifest": True} if trusted else {}

    def work() -> Any:
        summary = ingest(Workspace(folder / "workspace"), [manifest], **options)
        return summary.num_rows - summary.num_rejected

    return work


def ours_query(manifest: Path, folder: Path) -> Any:
    from cslm_data.query import run_query
    from cslm_data.workspace import Workspace

    workspace = Workspace(folder / "workspace")

    def work() -> Any:
        (repeated,) = run_query(workspace, REPEATED).rows
        return run_query(workspace, HOURS).rows, repeated

    return work


def ours_mix(manifest: Path, folder: Path) -> Any:
    """Translations of `manifest` beside what is in the catalog already; a mix of some of them."""
    from cslm_data.ingest import ingest
    from cslm_data.mix import build_mix
    from cslm_data.workspace import Workspace

    workspace = Workspace(folder / "workspace")
    ingest(workspace, [manifest])
    recipe = folder / "mix.yaml"
    recipe.write_text(MIX)

    def work() -> Any:
        summary = build_mix(workspace, languages=["en", "zh"], recipe=recipe, overwrite=True)
        return summary.info.counts

    return work


# ----------------------------------------------------------------------------- pandas
def pandas_ingest(manifest: Path, folder: Path) -> Any:
    import pandas as pd

    signs = re.compile(r"[\W_]+")  # compiled, so that it is Python's and knows Unicode

    def work() -> Any:
        if manifest.suffix == ".csv":
            rows = pd.read_csv(manifest, engine="pyarrow", dtype_backend="pyarrow")
        else:
            rows = pd.read_json(manifest, lines=True, engine="pyarrow", dtype_backend="pyarrow")
        rows = rows.drop_duplicates("id", keep="first")
        folded = rows["text"].str.normalize("NFKC").str.casefold()
        norm = folded.str.replace(signs, " ", regex=True).str.strip()
        is_zh = rows["language"] == "zh"
        norm = norm.where(~is_zh, norm.str.replace(" ", "", regex=False))
        rows["text_norm"] = norm
        rows["text_key"] = pd.util.hash_pandas_object(norm, index=False)
        rows.to_parquet(folder / "pandas.parquet")
        return len(rows)

    return work


def pandas_query(manifest: Path, folder: Path) -> Any:
    import pandas as pd

    def work() -> Any:
        columns = ["language", "corpus", "duration", "text_key"]
        rows = pd.read_parquet(folder / "pandas.parquet", columns=columns)
        found = rows.groupby(["language", "corpus"])["duration"].agg(["count", "sum"])
        hours = [(*key, int(n), total / 3600) for key, n, total in found.itertuples()]
        counts = rows["text_key"].value_counts()
        counts = counts[counts > 1]
        return hours, (len(counts), int(counts.sum()))

    return work


# ----------------------------------------------------------------------------- polars
def polars_ingest(manifest: Path, folder: Path) -> Any:
    import polars as pl

    def work() -> Any:
        scan = pl.scan_csv if manifest.suffix == ".csv" else pl.scan_ndjson
        folded = pl.col("text").str.normalize("NFKC").str.to_lowercase()
        norm = folded.str.replace_all(PUNCTUATION, " ").str.strip_chars()
        joined = norm.str.replace_all(" ", "", literal=True)
        (
            scan(manifest)
            .unique("id", keep="any")
            .with_columns(
                text_norm=pl.when(pl.col("language") == "zh").then(joined).otherwise(norm)
            )
            .with_columns(text_key=pl.col("text_norm").hash())
            .sink_parquet(folder / "polars.parquet", engine="streaming")
        )
        return pl.scan_parquet(folder / "polars.parquet").select(pl.len()).collect().item()

    return work


def polars_query(manifest: Path, folder: Path) -> Any:
    import polars as pl

    def work() -> Any:
        rows = pl.scan_parquet(folder / "polars.parquet")
        hours = rows.group_by("language", "corpus").agg(
            pl.len().alias("n"), pl.col("duration").sum() / 3600
        )
        repeated = rows.group_by("text_key").len().filter(pl.col("len") > 1)
        total = repeated.select(pl.len().alias("sentences"), pl.col("len").sum().alias("n"))
        answers = pl.collect_all([hours.sort("language", "corpus"), total], engine="streaming")
        return answers[0].rows(), answers[1].rows()[0]

    return work


WORK: dict[str, Callable[[Path, Path], Any]] = {
    name: globals()[name]
    for name in (
        *(f"{side}_{step}" for side in ("ours", "pandas", "polars") for step in STEPS),
        "ours_mix",
    )
}


# ----------------------------------------------------------------------------- measuring
def write_files(manifest: Path, folder: Path, *, num_rows: int, num_pairs: int) -> None:
    """What is read. In a process of its own too: a child's peak begins with that of its parent."""
    from large_manifest import write_bitext, write_manifest, write_recordings

    write_manifest(manifest, num_rows, write_recordings(folder / "audio"))
    if num_pairs:
        write_bitext(folder / "mt.jsonl", num_pairs)


def run_here(step: str, manifest: Path, folder: Path) -> None:
    """One step, in the process that it is measured in."""
    work = WORK[step](manifest, folder)
    start = time.perf_counter()
    answer = work()
    print(json.dumps({"wall_s": time.perf_counter() - start, "answer": answer}))


def measure(step: str, manifest: Path, folder: Path) -> Measured | None:
    """The same in a new process; None where it was ended from outside, as for want of memory."""
    command = [sys.executable, __file__, "--step", step, str(manifest), str(folder)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        if code < 0:
            print(f"{step:14} ended by signal {-code}")
            return None
        assert code == 0, f"{step}: exit code {code}"
        said.seek(0)
        found = json.loads(said.read().splitlines()[-1])
    measured = Measured(found["wall_s"], usage.ru_maxrss / 1024, found["answer"])
    print(f"{step:14} {measured.wall_s:8.2f} s  peak {measured.peak_mb:7.0f} MB", flush=True)
    return measured


def check_equal(step: str, ours: Any, theirs: Any) -> None:
    """Both sides must have found the same: rows, hours and repeated sentences."""
    if step == "ingest":
        assert ours == theirs, f"rows kept: {ours} and {theirs}"
        return
    for mine, other in zip(ours[0], theirs[0], strict=True):
        assert mine[:3] == other[:3], f"{mine} and {other}"
        assert math.isclose(mine[3], other[3], rel_tol=1e-9), f"{mine} and {other}"
    assert ours[1] == theirs[1], f"repeated sentences: {ours[1]} and {theirs[1]}"


def report_side(side: str, step: str, runs: list[tuple[Measured, Measured]]) -> None:
    """Medians of theirs over ours."""
    from paired import report

    wall = statistics.median(theirs.wall_s / ours.wall_s for ours, theirs in runs)
    peak = statistics.median(theirs.peak_mb / ours.peak_mb for ours, theirs in runs)
    time_bar, peak_bar = BARS[step, side]
    report(f"{step}: time, against {side}", wall, time_bar)
    report(f"{step}: peak memory, against {side}", peak, peak_bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", default="pandas,polars", help="against whom; '': none")
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument("--mix-rows", type=int, default=0, help="translations to build a mix of")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, manifest, folder = options.step[0], *map(Path, options.step[1:])
        if step == "write":
            write_files(manifest, folder, num_rows=options.rows, num_pairs=options.mix_rows)
        else:
            run_here(step, manifest, folder)
        return
    sides = [side for side in options.sides.split(",") if side]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        manifest = folder / f"speech.{options.format}"
        sizes = [f"--rows={options.rows}", f"--mix-rows={options.mix_rows}"]
        write = [sys.executable, __file__, *sizes, "--step", "write", str(manifest), temporary]
        subprocess.run(write, check=True)
        print(f"{options.rows} rows, {manifest.stat().st_size / 1e9:.2f} GB", flush=True)
        runs: dict[tuple[str, str], list[tuple[Measured, Measured]]] = {}
        for _ in range(options.rounds):
            shutil.rmtree(folder / "workspace", ignore_errors=True)
            for step in STEPS:
                ours = measure(f"ours_{step}", manifest, folder)
                assert ours is not None, "ours was ended from outside"
                if step == "ingest":
                    assert ours.answer == options.rows, f"{ours.answer} rows kept"
                for side in list(sides):
                    theirs = measure(f"{side}_{step}", manifest, folder)
                    if theirs is None:
                        sides.remove(side)
                        continue
                    check_equal(step, ours.answer, theirs.answer)
                    runs.setdefault((side, step), []).append((ours, theirs))
        for (side, step), pairs in runs.items():
            report_side(side, step, pairs)
        if options.mix_rows:
            mixed = measure("ours_mix", folder / "mt.jsonl", folder)
            print(f"mix of {options.mix_rows} translations: {mixed.answer if mixed else 'ended'}")


if __name__ == "__main__":
    main()
