"""Sentence pairs: JSONL, CSV or TSV with `src_lang,tgt_lang,src,tgt`, or a bare `name.en-zh.tsv`.

Source: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cslm_data.corpora.rows import content_key, reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import (
    Row,
    first_fields,
    headerless_names,
    language_pair_of,
    read_rows,
)
from cslm_data.records import BitextPair, Reject

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults


def recognises(source: Source) -> bool:
    """Both sides of a translation."""
    if first_fields(source):
        return {"src", "tgt"} <= first_fields(source).keys()
    return not source.is_folder and headerless_names(source) is not None


def read(source: Source, defaults: Defaults) -> Iterator[BitextPair | Reject]:
    """One pair a row, in the order of the file."""
    of_name = language_pair_of(source) or (None, None)
    for row in read_rows(source):
        yield _pair(row, source, defaults, of_name) if isinstance(row, Row) else row


def _pair(
    row: Row, source: Source, defaults: Defaults, of_name: tuple[str | None, str | None]
) -> BitextPair | Reject:
    corpus = row.text("corpus") or defaults.corpus or source.stem
    src, tgt = row.text("src"), row.text("tgt")
    src_lang = row.text("src_lang") or of_name[0]
    tgt_lang = row.text("tgt_lang") or of_name[1]
    key = row.text("id") or content_key(corpus, src or "", tgt or "")
    if src is None or tgt is None:
        return reject(corpus, key, "empty_text", f"{row.place}: `src` or `tgt` is empty")
    if src_lang is None or tgt_lang is None:
        detail = f"{row.place}: no `src_lang` or `tgt_lang`; or name the file NAME.en-zh.tsv"
        return reject(corpus, key, "no_language", detail)
    return BitextPair(
        pair_id=key,
        corpus=corpus,
        src_lang=src_lang,
        tgt_lang=tgt_lang,
        src=src,
        tgt=tgt,
        license=row.text("license") or defaults.license,
        split=row.text("split") or defaults.split,
        place=row.place,
    )
