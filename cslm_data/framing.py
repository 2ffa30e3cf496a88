"""samples → pieces: the one place that knows how segments become a token stream.

Training samples, generation prompts and token counts all pass through `frame`, so they cannot
drift apart. A sample reads, in the framing of our own (`OWN`),

    <|bos|> <|user|> … <|end|> <|assistant|> … <|end|>

and in that of a base model (`chat_template` derives it) as that model was trained to read turns:
`<|im_start|>user⏎ … <|im_end|>⏎ <|im_start|>assistant⏎ … <|im_end|>⏎`. In every framing a speech
segment inside a turn reads `<sosp>` units `<eosp>`, and the text question (TQ) of the chain of
modality reads `<|question|>` text `<|answer|>`. Controls and special tokens are pieces of their
own, never characters: a transcript that spells one is text (DESIGN, rule 5).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np

from cslm_data.keys import content_id
from cslm_data.records import Role, Segment, Units

TEMPLATE_VERSION = "1"
"""Changes with anything that changes the token stream of a sample in our own framing."""

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
QUESTION, ANSWER = "<|question|>", "<|answer|>"
SPEECH_START, SPEECH_END = "<sosp>", "<eosp>"
ROLES: dict[Role, str] = {
    "system": "<|system|>",
    "user": "<|user|>",
    "assistant": "<|assistant|>",
}

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

    kind: Literal["control", "special", "text", "units"]
    """`control`: one of ours; `special`: a token that the text tokenizer has beside its text."""
    trained: bool
    text: str = ""
    """The name of the control or special token, or the text itself."""
    units: Units = field(default_factory=lambda: _NO_UNITS)


_NO_UNITS: Units = np.zeros(0, np.uint16)


# --- framings --------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A piece that is the same in every sample."""

    kind: Literal["control", "special", "text"]
    text: str


Marks = tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class TurnMarks:
    """What stands before and after the content of a turn."""

    opening: Marks = ()
    closing: Marks = ()


@dataclass(frozen=True, kw_only=True)
class TurnFraming:
    """How turns are told apart: everything of the token stream that is not in a segment."""

    begin: Marks
    """Before the first turn."""
    begin_system: Marks
    """In its place where the first turn is the system's."""
    system: TurnMarks
    user: TurnMarks
    assistant: TurnMarks
    """Its opening is what a model is given to answer."""
    system_place: Literal["anywhere", "first", "user"]
    """Where a system turn stands by itself; elsewhere, or with `user`, it opens the user's turn."""
    end: Mark
    """The token of the assistant's closing that a model ends its answer with."""
    notes: tuple[str, ...] = ()
    """Where it is not to the letter what the base model was trained on."""

    @property
    def specials(self) -> frozenset[str]:
        """Names of all special tokens in it."""
        parts = (self.begin, self.begin_system, *(m for t in self._turns for m in t))
        return frozenset(mark.text for marks in parts for mark in marks if mark.kind == "special")

    @property
    def _turns(self) -> tuple[tuple[Marks, Marks], ...]:
        turns = (self.system, self.user, self.assistant)
        return tuple((turn.opening, turn.closing) for turn in turns)

    @functools.cached_property
    def template_version(self) -> str:
        """Identity of the token stream: what mixes, pack plans and runs carry."""
        if self == OWN:
            return TEMPLATE_VERSION
        values = self.as_dict()
        del values["notes"]
        return f"{TEMPLATE_VERSION}+{content_id(values, length=12)}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-like copy: a mark is `[kind, text]`."""
        values = dataclasses.asdict(self)
        values["notes"] = list(self.notes)
        for name in ("begin", "begin_system"):
            values[name] = [list(mark) for mark in values[name]]
        for name in ROLES:
            values[name] = {
                side: [list(mark) for mark in marks] for side, marks in values[name].items()
            }
        values["end"] = list(self.end)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TurnFraming:
        """Reverse of `as_dict`. Raises TypeError, KeyError or ValueError for anything else."""

        def marks(rows: list[list[Any]]) -> Marks:
            return tuple(_mark(row) for row in rows)

        turns = {
            role: TurnMarks(**{side: marks(rows) for side, rows in values[role].items()})
            for role in ROLES
        }
        if values["system_place"] not in ("anywhere", "first", "user"):
            raise ValueError(f"system_place {values['system_place']!r}")
        return cls(
            begin=marks(values["begin"]),
            begin_system=marks(values["begin_system"]),
            system_place=values["system_place"],
            end=_mark(values["end"]),
            notes=tuple(values["notes"]),
            **turns,
        )


def _mark(row: list[Any]) -> Mark:
    kind, text = row
    if not isinstance(text, str) or (kind == "control" and text not in CONTROLS):
        raise ValueError(f"{text!r} is the name of nothing")
    if kind not in ("control", "special", "text"):
        raise ValueError(f"{kind!r} is no kind of mark")
    return Mark(kind, text)


def _own_turn(role: Role) -> TurnMarks:
    return TurnMarks(opening=(Mark("control", ROLES[role]),), closing=(Mark("control", END),))


OWN = TurnFraming(
    begin=(Mark("control", BOS),),
    begin_system=(Mark("control", BOS),),
    system=_own_turn("system"),
    user=_own_turn("user"),
    assistant=_own_turn("assistant"),
    system_place="anywhere",
    end=Mark("control", END),
)
"""Our own framing, of control tokens alone."""

_PARAGRAPH = Piece(kind="text", trained=False, text="\n\n")
"""Between a system turn without a place of its own and the user's words."""


# --- segments → pieces -----------------------------------------------------------------------


def frame(segments: Sequence[Segment], framing: TurnFraming = OWN) -> list[Piece]:
    """The whole token stream of a sample, with what the loss counts.

    The loss counts trained segments, and what closes a turn that ends with one up to the token
    that ends it: a line break after `<|im_end|>` is nothing that a model has to say.
    """
    turns = _turns(segments, framing)
    starts_with_system = bool(turns) and turns[0].role == "system"
    pieces = [*_constant(framing.begin_system if starts_with_system else framing.begin)]
    for turn in turns:
        marks: TurnMarks = getattr(framing, turn.role)
        pieces += _constant(marks.opening)
        pieces += turn.pieces
        pieces += _constant(marks.closing, trained=turn.last_trained)
    return pieces


def frame_prompt(segments: Sequence[Segment], framing: TurnFraming = OWN) -> list[Piece]:
    """What a model is given to answer: all turns but an answer at the end, and its role.

    Always a prefix of `frame(segments, framing)` when there is an answer at the end.
    """
    before = list(segments)
    while before and before[-1].role == "assistant":
        before.pop()
    return [*frame(before, framing), *_constant(framing.assistant.opening)]


def count_controls(segments: Sequence[Segment], framing: TurnFraming = OWN) -> int:
    """Number of control and special tokens in `frame(segments, framing)`."""
    return sum(piece.kind in ("control", "special") for piece in frame(segments, framing))


@dataclass(kw_only=True)
class _Turn:
    role: Role
    pieces: list[Piece]
    last_trained: bool


def _turns(segments: Sequence[Segment], framing: TurnFraming) -> list[_Turn]:
    """Runs of one role; a system turn that has no place of its own joins the user's."""
    turns: list[_Turn] = []
    joint: list[Piece] = []
    for place, (role, run) in enumerate(groupby(segments, key=lambda segment: segment.role)):
        pieces: list[Piece] = []
        last = False
        for segment in run:
            pieces += _frame_segment(segment)
            last = segment.trained
        if role == "system" and not _stands(place, framing):
            role, joint = "user", [_PARAGRAPH]
            if place == 0:
                marks, joint = framing.system, []
                pieces = [*_constant(marks.opening), *pieces, *_constant(marks.closing)]
        if turns and turns[-1].role == role:
            turns[-1].pieces += joint + pieces
            turns[-1].last_trained = last
        else:
            turns.append(_Turn(role=role, pieces=pieces, last_trained=last))
    return turns


def _stands(place: int, framing: TurnFraming) -> bool:
    """Whether a system turn at this place is one of its own."""
    return framing.system_place == "anywhere" or (framing.system_place == "first" and place == 0)


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


@functools.cache
def _control(name: str, *, trained: bool = False) -> Piece:
    return Piece(kind="control", trained=trained, text=name)


@functools.lru_cache(256)
def _constant(marks: Marks, *, trained: bool = False) -> tuple[Piece, ...]:
    """Pieces of some marks; what follows the first token that is no text is not trained."""
    pieces = []
    for mark in marks:
        pieces.append(Piece(kind=mark.kind, trained=trained, text=mark.text))
        trained = trained and mark.kind == "text"
    return tuple(pieces)
