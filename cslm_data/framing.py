"""samples → pieces: the one place that knows how segments become a token stream.

Training samples, generation prompts and token counts all pass through `frame`, so they cannot
drift apart. A sample reads

    <|bos|> <|user|> … <|end|> <|assistant|> … <|end|>

a speech segment inside a turn reads `<sosp>` units `<eosp>`, and the text question (TQ) of the
chain of modality reads `<|question|>` text `<|answer|>`. Controls are pieces of their own, never
characters: a transcript that spells one is text (DESIGN, rule 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import numpy as np

from cslm_data.records import Segment, Units

TEMPLATE_VERSION = "1"
"""Changes with anything that changes the token stream of a sample."""

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
QUESTION, ANSWER = "<|question|>", "<|answer|>"
SPEECH_START, SPEECH_END = "<sosp>", "<eosp>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}

CONTROLS: tuple[str, ...] = (
    PAD,
    BOS,
    END,
    *ROLES.values(),
    QUESTION,
    ANSWER,
    SPEECH_START,
    SPEECH_END,
)
"""Every control token, in the order of its id."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of tokens of one kind. Only the field of its kind is filled."""

    kind: Literal["control", "text", "units"]
    trained: bool
    text: str = ""
    """The control's name, or the text itself."""
    units: Units = field(default_factory=lambda: np.zeros(0, np.uint16))


def frame(segments: Sequence[Segment]) -> list[Piece]:
    """The whole token stream of a sample, with what the loss counts."""
    pieces = [_control(BOS)]
    for role, turn in groupby(segments, key=lambda segment: segment.role):
        pieces.append(_control(ROLES[role]))
        last = False
        for segment in turn:
            pieces.extend(_frame_segment(segment))
            last = segment.trained
        pieces.append(_control(END, trained=last))
    return pieces


def frame_prompt(segments: Sequence[Segment]) -> list[Piece]:
    """What a model is given to answer: all turns but an answer at the end, and its role.

    Always a prefix of `frame(segments)` when there is an answer at the end.
    """
    before = list(segments)
    while before and before[-1].role == "assistant":
        before.pop()
    return [*frame(before), _control(ROLES["assistant"])]


def count_controls(segments: Sequence[Segment]) -> int:
    """Number of control tokens in `frame(segments)`."""
    return sum(piece.kind == "control" for piece in frame(segments))


def _frame_segment(segment: Segment) -> list[Piece]:
    trained = segment.trained
    if segment.modality == "speech":
        return [
            _control(SPEECH_START, trained=trained),
            Piece(kind="units", trained=trained, units=segment.units),
            _control(SPEECH_END, trained=trained),
        ]
    text = Piece(kind="text", trained=trained, text=segment.text)
    if segment.part == "tq":
        return [_control(QUESTION, trained=trained), text, _control(ANSWER, trained=trained)]
    return [text]


def _control(name: str, *, trained: bool = False) -> Piece:
    return Piece(kind="control", trained=trained, text=name)
