from __future__ import annotations

import numpy as np
import pytest
from clouds import blobs, inertia_by_definition

from cslm_data.clustering.seeding import choose_starts


def starts(frames, num_units, init="kmeans++", seed=0):
    return choose_starts(frames, num_units=num_units, init=init, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("init", ["random", "kmeans++"])
@pytest.mark.parametrize("dim", [3, 100])
def test_starts_are_frames_and_no_frame_twice(init, dim):
    frames = np.random.default_rng(0).standard_normal((500, dim)).astype(np.float32)
    chosen = starts(frames, 60, init)
    rows = {frame.tobytes() for frame in frames}
    assert chosen.shape == (60, dim)
    assert len({start.tobytes() for start in chosen} & rows) == 60
    assert not np.shares_memory(chosen, frames)
    np.testing.assert_array_equal(chosen, starts(frames, 60, init))
    assert not np.array_equal(chosen, starts(frames, 60, init, seed=1))


@pytest.mark.parametrize("dim", [8, 300])
def test_greedy_starts_hit_every_cloud(dim):
    # Twenty clouds: random starts miss some, also in a projection of many dimensions to 64.
    frames, _ = blobs(num_frames=4_000, dim=dim, num_blobs=20)
    spread = inertia_by_definition(frames[:500], frames.mean(axis=0)[None])
    greedy = inertia_by_definition(frames[:500], starts(frames, 20))
    random = inertia_by_definition(frames[:500], starts(frames, 20, "random"))
    assert greedy < 0.01 * spread < random


def test_all_frames_may_become_starts_and_equal_ones_too():
    frames = np.repeat(np.arange(4, dtype=np.float32), 5)[:, None]
    assert sorted(starts(frames, 20)[:, 0]) == sorted(frames[:, 0])
    assert set(starts(frames, 4)[:, 0]) == {0, 1, 2, 3}
    assert starts(np.zeros((6, 2), np.float32), 6).shape == (6, 2)
