"""Fitting K=500 units: ours against fairseq's recipe (learn_kmeans.py), on MFCC and at D=768.

fairseq's recipe is scikit-learn's MiniBatchKMeans with 20 starts. Both sides use one thread and are
counted in CPU seconds; the quality condition is the mean squared distance of held-out frames.

MFCC are those of the real speech under CSLM_SHARED_DATA. At D=768 the frames are MFCC of the same
speech, nine neighbours at a time, through a random network of two layers, which costs nothing next
to HuBERT and is as hard to cluster; `--features FILE.npy` takes real ones of shape (N, 768).

At D=768 fairseq's recipe takes ten minutes and more, nearly all of it in its 20 starts. So by
default it runs with one start, one more start is timed by itself, and its time is reckoned as
`run + 19 starts`; its held-out distance is that of the one start. `--full` runs all 20, and takes
every frame there is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from paired import cpu_s, report
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus
from threadpoolctl import threadpool_limits

from cslm_data.audio import decode
from cslm_data.clustering.assignment import assign_units
from cslm_data.clustering.kmeans import fit_kmeans
from cslm_data.errors import AudioError
from cslm_data.features import load_extractor

NUM_UNITS = 500
HELD_OUT = 20_000
BATCH = 10_000
CONTEXT = 4
HIDDEN, DIM = 512, 768


def load_mfcc(data: Path) -> np.ndarray:
    """MFCC of all real speech, recordings one after the other."""
    manifests = sorted((data / "real").glob("*.jsonl"))
    if not manifests:
        raise SystemExit(f"{data}/real: no speech there; point CSLM_SHARED_DATA at the shared data")
    extractor = load_extractor("mfcc")
    frames = []
    for manifest in manifests:
        for line in manifest.read_text(encoding="utf-8").splitlines():
            audio = json.loads(line).get("audio")
            if audio:
                try:
                    frames.append(extractor(decode(str(manifest.parent / audio))))
                except AudioError:
                    continue
    return np.concatenate(frames)


def widen(mfcc: np.ndarray) -> np.ndarray:
    """39 numbers a frame → 768, by a random network that sees nine frames."""
    rng = np.random.default_rng(0)
    scaled = (mfcc - mfcc.mean(axis=0)) / mfcc.std(axis=0)
    padded = np.pad(scaled, ((CONTEXT, CONTEXT), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * CONTEXT + 1, axis=0)
    size = windows.shape[1] * windows.shape[2]
    first = rng.standard_normal((size, HIDDEN)).astype(np.float32) * np.float32(1.5 / size**0.5)
    second = rng.standard_normal((HIDDEN, DIM)).astype(np.float32) * np.float32(2 / HIDDEN**0.5)
    blocks = np.array_split(windows, max(1, len(windows) // 8192))
    return np.concatenate(
        [np.tanh(block.reshape(len(block), size) @ first) @ second for block in blocks]
    ).astype(np.float32)


def split(frames: np.ndarray, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Frames to fit on and frames held out, in random order."""
    order = np.random.default_rng(0).permutation(len(frames))
    last = None if most is None else HELD_OUT + most
    return np.ascontiguousarray(frames[order[HELD_OUT:last]]), frames[order[:HELD_OUT]]


def distance(frames: np.ndarray, centroids: np.ndarray) -> float:
    """Mean squared distance to the nearest centroid."""
    centroids = np.asarray(centroids, np.float32)
    return float(((frames - centroids[assign_units(frames, centroids)]) ** 2).sum(axis=1).mean())


def fairseq(frames: np.ndarray, num_starts: int) -> np.ndarray:
    """The recipe of examples/hubert/simple_kmeans/learn_kmeans.py with its defaults."""
    estimator = MiniBatchKMeans(
        n_clusters=NUM_UNITS,
        init="k-means++",
        max_iter=100,
        batch_size=BATCH,
        tol=0.0,
        max_no_improvement=100,
        n_init=num_starts,
        reassignment_ratio=0.0,
        random_state=0,
        compute_labels=False,
    )
    return estimator.fit(frames).cluster_centers_


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """CPU seconds and the result."""
    results: list[np.ndarray] = []
    return cpu_s(lambda: results.append(work())), results[0]


def compare(
    name: str, frames: np.ndarray, *, most: int | None, all_starts: bool, bar: float, worst: float
) -> None:
    """One line of the report, after the held-out distance is found good enough."""
    fitted, held_out = split(frames, most)

    def ours() -> np.ndarray:
        return fit_kmeans(fitted, num_units=NUM_UNITS, seed=0).centroids_KE

    first_s, centroids = timed(ours)
    if all_starts:
        theirs_s, theirs = timed(lambda: fairseq(fitted, 20))
        how = "20 starts"
    else:
        run_s, theirs = timed(lambda: fairseq(fitted, 1))
        some = fitted[: 3 * BATCH]
        start_s, _ = timed(lambda: kmeans_plusplus(some, NUM_UNITS, random_state=0)[0])
        theirs_s = run_s + 19 * start_s
        how = f"reckoned: a run with one start {run_s:.1f} s + 19 starts of {start_s:.1f} s"
    ours_s = statistics.median([first_s, *(timed(ours)[0] for _ in range(2))])
    quality = distance(held_out, centroids) / distance(held_out, theirs)
    print(
        f"{name}: {len(fitted)} frames, ours {ours_s:.1f} CPU-s, fairseq's recipe {theirs_s:.1f} "
        f"CPU-s ({how}); held-out distance {quality:.4f} of theirs (at most {worst:.3f})"
    )
    assert quality <= worst, f"{name}: the units are worse than fairseq's"
    report(f"tokenizer fit, {name} K={NUM_UNITS}, against fairseq's recipe", theirs_s / ours_s, bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("mfcc", "wide"), help="one of the two comparisons")
    parser.add_argument("--features", type=Path, help=".npy of shape (N, 768) instead of made ones")
    parser.add_argument("--frames", type=int, default=80_000, help="frames to fit on at D=768")
    parser.add_argument("--full", action="store_true", help="every frame and all 20 starts")
    parser.add_argument("--bar", type=float, default=8.0, help="at D=768: 8, or 25 with AMX or GPU")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    mfcc = load_mfcc(Path(os.environ.get("CSLM_SHARED_DATA", "../shared/data")))
    with threadpool_limits(1):
        if options.only != "wide":
            compare("MFCC", mfcc, most=300_000, all_starts=True, bar=8, worst=0.99)
        if options.only != "mfcc":
            wide = np.load(options.features) if options.features else widen(mfcc)
            most = None if options.full else options.frames
            compare("D=768", wide, most=most, all_starts=options.full, bar=options.bar, worst=1.0)


if __name__ == "__main__":
    main()
