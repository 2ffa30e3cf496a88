"""Stretches of recordings → waveforms: the work that is handed to workers.

No catalog here: a worker process starts without the database.
"""

# N frames, D features, T samples

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ, Listener, decode, decode_blocks


class Stretch(NamedTuple):
    """What is needed to encode one utterance."""

    utt_id: str
    audio: str
    offset_s: float
    duration_s: float
    language: str
    audio_version: str
    text: str | None = None
    """Its transcript, where the work needs it."""
    listener: Listener | None = None
    """Hears it whenever it is decoded; in no plan."""

    def waveform(self) -> NDArray[np.float32]:
        """Its sound at 16 kHz: float32 (T,). Raises AudioError."""
        return decode(
            self.audio,
            offset_s=self.offset_s,
            duration_s=self.duration_s,
            listener=self.listener,
        )

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The same, some seconds at a time: a long recording takes no more memory than a short."""
        return decode_blocks(
            self.audio,
            offset_s=self.offset_s,
            duration_s=self.duration_s,
            listener=self.listener,
        )

    @property
    def num_samples(self) -> int:
        """T, as the catalog has it; the recording may be a rounding shorter."""
        return round(self.duration_s * SAMPLE_RATE_HZ)


def cut_by_seconds(stretches: Iterable[Stretch], seconds: float) -> Iterator[tuple[Stretch, ...]]:
    """Runs of neighbours, each ended by the stretch that fills it."""
    part: list[Stretch] = []
    filled_s = 0.0
    for stretch in stretches:
        part.append(stretch)
        filled_s += stretch.duration_s
        if filled_s >= seconds:
            yield tuple(part)
            part, filled_s = [], 0.0
    if part:
        yield tuple(part)
