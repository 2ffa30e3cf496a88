from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest

from cslm_data.quality.abx import Item, centroid_distance, measure_abx, unit_distance, warp


def items(*rows):
    """Rows of (phone, context, speaker, units)."""
    return [
        Item(str(number), phone, context, speaker, np.array(units, np.uint16))
        for number, (phone, context, speaker, units) in enumerate(rows)
    ]


def warped(first, second):
    """The distance of two sequences of units, frames being equal or not."""
    lattice = unit_distance(np.array([first]), np.array([second]))
    return warp(lattice, np.array([len(first)]), np.array([len(second)]))[0]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 1], [0, 1, 1], 0),  # a frame said twice costs nothing
        ([0, 1], [2, 1], 1 / 2),  # one of the two cells of the diagonal
        ([0, 1], [2], 1),
        ([0, 1, 2], [0, 2], 1 / 3),  # 0-0, 1-0 or 1-2, 2-2: three cells, one of them wrong
        ([0, 0, 0, 1], [1, 0, 1], 1 / 4),  # 0-1, 0-0, 0-0, 1-1
    ],
)
def test_warping_is_worked_out_by_hand(first, second, expected):
    assert warped(first, second) == pytest.approx(expected)


def test_padding_does_not_change_a_distance():
    first = np.array([[0, 1, 9, 9], [0, 0, 0, 1]])
    second = np.array([[2, 1, 9], [1, 0, 1]])
    found = warp(unit_distance(first, second), np.array([2, 4]), np.array([2, 3]))
    assert found.tolist() == pytest.approx([1 / 2, 1 / 4])


def test_angles_between_centroids_are_shares_of_a_half_turn():
    centroids = np.array([[1, 0], [0, 2], [-3, 0], [5, 5], [0, 0]], np.float32)
    every = np.arange(5)[None, :]
    expected = [
        [0, 0.5, 1, 0.25, 0.5],
        [0.5, 0, 0.5, 0.25, 0.5],
        [1, 0.5, 0, 0.75, 0.5],
        [0.25, 0.25, 0.75, 0, 0.5],
        [0.5, 0.5, 0.5, 0.5, 0],
    ]
    assert np.allclose(centroid_distance(centroids)(every, every)[0], expected)
    many = np.concatenate([centroids, np.zeros((5000, 2), np.float32)])
    assert np.allclose(centroid_distance(many)(every, every)[0], expected)


def test_a_cell_is_worked_out_by_hand():
    # a is said [0], [0] and [1], b is [1]. Pairs (X, A): 0-0 and 0-0 right, 0-1 and 0-1 tie with b,
    # 1-0 and 1-0 wrong: 3 of 6. (b, a) has no second b.
    said = items(("a", "", "s", [0]), ("a", "", "s", [0]), ("a", "", "s", [1]), ("b", "", "s", [1]))
    score = measure_abx(said, unit_distance, speakers="within", seed=0)
    assert score.error == pytest.approx(0.5)
    assert (score.num_cells, score.num_triples, score.num_items) == (1, 6, 4)


def test_the_mean_is_over_contexts_then_speakers_then_pairs_of_phones():
    said = items(
        *[("a", "c1", "s1", [0])] * 2,  # c1 of s1: 0
        ("b", "c1", "s1", [1]),
        *[("a", "c2", "s1", [0])] * 2,  # c2 of s1: 0.5, as above
        ("a", "c2", "s1", [1]),
        ("b", "c2", "s1", [1]),
        ("a", "c1", "s2", [0]),  # c1 of s2: a tie and a mistake, 0.75
        ("a", "c1", "s2", [1]),
        ("b", "c1", "s2", [1]),
        *[("d", "c3", "s1", [5])] * 2,  # another pair: 0
        ("e", "c3", "s1", [6]),
    )
    score = measure_abx(said, unit_distance, speakers="within", seed=0)
    # (a, b): ((0 + 0.5) / 2 + 0.75) / 2 = 0.5; (d, e): 0.
    assert score.error == pytest.approx((0.5 + 0) / 2)
    assert score.num_cells == 4


def test_across_speakers_x_is_anothers():
    said = items(
        ("a", "", "s1", [0]), ("b", "", "s1", [1]), ("a", "", "s2", [1]), ("a", "", "s3", [0])
    )
    score = measure_abx(said, unit_distance, speakers="across", seed=0)
    # X of s2 sounds like b, X of s3 like a; only s1 says both phones.
    assert score.error == pytest.approx(0.5)
    assert (score.num_cells, score.num_triples) == (2, 2)
    assert measure_abx(said[:2], unit_distance, speakers="across", seed=0) is None
    assert measure_abx([], unit_distance, speakers="within", seed=0) is None


def random_items(num_items, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num_items):
        phone = int(rng.integers(3))
        units = np.sort(rng.integers(0, 4, rng.integers(1, 6))) + phone
        rows.append((f"p{phone}", f"c{rng.integers(2)}", f"s{rng.integers(3)}", units))
    return items(*rows)


def plain_warp(lattice):
    """Cost of the cheapest path by the number of its cells, traced back from its end."""
    rows, columns = lattice.shape
    cost = np.full((rows, columns), np.inf)
    for i, j in itertools.product(range(rows), range(columns)):
        before = [(i - 1, j - 1), (i, j - 1), (i - 1, j)]
        there = [cost[p] for p in before if min(p) >= 0]
        cost[i, j] = lattice[i, j] + (min(there) if there else 0)
    i, j, length = rows - 1, columns - 1, 1
    while i or j:
        before = [p for p in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if min(p) >= 0]
        i, j = min(before, key=lambda p: cost[p])  # the first of the cheapest
        length += 1
    return cost[-1, -1] / length


def plain_abx(said, distance, speakers):
    """Triple by triple, as the definition says it."""
    cells = defaultdict(list)
    for a, b, x in itertools.product(said, said, said):
        same = a.context == b.context == x.context and a.speaker == b.speaker
        across = x.speaker != a.speaker if speakers == "across" else x.speaker == a.speaker
        if same and across and a.phone == x.phone != b.phone and a is not x:
            to_a, to_b = distance(x.units_S, a.units_S), distance(x.units_S, b.units_S)
            cell = (a.phone, b.phone, a.speaker, a.context, x.speaker)
            cells[cell].append(0.5 if to_a == to_b else float(to_a > to_b))
    by_speaker, by_pair = defaultdict(list), defaultdict(list)
    for (a, b, speaker, _, _), values in cells.items():
        by_speaker[a, b, speaker].append(np.mean(values))
    for (a, b, _), values in by_speaker.items():
        by_pair[a, b].append(np.mean(values))
    return np.mean([np.mean(values) for values in by_pair.values()])


@pytest.mark.parametrize("speakers", ["within", "across"])
def test_abx_is_that_of_a_plain_loop_over_all_triples(speakers):
    said = random_items(36, seed=3)
    centroids = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    for distance in (unit_distance, centroid_distance(centroids)):

        def plain(first, second, distance=distance):
            lattice = distance(first[None].astype(int), second[None].astype(int))[0]
            return round(plain_warp(lattice), 9)

        expected = plain_abx(said, plain, speakers)
        score = measure_abx(said, distance, speakers=speakers, seed=0, max_group=100)
        assert score.error == pytest.approx(expected)


def test_what_is_over_the_limits_is_left_out_by_the_seed_and_said():
    said = random_items(300, seed=4)
    whole = measure_abx(said, unit_distance, speakers="across", seed=0)
    few = [
        measure_abx(said, unit_distance, speakers="across", seed=seed, max_cells=10, max_group=3)
        for seed in (1, 1, 2)
    ]
    assert whole.num_cells == whole.num_cells_there > 10
    assert few[0] == few[1] != few[2]
    assert (few[0].num_cells, few[0].num_cells_there) == (10, whole.num_cells_there)
    assert few[0].num_triples <= 10 * 3**3
