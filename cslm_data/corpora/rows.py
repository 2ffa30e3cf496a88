"""What every reader of rows needs: rejects spelled, ids made from content."""

from __future__ import annotations

from cslm_data.keys import key64
from cslm_data.records import Reject


def reject(corpus: str, key: str, reason: str, detail: str) -> Reject:
    """A row refused while ingesting."""
    return Reject(stage="ingest", corpus=corpus, key=key, reason=reason, detail=detail)


def content_key(corpus: str, *content: str) -> str:
    """Id of a row that has none: the same content keeps it wherever the row stands."""
    return f"{corpus}/{key64(*content):016x}"
