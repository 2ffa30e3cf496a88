"""Stretches of recordings → rows of measures: the work that is handed to workers.

No catalog here: a worker process starts without the database. Rows go back to whoever asked, who
writes them into the workspace.
"""

# C channels, T samples

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from operator import attrgetter
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

_NAMES = [each.name for each in fields(AudioStatistics)]
_values_of = attrgetter(*_NAMES)
_READERS = 4
"""Recordings read at once, so that remote ones do not wait for each other."""


class Hearing:
    """Listens while a stretch is decoded for whatever purpose. Implements audio.Listener.

    A stretch may be decoded more than once; the first time that it comes to its end counts. What
    comes in one block is only kept, and worked off by whoever asks for the result: threads that
    read ahead of a busy one would spend more on taking turns than on the work.
    """

    def __init__(self) -> None:
        self._statistics: Statistics | None = None
        self._kept: NDArray[np.float32] | None = None
        self._ended = False
        self._result: AudioStatistics | None = None

    def begin(self, sample_rate_hz: int, num_channels: int) -> None:
        """See Listener."""
        if not self._ended:
            self._statistics, self._kept = Statistics(sample_rate_hz, num_channels), None

    def hear(self, block_TC: NDArray[np.float32]) -> None:
        """See Listener."""
        if self._ended or self._statistics is None:
            return
        if self._kept is not None:
            self._statistics.add(self._kept)
        self._kept = block_TC

    def end(self) -> None:
        """See Listener."""
        self._ended = True

    @property
    def result(self) -> AudioStatistics | None:
        """The statistics of the whole stretch; None where it was not decoded to its end."""
        if self._ended and self._statistics is not None and self._kept is not None:
            self._statistics.add(self._kept)
            self._result = self._statistics.result()
            self._statistics = self._kept = None
        return self._result


def measure_row(stretch: Stretch, heard: Hearing) -> MeasureRow:
    """The row of a stretch, which is decoded if it was not heard to its end before."""
    identity = (stretch.utt_id, stretch.audio_version)
    try:
        if heard.result is None:
            where = {"offset_s": stretch.offset_s, "duration_s": stretch.duration_s}
            listen_to(stretch.audio, heard, **where)
    except AudioError as error:
        nothing = (None,) * len(_NAMES)
        return (*identity, *nothing, error.reason, error.detail)
    return (*identity, *_values_of(heard.result), None, None)


def make_measurer() -> Worker:
    """A worker that returns the rows of a part, in its order."""

    def work(part: Part) -> list[MeasureRow]:
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as readers:
            return list(readers.map(lambda each: measure_row(each, Hearing()), part.stretches))

    return work
