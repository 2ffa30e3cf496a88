"""Stretches of recordings → rows of measures: the work that is handed to workers.

No catalog here: a worker process starts without the database. Rows go back to whoever asked, who
writes them into the workspace.
"""

# C channels, T samples

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cslm_data.audio import listen_to
from cslm_data.engines import Worker
from cslm_data.errors import AudioError
from cslm_data.measuring.statistics import AudioStatistics, Statistics
from cslm_data.units.parts import Part
from cslm_data.units.stretches import Stretch

MeasureRow = tuple[Any, ...]
"""Of a part of measures: id and version, the fields of AudioStatistics, why there are none."""

_ARROW = {
    "int": pa.int32(),
    "float": pa.float64(),
    "float | None": pa.float64(),
    "str": pa.string(),
}
MEASURE_COLUMNS = pa.schema(
    [
        ("utt_id", pa.string()),
        ("audio_version", pa.string()),
        *(
            (each.name, pa.uint64() if each.name == "num_samples" else _ARROW[str(each.type)])
            for each in fields(AudioStatistics)
        ),
        ("reject_reason", pa.string()),
        ("reject_detail", pa.string()),
    ]
)

_READERS = 4
"""Recordings read at once, so that remote ones do not wait for each other."""


class Hearing:
    """Listens while a stretch is decoded for whatever purpose. Implements audio.Listener.

    A stretch may be decoded more than once; the first time that it comes to its end counts.
    """

    def __init__(self) -> None:
        self.result: AudioStatistics | None = None
        self._statistics: Statistics | None = None

    def begin(self, sample_rate_hz: int, num_channels: int) -> None:
        """See Listener."""
        heard = self.result is not None
        self._statistics = None if heard else Statistics(sample_rate_hz, num_channels)

    def hear(self, block_TC: NDArray[np.float32]) -> None:
        """See Listener."""
        if self._statistics is not None:
            self._statistics.add(block_TC)

    def end(self) -> None:
        """See Listener."""
        if self._statistics is not None:
            self.result, self._statistics = self._statistics.result(), None


def measure_row(stretch: Stretch, heard: Hearing) -> MeasureRow:
    """The row of a stretch, which is decoded if it was not heard to its end before."""
    identity = (stretch.utt_id, stretch.audio_version)
    try:
        if heard.result is None:
            where = {"offset_s": stretch.offset_s, "duration_s": stretch.duration_s}
            listen_to(stretch.audio, heard, **where)
    except AudioError as error:
        nothing = (None,) * len(fields(AudioStatistics))
        return (*identity, *nothing, error.reason, error.detail)
    assert heard.result is not None  # noqa: S101 - listen_to came to the end
    return (*identity, *astuple(heard.result), None, None)


def make_measurer() -> Worker:
    """A worker that returns the rows of a part, in its order."""

    def work(part: Part) -> list[MeasureRow]:
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as readers:
            return list(readers.map(lambda each: measure_row(each, Hearing()), part.stretches))

    return work
