"""Our own manifests: JSONL files of each corpus, which `cslm-data ingest OUT` takes back whole.

    <corpus>.jsonl            utterances          manifest
    <corpus>.align.jsonl      words and phones    alignments
    <corpus>.bitext.jsonl     translations        bitext
    <corpus>.dialogues.jsonl  dialogues           dialogues

Source: docs/formats.md; the readers of these names in cslm_data/corpora. An utterance that the
catalog knows from a dialogue alone is said by the turn again: ids are unique over all sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import orjson

from cslm_data.exporting.folders import flat_stem
from cslm_data.exporting.job import STAGE, Job, Row
from cslm_data.records import Reject

_RESERVED = (".align", ".bitext", ".dialogues")


def write(job: Job) -> None:
    """The four files of each corpus, as far as it has rows for them."""
    _write_utterances(job)
    for corpus, rows in _by_corpus(job.query("export_manifest_alignments")):
        _write_file(job, "alignments", f"{corpus}.align.jsonl", map(_alignment, rows))
    for corpus, rows in _by_corpus(job.query("export_manifest_bitext")):
        _write_file(job, "bitext", f"{corpus}.bitext.jsonl", map(_pair, rows))
    for corpus, rows in _by_corpus(job.query("export_manifest_dialogues")):
        _write_file(job, "dialogues", f"{corpus}.dialogues.jsonl", _dialogues(job, rows))


def _by_corpus(rows: Iterator[Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Runs of rows of one corpus, under the name of its files; its name is their second column."""
    for corpus, of_corpus in itertools.groupby(rows, key=lambda row: row[1]):
        yield flat_stem(corpus, reserved=_RESERVED), of_corpus


def _write_utterances(job: Job) -> None:
    for corpus, rows in _by_corpus(job.rows("export_manifest_utterances")):
        _write_file(job, "utterances", f"{corpus}.jsonl", _utterances(job, rows))


def _write_file(job: Job, table: str, name: str, rows: Iterator[dict[str, Any]]) -> None:
    """Write a file that has at least one row."""
    first = next(rows, None)
    if first is None:
        return
    with (job.temporary / name).open("wb") as stream:
        for row in itertools.chain([first], rows):
            stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            job.wrote(table, name)


def _utterances(job: Job, rows: Iterator[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.more[0]:
            job.written["utterances"] += 1
            job.bar.advance()
            continue
        yield {
            "id": row.utt_id,
            "audio": job.place(row.audio),
            "offset": row.offset_s,
            "duration": row.duration_s,
            "sampling_rate": row.sample_rate_hz,
            "num_channels": row.num_channels,
            "text": row.text,
            "language": row.language,
            "speaker": row.speaker,
            "corpus": row.corpus,
            "license": row.license,
            "split": row.split,
            "kind": row.kind,
        }


def _alignment(row: tuple[Any, ...]) -> dict[str, Any]:
    utt_id, corpus, words, phones = row
    fields: dict[str, Any] = {"id": utt_id, "corpus": corpus}
    if words:
        fields["words"] = [_word(word) for word in words]
    if phones:
        fields["phones"] = [[phone["start_s"], phone["end_s"], phone["phone"]] for phone in phones]
    return fields


def _word(word: dict[str, Any]) -> dict[str, Any] | list[Any]:
    """`[start, end, word]`, or an object where there is a score."""
    if word["score"] is None:
        return [word["start_s"], word["end_s"], word["word"]]
    times = {"start": word["start_s"], "end": word["end_s"]}
    return {"word": word["word"], **times, "score": word["score"]}


def _pair(row: tuple[Any, ...]) -> dict[str, Any]:
    names = ("id", "corpus", "src_lang", "tgt_lang", "src", "tgt", "license", "split")
    return dict(zip(names, row, strict=True))


def _dialogues(job: Job, rows: Iterator[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for key, corpus, parallel_id, turns, license_, split, kind, moved_turn in rows:
        if moved_turn is not None:
            detail = (
                f"the utterance of its turn {moved_turn} was moved out of the catalog; move the "
                "dialogue out as well, or take the utterance back"
            )
            refused = Reject(
                stage=STAGE, corpus=corpus, key=key, reason="excluded_turn", detail=detail
            )
            job.refuse(refused, "dialogues")
            continue
        fields = {
            "id": key,
            "corpus": corpus,
            "parallel_id": parallel_id,
            "license": license_,
            "split": split,
            "turns": [_turn(job, turn) for turn in turns],
        }
        yield fields if kind is None else {**fields, "kind": kind}


def _turn(job: Job, turn: dict[str, Any]) -> dict[str, Any]:
    fields = {name: turn[name] for name in ("role", "language", "text")}
    if turn["speaker"] is not None:
        fields["speaker"] = turn["speaker"]
    if turn["audio"] is not None:
        fields["audio"] = job.place(turn["audio"])
        fields["offset"] = turn["offset_s"]
        fields["utt_id"] = turn["utt_id"]
    return fields
