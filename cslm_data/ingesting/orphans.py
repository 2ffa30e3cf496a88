"""Imported alignments of utterances that are not in the catalog: kept, counted, and said aloud."""

from __future__ import annotations

import logging

from cslm_data.catalog import open_catalog, read_sql
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)


def warn_of_orphans(workspace: Workspace) -> int:
    """Log a warning when there are any; returns how many."""
    with open_catalog(workspace, doing="cslm-data ingest") as connection:
        row = connection.execute(read_sql("ingest_orphans")).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    num_orphans, num_imported, first = row
    if num_orphans:
        log.warning(
            "%d of %d alignments belong to no utterance yet, such as %r; they are kept. If their "
            "utterances are here under other ids, give --corpus (ids become CORPUS/name), or "
            "correct the ids",
            num_orphans,
            num_imported,
            first,
        )
    return int(num_orphans)
