"""One key → its sample in a shard, or its row in the catalog, for a person to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cslm_data.errors import CorruptArtefactError, NoDataError
from cslm_data.query import run_query
from cslm_data.records import Sample
from cslm_data.shards import ShardFile
from cslm_data.workspace import Workspace

TABLES_OF_IDS = (("utterances", "utt_id"), ("bitext", "pair_id"), ("dialogues", "dialogue_id"))
"""Tables whose rows an id names, and the column it stands in."""


@dataclass(frozen=True, kw_only=True)
class FoundSample:
    """A sample and the place it was read from."""

    mix: str
    split: str
    shard: str
    sample: Sample


def find_sample(workspace: Workspace, key: str, *, mix: str | None = None) -> FoundSample | None:
    """The sample of this key in a mix (the first by name, or the one named), None without one.

    Raises CorruptArtefactError where the shard does not hold what mix.parquet says.
    """
    rows = run_query(
        workspace,
        "select mix, split, shard from mix_samples where key = $key "
        "and ($mix is null or mix = $mix) order by mix, split, position limit 1",
        parameters={"key": key, "mix": mix},
    ).rows
    if not rows:
        return None
    mix_name, split, shard = rows[0]
    file = ShardFile(workspace.mixes / mix_name / "shards" / shard)
    position = file.index.position(key)
    if position is None:
        raise CorruptArtefactError(
            f"{file.path}: {key} is not in its index, but in mix.parquet; see what else is wrong: "
            f"cslm-data verify {mix_name}"
        )
    return FoundSample(mix=mix_name, split=split, shard=shard, sample=file.sample(position))


def find_row(workspace: Workspace, key: str) -> dict[str, Any]:
    """The catalog's row of an id; an utterance comes with its units, words and rejects.

    Raises NoDataError when nothing has this key.
    """
    for table, column in TABLES_OF_IDS:
        found = run_query(
            workspace, f"from all_{table} where {column} = $key", parameters={"key": key}
        ).records()
        if found:
            more = _of_utterance(workspace, key) if table == "utterances" else {}
            moved = _moved_out(workspace, table, key)
            return {"table": table, **found[0], **moved, **more}
    refused = run_query(workspace, "from rejects where key = $key", parameters={"key": key})
    if refused.rows:
        return {"table": "rejects", **refused.records()[0]}
    raise NoDataError(not_found(key))


def not_found(key: str) -> str:
    """What to say where nothing has a key."""
    return (
        f"{key}: no sample, utterance, pair, dialogue or reject has this key; find keys with: "
        'cslm-data sql "select key from mix_samples limit 10"'
    )


def _moved_out(workspace: Workspace, table: str, key: str) -> dict[str, Any]:
    """Which filter or dedup moved a row out, and why; nothing where none did."""
    rows = run_query(
        workspace,
        "select kind, curation_id, reason from excluded where table_name = $table and id = $key",
        parameters={"table": table, "key": key},
    ).rows
    return (
        {"moved out": "; ".join(f"{kind} {i}: {reason}" for kind, i, reason in rows)}
        if rows
        else {}
    )


def _of_utterance(workspace: Workspace, key: str) -> dict[str, Any]:
    units = run_query(
        workspace,
        "select tokenizer_id, units from units where utt_id = $key order by tokenizer_id",
        parameters={"key": key},
    )
    times = run_query(
        workspace,
        "select aligner_id, words, phones from alignments where utt_id = $key order by aligner_id",
        parameters={"key": key},
    )
    return {
        **{f"units of {name}": " ".join(map(str, values)) for name, values in units.rows},
        **{f"words of {name}": _timed(words, "word") for name, words, _ in times.rows if words},
        **{
            f"phones of {name}": _timed(phones, "phone") for name, _, phones in times.rows if phones
        },
    }


def _timed(intervals: list[dict[str, Any]], label: str) -> str:
    return " ".join(f"{i[label]}[{i['start_s']:.2f}–{i['end_s']:.2f}]" for i in intervals)
