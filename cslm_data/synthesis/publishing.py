"""Parts of a job → its manifest and rejects → catalog. Writes dialogues.jsonl or utterances.jsonl.

The manifest is an ordinary one, read by ingest as any other: what a reader of the catalog sees of
synthetic speech is what it would see of a corpus with the same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from cslm_data.audio_store import with_range
from cslm_data.catalog import Connection, open_catalog, read_sql, run_over_files
from cslm_data.ingest import SourceSummary, ingest
from cslm_data.records import Reject
from cslm_data.reject_files import write_rejects
from cslm_data.storage import LocalFolder
from cslm_data.synthesis.parts import PARTS, pack_name
from cslm_data.workspace import Workspace, atomic_path

STAGE = "synthesize"

_MANIFESTS = {"dialogues": ("dialogues.jsonl", "dialogues")}
_OF_UTTERANCES = ("utterances.jsonl", "manifest")
"""Name of the manifest of a table, and the format that ingest reads it as."""


def read_parts(connection: Connection, folder: LocalFolder, earlier: list[str]) -> None:
    """Make the view `spoken`, and the table `earlier` of the parts there were before."""
    run_over_files(connection, "synthesize_spoken", f"{folder.sql_address}/{PARTS}")
    connection.register("earlier", pa.table({"part": pa.array(earlier, pa.string())}))


def publish(
    workspace: Workspace,
    folder: LocalFolder,
    *,
    table: str,
    backend: str,
    job: str,
    max_seconds: float,
) -> SourceSummary | None:
    """Write the manifest of a job and what it refused, and ingest it; None where it never spoke."""
    name, format = _MANIFESTS.get(table, _OF_UTTERANCES)
    path = folder.path / name
    num_rows = 0
    with open_catalog(workspace, doing="cslm-data synthesize") as connection:
        read_parts(connection, folder, [])
        refused = connection.execute(read_sql("synthesize_rejects")).fetchall()
        write_rejects(
            workspace.rejects / f"synthesize-{folder.path.name}.parquet",
            (Reject(stage=STAGE, corpus=c, key=k, reason=r, detail=d) for c, k, r, d in refused),
        )
        rows = _fetch(connection, read_sql("synthesize_rows"))
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for row in rows:
                for line in _lines(row, table, backend, job):
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    num_rows += 1
    if not num_rows and not _was_read(workspace, str(path.resolve())):
        return None
    summary = ingest(workspace, [path], format=format, max_duration_s=max(60.0, max_seconds + 1.0))
    return summary.sources[0]


def _was_read(workspace: Workspace, source_uri: str) -> bool:
    with open_catalog(workspace, doing="cslm-data synthesize") as connection:
        query = "select 1 from sources where source_uri = ?"
        return bool(connection.execute(query, [source_uri]).fetchall())


def _fetch(connection: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    rows = connection.execute(query)
    while batch := rows.fetchmany(1000):
        yield from batch


def _lines(row: tuple[Any, ...], table: str, backend: str, job: str) -> Iterator[dict[str, Any]]:
    """The lines of a row in the manifest: a dialogue, or an utterance for each text."""
    key, corpus, license, split, parallel_id, turns, part = row
    pack = pack_name(part)
    about = {
        "corpus": f"{corpus}-{backend}",
        "kind": "synthetic",
        "license": license,
        "split": split,
    }
    if table == "dialogues":
        yield {
            "id": f"{key}@{job}",
            **about,
            "parallel_id": parallel_id,
            "turns": [_turn(turn, pack, backend) for turn in turns],
        }
        return
    for turn in turns:
        side = f"/{turn['role']}" if table == "bitext" else ""
        yield {
            "id": f"{key}@{job}{side}",
            "audio": with_range(pack, turn["start"], turn["length"]),
            "duration": turn["duration_s"],
            "sampling_rate": turn["sample_rate_hz"],
            "text": turn["text"],
            "language": turn["language"],
            "speaker": f"{backend}:{turn['voice']}",
            **about,
        }


def _turn(turn: dict[str, Any], pack: str, backend: str) -> dict[str, Any]:
    said = {name: turn[name] for name in ("role", "language", "text")}
    if turn["voice"] is None:
        return said
    audio = with_range(pack, turn["start"], turn["length"])
    return {**said, "audio": audio, "speaker": f"{backend}:{turn['voice']}"}
