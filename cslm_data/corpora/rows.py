"""What every reader of rows needs: rejects spelled, ids made from content."""

from __future__ import annotations

from cslm_data.keys import key64
from cslm_data.records import Reject


def reject(corpus: str, key: str, reason: str, detail: str) -> Reject:
    """A row refused while ingesting."""
    return Reject(stage="ingest", corpus=corpus, key=key, reason=reason, detail=detail)


def printable(name: str) -> str:
    """A name of a file as text: bytes that are no UTF-8 are spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refuse_name(corpus: str, name: str) -> Reject:
    """A file whose name is no text, so that nothing can be said of it in the catalog."""
    detail = f"{printable(name)}: its name is no UTF-8; rename it"
    return reject(corpus, printable(name), "bad_name", detail)


def content_key(corpus: str, *content: str) -> str:
    """Id of a row that has none: the same content keeps it wherever the row stands."""
    return f"{corpus}/{key64(*content):016x}"
