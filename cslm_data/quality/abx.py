"""Spoken phones in units → ABX error: how often X is closer to another phone than to its own.

The measure of the ZeroSpeech challenges (Schatz et al., Interspeech 2013; Libri-light,
arXiv:1912.07875, `eval/ABX_src`), 0 for perfect units and 0.5 for chance, with its conventions:

- `within` one speaker: A, B and X are his; `across`: A and B are one speaker's, X is another's;
- A, B and X share their context. In `triphone` context an item spans a phone with both neighbours
  and context is the two neighbours; in `any` context it spans the phone and context says nothing;
- distance of two items: dynamic time warping over their frames, divided by the length of the path;
  of equally cheap steps a diagonal one is taken, then one along the second item; equal distances
  to A and B count half;
- a cell is (speaker, context, A's phone, B's phone, X's speaker), its error a share of its triples.
  Then the mean over contexts and X's speakers, over speakers, over ordered pairs of phones;
- at most `max_group` items of a phone in a context by a speaker and `max_other_speakers` of X (10
  and 5, as in ZeroSpeech), and at most `max_cells` cells; the rest is left out by a keyed choice.
"""

# I items, P pairs of items, S and R frames of the first and second item, K units, E dimensions

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.keys import key64
from cslm_data.records import Units

Doubles = NDArray[np.float64]
Speakers = Literal["within", "across"]
FrameDistance = Callable[[NDArray[np.intp], NDArray[np.intp]], Doubles]
"""Units of P items and P others, padded: (P, S), (P, R) → distance of any two frames (P, S, R)."""

MAX_GROUP = 10
MAX_OTHER_SPEAKERS = 5
MAX_CELLS = 2000
_LATTICE = 1 << 20
"""Pairs of frames compared at a time: the working set stays at tens of megabytes."""

_TABLE_UNITS = 4096
"""Up to so many units all their distances are kept (128 MiB); over it they are computed anew."""


class Item(NamedTuple):
    """One spoken phone, alone or with its neighbours."""

    key: str
    """Unique; what keyed choices depend on."""
    phone: str
    context: str
    speaker: str
    units_S: Units
    """uint16 (S,), S ≥ 1 frames."""


class _Cell(NamedTuple):
    """Items of A, B and X by their places; A and X are the same list within a speaker."""

    pair: tuple[str, str]
    speaker: str
    a: list[int]
    b: list[int]
    x: list[int]


@dataclass(frozen=True, kw_only=True)
class AbxScore:
    """ABX error, and how much it rests on."""

    error: float
    num_items: int
    """Items in the cells that were scored."""
    num_cells: int
    num_cells_there: int
    """Cells before the limit on their number."""
    num_triples: int


def measure_abx(
    items: Sequence[Item],
    distance: FrameDistance,
    *,
    speakers: Speakers,
    seed: int,
    max_group: int = MAX_GROUP,
    max_other_speakers: int = MAX_OTHER_SPEAKERS,
    max_cells: int = MAX_CELLS,
) -> AbxScore | None:
    """ABX error of some items; None where they make no triple (one speaker, one phone, …)."""
    groups = _groups(items, seed, max_group)
    if speakers == "within":
        there = _cells_within(groups)
    else:
        there = _cells_across(groups, seed, max_other_speakers)
    cells, num_cells_there = _choose(there, items, seed, max_cells)
    if not cells:
        return None
    distances = _distances(items, cells, distance)
    errors: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    num_triples = 0
    for cell in cells:
        error, triples = _score(cell, distances, symmetric=speakers == "within")
        errors[cell.pair][cell.speaker].append(error)
        num_triples += triples
    by_pair = [
        np.mean([np.mean(values) for values in by_speaker.values()])
        for by_speaker in errors.values()
    ]
    return AbxScore(
        error=float(np.mean(by_pair)),
        num_items=len({place for cell in cells for place in (*cell.a, *cell.b, *cell.x)}),
        num_cells=len(cells),
        num_cells_there=num_cells_there,
        num_triples=num_triples,
    )


# ------------------------------------------------------------------------------ distance of frames
def unit_distance(units_PS: NDArray[np.intp], units_PR: NDArray[np.intp]) -> Doubles:
    """0 between equal units, 1 between others."""
    differs_PSR: Doubles = (units_PS[:, :, None] != units_PR[:, None, :]).astype(np.float64)
    return differs_PSR


def centroid_distance(centroids_KE: NDArray[np.float32]) -> FrameDistance:
    """The angle between the centroids of two units, as a share of π: Libri-light's `cosine`.

    Rounded to 1e-6, so that equal items are equally far whatever was computed beside them. A
    centroid of zeros is at right angles to all.
    """
    wide_KE = centroids_KE.astype(np.float64)
    lengths_K = np.linalg.norm(wide_KE, axis=1, keepdims=True)
    points_KE = wide_KE / np.where(lengths_K > 0, lengths_K, 1)

    if len(points_KE) <= _TABLE_UNITS:
        table_KK = _angles(points_KE @ points_KE.T)
        np.fill_diagonal(table_KK, 0)

        def look_up(units_PS: NDArray[np.intp], units_PR: NDArray[np.intp]) -> Doubles:
            found: Doubles = table_KK[units_PS[:, :, None], units_PR[:, None, :]]
            return found

        return look_up

    def compute(units_PS: NDArray[np.intp], units_PR: NDArray[np.intp]) -> Doubles:
        angles_PSR = _angles(points_KE[units_PS] @ points_KE[units_PR].transpose(0, 2, 1))
        angles_PSR[units_PS[:, :, None] == units_PR[:, None, :]] = 0
        return angles_PSR

    return compute


def _angles(cosines: Doubles) -> Doubles:
    angles: Doubles = np.round(np.arccos(np.clip(cosines, -1, 1)) / np.pi, 6)
    return angles


def warp(distances_PSR: Doubles, sizes_P: NDArray[np.intp], others_P: NDArray[np.intp]) -> Doubles:
    """Dynamic time warping of P pairs at once: float64 (P, S, R) and true lengths → float64 (P,).

    The cost of the cheapest path from corner to corner, divided by the number of its cells.
    """
    num_pairs, num_rows, num_columns = distances_PSR.shape
    lattice_SRP = np.ascontiguousarray(distances_PSR.transpose(1, 2, 0))
    cost_SRP = np.empty_like(lattice_SRP)
    length_SRP = np.empty(lattice_SRP.shape, np.int32)
    cost_SRP[0] = np.cumsum(lattice_SRP[0], axis=0)
    length_SRP[0] = np.arange(1, num_columns + 1)[:, None]
    for i in range(1, num_rows):
        cost_SRP[i, 0] = cost_SRP[i - 1, 0] + lattice_SRP[i, 0]
        length_SRP[i, 0] = i + 1
        for j in range(1, num_columns):
            diagonal, along, down = cost_SRP[i - 1, j - 1], cost_SRP[i, j - 1], cost_SRP[i - 1, j]
            side = np.minimum(along, down)
            from_diagonal = diagonal <= side
            cost_SRP[i, j] = np.where(from_diagonal, diagonal, side) + lattice_SRP[i, j]
            side_length = np.where(along <= down, length_SRP[i, j - 1], length_SRP[i - 1, j])
            length_SRP[i, j] = 1 + np.where(from_diagonal, length_SRP[i - 1, j - 1], side_length)
    ends = (sizes_P - 1, others_P - 1, np.arange(num_pairs))
    result: Doubles = cost_SRP[ends] / length_SRP[ends]
    return result


# ------------------------------------------------------------------------------------------- cells
_Groups = dict[str, dict[str, dict[str, list[int]]]]
"""context → speaker → phone → places of items."""


def _groups(items: Sequence[Item], seed: int, max_group: int) -> _Groups:
    groups: _Groups = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for place, item in enumerate(items):
        groups[item.context][item.speaker][item.phone].append(place)
    for by_speaker in groups.values():
        for by_phone in by_speaker.values():
            for phone, places in by_phone.items():
                if len(places) > max_group:
                    places.sort(key=lambda i: (_place(seed, items[i].key), items[i].key))
                    by_phone[phone] = sorted(places[:max_group])
    return groups


def _cells_within(groups: _Groups) -> Iterable[_Cell]:
    for by_speaker in groups.values():
        for speaker, by_phone in by_speaker.items():
            for a, places_a in by_phone.items():
                for b, places_b in by_phone.items():
                    if a != b and len(places_a) > 1:
                        yield _Cell((a, b), speaker, places_a, places_b, places_a)


def _cells_across(groups: _Groups, seed: int, max_other_speakers: int) -> Iterable[_Cell]:
    for context, by_speaker in groups.items():
        for speaker, by_phone in by_speaker.items():
            for a, places_a in by_phone.items():
                others = [o for o in by_speaker if o != speaker and a in by_speaker[o]]
                if len(others) > max_other_speakers:
                    name = (speaker, context, a)
                    others.sort(key=lambda other, n=name: (_place(seed, *n, other), other))  # type: ignore[misc]
                    others = sorted(others[:max_other_speakers])
                for other in others:
                    for b, places_b in by_phone.items():
                        if a != b:
                            places_x = by_speaker[other][a]
                            yield _Cell((a, b), speaker, places_a, places_b, places_x)


def _choose(
    cells: Iterable[_Cell], items: Sequence[Item], seed: int, limit: int
) -> tuple[list[_Cell], int]:
    """A keyed choice of at most `limit` cells, and how many there were."""
    there = 0

    def keyed() -> Iterable[tuple[int, int, _Cell]]:
        nonlocal there
        for cell in cells:
            there += 1
            x = items[cell.x[0]]
            yield _place(seed, *cell.pair, cell.speaker, x.speaker, x.context), there, cell

    chosen = [cell for _, _, cell in heapq.nsmallest(limit, keyed())]
    return chosen, there


def _place(seed: int, *name: str) -> int:
    return key64("abx", str(seed), *name)


# ----------------------------------------------------------------------------------------- scoring
def _score(
    cell: _Cell, distances: dict[tuple[int, int], float], *, symmetric: bool
) -> tuple[float, int]:
    """Share of a cell's triples whose X is nearer to B, ties half; and their number."""
    to_a = np.array([[np.inf if x == a else distances[x, a] for a in cell.a] for x in cell.x])
    to_b = np.array([[distances[x, b] for b in cell.b] for x in cell.x])
    wrong = (np.sign(to_a[:, :, None] - to_b[:, None, :]) + 1) / 2
    if symmetric:
        wrong[np.arange(len(cell.x)), np.arange(len(cell.a))] = 0
    num_triples = (len(cell.x) * len(cell.a) - symmetric * len(cell.x)) * len(cell.b)
    return float(wrong.sum()) / num_triples, num_triples


def _distances(
    items: Sequence[Item], cells: Sequence[_Cell], distance: FrameDistance
) -> dict[tuple[int, int], float]:
    """The distance of every X to every A and B that a cell needs; none of an item to itself."""
    wanted = {
        (x, other) for cell in cells for x in cell.x for other in (*cell.a, *cell.b) if x != other
    }
    sizes = [len(item.units_S) for item in items]
    pairs = sorted(wanted, key=lambda p: (sizes[p[0]], sizes[p[1]], p))
    result: dict[tuple[int, int], float] = {}
    start = 0
    while start < len(pairs):
        end = _end_of_batch(pairs, sizes, start)
        batch = pairs[start:end]
        first_PS, sizes_P = _padded([items[x].units_S for x, _ in batch])
        second_PR, others_P = _padded([items[other].units_S for _, other in batch])
        found = warp(distance(first_PS, second_PR), sizes_P, others_P)
        result.update(zip(batch, found.tolist(), strict=True))
        start = end
    return result


def _end_of_batch(pairs: Sequence[tuple[int, int]], sizes: Sequence[int], start: int) -> int:
    """As many pairs, sorted by length, as fit when padded to the longest; at least one."""
    rows = columns = 1
    for end in range(start, len(pairs)):
        rows = max(rows, sizes[pairs[end][0]])
        columns = max(columns, sizes[pairs[end][1]])
        if end > start and (end + 1 - start) * rows * columns > _LATTICE:
            return end
    return len(pairs)


def _padded(sequences: Sequence[Units]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    sizes_P = np.array([len(sequence) for sequence in sequences])
    padded = np.zeros((len(sequences), sizes_P.max()), np.intp)
    padded[np.arange(padded.shape[1]) < sizes_P[:, None]] = np.concatenate(sequences)
    return padded, sizes_P
