"""What forced alignment needs of an acoustic model, whichever it is."""

# T samples, N frames, V symbols

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Spelling = Literal["characters", "romanised"]
"""`characters`: the symbols are letters of each language; `romanised`: a-z and the apostrophe."""


class AcousticModel(Protocol):
    """A CTC model over waveforms. `symbols[0]` is the blank, the others are single characters."""

    @property
    def aligner_id(self) -> str:
        """Hash of all that changes what the model says: weights, symbols, front end."""

    @property
    def name(self) -> str:
        """Name for people, also that of the folder of its alignments."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """What each column of the emissions stands for: V of them."""

    @property
    def spelling(self) -> Spelling:
        """How a transcript is to be written in these symbols."""

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second of the emissions."""

    def emissions(self, waveform_T: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-probabilities of 16 kHz mono audio: float32 (T,) → float32 (N, V).

        Frame n covers the time from n / frame_rate_hz to (n + 1) / frame_rate_hz.
        """
