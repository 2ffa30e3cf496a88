"""A framing → the chat template that writes it, and samples → the messages it takes.

The template is made from what was trained, not copied from the base model: what a model is asked
through transformers is to the token what it learnt from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from cslm_data.framing import ANSWER, QUESTION, ROLES, SPEECH_END, SPEECH_START, Mark, TurnFraming
from cslm_data.records import Segment
from cslm_train.exporting.token_names import TokenNames

BORDER = "\ufdd0"
"""Between two texts that are encoded each by itself; the exported tokenizer cuts here and drops it.

One of Unicode's noncharacters, which are for such use and stand in no text.
"""

Message = dict[str, Any]


@cache
def _body() -> str:
    template = files("cslm_train.exporting") / "chat_template.jinja"
    return template.read_text(encoding="utf-8")


def chat_template(framing: TurnFraming, names: TokenNames) -> str:
    """Source of the template, in jinja: the marks of turns, then the program that sets them."""

    def spell(marks: Sequence[Mark]) -> str:
        return "".join(names.controls[m.text] if m.kind == "control" else m.text for m in marks)

    turns = {role: getattr(framing, role) for role in ROLES}
    opening = {role: spell(turn.opening) for role, turn in turns.items()}
    closing = {role: spell(turn.closing) for role, turn in turns.items()}
    if framing.system_place == "user":  # its marks stand inside the user's turn
        if _is_text(framing.user.opening[-1:]) and _is_text(framing.system.opening[:1]):
            opening["system"] = BORDER + opening["system"]
        if _is_text(framing.system.closing[-1:]):
            closing["system"] += BORDER
    constants = {
        "begin": spell(framing.begin),
        "begin_system": spell(framing.begin_system),
        "opening": opening,
        "closing": closing,
        "system_place": framing.system_place,
        "question": names.controls[QUESTION],
        "answer": names.controls[ANSWER],
        "speech_start": names.controls[SPEECH_START],
        "speech_end": names.controls[SPEECH_END],
        "unit_prefix": names.unit_prefix,
        "unit_suffix": names.unit_suffix,
        "border": BORDER,
    }
    lines = [f"{{%- set {name} = {_literal(value)} -%}}" for name, value in constants.items()]
    return "\n".join([*lines, _body()])


def _is_text(marks: Sequence[Mark]) -> bool:
    return bool(marks) and marks[0].kind == "text"


def _literal(value: object) -> str:
    """As jinja reads it: JSON, whose characters beyond ASCII stand as they are but for the border.

    JSON would write those beyond 16 bits as two surrogates, which jinja takes for two characters.
    """
    return json.dumps(value, ensure_ascii=False).replace(BORDER, "\\ufdd0")


def messages_of(segments: Sequence[Segment]) -> list[Message]:
    """The messages of a sample, whose parts are its segments."""
    return [
        {"role": role, "content": [_part(segment) for segment in run]}
        for role, run in groupby(segments, key=lambda segment: segment.role)
    ]


def _part(segment: Segment) -> Message:
    if segment.modality == "speech":
        return {"type": "speech", "units": segment.units.tolist()}
    return {"type": "question" if segment.part == "tq" else "text", "text": segment.text}
