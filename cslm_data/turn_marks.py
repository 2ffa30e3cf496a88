"""what a chat template writes → the marks of turns. Used by `chat_template`; reads nothing.

Step 1  have conversations written whose words stand nowhere else
Step 2  take what stands between those words for the marks of turns (`_factor`)
Step 3  put other conversations together from the marks, and compare with what the template writes
Step 4  tell special tokens from text in the marks, and compare token ids too (`_cut`)

What a template does to content, such as stripping blanks at its ends, is left out: text is data.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cslm_data.framing import Mark, Marks, Piece, TurnFraming, TurnMarks, frame
from cslm_data.records import Role, Segment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Conversation = Sequence[tuple[Role, str]]
Render = Callable[[Conversation, bool], str]
"""A conversation, and whether an answer is asked for → what the template writes."""


class NoFramingError(ValueError):
    """A template that cannot be had as marks of turns; says why."""


@dataclass(frozen=True, kw_only=True)
class _AddedToken:
    """A token that a tokenizer finds in text before all else."""

    text: str
    eats_left: bool
    """With the blanks before it."""
    eats_right: bool


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A framing whose marks are all text yet, and where the template departs from it."""

    framing: TurnFraming
    has_system: bool
    """The template itself says where a system turn stands."""
    earlier_opening: str
    """Before an answer that is not the last."""
    finish: str
    """What the template writes after the last turn: left out, since a prompt has none."""
    unclosed: str
    """What it does not write after the last turn, though after others."""

    @property
    def opening(self) -> str:
        """Before the last answer."""
        return _spell_marks(self.framing.assistant.opening)


def find_framing(render: Render, tokenizer: dict[str, Any]) -> TurnFraming:
    """The framing of a template for the tokens of a tokenizer.json. Raises NoFramingError."""
    from tokenizers import Tokenizer

    added = _added_tokens(tokenizer)
    written = _factor(render, added)
    _verify(render, written, with_system=False)
    if written.has_system:
        try:
            _verify(render, written, with_system=True)
        except NoFramingError:
            written = _without_system(written)
    backend = Tokenizer.from_str(json.dumps(tokenizer))
    backend.no_truncation()
    backend.no_padding()
    framing = _tell_specials(render, written, added, backend)
    return replace(framing, notes=(*_notes(written), *framing.notes))


def _notes(written: _Written) -> Iterable[str]:
    """Where the framing departs from the template, for people."""
    if written.earlier_opening != written.opening:
        yield (
            f"in a dialogue every answer begins after {written.opening!r}, which it writes before "
            "the last one only"
        )
    if written.finish:
        yield f"{written.finish!r} after the last turn is left out"
    if not written.has_system:
        yield "it has no place for a system turn, whose text opens the user's turn instead"


# --- step 2: marks ---------------------------------------------------------------------------

_USER, _ANSWER, _SYSTEM = "Wherefore", "Therefrom", "Hitherto"
"""Words that no template holds."""

_ONE: list[tuple[Role, str]] = [("user", f"{_USER}0"), ("assistant", f"{_ANSWER}0")]


def _factor(render: Render, added: Sequence[_AddedToken]) -> _Written:
    two: list[tuple[Role, str]] = [*_ONE, ("user", f"{_USER}1"), ("assistant", f"{_ANSWER}1")]
    first, middle, tail = _between(render(_ONE, False), _ONE)
    first_of_two, earlier, between, later, tail_of_two = _between(render(two, False), two)
    if (first_of_two, later, tail_of_two) != (first, middle, tail):
        raise NoFramingError("it writes a turn in another way where there are more of them")
    _, alone = _between(render(_ONE[:1], False), _ONE[:1])
    user_closing = _common_start(alone, middle, added)
    opening, earlier_opening = (text.removeprefix(user_closing) for text in (middle, earlier))
    if not earlier.startswith(user_closing) or not opening.startswith(earlier_opening):
        raise NoFramingError("it writes an answer in another way when another turn follows")
    closing = _common_start(tail, between, added)
    if _end_of(closing, added) is None or not first.endswith(between[len(closing) :]):
        closing = between.removesuffix(_common_end(first, between, added))
        if not closing.startswith(tail):
            closing = ""
    end = _end_of(closing, added)
    if end is None:
        raise NoFramingError("no special token ends an answer")
    user_opening = between[len(closing) :]
    framing = TurnFraming(
        begin=_text(first.removesuffix(user_opening)),
        begin_system=(),
        system=TurnMarks(closing=_text("\n\n")),
        user=TurnMarks(opening=_text(user_opening), closing=_text(user_closing)),
        assistant=TurnMarks(opening=_text(opening), closing=_text(closing)),
        system_place="user",
        end=Mark("special", end),
    )
    written = _Written(
        framing=framing,
        has_system=False,
        earlier_opening=earlier_opening,
        finish=tail.removeprefix(closing) if tail.startswith(closing) else "",
        unclosed=closing.removeprefix(tail) if closing.startswith(tail) else "",
    )
    return _with_system(render, written, [middle, tail])


def _with_system(render: Render, written: _Written, rest: list[str]) -> _Written:
    """With the place and marks of the system's turn; unchanged when the template has none."""
    conversation = [("system", _SYSTEM), *_ONE]
    try:
        before, after, *found = _between(render(conversation, False), conversation)
    except NoFramingError:
        return written
    framing = written.framing
    start, opening = _spell_marks(framing.begin), _spell_marks(framing.user.opening)
    if found != rest:
        return written
    if opening and after.endswith(opening):
        system = TurnMarks(opening=_text(before), closing=_text(after.removesuffix(opening)))
        framing = replace(framing, system=system, system_place="first")
    elif before.startswith(start + opening):
        inner = before.removeprefix(start + opening)
        system = TurnMarks(opening=_text(inner), closing=_text(after))
        framing = replace(framing, system=system, system_place="user")
    else:
        return written
    return replace(written, framing=framing, has_system=True)


def _without_system(written: _Written) -> _Written:
    system = TurnMarks(closing=_text("\n\n"))
    framing = replace(written.framing, system=system, system_place="user")
    return replace(written, framing=framing, has_system=False)


def _between(text: str, conversation: Conversation) -> list[str]:
    """What stands before, between and after the contents of a conversation."""
    parts = []
    for _, content in conversation:
        if text.count(content) != 1:
            raise NoFramingError(f"it writes the content of a turn {text.count(content)} times")
        before, text = text.split(content)
        parts.append(before)
    return [*parts, text]


def _common_start(one: str, other: str, added: Sequence[_AddedToken]) -> str:
    """The longest start of both that cuts no added token in two."""
    length = len(os.path.commonprefix([one, other]))
    return one[: _outside(length, (one, other), added, side=0)]


def _common_end(one: str, other: str, added: Sequence[_AddedToken]) -> str:
    """The longest end of both that cuts no added token in two."""
    length = len(os.path.commonprefix([one[::-1], other[::-1]]))
    cut = _outside(len(one) - length, (one,), added, side=1)
    return one[max(cut, len(one) - len(other)) :]


def _outside(cut: int, texts: Iterable[str], added: Sequence[_AddedToken], *, side: int) -> int:
    """A place of cut that is not inside an added token of a text: before it or (side 1) after."""
    for text in texts:
        for match in _finder(added).finditer(text):
            if match.start() < cut < match.end():
                cut = match.span()[side]
    return cut


def _end_of(closing: str, added: Sequence[_AddedToken]) -> str | None:
    """The first added token of an answer's closing."""
    found = _finder(added).search(closing)
    return found.group() if found else None


def _added_tokens(document: dict[str, Any]) -> list[_AddedToken]:
    """Added tokens of a tokenizer.json, the longest first: it is found before a part of it."""
    tokens = [
        _AddedToken(
            text=entry["content"],
            eats_left=bool(entry.get("lstrip")),
            eats_right=bool(entry.get("rstrip")),
        )
        for entry in document.get("added_tokens") or []
        if entry["content"]
    ]
    return sorted(tokens, key=lambda token: -len(token.text))


def _finder(added: Sequence[_AddedToken]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(token.text) for token in added) or "(?!)")


def _text(literal: str) -> Marks:
    return (Mark("text", literal),) if literal else ()


# --- step 3: comparison ----------------------------------------------------------------------

_AWKWARD = {
    "system": "Sei höflich: {{ messages }}\n\n{% endfor %}",
    "user": "Zwei  Wörter,\ndann 日本語? <b>&amp;</b>",
    "assistant": "«Ja»,\n\n  1. gewiß 🙂\\n",
}


def _conversations(*, with_system: bool, awkward: bool = False) -> list[list[tuple[Role, str]]]:
    """Conversations of one to three exchanges."""
    conversations = []
    for num_exchanges in (1, 2, 3):
        turns: list[tuple[Role, str]] = [("system", _SYSTEM)] if with_system else []
        for number in range(num_exchanges):
            turns += [("user", f"{_USER}{number}"), ("assistant", f"{_ANSWER}{number}")]
        if awkward:
            turns = [(role, f"{text} {_AWKWARD[role]} {text}") for role, text in turns]
        conversations.append(turns)
    return conversations


def _segments(conversation: Conversation) -> list[Segment]:
    return [
        Segment(modality="text", language="", role=role, trained=role == "assistant", text=text)
        for role, text in conversation
    ]


def _spell(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _expected(conversation: Conversation, written: _Written) -> str:
    """What the template should write: ours, but for its openings of earlier answers."""
    spelled = _spell(frame(_segments(conversation), written.framing))
    for role, text in conversation[:-1]:
        if role == "assistant":
            spelled = spelled.replace(written.opening + text, written.earlier_opening + text)
    return spelled


def _spell_marks(marks: Marks) -> str:
    return "".join(mark.text for mark in marks)


def _verify(render: Render, written: _Written, *, with_system: bool) -> None:
    """Raise NoFramingError unless conversations are written as their marks say."""
    closing = _spell_marks(written.framing.assistant.closing)
    for awkward in (False, True):
        for conversation in _conversations(with_system=with_system, awkward=awkward):
            expected = _expected(conversation, written)
            if render(conversation, False) + written.unclosed != expected + written.finish:
                what = " ".join(role for role, _ in conversation)
                what += " with line breaks and signs in their text" if awkward else ""
                raise NoFramingError(f"its turns are no constant marks around text, in: {what}")
            asked = conversation[:-1]
            prompt = _expected([*asked, ("assistant", "")], written).removesuffix(closing)
            found = render(asked, True)
            if not prompt.startswith(found) or len(found) < len(prompt) - len(written.opening):
                raise NoFramingError("it asks for an answer with other marks than an answer has")


# --- step 4: special tokens and text ---------------------------------------------------------


def _tell_specials(
    render: Render, written: _Written, added: Sequence[_AddedToken], backend: Tokenizer
) -> TurnFraming:
    """The framing with special tokens told from text, as the tokenizer itself tells them.

    Many tokenizers put a blank before every text that they are given: there a blank of the marks
    beside a content is the content's own, and is dropped where that gives the same ids.
    """
    kept = _map_marks(written.framing, lambda marks, _: _cut(marks, added))
    dropped = _map_marks(kept, _drop_blank)
    conversations = _conversations(with_system=False)
    if written.has_system:
        conversations += _conversations(with_system=True)
    if written.earlier_opening != written.opening:
        conversations = [c for c in conversations if len(c) < 4]
    same = [
        sum(
            _same_ids(render(c, False) + written.unclosed, c, framing, written, backend)
            for c in conversations
        )
        for framing in (kept, dropped)
    ]
    best = dropped if same[1] > same[0] else kept
    if max(same) == len(conversations):
        return best
    note = "some tokens at the borders of its turns are others, as texts are encoded by themselves"
    return replace(best, notes=(note,))


def _same_ids(
    text: str,
    conversation: Conversation,
    framing: TurnFraming,
    written: _Written,
    backend: Tokenizer,
) -> bool:
    """Whether the template's text and our pieces are the same tokens."""
    expected = backend.encode(text, add_special_tokens=False).ids
    found: list[int] = []
    for piece in frame(_segments(conversation), framing):
        if piece.kind == "special":
            found.append(backend.token_to_id(piece.text))
        else:
            found += backend.encode(piece.text, add_special_tokens=False).ids
    rest = backend.encode(written.finish, add_special_tokens=False).ids if written.finish else []
    same: bool = found + rest == expected
    return same


def _map_marks(framing: TurnFraming, change: Callable[[Marks, str], Marks]) -> TurnFraming:
    """A framing with each of its marks changed; `change` is told on which side content follows."""

    def turn(marks: TurnMarks) -> TurnMarks:
        return TurnMarks(
            opening=change(marks.opening, "opening"), closing=change(marks.closing, "closing")
        )

    return replace(
        framing,
        begin=change(framing.begin, ""),
        begin_system=change(framing.begin_system, ""),
        system=turn(framing.system),
        user=turn(framing.user),
        assistant=turn(framing.assistant),
    )


def _cut(marks: Marks, added: Sequence[_AddedToken]) -> Marks:
    """Special tokens and the text between them, without the blanks that a token takes in."""
    eats = {token.text: token for token in added}
    text = _spell_marks(marks)
    cut: list[Mark] = []
    start = 0
    for match in _finder(added).finditer(text):
        token = eats[match.group()]
        between = text[start : match.start()]
        cut += _text(between.rstrip() if token.eats_left else between)
        cut.append(Mark("special", token.text))
        start = match.end()
        if token.eats_right:
            start += len(text[start:]) - len(text[start:].lstrip())
    return (*cut, *_text(text[start:]))


def _drop_blank(marks: Marks, side: str) -> Marks:
    """Without the blank beside the content."""
    if side == "opening" and marks and marks[-1].kind == "text":
        return (*marks[:-1], *_text(marks[-1].text.removesuffix(" ")))
    if side == "closing" and marks and marks[0].kind == "text" and marks[0].text != " ":
        return (*_text(marks[0].text.removeprefix(" ")), *marks[1:])
    return marks
