"""texts of the catalog → how many tokens each has. Writes token_counts/<text_tokenizer_id>/.

A text is counted once for a text tokenizer, whichever mixes it is in: the next plan over the same
texts is a sum in SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.catalog import Connection, read_sql, scalar
from cslm_data.text_tokenizer import TextTokenizer
from cslm_data.workspace import Workspace, atomic_path, remove_leftovers

_SCHEMA = pa.schema([("text_hash", pa.uint64()), ("num_tokens", pa.uint32())])
_BATCH_ROWS = 4096
_TEXTS_AT_ONCE = 2_000_000
"""Distinct texts that are told apart in memory at a time."""


def count_texts(
    workspace: Workspace,
    connection: Connection,
    tokenizer: TextTokenizer,
    languages: Sequence[str],
    advance: Callable[[float], None] = lambda amount: None,
) -> None:
    """Count every text of some languages that was not counted yet; leaves a view `token_counts`.

    Raises LockedError while another process counts for this tokenizer.
    """
    folder = workspace.token_counts / tokenizer.text_tokenizer_id
    folder.mkdir(parents=True, exist_ok=True)
    with workspace.lock("token_counts", "count tokens of texts"):
        remove_leftovers(folder)
        _see(connection, workspace, tokenizer)
        num_texts = scalar(connection, "select sum(len(turns)) from dialogues") or 0
        num_texts += scalar(connection, "select count(*) from utterances")
        num_texts += 2 * scalar(connection, "select count(*) from bitext")
        num_shares = max(1, -(-num_texts // _TEXTS_AT_ONCE))
        number = len(list(folder.glob("part-*.parquet")))
        for share in range(num_shares):
            values = {"languages": list(languages), "num_shares": num_shares, "share": share}
            found = connection.sql(read_sql("mix_uncounted"), params=values)
            with found.to_arrow_reader(_BATCH_ROWS) as batches:
                first = next(iter(batches), None)
                if first is None or not len(first):
                    continue
                path = folder / f"part-{number:06d}.parquet"
                with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as writer:
                    batch: pa.RecordBatch | None = first
                    while batch is not None:
                        counts = tokenizer.count_batch(batch["text"].to_pylist())
                        table = pa.table([batch["text_hash"], counts], schema=_SCHEMA)
                        writer.write_table(table)
                        advance(len(batch))
                        batch = next(iter(batches), None)
            number += 1
        _see(connection, workspace, tokenizer)


def _see(connection: Connection, workspace: Workspace, tokenizer: TextTokenizer) -> None:
    folder = workspace.token_counts / tokenizer.text_tokenizer_id
    if any(folder.glob("part-*.parquet")):
        files = str(folder / "part-*.parquet").replace("'", "''")
        rows = f"select text_hash, num_tokens from read_parquet('{files}')"
    else:
        rows = "select 0::ubigint as text_hash, 0::uinteger as num_tokens where false"
    connection.execute(f"create or replace temp view token_counts as {rows}")
