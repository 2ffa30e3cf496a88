"""Rejects of the stages that leave files: Parquet with the columns of the view `rejects`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.records import Reject
from cslm_data.workspace import atomic_path


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write what was refused, in order; the file is there also when nothing was."""
    schema = pa.schema([(field.name, pa.string()) for field in dataclasses.fields(Reject)])
    table = pa.Table.from_pylist([dataclasses.asdict(r) for r in rejects], schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
