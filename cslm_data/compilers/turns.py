"""What compilers are given: turns of a source as the catalog has them, and what is wrong with them.

A source is an utterance (one turn), a translation (two) or a dialogue (any number).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import UsageError
from cslm_data.interleave import DEFAULT_CHUNK_WORDS, DEFAULT_RATIO, InterleaveMode
from cslm_data.records import Part, Role, Segment, Units, Word
from cslm_data.wordings import Prompts


class CompileError(ValueError):
    """A source that makes no sample. `reason` is the short name that goes into `rejects`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceTurn:
    """One turn of a source as the catalog has it: text, speech, or both."""

    role: Role
    language: str
    text: str | None = None
    units: Units | None = None
    durations: NDArray[np.uint16] | None = None
    """Frames of each run of units."""
    words: tuple[Word, ...] | None = None
    excluded: str | None = None
    """Which curation moved its speech out, and why."""


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What compilers need to know besides the source."""

    prompts_seed: int = 0
    """Which wording a sample gets."""
    prompts: Prompts | None = None
    """A team's own wordings; None: the shipped ones."""
    frame_rate_hz: float = 50.0
    """Frames per second, of which the durations of units are made."""
    interleave: InterleaveMode = "chunk"
    """How text and speech of a spoken answer alternate; `chunk` and `word` need word times."""
    chunk_words: int = DEFAULT_CHUNK_WORDS
    """Words of a chunk, with `chunk`."""
    ratio: tuple[int, int] = DEFAULT_RATIO
    """Words and units of a chunk, with `ratio`."""
    text_question: bool = True
    """Whether an answer of the chain of modality begins with what was asked, as text."""

    def __post_init__(self) -> None:
        """Raise UsageError for a way of interleaving that there is not."""
        modes = get_args(InterleaveMode)
        if self.interleave not in modes:
            raise UsageError(f"interleave: {self.interleave!r} is not one of {', '.join(modes)}")
        if self.chunk_words < 1:
            raise UsageError(f"chunk_words: must be at least 1, not {self.chunk_words}")
        if len(self.ratio) != 2 or min(self.ratio) < 1:
            raise UsageError(f"ratio: must be two numbers from 1 on, not {self.ratio}")


def text_of(turn: SourceTurn) -> str:
    """What is said in a turn. Raises CompileError."""
    if turn.text is None or not turn.text.strip():
        raise CompileError("no_text", f"the turn of the {turn.role} has no text")
    return turn.text


def units_of(turn: SourceTurn) -> Units:
    """The speech of a turn. Raises CompileError."""
    if turn.excluded is not None:
        raise CompileError(
            "excluded", f"the speech of the {turn.role} was moved out by {turn.excluded}"
        )
    if turn.units is None or len(turn.units) == 0:
        raise CompileError(
            "no_units",
            f"the speech of the {turn.role} has no units of this tokenizer; run cslm-data "
            "quantize, or see why it was rejected there",
        )
    return turn.units


def text_segment(text: str, *, language: str, role: Role = "assistant", part: Part = "") -> Segment:
    """Text of a turn, trained if the assistant's."""
    return Segment(
        modality="text",
        language=language,
        role=role,
        trained=role == "assistant",
        part=part,
        text=text,
    )


def speech_segment(
    units: Units, *, language: str, role: Role = "assistant", part: Part = ""
) -> Segment:
    """Speech of a turn, trained if the assistant's."""
    return Segment(
        modality="speech",
        language=language,
        role=role,
        trained=role == "assistant",
        part=part,
        units=units,
    )
