"""Times: JSONL of `{id, words: [[start, end, word], …], phones: [[start, end, phone], …]}`.

Seconds from the utterance's start; words, phones or both. An interval may also be an object:
`{word,start,end,score}`, `{phone,start,end}`. Silence is left out of the words and kept among the
phones, where it is a label like any other. Source: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import Row, first_fields, read_rows
from cslm_data.records import Alignment, Phone, Reject, Word

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

SILENCE = frozenset({"", "sil", "sp", "spn", "<eps>", "<sil>", "[sil]"})
"""Labels of silence and noise, in lower case, as MFA, Kaldi and Praat write them."""


def recognises(source: Source) -> bool:
    """A list of words or of phones beside the id of an utterance."""
    fields = first_fields(source)
    timed = any(isinstance(fields.get(name), list) for name in ("words", "phones"))
    return timed and ("id" in fields or "utt_id" in fields)


def read(source: Source, defaults: Defaults) -> Iterator[Alignment | Reject]:
    """One alignment a row, in the order of the file."""
    for row in read_rows(source):
        yield _alignment(row, source, defaults) if isinstance(row, Row) else row


def is_silence(label: str) -> bool:
    """Whether a word or phone stands for silence or noise."""
    return label.strip().casefold() in SILENCE


def _alignment(row: Row, source: Source, defaults: Defaults) -> Alignment | Reject:
    corpus = row.text("corpus") or defaults.corpus or source.stem.removesuffix(".align")
    key = row.text("id", "utt_id")
    if key is None:
        return reject(corpus, row.place, "no_id", f"{row.place}: no `id` of an utterance")
    try:
        words = [_word(raw) for raw in row.fields.get("words") or []]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        detail = f"{row.place}: [start, end, word] expected ({error!r})"
        return reject(corpus, key, "bad_words", detail)
    try:
        phones = [_phone(raw) for raw in row.fields.get("phones") or []]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        detail = f"{row.place}: [start, end, phone] expected ({error!r})"
        return reject(corpus, key, "bad_phones", detail)
    return checked_alignment(corpus, key, words, phones, place=row.place)


def checked_alignment(
    corpus: str, key: str, words: Sequence[Word], phones: Sequence[Phone], *, place: str
) -> Alignment | Reject:
    """The alignment of an utterance without silence among its words, or what is wrong with it."""
    words = [word for word in words if not is_silence(word.word)]
    if not words and not phones:
        return reject(corpus, key, "no_words", f"{place}: no word besides silence, no phone")
    wrong = _out_of_order(words) or _out_of_order(phones)
    if wrong is not None:
        label = wrong.word if isinstance(wrong, Word) else wrong.phone
        detail = f"{place}: {label!r} at {wrong.start_s}–{wrong.end_s} s is out of order"
        return reject(corpus, key, "bad_times", detail)
    return Alignment(utt_id=key, words=tuple(words), phones=tuple(phones), place=place)


def _out_of_order(intervals: Sequence[Word | Phone]) -> Word | Phone | None:
    """The first that begins before the one before it, or ends before it begins."""
    previous_s = 0.0
    for interval in intervals:
        if not (previous_s <= interval.start_s <= interval.end_s):
            return interval
        previous_s = interval.start_s
    return None


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


def _phone(raw: Any) -> Phone:
    if isinstance(raw, dict):
        return Phone(phone=str(raw["phone"]), start_s=float(raw["start"]), end_s=float(raw["end"]))
    start, end, phone = raw[0], raw[1], raw[2]
    return Phone(phone=str(phone), start_s=float(start), end_s=float(end))
