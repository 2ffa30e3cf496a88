"""Catalog → a folder in the format of another toolkit. Reads the catalog, writes the folder.

The folder appears whole or not at all, and says in export.json what it holds. Rows stream from the
catalog in a total order: the same catalog gives the same bytes, a large one needs no more memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.catalog import confine, open_catalog
from cslm_data.errors import NoDataError, UsageError
from cslm_data.exporting import load_writer
from cslm_data.exporting.folders import DESCRIPTION, check_free, made_whole
from cslm_data.exporting.job import STAGE, Choice, Job, ask
from cslm_data.keys import key64
from cslm_data.progress import progress
from cslm_data.reject_files import open_rejects
from cslm_data.workspace import Workspace, write_json

_MEMORY = "4GB"
"""What DuckDB may hold; the rest of large catalogs is sorted on disk, beside the catalog."""


@dataclass(frozen=True, kw_only=True)
class TableCounts:
    """Of one table of the catalog: in = out + rejected."""

    num_in: int
    num_out: int
    num_rejected: int


@dataclass(frozen=True, kw_only=True)
class CatalogExport:
    """What was written."""

    format: str
    folder: Path
    tables: dict[str, TableCounts]
    files: dict[str, int]
    """Rows in each file, or folder of Kaldi."""
    left_out: dict[str, int]
    """Rows of tables that the format has no place for."""
    num_cut: int
    """Utterances that were written as recordings of their own."""
    reject_reasons: dict[str, int]

    @property
    def num_in(self) -> int:
        """Rows chosen over all tables."""
        return sum(table.num_in for table in self.tables.values())

    @property
    def num_rejected(self) -> int:
        """Rows refused over all tables."""
        return sum(table.num_rejected for table in self.tables.values())


def export_catalog(
    workspace: Workspace,
    out: Path,
    *,
    format: str,
    languages: list[str] | None = None,
    split: str | None = None,
    corpus: str | None = None,
    where: str | None = None,
    relative: bool = False,
    cut: bool = False,
    pipes: bool = False,
    overwrite: bool = False,
) -> CatalogExport:
    """Write the rows that languages, split, corpus and SQL over `utterances` choose.

    With `relative` paths are relative to the folder; with `cut` an utterance whose audio the format
    cannot name becomes a recording of its own; with `pipes` Kaldi gets commands for what it cannot
    decode. Raises UsageError, NoDataError when nothing is chosen, AlreadyExistsError.
    """
    writer = load_writer(format)
    if relative and not writer.relative:
        raise UsageError(
            f"--relative: {format} takes paths from where its scripts run, not from its files; "
            "leave it out"
        )
    if pipes and format != "kaldi":
        raise UsageError("--pipes: only Kaldi's wav.scp can hold commands")
    target = out.expanduser().absolute()
    check_free(target, overwrite=overwrite)
    choice = Choice(languages=languages or None, split=split, corpus=corpus, where=where)
    refused_path = workspace.rejects / f"{STAGE}-{key64(str(target)):016x}.parquet"
    with open_catalog(workspace, doing="export") as connection:
        connection.execute("set memory_limit = ?", [_MEMORY])
        confine(connection, workspace)
        there = _count(connection, choice)
        chosen: dict[str, int] = {table: there[table] for table in writer.tables}
        if not any(chosen.values()):
            raise NoDataError(
                "nothing of the catalog is of this corpus, split, languages and --where; see what "
                'there is: cslm-data sql "select corpus, split, language, count(*) from '
                'utterances group by all"'
            )
        with (
            made_whole(target) as temporary,
            open_rejects(refused_path) as refused,
            progress("export", total=sum(chosen.values()), unit="rows") as bar,
        ):
            job = Job(
                connection=connection,
                choice=choice,
                temporary=temporary,
                out=target,
                relative=relative,
                cut=cut,
                pipes=pipes,
                refused=refused,
                bar=bar,
            )
            writer.write(job)
            left_out = {
                name: number
                for name, number in there.items()
                if number and name not in (*writer.tables, *writer.inside)
            }
            summary = _summary(job, format, chosen, left_out)
            write_json(temporary / DESCRIPTION, _describe(summary, relative=relative))
    return summary


def _count(connection: Any, choice: Choice) -> dict[str, int]:
    """Rows chosen of each table, whether or not the format has a place for them."""
    text, values = choice.fill("export_counts")
    rows = ask(choice, lambda: connection.execute(text, values).fetchall())
    return dict(rows)


def _summary(
    job: Job, format: str, chosen: dict[str, int], left_out: dict[str, int]
) -> CatalogExport:
    return CatalogExport(
        format=format,
        folder=job.out,
        tables={
            table: TableCounts(
                num_in=number, num_out=job.written[table], num_rejected=job.rejected[table]
            )
            for table, number in chosen.items()
        },
        files=dict(sorted(job.files.items())),
        left_out=left_out,
        num_cut=job.num_cut,
        reject_reasons=dict(sorted(job.refused.reasons.items())),
    )


def _describe(summary: CatalogExport, *, relative: bool) -> dict[str, Any]:
    return {
        "format": summary.format,
        "paths": "relative" if relative else "absolute",
        "rows": {name: vars(counts) for name, counts in summary.tables.items()},
        "left_out": summary.left_out,
        "files": summary.files,
    }
