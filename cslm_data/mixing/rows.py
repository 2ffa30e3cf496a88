"""Turns of a mix's source rows, from Arrow to what compilers take."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.records import Word
from cslm_data.samples import SourceTurn


def read_turns(column: Any) -> list[list[SourceTurn]]:
    """Turns of each row of an Arrow column; units are views of its memory."""
    offsets = column.offsets.to_numpy()
    flat = column.values
    names = ("role", "language", "text", "words", "excluded")
    values = {name: flat.field(name).to_pylist() for name in names}
    units = _lists(flat.field("units"))
    durations = _lists(flat.field("durations"))

    def turn(index: int) -> SourceTurn:
        words = values["words"][index]
        return SourceTurn(
            role=values["role"][index],
            language=values["language"][index],
            text=values["text"][index],
            units=units[index],
            durations=durations[index],
            words=None if words is None else tuple(Word(**word) for word in words),
            excluded=values["excluded"][index],
        )

    return [
        [turn(index) for index in range(start, end)]
        for start, end in itertools.pairwise(offsets.tolist())
    ]


def _lists(column: Any) -> list[NDArray[np.uint16] | None]:
    """Each list of an Arrow column of lists of uint16, None for null."""
    offsets = column.offsets.to_numpy().tolist()
    values = column.values.to_numpy(zero_copy_only=False).astype(np.uint16, copy=False)
    valid: Iterator[bool] = iter(column.is_valid().to_pylist())
    return [
        values[start:end] if is_valid else None
        for (start, end), is_valid in zip(itertools.pairwise(offsets), valid, strict=True)
    ]
