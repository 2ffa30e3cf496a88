"""Spoken dialogues: `turns` of `{role,language,text,audio}`, or `prompt,response` with their audio.

Source: docs/formats.md. Each spoken turn is an utterance as well; where another manifest already
describes the same audio, the catalog keeps that one and links the turn to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cslm_data.corpora.rows import content_key, reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import Row, first_fields, read_rows, to_number
from cslm_data.records import Dialogue, Reject, Turn, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

ROLES = ("system", "user", "assistant")


def recognises(source: Source) -> bool:
    """Turns, or a prompt with its audio."""
    fields = first_fields(source)
    return isinstance(fields.get("turns"), list) or "prompt_audio" in fields


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Dialogue | Reject]:
    """The utterances of a dialogue's spoken turns, then the dialogue, row by row."""
    for row in read_rows(source):
        if isinstance(row, Row):
            yield from _records(row, source, defaults)
        else:
            yield row


def _records(
    row: Row, source: Source, defaults: Defaults
) -> Iterator[Utterance | Dialogue | Reject]:
    corpus = row.text("corpus") or defaults.corpus or source.stem
    license_ = row.text("license") or defaults.license
    split = row.text("split") or defaults.split
    raw = row.fields["turns"] if "turns" in row.fields else _question_and_answer(row.fields)
    key = row.text("id") or content_key(corpus, repr(raw))
    turns = []
    for index, fields in enumerate(raw if isinstance(raw, list) else []):
        turn = _turn(fields, row, source, defaults, key=f"{key}/{index}")
        if isinstance(turn, str):
            yield reject(corpus, key, "bad_turns", f"{row.place}, turn {index}: {turn}")
            return
        turns.append(turn)
    roles = [turn.role for turn in turns if turn.role != "system"]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        detail = f"{row.place}: turns must go user, assistant, user, assistant …"
        yield reject(corpus, key, "bad_turns", detail)
        return
    for turn in turns:
        if turn.audio is not None and turn.utt_id is not None:
            yield Utterance(
                utt_id=turn.utt_id,
                corpus=corpus,
                audio=turn.audio,
                offset_s=turn.offset_s,
                language=turn.language,
                speaker=turn.speaker,
                text=turn.text,
                kind=row.text("kind") or "human",
                license=license_,
                split=split,
                place=row.place,
            )
    yield Dialogue(
        dialogue_id=key,
        corpus=corpus,
        turns=tuple(turns),
        parallel_id=row.text("parallel_id"),
        license=license_,
        split=split,
        place=row.place,
    )


def _turn(fields: Any, row: Row, source: Source, defaults: Defaults, *, key: str) -> Turn | str:
    """The turn, or what is wrong with it."""
    if not isinstance(fields, dict):
        return "an object with role, language, text, audio is expected"
    role = fields.get("role")
    if role not in ROLES:
        return f"role {role!r} is none of {', '.join(ROLES)}"
    language = fields.get("language") or row.text("language", "lang") or defaults.language
    if not language:
        return "no `language`; give --lang"
    text, audio = fields.get("text"), fields.get("audio")
    if not text and not audio:
        return "neither text nor audio"
    try:
        offset_s = to_number(fields.get("offset") or 0.0, "offset")
    except ValueError as error:
        return str(error)
    if offset_s < 0:
        return f"offset {offset_s}: must be 0 s or more"
    return Turn(
        role=role,
        language=str(language),
        text=str(text) if text else None,
        audio=source.resolve(str(audio)) if audio else None,
        offset_s=offset_s,
        speaker=None if fields.get("speaker") is None else str(fields["speaker"]),
        utt_id=str(fields.get("utt_id") or key) if audio else None,
    )


def _question_and_answer(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """`prompt, prompt_audio, prompt_speaker, response, …` as two turns."""
    return [
        {
            "role": role,
            "text": fields.get(side),
            "audio": fields.get(f"{side}_audio"),
            "speaker": fields.get(f"{side}_speaker"),
        }
        for role, side in (("user", "prompt"), ("assistant", "response"))
    ]
