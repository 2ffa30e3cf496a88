"""Formats whose rows become a table by one query over all of them: what the query needs to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from cslm_data.corpora.source import Source

TableName = Literal["utterances", "bitext", "dialogues"]


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that is read as rows."""

    name: str = ""
    """In the folder that is the source; empty: the source itself."""
    header: tuple[str, ...] | None = None
    """Names of the columns of a TSV or CSV without a header line of its own."""
    constants: dict[str, str] = field(default_factory=dict)
    """Fields that are the same for every row of the file."""
    batches: Callable[[Source], Iterator[pa.RecordBatch]] | None = None
    """Reads it in another way: batches of `number`, the fields as text, `reason` and `detail`."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Rows → table: the fields that are read, as text, and the query that makes rows of them."""

    table: TableName
    fields: tuple[str, ...]
    """Scalars; an absent or blank one is null, and so is a list or an object."""
    query: str
    """Name of a file in `cslm_data/sql`: reads the view `fields`, gives raw rows of the table."""
    nested: tuple[str, ...] = ()
    """Fields that may be lists or objects: as JSON."""
    numbers: tuple[str, ...] = ()
    """Fields that are numbers: what is none, a list too, is left for the query to refuse."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Names of fields in the file → names in the query."""
    files: Callable[[Source], list[File]] = lambda source: [File()]
    """The files that a source consists of."""
