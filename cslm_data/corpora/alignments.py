"""Word times: JSONL of `{id, words: [[start, end, word], …]}`, seconds from the utterance's start.

Source: docs/formats.md. A word may also be an object `{word,start,end,score}`. Silence is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cslm_data.corpora.rows import reject
from cslm_data.corpora.tables import Row, read_rows
from cslm_data.records import Alignment, Reject, Word

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

SILENCE = frozenset({"", "sil", "sp", "spn", "<eps>", "<sil>"})


def recognises(row: Row) -> bool:
    """A list of words beside an id; or phones alone, which say nothing to us but belong here."""
    fields = row.fields
    return isinstance(fields.get("words"), list) and ("id" in fields or "utt_id" in fields)


def read(path: Path, defaults: Defaults) -> Iterator[Alignment | Reject]:
    """One alignment a row, in the order of the file."""
    for row in read_rows(path):
        yield _alignment(row, path, defaults) if isinstance(row, Row) else row


def _alignment(row: Row, path: Path, defaults: Defaults) -> Alignment | Reject:
    corpus = row.text("corpus") or defaults.corpus or path.stem.removesuffix(".align")
    key = row.text("id", "utt_id")
    if key is None:
        return reject(corpus, row.place, "no_id", f"{row.place}: no `id` of an utterance")
    words: list[Word] = []
    try:
        for raw in row.fields.get("words") or []:
            word = _word(raw)
            if word.word.strip().casefold() not in SILENCE:
                words.append(word)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        detail = f"{row.place}: [start, end, word] expected ({error!r})"
        return reject(corpus, key, "bad_words", detail)
    if not words:
        return reject(corpus, key, "no_words", f"{row.place}: no word besides silence")
    previous_s = 0.0
    for word in words:
        if not (previous_s <= word.start_s <= word.end_s):
            detail = f"{row.place}: {word.word!r} at {word.start_s}–{word.end_s} s is out of order"
            return reject(corpus, key, "bad_times", detail)
        previous_s = word.start_s
    return Alignment(utt_id=key, words=tuple(words))


def _word(raw: Any) -> Word:
    if isinstance(raw, dict):
        score = raw.get("score")
        return Word(
            word=str(raw["word"]),
            start_s=float(raw["start"]),
            end_s=float(raw["end"]),
            score=None if score is None else float(score),
        )
    start, end, word = raw[0], raw[1], raw[2]
    return Word(word=str(word), start_s=float(start), end_s=float(end))
