"""Sentence pairs: JSONL, CSV or TSV with `src_lang,tgt_lang,src,tgt`, or a bare `name.en-zh.tsv`.

Source: docs/formats.md.
"""

from __future__ import annotations

from cslm_data.corpora.columns import Columns, File
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import first_fields, headerless_names, language_pair_of


def _files(source: Source) -> list[File]:
    pair = language_pair_of(source.stem)
    constants = {"src_lang": pair[0], "tgt_lang": pair[1]} if pair else {}
    return [File(header=headerless_names(source), constants=constants)]


COLUMNS = Columns(
    table="bitext",
    fields=("id", "src_lang", "tgt_lang", "src", "tgt", "license", "split", "corpus"),
    query="rows_of_bitext",
    files=_files,
)


def recognises(source: Source) -> bool:
    """Both sides of a translation."""
    return {"src", "tgt"} <= first_fields(source).keys()
