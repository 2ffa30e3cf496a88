"""The words in which a row's story is told, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cslm_data.catalog import Connection

SHOWN = 10
"""Duplicates, samples or steps that are spelled out; the others are counted."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One part of a story: lines for a person, records for a program."""

    name: str
    title: str
    lines: list[str]
    records: Rows = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Story:
    """What became of a row or a sample."""

    key: str
    kind: str
    """`utterances`, `bitext`, `dialogues`, `samples` or `rejects`."""
    chapters: tuple[Chapter, ...]

    def as_dict(self) -> dict[str, Any]:
        """The records by chapter; of a chapter without records its lines."""
        told = {each.name: each.records or each.lines for each in self.chapters}
        return {"key": self.key, "kind": self.kind, **told}


def ask(connection: Connection, query: str, parameters: dict[str, Any]) -> Rows:
    """The rows of a query as objects."""
    answer = connection.execute(query, parameters)
    names = [column[0] for column in answer.description or []]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def some(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"… and {more} more; see --json"]
