"""texts of the catalog → how many tokens each has. Writes token_counts/<text_tokenizer_id>/.

A text is counted once for a text tokenizer, whichever mixes it is in: the next plan over the same
texts is a sum in SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.catalog import Connection, quoted, read_sql
from cslm_data.text_tokenizer import TextTokenizer
from cslm_data.workspace import Workspace, atomic_path, remove_leftovers

_SCHEMA = pa.schema([("text_hash", pa.uint64()), ("num_tokens", pa.uint32())])
_BATCH_ROWS = 8192


def count_texts(
    workspace: Workspace,
    connection: Connection,
    tokenizer: TextTokenizer,
    languages: Sequence[str],
    advance: Callable[[float], None] = lambda amount: None,
) -> None:
    """Count every text of some languages that was not counted yet; leaves a view `token_counts`.

    Texts pass through once and are not told apart: what is said twice is counted twice, and kept
    once. Raises LockedError while another process counts.
    """
    folder = workspace.token_counts / tokenizer.text_tokenizer_id
    folder.mkdir(parents=True, exist_ok=True)
    with workspace.lock("token_counts", "count tokens of texts"):
        remove_leftovers(folder)
        _see(connection, folder)
        values = {"languages": list(languages)}
        counted = folder / ".counted.tmp"
        uncounted = connection.sql(read_sql("mix_uncounted"), params=values)
        with (
            uncounted.to_arrow_reader(_BATCH_ROWS) as batches,
            pq.ParquetWriter(counted, _SCHEMA) as writer,
        ):
            num_texts = 0
            for batch in batches:
                counts = tokenizer.count_batch(batch["text"].to_pylist())
                writer.write_table(pa.table([batch["text_hash"], counts], schema=_SCHEMA))
                num_texts += len(batch)
                advance(len(batch))
        if num_texts:
            number = len(list(folder.glob("part-*.parquet")))
            once = connection.sql(read_sql("mix_counted").replace("{counted}", quoted(counted)))
            with atomic_path(folder / f"part-{number:06d}.parquet") as temporary:
                once.write_parquet(str(temporary), compression="zstd")
        counted.unlink()
        _see(connection, folder)


def _see(connection: Connection, folder: Path) -> None:
    if any(folder.glob("part-*.parquet")):
        files = quoted(folder / "part-*.parquet")
        rows = f"select text_hash, num_tokens from read_parquet({files})"
    else:
        rows = "select 0::ubigint as text_hash, 0::uinteger as num_tokens where false"
    connection.execute(f"create or replace temp view token_counts as {rows}")
