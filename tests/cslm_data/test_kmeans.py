from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.errors import NoDataError, TokenizerMismatchError, UsageError
from cslm_data.kmeans import (
    FrameReservoir,
    assign_units,
    feasible_num_units,
    fit_kmeans,
    language_quotas,
)


def blobs(num_frames=6_000, dim=8, num_blobs=10, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-10, 10, (num_blobs, dim))
    places = rng.integers(0, num_blobs, num_frames)
    return (centres[places] + rng.normal(0, 0.2, (num_frames, dim))).astype(np.float32), centres


def nearest_by_definition(frames, centroids):
    distances = ((frames[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return distances.argmin(axis=1)


def test_quotas_by_hand():
    # Square roots 100 : 10 : 1 of 1110 frames, and the smallest has only one.
    assert language_quotas({"en": 10_000, "zh": 100, "sw": 1}, max_frames=111) == {
        "en": 100,
        "sw": 1,
        "zh": 10,
    }
    assert language_quotas({"en": 900, "zh": 100}, max_frames=100, temperature=1) == {
        "en": 90,
        "zh": 10,
    }
    # zh is owed 50 and has 20: en takes what zh leaves.
    even = language_quotas({"en": 5_000, "zh": 20}, max_frames=100, temperature=1e9)
    assert even == {"en": 80, "zh": 20}
    assert language_quotas({"en": 30, "zh": 20}, max_frames=100) == {"en": 30, "zh": 20}
    assert language_quotas({}, max_frames=100) == {}


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**7)),
    st.integers(1, 10**6),
    st.floats(1, 10),
)
def test_quotas_never_exceed_what_there_is(available, max_frames, temperature):
    quotas = language_quotas(available, max_frames=max_frames, temperature=temperature)
    assert sum(quotas.values()) <= max_frames
    assert all(quotas[name] <= available[name] for name in quotas)
    if quotas:
        missing = min(max_frames, sum(available.values())) - sum(quotas.values())
        assert missing <= len(quotas), "all is given out but for the rounding"


def test_the_reservoir_is_bounded_and_does_not_depend_on_order():
    rng = np.random.default_rng(0)
    utterances = {
        f"utt{i}": np.stack([np.full(n, i), np.arange(n)], axis=1).astype(np.float32)
        for i, n in enumerate(rng.integers(1, 400, 300))
    }

    def sample(names, seed=0):
        reservoir = FrameReservoir(500, seed=seed)
        for name in names:
            reservoir.add(name, utterances[name])
            assert sum(len(f) for f in reservoir._frames) <= 500 + 10_000 + 400
        assert reservoir.num_seen == sum(map(len, utterances.values()))
        return reservoir.result()[1]

    forward = sample(list(utterances))
    assert forward.shape == (500, 2)
    np.testing.assert_array_equal(forward, sample(list(utterances)[::-1]))
    assert not np.array_equal(forward, sample(list(utterances), seed=1))
    assert len(np.unique(forward, axis=0)) == 500, "no frame twice"
    assert 120 < forward[:, 0].mean() < 180, "no part of the corpus is preferred"


def test_a_reservoir_larger_than_the_corpus_keeps_every_frame():
    reservoir = FrameReservoir(100, seed=0)
    assert reservoir.result()[1].size == 0
    reservoir.add("a", np.arange(12, dtype=np.float32).reshape(6, 2))
    assert sorted(reservoir.result()[1][:, 0]) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_kmeans_finds_the_clusters_there_are(backend):
    frames, centres = blobs()
    fit = fit_kmeans(frames, num_units=30, seed=0, backend=backend)
    assert fit.centroids_KD.shape == (30, 8)
    assert fit.centroids_KD.dtype == np.float32
    distance = np.sqrt(((centres[:, None] - fit.centroids_KD[None]) ** 2).sum(axis=2)).min(axis=1)
    assert distance.max() < 0.5
    nearest = fit.centroids_KD[assign_units(frames, fit.centroids_KD)]
    inertia = ((frames - nearest) ** 2).sum(axis=1).mean()
    assert inertia == pytest.approx(fit.inertia[-1], rel=0.05)


def test_all_frames_are_used_and_the_inertia_falls():
    # FAISS by itself would take 256 frames per centroid: 512 of these.
    frames, _ = blobs(num_blobs=2)
    frames[:6] = 1_000
    fit = fit_kmeans(frames, num_units=3, seed=0)
    assert abs(fit.centroids_KD - 1_000).max(axis=1).min() < 1, "six frames make a cluster"
    assert fit.num_frames == 6_000
    assert 1 <= len(fit.inertia) <= 25
    assert fit.inertia[-1] <= fit.inertia[0]


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_the_same_seed_gives_the_same_bytes(backend):
    frames, _ = blobs(num_frames=3_000)
    frames += np.random.default_rng(1).normal(0, 2, frames.shape).astype(np.float32)

    def fit(seed):
        return fit_kmeans(frames, num_units=20, seed=seed, backend=backend).centroids_KD.tobytes()

    threads = faiss.omp_get_max_threads()
    assert fit(0) == fit(0)
    assert fit(0) != fit(1)
    assert faiss.omp_get_max_threads() == threads, "the caller's threads are as they were"


def test_few_frames_carry_fewer_units(caplog):
    frames, _ = blobs(num_frames=400)
    fit = fit_kmeans(frames, num_units=500, seed=0)
    assert len(fit.centroids_KD) == 400 // 39 == feasible_num_units(400, 500)
    assert "only 10" in caplog.text
    assert len(fit_kmeans(frames[:3], num_units=500, seed=0).centroids_KD) == 2
    with pytest.raises(NoDataError):
        fit_kmeans(frames[:1], num_units=500, seed=0)
    with pytest.raises(UsageError):
        fit_kmeans(frames, num_units=70_000, seed=0)


def test_equal_frames_leave_no_centroid_undefined():
    frames = np.zeros((2_000, 4), np.float32)
    frames[1_000:] = 1
    centroids = fit_kmeans(frames, num_units=20, seed=0).centroids_KD
    assert np.isfinite(centroids).all()
    assert len(np.unique(assign_units(frames, centroids))) == 2


@pytest.mark.parametrize(("dim", "num_units"), [(1, 2), (39, 500), (768, 100)])
def test_each_frame_gets_its_nearest_centroid(dim, num_units):
    rng = np.random.default_rng(dim)
    frames = rng.standard_normal((300, dim)).astype(np.float32)
    centroids = rng.standard_normal((num_units, dim)).astype(np.float32)
    units = assign_units(frames, centroids)
    assert units.dtype == np.uint16
    np.testing.assert_array_equal(units, nearest_by_definition(frames, centroids))


def test_of_equal_centroids_the_lowest_is_taken():
    centroids = np.array([[2.0], [-1.0], [1.0], [-1.0], [1.0]], np.float32)
    frames = np.array([[0.0], [0.9], [-5.0], [1.5], [1.5001]], np.float32)
    assert assign_units(frames, centroids).tolist() == [1, 2, 1, 0, 0]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 40))
def test_a_unit_depends_on_its_frame_alone(seed, num_frames, num_units):
    rng = np.random.default_rng(seed)
    # Far from the origin and close together: the float32 scores alone would not tell them apart.
    frames = (1_000 + rng.standard_normal((num_frames, 16)) * 1e-2).astype(np.float32)
    centroids = (1_000 + rng.standard_normal((num_units, 16)) * 1e-2).astype(np.float32)
    together = assign_units(frames, centroids)
    alone = [int(assign_units(frames[i : i + 1], centroids)[0]) for i in range(num_frames)]
    assert together.tolist() == alone == nearest_by_definition(frames, centroids).tolist()


def test_assignment_agrees_with_faiss_on_more_than_one_block():
    frames, _ = blobs(num_frames=5_000)
    centroids = fit_kmeans(frames, num_units=40, seed=0).centroids_KD
    index = faiss.IndexFlatL2(8)
    index.add(centroids)
    same = assign_units(frames, centroids) == index.search(frames, 1)[1][:, 0]
    assert same.mean() > 0.999
    assert assign_units(frames[:0], centroids).shape == (0,)


def test_features_of_another_size_are_refused():
    with pytest.raises(TokenizerMismatchError, match="39"):
        assign_units(np.zeros((2, 39), np.float32), np.zeros((5, 768), np.float32))
