from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from clouds import blobs, nearest_by_definition
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.clustering.assignment import (
    NearestCentroid,
    assign_on_device,
    assign_units,
)
from cslm_data.errors import TokenizerMismatchError


def on_cpu_tensors(features, centroids):
    units = assign_on_device(torch.from_numpy(features), torch.from_numpy(centroids))
    return units.numpy().astype(np.uint16)


def in_bfloat16(features, centroids):
    return NearestCentroid(centroids, bfloat16=True)(features)


EXACT = [assign_units, on_cpu_tensors]
ALL = [*EXACT, in_bfloat16]


@pytest.mark.parametrize("assign", ALL)
@pytest.mark.parametrize(("dim", "num_units"), [(1, 2), (39, 500), (768, 100)])
def test_each_frame_gets_its_nearest_centroid(assign, dim, num_units):
    rng = np.random.default_rng(dim)
    frames = rng.standard_normal((300, dim)).astype(np.float32)
    centroids = rng.standard_normal((num_units, dim)).astype(np.float32)
    units = assign(frames, centroids)
    assert units.dtype == np.uint16
    np.testing.assert_array_equal(units, nearest_by_definition(frames, centroids))


@pytest.mark.parametrize("assign", ALL)
def test_of_equal_centroids_the_lowest_is_taken(assign):
    centroids = np.array([[2.0], [-1.0], [1.0], [-1.0], [1.0]], np.float32)
    frames = np.tile(np.array([[0.0], [0.9], [-5.0], [1.5], [1.5001]], np.float32), (40, 1))
    assert assign(frames, centroids).tolist() == [1, 2, 1, 0, 0] * 40


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 40), st.sampled_from(EXACT))
def test_a_unit_depends_on_its_frame_alone(seed, num_frames, num_units, assign):
    rng = np.random.default_rng(seed)
    # Far from the origin and close together: the float32 scores alone would not tell them apart.
    frames = (1_000 + rng.standard_normal((num_frames, 16)) * 1e-2).astype(np.float32)
    centroids = (1_000 + rng.standard_normal((num_units, 16)) * 1e-2).astype(np.float32)
    together = assign(frames, centroids)
    alone = [int(assign(frames[i : i + 1], centroids)[0]) for i in range(num_frames)]
    assert together.tolist() == alone == nearest_by_definition(frames, centroids).tolist()


@pytest.mark.parametrize("assign", ALL)
def test_many_blocks_and_none_at_all(assign):
    frames, _ = blobs(num_frames=9_000)
    frames += np.random.default_rng(1).normal(0, 1, frames.shape).astype(np.float32)
    centroids = frames[:400].copy()
    index = faiss.IndexFlatL2(8)
    index.add(centroids)
    units = assign(frames, centroids)
    assert (units == index.search(frames, 1)[1][:, 0]).mean() > 0.999
    np.testing.assert_array_equal(units[:400], np.arange(400))
    np.testing.assert_array_equal(units, assign_units(frames, centroids))
    assert assign(frames[:0], centroids).shape == (0,)
    assert assign(frames[::2], centroids).tolist() == units[::2].tolist()


def test_bfloat16_differs_in_fewer_than_one_unit_of_ten_thousand():
    rng = np.random.default_rng(0)
    # As the layers of a network: some dimensions far larger than others, a common part in all.
    scales = np.exp(rng.normal(0, 1, 200))
    frames = (rng.standard_normal((40_000, 200)) * scales + 3 * scales).astype(np.float32)
    centroids = (0.5 * rng.standard_normal((300, 200)) * scales + 3 * scales).astype(np.float32)
    same = in_bfloat16(frames, centroids) == assign_units(frames, centroids)
    assert same.mean() >= 0.9999
    near = NearestCentroid(centroids, bfloat16=True)
    np.testing.assert_array_equal(near(frames[:5_000]), near(frames)[:5_000])


def test_a_codebook_of_the_largest_size():
    centroids = np.arange(65_536, dtype=np.float32)[:, None]
    frames = np.array([[65_535.2], [0.4], [40_000.6]], np.float32)
    for assign in EXACT:
        assert assign(frames, centroids).tolist() == [65_535, 0, 40_001]


def test_the_callers_precision_is_as_it_was():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        on_cpu_tensors(np.zeros((3, 2), np.float32), np.ones((2, 2), np.float32))
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("assign", ALL)
def test_features_of_another_size_are_refused(assign):
    with pytest.raises(TokenizerMismatchError, match="39"):
        assign(np.zeros((2, 39), np.float32), np.zeros((5, 768), np.float32))


@pytest.mark.gpu
def test_a_gpu_gives_the_units_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((50_000, 768)).astype(np.float32)
    centroids = np.repeat(rng.standard_normal((250, 768)).astype(np.float32), 2, axis=0)
    units = assign_on_device(torch.from_numpy(frames).cuda(), torch.from_numpy(centroids).cuda())
    np.testing.assert_array_equal(units.cpu().numpy(), assign_units(frames, centroids))
