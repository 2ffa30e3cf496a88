"""Parts of a job → its manifest and rejects → catalog. Writes dialogues.jsonl or utterances.jsonl.

The manifest is an ordinary one, read by ingest as any other: what a reader of the catalog sees of
synthetic speech is what it would see of a corpus with the same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cslm_data.audio_store import with_range
from cslm_data.catalog import Connection, open_catalog, read_sql, run_over_files
from cslm_data.ingest import DEFAULT_MAX_DURATION_S, ingest
from cslm_data.records import Reject
from cslm_data.reject_files import write_rejects
from cslm_data.storage import LocalFolder
from cslm_data.synthesis.parts import PARTS, pack_name
from cslm_data.workspace import Workspace, atomic_path

STAGE = "synthesize"

_MANIFESTS = {"dialogues": ("dialogues.jsonl", "dialogues")}
_OF_UTTERANCES = ("utterances.jsonl", "manifest")
"""Name of the manifest of a table, and the format that ingest reads it as."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a job holds now."""

    counts: list[tuple[str | None, bool, int]]
    """Reason (None: spoken), whether an earlier run did it, number of rows of the catalog."""
    groups: list[tuple[Any, ...]]
    """Corpus, language, texts, seconds, voices, rejected."""
    not_ingested: int
    """Rows of the manifest that the catalog refused."""


def publish(
    workspace: Workspace,
    folder: LocalFolder,
    *,
    table: str,
    backend: str,
    job: str,
    max_seconds: float,
    earlier: list[str],
) -> Published:
    """Write the manifest of a job and what it refused, and ingest it. `earlier`: parts before."""
    name, format = _MANIFESTS.get(table, _OF_UTTERANCES)
    path = folder.path / name
    num_rows = 0
    with open_catalog(workspace, doing="cslm-data synthesize") as connection:
        run_over_files(connection, "synthesize_spoken", f"{folder.sql_address}/{PARTS}")
        connection.register("earlier", pa.table({"part": pa.array(earlier, pa.string())}))
        counts = connection.execute(read_sql("synthesize_counts")).fetchall()
        groups = connection.execute(read_sql("synthesize_groups")).fetchall()
        refused = _fetch(connection, read_sql("synthesize_rejects"))
        write_rejects(
            workspace.rejects / f"synthesize-{folder.path.name}.parquet",
            (Reject(stage=STAGE, corpus=c, key=k, reason=r, detail=d) for c, k, r, d in refused),
        )
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for row in _fetch(connection, read_sql("synthesize_rows")):
                for line in _lines(row, table, backend, job):
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    num_rows += 1
        query = "select 1 from sources where source_uri = ?"
        was_read = connection.execute(query, [str(path.resolve())]).fetchall()
    not_ingested = 0
    if num_rows or was_read:
        longest_s = max(DEFAULT_MAX_DURATION_S, max_seconds + 1.0)
        summary = ingest(workspace, [path], format=format, max_duration_s=longest_s)
        not_ingested = summary.num_rejected
    return Published(counts=counts, groups=groups, not_ingested=not_ingested)


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
