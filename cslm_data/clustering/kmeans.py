"""Sampled frames → centroids: k-means on all of them, by one of three programs. Files: none.

`lloyd`    ours, in torch: bfloat16 products where the processor has them, any number of threads
`faiss`    FAISS with every frame in every iteration (its default looks at 256 per centroid), on a
           GPU if it was built for one
`sklearn`  fairseq's recipe: MiniBatchKMeans, 20 starts, batches of 10 000

The same frames and seed give the same bytes each time on one kind of machine.
"""

# N frames, E dimensions, K units

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from cslm_data.clustering.assignment import assign_units
from cslm_data.clustering.normalisation import to_sphere
from cslm_data.clustering.seeding import GREEDY_UP_TO, Init, choose_starts
from cslm_data.engines.threads import limit_threads
from cslm_data.errors import NoDataError, UsageError
from cslm_data.keys import keyed_rng
from cslm_data.progress import progress

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Backend = Literal["lloyd", "faiss", "sklearn"]
BACKENDS = ("auto", *get_args(Backend))
INITS = ("auto", *get_args(Init))

Advance = Callable[[int], object]

MAX_UNITS = 1 << 16
FRAMES_PER_UNIT = 39
"""Fewer frames than this per unit and k-means fits noise (FAISS warns below the same number)."""

DEFAULT_ITERATIONS: dict[Backend, int] = {"lloyd": 16, "faiss": 25, "sklearn": 100}
"""Steps that bring each about equally far; sklearn: passes over the frames, fairseq's number."""

_ROWS = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class KMeansFit:
    """Centroids and how they came about."""

    centroids_KE: Floats
    inertia: tuple[float, ...]
    """Mean squared distance to the nearest centroid, at each iteration (sklearn: the last only)."""
    num_frames: int
    backend: Backend
    """The one that did the work."""
    init: Init


def feasible_num_units(num_frames: int, num_units: int) -> int:
    """The number of units that so many frames can carry: 39 frames for each, at least two units."""
    return max(2, min(num_units, num_frames // FRAMES_PER_UNIT))


def fit_kmeans(
    frames_NE: Floats,
    *,
    num_units: int,
    seed: int,
    num_iterations: int | None = None,
    backend: str = "auto",
    init: str = "auto",
    restarts: int = 1,
    spherical: bool = False,
    device: str = "cpu",
    num_threads: int = 1,
) -> KMeansFit:
    """K centroids of the frames: float32 (N, E) → (K, E).

    Without `num_iterations` there are as many as the backend needs. `auto` takes lloyd where
    bfloat16 is fast, else faiss; and kmeans++ up to 500 units, else random frames. Of several
    `restarts` the one with the lowest inertia stays. `spherical` keeps centroids at length 1. A
    unit that loses all its frames: lloyd splits the cluster with the largest sum of squared
    distances, faiss a large one; sklearn leaves it where it began, on a frame. Only lloyd uses more
    than one thread, and its result does not depend on how many. Raises UsageError for more units
    than frames or a value that is not finite, NoDataError below two frames.
    """
    check_choices(
        num_units=num_units,
        num_iterations=num_iterations,
        backend=backend,
        init=init,
        restarts=restarts,
    )
    frames_NE = np.ascontiguousarray(frames_NE, np.float32)
    _check_frames(frames_NE, num_units)
    used, begun = _choose_backend(backend, device), _choose_init(init, num_units)
    steps = num_iterations or DEFAULT_ITERATIONS[used]
    best: tuple[Floats, tuple[float, ...]] | None = None
    with progress("k-means", total=restarts * steps, unit="iterations") as bar:
        for restart in range(restarts):
            with limit_threads(1):
                found = _fit_once(
                    frames_NE,
                    backend=used,
                    num_units=num_units,
                    num_iterations=steps,
                    init=begun,
                    rng=keyed_rng(seed, "kmeans", str(restart)),
                    spherical=spherical,
                    device=device,
                    num_threads=num_threads,
                    advance=bar.advance,
                )
            if restarts > 1:
                log.info("k-means, start %d: mean squared distance %.6g", restart + 1, found[1][-1])
            if best is None or found[1][-1] < best[1][-1]:
                best = found
    assert best is not None
    centroids_KE, inertia = best
    log.info(
        "k-means by %s from %s: %d frames of %d numbers, %d units, mean squared distance %s",
        used,
        begun,
        *frames_NE.shape,
        num_units,
        " ".join(f"{value:.5g}" for value in inertia),
    )
    return KMeansFit(
        centroids_KE=centroids_KE,
        inertia=inertia,
        num_frames=len(frames_NE),
        backend=used,
        init=begun,
    )


def check_choices(
    *, num_units: int, num_iterations: int | None, backend: str, init: str, restarts: int
) -> None:
    """Raise UsageError for what fit_kmeans cannot do, before there are frames."""
    if not 2 <= num_units <= MAX_UNITS:
        raise UsageError(f"--num-units {num_units}: must be from 2 to {MAX_UNITS}")
    if num_iterations is not None and num_iterations < 1:
        raise UsageError(f"--iterations {num_iterations}: must be 1 or more")
    if restarts < 1:
        raise UsageError(f"--restarts {restarts}: must be 1 or more")
    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: choose {', '.join(BACKENDS)}")
    if init not in INITS:
        raise UsageError(f"--init {init}: choose {', '.join(INITS)}")


def _choose_backend(backend: str, device: str) -> Backend:
    """`auto` resolved for this machine, and its library loaded, so that its threads can be set."""
    if backend in ("auto", "lloyd"):
        from cslm_data.clustering.lloyd import fast_arithmetic

        if backend == "lloyd" or fast_arithmetic(device) == "bfloat16":
            return "lloyd"
    if backend == "sklearn":
        import sklearn.cluster  # noqa: F401

        return "sklearn"
    import faiss  # noqa: F401

    return "faiss"


def _choose_init(init: str, num_units: int) -> Init:
    if init != "auto":
        return cast(Init, init)
    return "kmeans++" if num_units <= GREEDY_UP_TO else "random"


def _check_frames(frames_NE: Floats, num_units: int) -> None:
    size = len(frames_NE)
    if size < 2:
        raise NoDataError(
            f"{size} frames are too few for k-means; ingest more speech: cslm-data ingest FOLDER"
        )
    if size < num_units:
        raise UsageError(
            f"--num-units {num_units}: there are only {size} frames; ask for "
            f"{feasible_num_units(size, num_units)} units or fewer, raise --max-frames, or ingest "
            "more speech"
        )
    if size < FRAMES_PER_UNIT * num_units:
        log.warning(
            "%d frames are few for %d units (better %d for each): units will follow single frames",
            size,
            num_units,
            FRAMES_PER_UNIT,
        )
    for start in range(0, size, _ROWS):
        finite = np.isfinite(frames_NE[start : start + _ROWS])
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise UsageError(
                f"frame {start + row} of the sample has {frames_NE[start + row, column]} as number "
                f"{column}; leave such recordings out: all must be finite"
            )


def _fit_once(
    frames_NE: Floats,
    *,
    backend: Backend,
    num_units: int,
    num_iterations: int,
    init: Init,
    rng: np.random.Generator,
    spherical: bool,
    device: str,
    num_threads: int,
    advance: Advance,
) -> tuple[Floats, tuple[float, ...]]:
    """Centroids and the curve of the inertia."""
    if backend == "sklearn":
        return _fit_sklearn(frames_NE, num_units, num_iterations, init, rng, spherical, advance)
    starts_KE = choose_starts(frames_NE, num_units=num_units, init=init, rng=rng)
    if spherical:
        starts_KE = to_sphere(starts_KE)
    if backend == "faiss":
        return _fit_faiss(frames_NE, starts_KE, num_iterations, rng, spherical, device, advance)
    from cslm_data.clustering.lloyd import fast_arithmetic, lloyd

    return lloyd(
        frames_NE,
        starts_KE,
        num_iterations=num_iterations,
        rng=rng,
        spherical=spherical,
        device=device,
        arithmetic=fast_arithmetic(device),
        num_threads=num_threads,
        advance=advance,
    )


def _fit_faiss(
    frames_NE: Floats,
    starts_KE: Floats,
    num_iterations: int,
    rng: np.random.Generator,
    spherical: bool,
    device: str,
    advance: Advance,
) -> tuple[Floats, tuple[float, ...]]:
    import faiss

    gpu = device.startswith("cuda") and faiss.get_num_gpus() > 0
    kmeans = faiss.Kmeans(
        frames_NE.shape[1],
        len(starts_KE),
        # A GPU is set up anew for each call; on a CPU one iteration a call shows the progress.
        niter=num_iterations if gpu else 1,
        seed=_short_seed(rng),
        spherical=spherical,
        gpu=gpu,
        # FAISS would otherwise look at 256 frames per centroid only, and warn below 39.
        max_points_per_centroid=len(frames_NE),
        min_points_per_centroid=1,
    )
    inertia: list[float] = []
    centroids_KE = starts_KE
    while len(inertia) < num_iterations:
        kmeans.train(frames_NE, init_centroids=centroids_KE)
        centroids_KE = np.ascontiguousarray(kmeans.centroids, np.float32)
        curve = [float(value) / len(frames_NE) for value in np.asarray(kmeans.obj)]
        inertia += curve
        advance(len(curve))
    if spherical:
        # FAISS has the cosines: |x - c|² = |x|² + 1 - 2 x·c.
        length = float(np.einsum("ne,ne->", frames_NE, frames_NE, dtype=np.float64))
        inertia = [length / len(frames_NE) + 1 - 2 * value for value in inertia]
    return centroids_KE, tuple(inertia)


def _fit_sklearn(
    frames_NE: Floats,
    num_units: int,
    num_iterations: int,
    init: Init,
    rng: np.random.Generator,
    spherical: bool,
    advance: Advance,
) -> tuple[Floats, tuple[float, ...]]:
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(
        n_clusters=num_units,
        init="k-means++" if init == "kmeans++" else "random",
        max_iter=num_iterations,
        batch_size=10_000,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        random_state=_short_seed(rng),
        compute_labels=False,
    )
    kmeans.fit(frames_NE)
    advance(num_iterations)
    centroids_KE = np.ascontiguousarray(kmeans.cluster_centers_, np.float32)
    if spherical:
        centroids_KE = to_sphere(centroids_KE)
    total = 0.0
    for start in range(0, len(frames_NE), _ROWS):
        block_NE = frames_NE[start : start + _ROWS]
        nearest_NE = centroids_KE[assign_units(block_NE, centroids_KE)]
        total += float(((block_NE - nearest_NE) ** 2).sum(dtype=np.float64))
    return centroids_KE, (total / len(frames_NE),)


def _short_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))
