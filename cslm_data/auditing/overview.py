"""Catalog and files of a workspace → what its report page says of them. Reads, in SQL, sums alone.

Everything is grouped or counted by DuckDB: what arrives here is as large as the page, however many
rows the catalog has.
"""

# K units

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.catalog import Connection, open_catalog, read_sql
from cslm_data.errors import CslmError
from cslm_data.shards import MixInfo
from cslm_data.workspace import Workspace

MAX_ROWS = 500
"""Rows of a table of the page; `Listing.num_groups` says how many there are."""

MAX_LABELS = 8
"""Languages that a plot tells apart; the others together are `other` in the last one's place."""

MAX_LANGUAGES = 100
"""Languages that a measure is told of in figures, those with most utterances."""

MAX_UNIT_UTTERANCES = 500_000
"""Utterances whose units are counted; of more, a sample by their keys' hashes."""

_NUM_BINS = 50
"""At most, of a plot; where bins must be wider to be round, down to 20."""

Cell = str | int | float | None
Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The whole workspace in a few numbers, without what was moved out."""

    num_utterances: int
    hours: float
    num_transcribed: int
    num_speakers: int
    """Speakers of different corpora are different."""
    num_corpora: int
    num_languages: int
    num_pairs: int
    num_dialogues: int
    num_texts: int
    """Transcripts, both sides of pairs, turns of dialogues."""
    num_moved_out: int
    num_rejected: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table: the first MAX_ROWS of its groups in the order of its query."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    num_groups: int


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a number of utterances is distributed, per language."""

    name: str
    """`duration_s`, `units_per_s <tokenizer_id>` …"""
    statistics: tuple[tuple[str, int, float, float, float, float, float, float], ...]
    """(language; values; smallest, 1 %, median, mean, 99 %, largest), `all languages` first."""
    first: float
    """Where the first bin begins."""
    step: float
    counts: dict[str, Counts]
    """Label → values in each bin; what lies beyond an end counts in the bin there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitUsage:
    """How often the units of one speech tokenizer are used."""

    tokenizer_id: str
    name: str
    num_units: int
    num_utterances: int
    num_counted: int
    """Utterances that were looked at."""
    tokens: dict[str, Counts]
    """Label → tokens of each unit, int64 (K,)."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What a mix was asked to hold and what it holds."""

    name: str
    about: str
    rows: tuple[tuple[Cell, ...], ...]
    """Rows of MIX_COLUMNS."""
    problem: str | None = None
    """Why its figures cannot be trusted, or read."""


MIX_COLUMNS = (
    "split",
    "task",
    "languages",
    "requested share",
    "realised share",
    "requested tokens",
    "realised tokens",
    "samples",
    "epochs",
    "note",
)
_MIX_FIELDS = (
    "split",
    "task",
    "languages",
    "requested_share",
    "realised_share",
    "requested_tokens",
    "realised_tokens",
    "num_samples",
    "epochs",
    "note",
)
"""The same in mix.json."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overview:
    """Everything on the page but the audits."""

    totals: Totals
    labels: tuple[str, ...]
    """Languages that plots tell apart, the one with most speech first."""
    coverage: Listing
    pairs: Listing
    dialogues: Listing
    measures: tuple[Measure, ...]
    units: tuple[UnitUsage, ...]
    mixes: tuple[Mix, ...]
    rejects: Listing
    curations: Listing
    licenses: Listing


def gather(connection: Connection, workspace: Workspace) -> Overview:
    """Ask an open catalog for all of it."""
    totals = Totals(**_records(connection, "report_totals")[0])
    connection.execute(read_sql("report_languages"), {"max_labels": MAX_LABELS})
    key_limit = _key_limit(totals.num_utterances)
    labels = connection.execute(
        "select label from report_languages group by label order by min(place)"
    ).fetchall()
    return Overview(
        totals=totals,
        labels=tuple(label for (label,) in labels),
        coverage=_listing(connection, "report_coverage"),
        pairs=_listing(connection, "report_pairs"),
        dialogues=_listing(connection, "report_dialogues"),
        measures=_measures(connection, key_limit),
        units=_units(connection, key_limit),
        mixes=tuple(_mix(connection, workspace, name) for name in _mix_names(connection)),
        rejects=_listing(connection, "report_rejects"),
        curations=_listing(connection, "report_curations"),
        licenses=_listing(connection, "report_licenses"),
    )


def overview(workspace: Workspace) -> Overview:
    """The same from a workspace. Raises MissingArtefactError without a catalog, LockedError."""
    with open_catalog(workspace, doing="a report") as connection:
        return gather(connection, workspace)


def _listing(connection: Connection, name: str) -> Listing:
    answer = connection.execute(read_sql(name), {"max_rows": MAX_ROWS})
    columns = tuple(str(column[0]).replace("_", " ") for column in answer.description or [])
    rows = answer.fetchall()
    return Listing(
        columns=columns[:-1],
        rows=tuple(row[:-1] for row in rows),
        num_groups=rows[0][-1] if rows else 0,
    )


def _records(
    connection: Connection, name: str, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    answer = connection.execute(read_sql(name), parameters or {})
    columns = [column[0] for column in answer.description or []]
    return [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]


def _key_limit(num_utterances: int) -> int:
    """The largest hash of a key whose utterance has its units counted."""
    largest = (1 << 64) - 1
    return min(largest, largest * MAX_UNIT_UTTERANCES // max(1, num_utterances))


# -------------------------------------------------------------------------------- distributions
def _measures(connection: Connection, key_limit: int) -> tuple[Measure, ...]:
    *tables, view = connection.extract_statements(read_sql("report_values"))
    for statement in tables:
        named = {"key_limit": key_limit} if statement.named_parameters else {}
        connection.execute(statement, named)
    connection.execute(view)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in _records(connection, "report_statistics", {"max_languages": MAX_LANGUAGES}):
        found.setdefault(row["measure"], []).append(row)
    bins = {name: _bins(rows[0]) for name, rows in found.items()}
    counts: dict[str, dict[str, Counts]] = {name: {} for name in found}
    asked = [
        {"measure": name, "first": first, "step": step, "num_bins": num_bins}
        for name, (first, step, num_bins) in bins.items()
    ]
    for row in _records(connection, "report_histograms", {"bins": asked}) if asked else ():
        name, label = row["measure"], row["label"]
        if label not in counts[name]:
            counts[name][label] = np.zeros(bins[name][2], np.int64)
        counts[name][label][row["bin"]] = row["num_values"]
    return tuple(
        Measure(
            name=name,
            statistics=tuple(map(_statistics, found[name])),
            first=first,
            step=step,
            counts=counts[name],
        )
        for name, (first, step, _) in bins.items()
    )


def _statistics(row: dict[str, Any]) -> tuple[str, int, float, float, float, float, float, float]:
    _, low, middle, high, _ = row["quantiles"]
    language = "all languages" if row["language"] is None else row["language"]
    smallest, mean, largest = row["smallest"], row["mean"], row["largest"]
    return language, row["num_values"], smallest, low, middle, mean, high, largest


def _bins(everything: dict[str, Any]) -> tuple[float, float, int]:
    """First edge, width and number of bins of a round width for all but the outermost values."""
    low, *_, high = everything["quantiles"]
    if low >= 0 and low < high / 3:
        low = 0.0
    step = round_step((high - low) / _NUM_BINS or abs(high) / _NUM_BINS or 1.0)
    first = math.floor(low / step + 1e-9) * step
    return first, step, math.floor((high - first) / step + 1e-9) + 1


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `rough`."""
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))


# ---------------------------------------------------------------------------------------- units
def _units(connection: Connection, key_limit: int) -> tuple[UnitUsage, ...]:
    parameters = {"key_limit": key_limit}
    found: dict[str, dict[str, dict[int, int]]] = {}
    answer = connection.execute(read_sql("report_units"), parameters)
    for tokenizer_id, label, unit, num_tokens in answer.fetchall():
        found.setdefault(tokenizer_id, {}).setdefault(label, {})[unit] = num_tokens
    usages = []
    for row in _records(connection, "report_unit_counts", parameters):
        used = found.get(row["tokenizer_id"], {})
        # Units whose tokenizer is gone do not say K: it is at least what they use.
        largest = max((max(units) for units in used.values()), default=-1)
        num_units = max(row["num_units"] or 0, largest + 1)
        usages.append(
            UnitUsage(
                tokenizer_id=row["tokenizer_id"],
                name=row["name"],
                num_units=num_units,
                num_utterances=row["num_utterances"],
                num_counted=row["num_counted"],
                tokens={label: _dense(units, num_units) for label, units in used.items()},
            )
        )
    return tuple(usages)


def _dense(used: dict[int, int], num_units: int) -> Counts:
    counts_K = np.zeros(num_units, np.int64)
    counts_K[list(used)] = list(used.values())
    return counts_K


# ---------------------------------------------------------------------------------------- mixes
def _mix_names(connection: Connection) -> list[str]:
    rows = connection.execute("select mix from mixes order by mix").fetchall()
    return [name for (name,) in rows]


def _mix(connection: Connection, workspace: Workspace, name: str) -> Mix:
    try:
        info = MixInfo.load(workspace.mixes / name)
        rows = tuple(tuple(row[field] for field in _MIX_FIELDS) for row in info.realised)
    except CslmError as error:
        return Mix(name=name, about="", rows=(), problem=str(error))
    except (KeyError, TypeError) as error:
        broken = f"mix.json: a row of `realised` is not one ({error}); build the mix again"
        return Mix(name=name, about="", rows=(), problem=broken)
    claimed = {row[:3]: (row[7], row[6]) for row in rows if row[7]}
    counted = {
        (row["split"], row["task"], row["languages"]): (row["num_samples"], row["num_tokens"])
        for row in _records(connection, "report_mixes", {"mix": name})
    }
    differing = [key for key in {**claimed, **counted} if claimed.get(key) != counted.get(key)]
    problem = None
    if differing:
        problem = (
            f"mix.json does not say what mix.parquet holds, of {len(differing)} rows, the first "
            f"is {' '.join(map(str, differing[0]))}; build it again: cslm-data build-mix "
            f"--stage {info.stage} --name {name} --overwrite"
        )
    return Mix(
        name=name,
        about=(
            f"{info.stage}, {', '.join(info.languages)}, seed {info.seed}, units of "
            f"{info.tokenizer_id}, {len(info.entries)} shards"
        ),
        rows=rows,
        problem=problem,
    )


def unit_figures(tokens: Sequence[Counts]) -> tuple[int, int, float, float]:
    """Of the sum of some counts (K,): units used, tokens, perplexity, share of the commonest."""
    total_K = np.sum(np.stack(tokens), axis=0)
    num_tokens = int(total_K.sum())
    shares = total_K[total_K > 0] / max(1, num_tokens)
    perplexity = float(2 ** -(shares * np.log2(shares)).sum()) if len(shares) else 0.0
    return len(shares), num_tokens, perplexity, float(shares.max()) if len(shares) else 0.0
