"""What an audit asks and what it found: words that the runner, the tables and the page share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From the gravest down."""


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """One audit: its header, and its findings as a count, hours and examples."""

    name: str
    """Stem of its file."""
    severity: Severity
    title: str
    """What it asks, one line."""
    why: str
    """Why that matters."""
    fix: str
    """What to do about it, with the command."""
    columns: tuple[str, ...]
    examples: list[tuple[Any, ...]]
    """The first findings in the audit's own order, rows of `columns`."""
    count: int
    """All findings."""
    hours: float | None
    """Speech of the utterances that are found, each counted once; None: it is not about speech."""
    skipped: str | None = None
    """Why it could not be asked, and what to run first; None: it was."""
    failed: bool = False
    """Whether `skipped` is an error of the audit itself: its file, or its SQL."""

    def records(self) -> list[dict[str, Any]]:
        """The examples as objects."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.examples]
