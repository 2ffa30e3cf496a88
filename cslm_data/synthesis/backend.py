"""What synthesis needs of a text-to-speech backend, whichever it is."""

# T samples

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import CslmError


class UnspeakableError(CslmError):
    """A text that a backend did not speak. `reason` is the short name that goes into `rejects`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, eq=False)
class Speech:
    """What a backend said."""

    samples_T: NDArray[np.int16]
    """Mono."""
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples_T) / self.sample_rate_hz


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """What the command line says about a backend."""

    command: str | None = None
    """Template of a command; see command.py."""
    time_limit_s: float = 60.0
    """For one text; what takes longer is stopped and rejected."""


class Backend(Protocol):
    """Speaks a text. The same text, voice and seed give the same samples, as far as it can."""

    @property
    def name(self) -> str:
        """`[a-z0-9-]`: part of the names of corpora and speakers."""

    @property
    def identity(self) -> dict[str, object]:
        """JSON-like: all of its settings that change what is heard."""

    @property
    def made_by(self) -> str:
        """Program and version, for the record."""

    def voices(self, language: str) -> tuple[str, ...]:
        """All its voices of a language. Raises UsageError for one that it does not speak."""

    def find_voice(self, name: str, language: str) -> str:
        """The voice that a person means by a name. Raises UsageError where there is none."""

    def speak(self, text: str, *, language: str, voice: str, seed: int) -> Speech:
        """Speech of a text of one line. Raises UnspeakableError."""


def to_speech(samples_T: NDArray[np.float32], sample_rate_hz: int) -> Speech:
    """Samples in -1…1 as speech. Raises UnspeakableError for what is no sound: `bad_audio`."""
    if samples_T.ndim != 1 or not len(samples_T):
        raise UnspeakableError("bad_audio", f"samples of the shape {samples_T.shape}, not (T,)")
    if not 1 <= sample_rate_hz <= 655_350:
        raise UnspeakableError("bad_audio", f"a sampling rate of {sample_rate_hz} Hz")
    if not np.isfinite(samples_T).all():
        raise UnspeakableError("bad_audio", "samples that are no finite numbers")
    scaled_T = np.rint(np.clip(samples_T, -1.0, 1.0) * 32767.0).astype(np.int16)
    return Speech(samples_T=scaled_T, sample_rate_hz=sample_rate_hz)
