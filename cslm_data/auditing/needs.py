"""What an audit may need before it can be asked, and how a user gets there."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from cslm_data.catalog import Connection


@dataclass(frozen=True, kw_only=True)
class Need:
    """A relation that must have rows."""

    relation: str
    otherwise: str
    """Why the audit is passed over, and what to do first."""


NEEDS: dict[str, Need] = {
    "measures": Need(
        relation="measures",
        otherwise="no audio is measured yet; run first: cslm-data measure",
    ),
    "units": Need(
        relation="units",
        otherwise="nothing is quantized yet; run first: cslm-data quantize",
    ),
    "mix": Need(
        relation="mix_samples",
        otherwise="there is no mix yet; run first: cslm-data build-mix --langs …",
    ),
    "text_languages": Need(
        relation="text_languages",
        otherwise="no text's language is detected yet; run first: cslm-data measure",
    ),
    "text_scripts": Need(
        relation="text_scripts",
        otherwise="the catalog holds no text whose script can be checked",
    ),
    "langs": Need(
        relation="wanted",
        otherwise="say which languages the mix is to have: cslm-data audit --langs en,zh",
    ),
    "use": Need(
        relation="intended_use",
        otherwise="say what the data is for: cslm-data audit --use commercial",
    ),
    "against": Need(
        relation="benchmark_texts",
        otherwise="say which benchmark: cslm-data audit --against FILE (or a corpus's name)",
    ),
    "benchmark_units": Need(
        relation="benchmark_units",
        otherwise="there are no units of a benchmark; ingest it, run cslm-data quantize, then "
        "cslm-data audit --against CORPUS",
    ),
}
"""By the name that a header uses."""


def missing(connection: Connection, needs: tuple[str, ...]) -> str | None:
    """What to do before an audit with these needs can be asked; None: it can be."""
    for name in needs:
        need = NEEDS[name]
        try:
            row = connection.execute(f"select 1 from {need.relation} limit 1").fetchone()
        except duckdb.CatalogException:
            row = None
        if row is None:
            return need.otherwise
    return None
