"""Tokens as they come → stretches of text and units, each as soon as it can be read or played."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from cslm_data.framing import ANSWER, QUESTION
from cslm_train.vocabulary import JointVocabulary

AnswerPart = Literal["tq", "ta", "sa"]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of an answer: text question, text or speech."""

    part: AnswerPart
    language: str
    text: str = ""
    units: tuple[int, ...] = ()
    num_tokens: int
    """Of its text or units, without controls."""
    tokens_since_start: int
    """Tokens of the answer until it was complete: all before it, its own, and the one by which it
    was known to be complete."""
    seconds_since_start: float
    """When it was complete."""


def chunks(
    tokens: Iterable[int],
    vocabulary: JointVocabulary,
    *,
    language: str,
    answer_language: str,
    piece_units: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Chunk]:
    """The stretches of an answer, whatever its form, each when the token after it comes.

    With `piece_units` speech comes in pieces of so many units, each with its last unit; what a
    stretch has left over comes when it ends.
    """
    start = clock()
    question, answer = vocabulary.control_id(QUESTION), vocabulary.control_id(ANSWER)
    open_kind, stretch, asking, count = "control", list[int](), False, 0

    def close() -> Iterator[Chunk]:
        if stretch:
            (piece,) = vocabulary.decode(stretch)
            tq = asking and piece.kind == "text"
            yield Chunk(
                part="sa" if piece.kind == "units" else "tq" if tq else "ta",
                language=language if tq else answer_language,
                text=piece.text,
                units=tuple(piece.units.tolist()),
                num_tokens=len(stretch),
                tokens_since_start=count,
                seconds_since_start=clock() - start,
            )

    for token in tokens:
        count += 1
        kind = vocabulary.kind(token)
        if kind != open_kind:
            yield from close()
            open_kind, stretch = kind, []
        if kind in ("text", "units"):
            stretch.append(token)
        elif token in (question, answer):
            asking = token == question
        if kind == "units" and len(stretch) == piece_units:
            yield from close()
            stretch = []
    yield from close()
