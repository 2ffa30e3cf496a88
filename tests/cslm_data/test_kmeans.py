from __future__ import annotations

import os
import subprocess
import sys

import faiss
import numpy as np
import pytest
import torch
from clouds import blobs, inertia_by_definition, nearest_by_definition

from cslm_data.clustering.kmeans import feasible_num_units, fit_kmeans
from cslm_data.clustering.seeding import choose_starts
from cslm_data.errors import NoDataError, UsageError
from cslm_data.keys import keyed_rng

BACKENDS = ["lloyd", "faiss", "sklearn"]
EMPTIES = ["lloyd", "faiss"]


@pytest.mark.parametrize("init", ["random", "kmeans++"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_kmeans_finds_the_clusters_there_are(backend, init):
    frames, centres = blobs()
    fit = fit_kmeans(frames, num_units=30, seed=0, backend=backend, init=init)
    assert fit.centroids_KE.shape == (30, 8)
    assert fit.centroids_KE.dtype == np.float32
    assert (fit.backend, fit.init, fit.num_frames) == (backend, init, 6_000)
    distance = np.sqrt(((centres[:, None] - fit.centroids_KE[None]) ** 2).sum(axis=2)).min(axis=1)
    assert distance.max() < 0.5
    assert inertia_by_definition(frames, fit.centroids_KE) == pytest.approx(
        fit.inertia[-1], rel=0.05
    )


@pytest.mark.parametrize("backend", EMPTIES)
def test_the_curve_is_the_inertia_of_each_iteration_and_falls(backend):
    frames, _ = blobs(num_frames=2_000)
    frames += np.random.default_rng(1).normal(0, 2, frames.shape).astype(np.float32)
    options = {"num_units": 20, "seed": 3, "backend": backend, "init": "random"}
    one = fit_kmeans(frames, num_iterations=1, **options)
    two = fit_kmeans(frames, num_iterations=2, **options)
    ten = fit_kmeans(frames, num_iterations=10, **options)
    assert len(ten.inertia) == 10
    assert ten.inertia[:2] == two.inertia
    # An iteration is measured with the centroids that it begins with.
    assert two.inertia[1] == pytest.approx(
        inertia_by_definition(frames, one.centroids_KE), rel=2e-3
    )
    assert list(ten.inertia) == sorted(ten.inertia, reverse=True)


@pytest.mark.parametrize("backend", EMPTIES)
def test_all_frames_are_used(backend):
    # FAISS by itself would take 256 frames per centroid: 512 of these, and miss the means by 0.01.
    frames, centres = blobs(num_blobs=2)
    fit = fit_kmeans(frames, num_units=2, seed=0, backend=backend)
    places = nearest_by_definition(frames, centres)
    means = np.array([frames[places == place].mean(axis=0) for place in (0, 1)])
    order = nearest_by_definition(means, fit.centroids_KE)
    np.testing.assert_allclose(fit.centroids_KE[order], means, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_bytes(backend):
    frames, _ = blobs(num_frames=3_000)
    frames += np.random.default_rng(1).normal(0, 2, frames.shape).astype(np.float32)

    def fit(seed):
        found = fit_kmeans(frames, num_units=20, seed=seed, backend=backend)
        return found.centroids_KE.tobytes(), found.inertia

    before, threads = frames.copy(), (faiss.omp_get_max_threads(), torch.get_num_threads())
    assert fit(0) == fit(0)
    assert fit(0) != fit(1)
    assert threads == (faiss.omp_get_max_threads(), torch.get_num_threads())
    np.testing.assert_array_equal(frames, before)


_FIT = """
import hashlib, numpy
from cslm_data.clustering.kmeans import fit_kmeans
frames = numpy.random.default_rng(0).standard_normal((20_000, 40)).astype("float32")
for backend, threads in (("lloyd", {threads}), ("faiss", 1), ("sklearn", 1)):
    fit = fit_kmeans(frames, num_units=30, seed=4, backend=backend, num_threads=threads,
                     num_iterations=3)
    print(backend, hashlib.sha256(fit.centroids_KE.tobytes()).hexdigest(), fit.inertia)
"""


def test_the_bytes_do_not_depend_on_the_number_of_threads():
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _FIT.format(threads=threads)],
            env={**os.environ, "OMP_NUM_THREADS": variable, "OPENBLAS_NUM_THREADS": variable},
            stdout=subprocess.PIPE,
            text=True,
        )
        for variable, threads in (("1", 1), ("2", 3))
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0].count("\n") == 3
    assert printed[0] == printed[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_several_starts_the_best_stays(backend):
    frames, _ = blobs(num_frames=1_500, num_blobs=40)
    options = {"num_units": 40, "backend": backend, "init": "random", "num_iterations": 5}
    several = fit_kmeans(frames, seed=0, restarts=4, **options)
    one = fit_kmeans(frames, seed=0, **options)
    assert several.inertia[-1] < one.inertia[-1]
    assert len(several.inertia) == len(one.inertia)


@pytest.mark.parametrize("backend", EMPTIES)
def test_a_unit_that_loses_its_frames_takes_half_of_a_cluster(backend):
    # Most starts are one of the equal frames: all but one of them are empty at once.
    frames, _ = blobs(num_frames=300, num_blobs=3)
    frames = np.concatenate([frames, np.full((2_700, 8), 20, np.float32)])
    fit = fit_kmeans(frames, num_units=8, seed=0, backend=backend, init="random")
    starts = choose_starts(frames, num_units=8, init="random", rng=keyed_rng(0, "kmeans", "0"))
    assert len(np.unique(starts, axis=0)) < 5
    used = np.bincount(nearest_by_definition(frames, fit.centroids_KE), minlength=8)
    assert (used > 0).sum() >= (8 if backend == "lloyd" else 4)
    assert np.isfinite(fit.centroids_KE).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_frames_leave_no_centroid_undefined(backend):
    frames = np.zeros((2_000, 4), np.float32)
    frames[1_000:] = 1
    with np.errstate(all="raise"):
        centroids = fit_kmeans(frames, num_units=20, seed=0, backend=backend).centroids_KE
    assert centroids.shape == (20, 4)
    assert np.isfinite(centroids).all()
    assert inertia_by_definition(frames, centroids) < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_the_sphere_centroids_have_length_one(backend):
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((5, 6))
    frames = directions[rng.integers(0, 5, 3_000)] * rng.uniform(0.5, 9, (3_000, 1))
    frames += rng.normal(0, 0.05, frames.shape)
    frames = (frames / np.linalg.norm(frames, axis=1, keepdims=True)).astype(np.float32)
    frames[0] = 0
    fit = fit_kmeans(frames, num_units=5, seed=1, backend=backend, init="kmeans++", spherical=True)
    np.testing.assert_allclose(np.linalg.norm(fit.centroids_KE, axis=1), 1, atol=1e-5)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert (fit.centroids_KE @ directions.T).max(axis=0).min() > 0.99
    # FAISS sums cosines near 1 in float32.
    inertia = inertia_by_definition(frames, fit.centroids_KE)
    assert fit.inertia[-1] == pytest.approx(inertia, rel=5e-2)


def test_the_backends_agree_from_the_same_start():
    frames, _ = blobs(num_frames=4_000, dim=30, num_blobs=25)
    frames += np.random.default_rng(1).normal(0, 3, frames.shape).astype(np.float32)
    ours, theirs = (
        fit_kmeans(frames, num_units=25, seed=0, backend=backend, init="random")
        for backend in ("lloyd", "faiss")
    )
    assert ours.inertia[0] == pytest.approx(theirs.inertia[0], rel=1e-3)
    assert ours.inertia[-1] == pytest.approx(theirs.inertia[-1], rel=5e-3)


def test_auto_says_what_it_took():
    from cslm_data.clustering.lloyd import fast_arithmetic

    frames, _ = blobs(num_frames=1_500, dim=2)
    few = fit_kmeans(frames, num_units=3, seed=0, num_iterations=1)
    many = fit_kmeans(frames, num_units=501, seed=0, num_iterations=1)
    assert few.backend == ("lloyd" if fast_arithmetic("cpu") == "bfloat16" else "faiss")
    assert (few.init, many.init) == ("kmeans++", "random")


def test_what_cannot_be_is_said(caplog):
    frames, _ = blobs(num_frames=400)
    assert feasible_num_units(400, 500) == 400 // 39
    assert feasible_num_units(3, 500) == 2
    fit_kmeans(frames, num_units=11, seed=0)
    assert "400 frames are few for 11 units" in caplog.text
    with pytest.raises(UsageError, match=r"500: there are only 400 frames; ask for 10"):
        fit_kmeans(frames, num_units=500, seed=0)
    with pytest.raises(NoDataError, match="1 frames are too few"):
        fit_kmeans(frames[:1], num_units=500, seed=0)
    for wrong in (1, 70_000):
        with pytest.raises(UsageError, match="from 2 to 65536"):
            fit_kmeans(frames, num_units=wrong, seed=0)
    for option, name in (("backend", "--backend x: choose auto, lloyd"), ("init", "--init x")):
        with pytest.raises(UsageError, match=name):
            fit_kmeans(frames, num_units=5, seed=0, **{option: "x"})
    for option in ("restarts", "num_iterations"):
        with pytest.raises(UsageError, match="1 or more"):
            fit_kmeans(frames, num_units=5, seed=0, **{option: 0})
    frames[77, 3] = np.nan
    with pytest.raises(UsageError, match="frame 77 .* nan as number 3"):
        fit_kmeans(frames, num_units=5, seed=0)
