"""Catalog → plan of a job: the texts to speak, and who speaks them. Writes plan-*.parquet.

Voices are chosen by a keyed hash of the row: question and answer of a dialogue have two, a sentence
and its translation the same person where both languages have that one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from cslm_data.catalog import Connection, confine, open_catalog, read_sql, run_over_files, scalar
from cslm_data.errors import NoDataError, UsageError
from cslm_data.keys import keyed_choice
from cslm_data.languages import check_language, known_language
from cslm_data.statements import parse_predicate
from cslm_data.storage import LocalFolder
from cslm_data.synthesis.backend import Backend
from cslm_data.synthesis.parts import PLANS, Item, PlannedTurn, write_speech_plan
from cslm_data.units.parts import list_plans, next_plan
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

What = Literal["dialogues", "instructions", "bitext", "utterances"]
TABLES: dict[What, str] = {
    "dialogues": "dialogues",
    "instructions": "dialogues",
    "bitext": "bitext",
    "utterances": "utterances",
}
"""What is spoken → the table of the catalog that it is in."""

_FETCH = 2_000
_ALL = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows of the catalog are to be spoken."""

    what: What
    languages: tuple[str, ...]
    corpus: str | None = None
    where: str | None = None
    """SQL over the table."""
    limit: int | None = None
    """So many of them, by a keyed hash of their ids."""


def find_voices(
    backend: Backend, languages: Sequence[str], wanted: int | Sequence[str] | None
) -> dict[str, tuple[str, ...]]:
    """The voices of each language: all there are, so many of them, or those that are named.

    A name may say its language, `zh=huayan`; else it is for all. Raises UsageError for a language
    without a voice and for a voice there is not.
    """
    voices: dict[str, tuple[str, ...]] = {}
    for language in languages:
        check_language(language, where="--langs")
        if wanted is None or isinstance(wanted, int):
            there = backend.voices(language)
            if wanted is not None and not 1 <= wanted <= len(there):
                raise UsageError(
                    f"--voices {wanted}: {backend.name} has 1 to {len(there)} of them in {language}"
                )
            voices[language] = there[:wanted]
            continue
        said = [_of_language(name) for name in wanted]
        names = [name for of, name in said if of in (None, language)]
        if not names:
            raise UsageError(f"--voices {','.join(wanted)}: none of them is for {language}")
        found = dict.fromkeys(backend.find_voice(name, language) for name in names)
        voices[language] = tuple(found)
    return voices


def plan_new(
    workspace: Workspace,
    folder: LocalFolder,
    selection: Selection,
    voices: Mapping[str, Sequence[str]],
    *,
    exchanges: int,
    seed: int,
    part_seconds: float,
) -> int:
    """Write a plan of the chosen rows that no plan of the folder holds; returns how many chosen.

    Raises UsageError for a predicate that makes no sense, NoDataError where nothing is chosen,
    MissingArtefactError without a catalog.
    """
    with open_catalog(workspace, doing="cslm-data synthesize") as connection:
        confine(connection, workspace)
        _choose(connection, selection, seed)
        num_chosen = int(scalar(connection, "select count(*) from chosen"))
        if not num_chosen:
            raise NoDataError(_nothing(connection, workspace, selection))
        if list_plans(folder):
            run_over_files(connection, "synthesize_planned", f"{folder.sql_address}/{PLANS}")
        else:
            connection.execute(read_sql("synthesize_planned_none"))
        query = read_sql("synthesize_todo")
        if scalar(connection, f"select count(*) from ({query})"):
            rows = connection.execute(query)
            batches = iter(lambda: rows.fetchmany(_FETCH), [])
            items = (_item(row, voices, exchanges, seed) for batch in batches for row in batch)
            plan = next_plan(folder)
            number = write_speech_plan(folder, plan, items, part_seconds=part_seconds)
            log.info("planned %d rows to speak: %s/%s", number, folder.address, plan)
        return num_chosen


def _choose(connection: Connection, selection: Selection, seed: int) -> None:
    """Make the table `chosen`."""
    where = "true"
    if selection.where is not None:
        where = parse_predicate(selection.where, where="--where").text
    table = read_sql(f"synthesize_{TABLES[selection.what]}")
    candidates = table.replace("({where})", f"({where}\n)")
    values: dict[str, Any] = {
        "languages": list(selection.languages),
        "corpus": selection.corpus,
        "seed": seed,
        "limit": _ALL if selection.limit is None else selection.limit,
    }
    if TABLES[selection.what] == "dialogues":
        values["single"] = selection.what == "instructions"
    query = read_sql("synthesize_chosen").replace("({candidates})", f"({candidates}\n)")
    try:
        connection.execute(query, values)
    except (MemoryError, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        if selection.where is None:
            raise
        why = str(error).split("\n\nLINE")[0].strip()  # of our SQL, not of the predicate
        raise UsageError(f"--where {selection.where!r}: {why}") from None


def _nothing(connection: Connection, workspace: Workspace, selection: Selection) -> str:
    """Why there may be nothing to speak."""
    table = TABLES[selection.what]
    there = int(scalar(connection, f"select count(*) from {table}"))
    kind = {"dialogues": "text-only dialogues", "bitext": "translations"}.get(table, "transcripts")
    asked = [f"--langs {','.join(selection.languages)}"]
    asked += [f"--corpus {selection.corpus}"] if selection.corpus else []
    asked += [f"--where {selection.where!r}"] if selection.where else []
    return (
        f"{workspace.root}: no {kind} to speak with {' '.join(asked)} (of {there} {table}); see "
        f'what there is: cslm-data sql "select * from corpora"'
    )


def _of_language(name: str) -> tuple[str | None, str]:
    """`zh=huayan` as its language and name; None: of every language."""
    language, sign, rest = name.partition("=")
    return (language, rest) if sign and known_language(language) else (None, name)


def _item(
    row: tuple[Any, ...], voices: Mapping[str, Sequence[str]], exchanges: int, seed: int
) -> Item:
    """A chosen row with a voice for each turn, its first exchanges alone."""
    key, turns = row[0], row[-1]
    planned: list[PlannedTurn] = []
    num_said = 0
    for turn in turns:
        if num_said == 2 * exchanges and turn["role"] in ("user", "assistant"):
            break
        num_said += turn["role"] in ("user", "assistant")
        voice = _voice(key, turn["role"], voices[turn["language"]], seed)
        role, language, text = turn["role"], turn["language"], turn["text"]
        planned.append(PlannedTurn(role=role, language=language, text=text, voice=voice))
    return Item._make((*row[:-1], planned))


def _voice(key: str, role: str, voices: Sequence[str], seed: int) -> str | None:
    """The voice of a role of a row; None for a system turn, which nobody says."""
    if role == "system":
        return None
    place = keyed_choice(seed, len(voices), key, "voice")
    if role == "assistant" and len(voices) > 1:
        place += 1 + keyed_choice(seed, len(voices) - 1, key, "answer")
    return voices[place % len(voices)]
