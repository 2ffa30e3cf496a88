from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.mixing.selection import take, water_fill


@pytest.mark.parametrize(
    ("weights", "capacities", "total", "expected"),
    [
        ([1, 1, 2], [100, 100, 100], 100, [25, 25, 50]),
        ([1, 1, 2], [10, 100, 100], 100, [10, 30, 60]),  # 90 left, shared 1 : 2
        ([1, 1, 2], [10, 100, 20], 100, [10, 70, 20]),
        ([1, 1], [10, 20], 100, [10, 20]),  # all is given
        ([1, 3], [0, 100], 40, [0, 40]),
        ([1], [0], 10, [0]),
    ],
)
def test_a_shortfall_is_shared_in_proportion(weights, capacities, total, expected):
    assert water_fill(weights, capacities, total) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.floats(0.01, 9), st.integers(0, 1000)), min_size=1, max_size=8),
    st.integers(0, 5000),
)
def test_nothing_exceeds_capacity_and_the_total_is_reached_where_it_can_be(sources, total):
    weights = [w for w, _ in sources]
    capacities = [c for _, c in sources]
    given_ = water_fill(weights, capacities, total)
    assert all(g <= c + 1e-6 for g, c in zip(given_, capacities, strict=True))
    assert sum(given_) == pytest.approx(min(total, sum(capacities)))


def chosen(tokens, order, target):
    epochs = take(lambda epoch: np.array(tokens, np.uint32) + epoch, np.array(order), target)
    return [epoch.tolist() for epoch in epochs]


def test_whole_epochs_then_the_nearest_beginning_of_the_order():
    assert chosen([10, 20, 30], [2, 0, 1], 0) == []
    assert chosen([10, 20, 30], [2, 0, 1], 14) == []  # 0 is nearer than 30
    assert chosen([10, 20, 30], [2, 0, 1], 16) == [[2]]
    assert chosen([10, 20, 30], [2, 0, 1], 41) == [[2, 0]]
    assert chosen([10, 20, 30], [2, 0, 1], 60) == [[2, 0, 1]]
    # the second epoch has 11, 21, 31 tokens
    assert chosen([10, 20, 30], [2, 0, 1], 60 + 31) == [[2, 0, 1], [2]]
    assert chosen([10, 20, 30], [2, 0, 1], 60 + 63 + 13) == [[2, 0, 1], [2, 0, 1]]
    assert chosen([], [], 10) == []
