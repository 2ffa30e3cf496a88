"""Text instructions: `{prompt,response}` (a string or a list of turns) and Alpaca.

Sources: docs/formats.md; Stanford Alpaca's `instruction,input,output`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cslm_data.corpora.rows import content_key, reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import Row, first_fields, read_rows
from cslm_data.records import Dialogue, Reject, Turn

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults


def recognises(source: Source) -> bool:
    """A prompt with its response, neither of them spoken."""
    names = first_fields(source).keys()
    pair = {"prompt", "response"} <= names and "prompt_audio" not in names
    return pair or {"instruction", "output"} <= names


def read(source: Source, defaults: Defaults) -> Iterator[Dialogue | Reject]:
    """One dialogue a row, in the order of the file."""
    for row in read_rows(source):
        yield _dialogue(row, source, defaults) if isinstance(row, Row) else row


def _dialogue(row: Row, source: Source, defaults: Defaults) -> Dialogue | Reject:
    corpus = row.text("corpus") or defaults.corpus or source.stem
    language = row.text("language", "lang") or defaults.language
    prompts, response = _prompts(row), row.text("response", "output")
    key = row.text("id") or content_key(corpus, *(prompts or [""]), response or "")
    if not prompts or response is None:
        return reject(corpus, key, "empty_text", f"{row.place}: prompt or response is empty")
    if language is None:
        return reject(corpus, key, "no_language", f"{row.place}: no `language`; give --lang")
    texts = [*prompts, response]
    if len(texts) % 2:
        detail = f"{row.place}: a list of turns must begin and end with the user"
        return reject(corpus, key, "bad_turns", detail)
    turns = tuple(
        Turn(role="assistant" if index % 2 else "user", language=language, text=text)
        for index, text in enumerate(texts)
    )
    return Dialogue(
        dialogue_id=key,
        corpus=corpus,
        turns=turns,
        license=row.text("license") or defaults.license,
        split=row.text("split") or defaults.split,
        place=row.place,
    )


def _prompts(row: Row) -> list[str]:
    """The turns before the response, beginning with the user."""
    if "instruction" in row.fields:
        instruction, context = row.text("instruction"), row.text("input")
        return [f"{instruction}\n{context}" if context else instruction] if instruction else []
    prompt = row.fields.get("prompt")
    if isinstance(prompt, list):
        texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in prompt]
        return [str(text) for text in texts] if all(texts) else []
    text = row.text("prompt")
    return [text] if text else []
