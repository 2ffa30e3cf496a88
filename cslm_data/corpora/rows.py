"""What every reader of rows needs: paths resolved, rejects spelled, ids made from content."""

from __future__ import annotations

from pathlib import Path

from cslm_data.keys import key64
from cslm_data.records import Reject


def resolve(audio: str, manifest: Path) -> str:
    """Absolute path of an audio field (relative to its manifest), or the URI as it stands."""
    if "://" in audio:
        return audio
    return str((manifest.parent / Path(audio).expanduser()).resolve())


def reject(corpus: str, key: str, reason: str, detail: str) -> Reject:
    """A row refused while ingesting."""
    return Reject(stage="ingest", corpus=corpus, key=key, reason=reason, detail=detail)


def content_key(corpus: str, *content: str) -> str:
    """Id of a row that has none: the same content keeps it wherever the row stands."""
    return f"{corpus}/{key64(*content):016x}"
