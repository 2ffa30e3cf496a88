"""Chats: OpenAI's `messages[{role,content}]` and ShareGPT's `conversations[{from,value}]`.

Sources: OpenAI's chat format (content: a string, or parts of type text); ShareGPT as FastChat and
LLaMA-Factory write it, with `system` beside the conversation too. Turns of tools, images and audio
by reference are refused: a dialogue without them would not be what was said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cslm_data.corpora.rows import content_key, reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import Row, first_fields, read_rows
from cslm_data.records import Dialogue, Reject, Role, Turn

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}
_TOOLS = ("tool", "function", "function_call", "function_response", "observation", "tool_call")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")


class _BadTurnsError(Exception):
    """What is wrong with a dialogue: a reason, and where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def recognises(source: Source) -> bool:
    """A list of messages with roles, or of a conversation with its sides."""
    fields = first_fields(source)
    for name, keys in (("messages", {"role"}), ("conversations", {"from", "value"})):
        turns = fields.get(name)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            return keys <= turns[0].keys()
    return False


def read(source: Source, defaults: Defaults) -> Iterator[Dialogue | Reject]:
    """One dialogue a row, in the order of the file."""
    for row in read_rows(source):
        yield _dialogue(row, source, defaults) if isinstance(row, Row) else row


def _dialogue(row: Row, source: Source, defaults: Defaults) -> Dialogue | Reject:
    corpus = row.text("corpus") or defaults.corpus or source.stem
    language = row.text("language", "lang") or defaults.language
    raw = row.fields.get("messages") or row.fields.get("conversations")
    system = row.text("system")
    key = row.text("id", "conversation_id") or content_key(corpus, repr(system), repr(raw))
    if language is None:
        return reject(corpus, key, "no_language", f"{row.place}: no `language`; give --lang")
    try:
        said = [("system", system)] if system else []
        said += [_turn(turn, index) for index, turn in enumerate(_list(raw))]
        _check(row, [role for role, _ in said])
    except _BadTurnsError as error:
        return reject(corpus, key, error.reason, f"{row.place}: {error.detail}")
    return Dialogue(
        dialogue_id=key,
        corpus=corpus,
        turns=tuple(Turn(role=_ROLES[role], language=language, text=text) for role, text in said),
        license=row.text("license") or defaults.license,
        split=row.text("split") or defaults.split,
        place=row.place,
    )


def _list(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise _BadTurnsError("bad_turns", "`messages` or `conversations` is a list of turns")
    return raw


def _check(row: Row, roles: list[str]) -> None:
    """Raise _BadTurnsError unless user and assistant take turns, with nothing but text between."""
    for name in _MEDIA:
        if row.fields.get(name):
            raise _BadTurnsError("not_text", f"speaks of the field `{name}`; only text is read")
    if row.fields.get("tools") not in (None, "", "[]", []):
        raise _BadTurnsError("tool_turn", "has tools; only dialogues without them are read")
    spoken = [role for role in roles if role != "system"]
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        order = ", ".join(spoken[:6]) or "none"
        raise _BadTurnsError(
            "bad_turns", f"turns go user, assistant, user, assistant …, here: {order}"
        )


def _turn(fields: Any, index: int) -> tuple[str, str]:
    """Role and text of a turn. Raises _BadTurnsError."""
    if not isinstance(fields, dict):
        raise _BadTurnsError("bad_turns", f"turn {index} is no object")
    name = str(fields.get("role") or fields.get("from") or "").strip().lower()
    if name in _TOOLS or fields.get("tool_calls") or fields.get("function_call"):
        raise _BadTurnsError("tool_turn", f"turn {index} is of a tool, or calls one")
    if name not in _ROLES:
        known = ", ".join(_ROLES)
        raise _BadTurnsError("bad_turns", f"turn {index} has the role {name!r}, none of {known}")
    text = _text(fields["content"] if "content" in fields else fields.get("value"), index)
    if not text.strip():
        raise _BadTurnsError("empty_text", f"turn {index} is empty")
    return _ROLES[name], text


def _text(content: Any, index: int) -> str:
    """A string, or the parts of type text joined by line ends."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            detail = f"turn {index} has a part of type {kind!r}; only text is read"
            raise _BadTurnsError("not_text", detail)
        texts.append(str(part.get("text") or ""))
    return "\n".join(texts)
