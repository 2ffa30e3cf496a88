"""Rows and samples → their place in shards and training runs, or why a mix is without them."""

from __future__ import annotations

import json
from typing import Any

from cslm_data.catalog import Connection
from cslm_data.lineage.chapters import SHOWN, Chapter, Rows, ask, some
from cslm_data.lookup import TABLES_OF_IDS
from cslm_data.shards import index_path, read_index
from cslm_data.statements import parse_predicate
from cslm_data.workspace import Workspace

_TASKS = {
    "utterances": ("asr", "tts", "continuation", "st", "s2st"),
    "bitext": ("mt", "st", "s2st"),
    "dialogues": ("instruct", "s2s", "t2s", "s2t"),
}


def in_mixes(connection: Connection, workspace: Workspace, samples: Rows) -> list[Chapter]:
    """Where its samples lie, and which steps of runs read them."""
    runs = _runs(workspace)
    lines = []
    for number, row in enumerate(samples):
        row["place"] = _place(workspace, row) if number < SHOWN else None
        where = row["place"]
        at = f", bytes {where['offset']} to {where['end']}" if where else ""
        lines.append(
            f"{row['mix']}/{row['split']} {row['position']}: {row['key']} ({row['task']} "
            f"{row['languages']}, epoch {row['epoch']}, {row['num_tokens']} tokens), "
            f"{row['shard']}{at}"
        )
    read = ask(
        connection,
        'select run, "key", step, rank, micro_batch from batches '
        'where list_contains($keys, "key") order by run, step, rank, micro_batch, "key"',
        {"keys": [row["key"] for row in samples]},
    )
    in_mix = {(row["mix"], row["key"]) for row in samples}
    read = [row for row in read if (runs.get(row["run"], {}).get("mix"), row["key"]) in in_mix]
    for row in read:
        row["is_done"] = row["step"] <= runs[row["run"]]["last_step"]
    steps = [
        f"run {row['run']}: step {row['step']}, rank {row['rank']}, micro-batch "
        f"{row['micro_batch']} {'read' if row['is_done'] else 'will read'} {row['key']}"
        for row in read
    ]
    title = f"{len(samples)} samples of mixes" if samples else "in no mix"
    return [
        Chapter(name="samples", title=title, lines=some(lines), records=samples),
        Chapter(
            name="batches",
            title="read in training" if read else "in no training run",
            lines=some(steps),
            records=read,
        ),
    ]


def _place(workspace: Workspace, row: dict[str, Any]) -> dict[str, int] | None:
    """Where its members lie in the shard, from the index; None where the shard is gone."""
    shard = workspace.mixes / row["mix"] / "shards" / row["shard"]
    if not index_path(shard).exists():
        return None
    index = read_index(shard)
    position = index.position(row["key"])
    if position is None:
        return None
    entry = index.entry(position)
    last = entry.units or entry.json
    offset, end = entry.json[0], last[0] + last[1]
    return {"offset": offset, "length": end - offset, "end": end}


def _runs(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Mix and last checkpoint of each training run."""
    found = {}
    for path in workspace.runs.glob("*/run.json"):
        try:
            mix = json.loads(path.read_text(encoding="utf-8")).get("mix")
        except (OSError, ValueError, AttributeError):
            continue
        names = (each.name.removeprefix("step_") for each in path.parent.glob("checkpoints/step_*"))
        steps = [int(name) for name in names if name.isdecimal()]
        found[path.parent.name] = {"mix": mix, "last_step": max(steps, default=-1)}
    return found


# ------------------------------------------------------------------------ step 4: why in no mix
def absent(
    connection: Connection,
    workspace: Workspace,
    table: str,
    key: str,
    samples: Rows,
    curated: Chapter,
) -> Chapter:
    """Why each mix that has no sample of this very row has none."""
    present = {row["mix"] for row in samples if key in row["source_ids"]}
    mixes = ask(connection, "select mix, languages from mixes order by mix", {})
    records = []
    for row in mixes:
        if row["mix"] not in present:
            why = _why_absent(connection, workspace, table, key, row, curated)
            records.append({"mix": row["mix"], "why": why})
    return Chapter(
        name="absent",
        title="mixes without it" if records else "no mix is without it",
        lines=some([f"{row['mix']}: {row['why']}" for row in records]),
        records=records,
    )


def _why_absent(
    connection: Connection,
    workspace: Workspace,
    table: str,
    key: str,
    mix: dict[str, Any],
    curated: Chapter,
) -> str:
    refused = _refused(workspace, mix["mix"], key)
    if refused:
        return "; ".join(refused)
    if any(not row["undone"] for row in curated.records):
        return "it is moved out"
    columns = dict(TABLES_OF_IDS)
    (row,) = ask(connection, f"from {table} where {columns[table]} = $id", {"id": key})
    languages = [row[name] for name in ("language", "src_lang", "tgt_lang") if name in row]
    other = [language for language in languages if language not in mix["languages"]]
    if other:
        return f"it is in {', '.join(other)}, the mix in {', '.join(mix['languages'])}"
    if table == "utterances" and row["text"] is None:
        return "it has no transcript, which asr and tts need"
    document = json.loads((workspace.mixes / mix["mix"] / "mix.json").read_text(encoding="utf-8"))
    rules = [s for s in document["recipe"]["sources"] if s["task"] in _TASKS[table]]
    if not rules:
        return f"its recipe has no task of {table} ({', '.join(_TASKS[table])})"
    if not any(_holds(connection, table, key, rule.get("where")) for rule in rules):
        return "its recipe leaves it out by where: " + "; ".join(
            sorted({str(rule.get("where")) for rule in rules})
        )
    return "it was not selected: the recipe asks for less, or it came in after the mix was built"


def _refused(workspace: Workspace, mix: str, key: str) -> list[str]:
    """What the mix says of a candidate that it refused."""
    import pyarrow.parquet as pq

    path = workspace.mixes / mix / "rejects.parquet"
    if not path.exists():
        return []
    rows = pq.read_table(path, filters=[("key", "=", key)]).to_pylist()
    return [f"refused: {row['reason']}: {row['detail']}" for row in rows]


def _holds(connection: Connection, table: str, key: str, where: str | None) -> bool:
    if where is None:
        return True
    predicate = parse_predicate(where, where="where")
    column = dict(TABLES_OF_IDS)[table]
    query = f"select 1 from {table} where {column} = $id and ({predicate.text}\n)"
    return bool(ask(connection, query, {"id": key}))
