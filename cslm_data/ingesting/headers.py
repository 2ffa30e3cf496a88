"""Recordings → what their headers say, in the temporary table `headers`, read by many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from cslm_data.audio import audio_version, probe
from cslm_data.catalog import Connection, scalar
from cslm_data.errors import AudioError
from cslm_data.ingesting.statements import insert_rows, run_sql
from cslm_data.progress import progress

_THREADS = 8
_FETCH = 4096

_HEADERS = pa.schema(
    [
        ("audio", pa.string()),
        ("duration_s", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("num_channels", pa.int32()),
        ("audio_version", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


def probe_recordings(connection: Connection, *, trust_manifest: bool) -> None:
    """Read the header of every recording that a raw row needs it of, each once."""
    run_sql(connection, "ingest_to_probe", values={"trust": trust_manifest})
    total = scalar(connection, "select count(*) from to_probe")
    if not total:
        return
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        progress("read headers", total=total, unit="recordings") as bar,
    ):
        for start in range(1, total + 1, _FETCH):
            rows = connection.execute(
                "select audio from to_probe where number between ? and ?",
                [start, start + _FETCH - 1],
            ).fetchall()
            found = list(pool.map(_probe, (audio for (audio,) in rows)))
            columns = list(map(list, zip(*found, strict=True)))
            insert_rows(connection, "headers", pa.table(columns, schema=_HEADERS))
            bar.advance(len(found))


def _probe(audio: str) -> tuple[Any, ...]:
    try:
        header = probe(audio)
        version = audio_version(audio)
    except AudioError as error:
        return audio, None, None, None, None, error.reason, error.detail
    return (
        audio,
        header.duration_s,
        header.sample_rate_hz,
        header.num_channels,
        version,
        None,
        None,
    )
