"""Every audit over a catalog of N utterances (default one million): seconds each, and memory.

The catalog is made by bench_audits.sql in a folder that vanishes: sentences of a Zipf-like
vocabulary in four languages, one in fifty nearly the same as another, speakers, splits,
translations, units and measures.

    python benchmarks/bench_audits.py [--rows 1000000] [--runs 50]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from cslm_data.auditing.files import find_files
from cslm_data.auditing.runner import run_audits
from cslm_data.catalog import open_catalog
from cslm_data.workspace import Workspace

TOKENIZER = "mfcc-500-0123456789ab"


def make(workspace: Workspace, rows: int, runs: int) -> None:
    """The catalog, its units, measures and detected languages."""
    folder = workspace.units / TOKENIZER
    for path in (folder, workspace.measures, workspace.text_languages, workspace.tokenizers / "m"):
        path.mkdir(parents=True)
    document = {"tokenizer_id": TOKENIZER, "extractor": "mfcc", "num_units": 500}
    text = json.dumps(document | {"frame_rate_hz": 50.0})
    (workspace.tokenizers / "m" / "tokenizer.json").write_text(text)
    query = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    values = {
        "rows": rows,
        "runs": runs,
        "units": folder / "part-0.parquet",
        "measures": workspace.measures / "part-0.parquet",
        "languages": workspace.text_languages / "part-0.parquet",
    }
    for name, value in values.items():
        query = query.replace("{" + name + "}", str(value))
    with open_catalog(workspace, write=True, doing="benchmark") as db:
        db.execute(query)


def main() -> None:
    """Print the seconds of each audit, their sum, and the memory of the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=50, help="units of an utterance")
    parser.add_argument("--folder", type=Path, default=None, help="where the catalog is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        workspace = Workspace(Path(folder) / "workspace")
        started = time.monotonic()
        # In a process of its own: its memory is not that of the audits.
        making = multiprocessing.get_context("spawn").Process(
            target=make, args=(workspace, options.rows, options.runs)
        )
        making.start()
        making.join()
        assert making.exitcode == 0, making.exitcode
        print(f"catalog of {options.rows:,} utterances: {time.monotonic() - started:.0f} s")
        benchmark = Path(folder) / "benchmark.txt"
        benchmark.write_text(
            "\n".join(f"this is question number {i} of nobody" for i in range(2000))
        )
        print(f"memory to begin with: {peak_gb():.2f} GB")
        total = 0.0
        for name in find_files(None):
            started = time.monotonic()
            asked = {"against": str(benchmark)} if name.startswith("contaminated") else {}
            if name == "contaminated_units":
                asked = {"against": "corpus6"}
            [result] = run_audits(
                workspace, names=[name], use="commercial", languages=["en", "zh"], **asked
            )
            seconds = time.monotonic() - started
            total += seconds
            outcome = result.skipped or f"{result.count:,} findings"
            print(
                f"{name:28} {seconds:7.1f} s  peak {peak_gb():.2f} GB  {outcome[:90]}", flush=True
            )
        print(f"all audits: {total:.0f} s")


def peak_gb() -> float:
    """Largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
