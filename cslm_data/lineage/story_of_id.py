"""One id → its story, from the line of its source to its bytes in a shard. Reads, never writes.

Step 1  the row: where it was read, what that line says now, what the catalog made of it
Step 2  what was found about it: duplicates, measurements, language, refusals, filters
Step 3  what was made of it: units, alignments, and the samples of each mix with their place
Step 4  where it is in no mix: why
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cslm_data.catalog import Connection, confine, open_catalog, read_sql
from cslm_data.errors import NoDataError
from cslm_data.lineage.chapters import Chapter, Rows, Story, ask, some
from cslm_data.lineage.places_in_mixes import absent, in_mixes
from cslm_data.lineage.source_lines import read_place
from cslm_data.lookup import TABLES_OF_IDS, not_found
from cslm_data.workspace import Workspace


def tell(workspace: Workspace, key: str) -> Story:
    """The story of an utterance, pair or dialogue, of a sample by its key, or of a refused row.

    Raises NoDataError when nothing has this key, MissingArtefactError without a catalog.
    """
    with open_catalog(workspace, doing="explain a row") as connection:
        confine(connection, workspace)
        for table, column in TABLES_OF_IDS:
            found = ask(connection, f"from all_{table} where {column} = $id", {"id": key})
            if found:
                chapters = _of_row(connection, workspace, table, key, found[0])
                return Story(key=key, kind=table, chapters=tuple(chapters))
        samples = _samples(connection, key, [])
        if samples:
            return Story(
                key=key, kind="samples", chapters=_of_sample(connection, workspace, samples)
            )
        rejects = _rejects(connection, key)
        if rejects.records:
            return Story(key=key, kind="rejects", chapters=(rejects,))
    raise NoDataError(not_found(key))


def _of_row(
    connection: Connection, workspace: Workspace, table: str, key: str, row: dict[str, Any]
) -> list[Chapter]:
    curated = _curations(connection, table, key)
    ids = [key]
    chapters = [
        _source(connection, row),
        Chapter(name="row", title="in the catalog", lines=_fields(row), records=[row]),
        curated,
    ]
    if table == "utterances":
        spoken = _spoken(connection, key)
        ids += sorted({line["dialogue_id"] for line in spoken.records})
        chapters += [
            *_found_of_utterance(connection, key, row),
            *_made_of_utterance(connection, key),
            spoken,
        ]
    rejects = _rejects(connection, key)
    samples = _samples(connection, key, ids)
    return [
        *chapters,
        rejects,
        *in_mixes(connection, workspace, samples),
        absent(connection, workspace, table, key, samples, curated),
    ]


# ----------------------------------------------------------------------------- step 1: the row
def _source(connection: Connection, row: dict[str, Any]) -> Chapter:
    uri, place = row["source_uri"], row["place"]
    known = ask(connection, "from sources where source_uri = $uri", {"uri": uri})
    text, why_not = read_place(uri, place)
    lines = [f"{uri}, at {place or 'a place it does not name'}"]
    for source in known:
        said = {name: value for name, value in source.items() if name != "source_uri"}
        lines.append("read as " + ", ".join(f"{name} {value}" for name, value in said.items()))
    if not known:
        lines.append("its source is not in `sources`")
    lines.append(f"the line now: {text}" if text is not None else f"the line now: {why_not}")
    record = {"source_uri": uri, "place": place, "line": text, "line_unread": why_not}
    return Chapter(
        name="source",
        title="where it comes from",
        lines=lines,
        records=[{**record, **(known[0] if known else {})}],
    )


def _fields(row: dict[str, Any]) -> list[str]:
    hidden = {"source_uri", "place", "row_hash", "key_hash"}
    return [f"{n}: {v}" for n, v in row.items() if n not in hidden and v is not None]


def _curations(connection: Connection, table: str, key: str) -> Chapter:
    rows = ask(connection, read_sql("lineage_exclusions"), {"id": key, "table": table})
    lines = []
    for row in rows:
        twin = f", duplicate of {row['duplicate_of']}" if row["duplicate_of"] else ""
        state = "undone" if row["undone"] else "in force"
        lines.append(
            f"{row['kind']} {row['curation_id']} ({state}): {row['reason']}{twin}; "
            f"{row['predicate']}"
        )
    standing = any(not row["undone"] for row in rows)
    title = "moved out by filter or dedup" if standing else "not moved out"
    return Chapter(name="curations", title=title, lines=lines, records=rows)


# ----------------------------------------------------------------------- step 2: found about it
def _found_of_utterance(connection: Connection, key: str, row: dict[str, Any]) -> list[Chapter]:
    twins = ask(connection, read_sql("lineage_twins"), {"id": key})
    measures = ask(connection, "from measures where utt_id = $id", {"id": key})
    for measure in measures:
        measure["is_current"] = measure["audio_version"] == row["audio_version"]
    languages = ask(
        connection,
        "select detected, confidence from text_languages "
        "where text_hash = md5_number_lower($text) and language = $language",
        {"text": row["text"], "language": row["language"]},
    )
    return [
        Chapter(
            name="duplicates",
            title=f"{len(twins)} other utterances say or sound the same",
            lines=some([f"{t['same']}: {t['utt_id']} ({t['corpus']})" for t in twins]),
            records=twins,
        ),
        Chapter(
            name="measures",
            title="measured" if measures else "not measured (run: cslm-data measure)",
            lines=[
                f"{_is_current(m)}: "
                + ", ".join(f"{n} {_number(v)}" for n, v in m.items() if n not in _KEYS)
                for m in measures
            ],
            records=measures,
        ),
        Chapter(
            name="text_language",
            title=f"said to be in {row['language']}",
            lines=[f"seems to be in {d['detected']} ({d['confidence']:.2f})" for d in languages],
            records=languages,
        ),
    ]


_KEYS = ("utt_id", "audio_version", "is_current")


def _rejects(connection: Connection, key: str) -> Chapter:
    query = "from rejects where key = $key and stage not in ('filter', 'dedup') order by all"
    rows = ask(connection, query, {"key": key})
    lines = [f"{row['stage']}: {row['reason']}: {row['detail']}" for row in rows]
    title = "refused" if rows else "refused nowhere"
    return Chapter(name="rejects", title=title, lines=some(lines), records=rows)


# ------------------------------------------------------------------------ step 3: made of it
def _made_of_utterance(connection: Connection, key: str) -> list[Chapter]:
    units = ask(connection, read_sql("lineage_units"), {"id": key})
    times = ask(
        connection,
        "select aligner_id, coalesce(len(words), 0) as num_words, coalesce(len(phones), 0) as "
        "num_phones from alignments where utt_id = $id order by aligner_id",
        {"id": key},
    )
    return [
        Chapter(
            name="units",
            title="units" if units else "no speech tokenizer yet (run: cslm-data quantize)",
            lines=[
                f"{row['name']} ({row['tokenizer_id']}): none; run: cslm-data quantize"
                if row["num_units"] is None
                else f"{row['name']} ({row['tokenizer_id']}): {row['num_units']} units of "
                f"{row['num_frames']} frames, {_is_current(row)}"
                for row in units
            ],
            records=units,
        ),
        Chapter(
            name="alignments",
            title="alignments" if times else "no alignments",
            lines=[
                f"{row['aligner_id']}: {row['num_words']} words, {row['num_phones']} phones"
                for row in times
            ],
            records=times,
        ),
    ]


def _spoken(connection: Connection, key: str) -> Chapter:
    query = (
        "select dialogue_id, corpus, turn, role from dialogue_turns where utt_id = $id order by all"
    )
    rows = ask(connection, query, {"id": key})
    lines = [f"turn {row['turn']} ({row['role']}) of {row['dialogue_id']}" for row in rows]
    title = "spoken in dialogues" if rows else "in no dialogue"
    return Chapter(name="dialogues", title=title, lines=some(lines), records=rows)


def _is_current(row: dict[str, Any]) -> str:
    return "up to date" if row["is_current"] else f"stale: of version {row['audio_version']}"


def _samples(connection: Connection, key: str, ids: Sequence[str]) -> Rows:
    return ask(connection, read_sql("lineage_samples"), {"key": key, "ids": list(ids)})


def _of_sample(connection: Connection, workspace: Workspace, samples: Rows) -> tuple[Chapter, ...]:
    sources: Rows = []
    for source_id in dict.fromkeys(each for row in samples for each in row["source_ids"]):
        found: Rows = []
        for table, column in TABLES_OF_IDS:
            query = f"select source_uri, place from all_{table} where {column} = $id"
            rows = ask(connection, query, {"id": source_id})
            found += [{"id": source_id, "table": table, **row} for row in rows]
        sources += found or [{"id": source_id, "table": None, "source_uri": None, "place": None}]
    lines = [
        f"{row['id']} ({row['table']}): {row['source_uri']}, at {row['place']}"
        if row["table"]
        else f"{row['id']}: no longer in the catalog"
        for row in sources
    ]
    made = Chapter(name="sources", title="made of", lines=lines, records=sources)
    return (made, *in_mixes(connection, workspace, samples))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
