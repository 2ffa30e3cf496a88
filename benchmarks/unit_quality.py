"""How well MFCC units tell phones: PNMI of k-means with 100, 500 and 2000 units, corpus by corpus.

Each corpus of `--data` (folders `real/` and `synthetic/`, NAME.jsonl beside NAME.align.jsonl) has a
workspace and tokenizers of its own, then all of them share one; `shuffled` is the same measure with
the units in random order. The floor, for 100 units fitted on the corpus, is from before any code.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from cslm_data.ingest import ingest
from cslm_data.quality.figures import PhoneFigures
from cslm_data.quality.report import unit_report
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace

CORPORA = (
    "real/aishell_sample",
    "real/ljspeech",
    "real/nathalie",
    "synthetic/espeak_de",
    "synthetic/espeak_en",
    "synthetic/espeak_qa",
    "synthetic/espeak_zh",
)
SIZES = (100, 500, 2000)
FLOOR, FLOOR_UNITS = (0.39, 0.55), 100


def measure(
    workspace: Workspace, num_units: int, *, exact_phones: bool
) -> tuple[int, list[PhoneFigures]]:
    """Fit a tokenizer on all speech of a workspace, encode it, and measure its phones.

    A small corpus gives fewer units than asked for: their number comes first.
    """
    name = quantize(workspace, extractor="mfcc", num_units=num_units).name
    report = unit_report(
        workspace, [name], exact_phones=exact_phones, abx_cells=0, robustness_utterances=0
    )
    [tokenizer] = report.tokenizers
    return tokenizer.num_units, list(tokenizer.phones)


def show(where: str, num_units: int, figure: PhoneFigures) -> None:
    every, speech = figure.all_frames, figure.speech_frames
    assert every.pnmi is not None and figure.shuffled_pnmi is not None and speech is not None
    print(
        f"{where:<32} {num_units:>5} {every.num_frames:>7} {every.num_phones:>4} "
        f"{every.pnmi:>6.3f} {figure.shuffled_pnmi:>8.3f} {speech.pnmi:>7.3f} "
        f"{every.phone_purity:>7.3f} {every.cluster_purity:>7.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with real/ and synthetic/")
    parser.add_argument("--exact-phones", action="store_true", help="keep stress and tone")
    options = parser.parse_args()
    exact = options.exact_phones
    start = time.monotonic()
    print(f"{'corpus':<32} {'K':>5} {'frames':>7} {'P':>4} {'PNMI':>6} {'shuffled':>8} ", end="")
    print(f"{'speech':>7} {'phone':>7} {'cluster':>7}")
    lowest: dict[str, float] = {}
    manifests = []
    with tempfile.TemporaryDirectory() as folder:
        for corpus in CORPORA:
            files = [options.data / f"{corpus}.jsonl", options.data / f"{corpus}.align.jsonl"]
            manifests += files
            workspace = Workspace(Path(folder) / corpus)
            ingest(workspace, files)
            for asked in SIZES:
                num_units, figures = measure(workspace, asked, exact_phones=exact)
                for figure in figures:
                    where = f"{corpus} {figure.language}"
                    show(where, num_units, figure)
                    assert figure.all_frames.pnmi > figure.shuffled_pnmi, "no better than chance"
                    if asked == FLOOR_UNITS:
                        lowest[where] = figure.all_frames.pnmi
        workspace = Workspace(Path(folder) / "together")
        ingest(workspace, manifests)
        for asked in SIZES:
            num_units, figures = measure(workspace, asked, exact_phones=exact)
            for figure in figures:
                show(f"together, {figure.language} {figure.corpus or ''}", num_units, figure)
    print(f"took {time.monotonic() - start:.0f} s")
    where = min(lowest, key=lambda name: lowest[name])
    print(f"floor of {FLOOR_UNITS} units: {FLOOR[0]} to {FLOOR[1]}, by corpus and language")
    print(f"lowest PNMI with {FLOOR_UNITS} units: {lowest[where]:.3f} ({where})")
    print(f"ratio: {lowest[where] / FLOOR[0]:.2f} (bar: 1)")


if __name__ == "__main__":
    main()
