"""Common Voice: a folder with `{train,dev,test}.tsv` and `clips/`.

A row has `path, sentence, client_id, locale`.

Source: Mozilla Common Voice releases. Of the tables that overlap (`validated`, `invalidated`,
`other`, `reported`) none is read beside these three; where none of the three is there,
`validated.tsv` is, without a split. One of the tables may also be named as a file.
"""

from __future__ import annotations

from cslm_data.corpora.columns import Columns, File
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import first_fields

_NEEDED = {"path", "sentence", "client_id"}
_SPLITS = ("train", "dev", "test")


def _files(source: Source) -> list[File]:
    if not source.is_folder:
        split = source.stem
        return [File(constants={"split": split} if split in _SPLITS else {})]
    splits = [split for split in _SPLITS if source.exists(f"{split}.tsv")]
    if not splits:
        return [File(name="validated.tsv")]
    return [File(name=f"{split}.tsv", constants={"split": split}) for split in splits]


COLUMNS = Columns(
    table="utterances",
    fields=("path", "sentence", "client_id", "locale", "split", "license"),
    query="rows_of_common_voice",
    files=_files,
)


def recognises(source: Source) -> bool:
    """A table with the columns of Common Voice beside its clips."""
    return not source.is_folder and first_fields(source).keys() >= _NEEDED


def recognises_folder(source: Source) -> bool:
    """A folder of such tables."""
    names = [name for name in (*_SPLITS, "validated") if source.exists(f"{name}.tsv")]
    return bool(names) and recognises(source.child(f"{names[0]}.tsv"))
