"""`cslm-data audit`: what is wrong with a corpus, as tables, JSON or a page."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import StageName, WorkspaceOption

if TYPE_CHECKING:
    from cslm_data.auditing.results import AuditResult


class FailOn(StrEnum):
    """From which severity on findings fail the command."""

    ERROR = "error"
    WARNING = "warning"
    NONE = "none"


class Use(StrEnum):
    """What the data is for."""

    COMMERCIAL = "commercial"
    RESEARCH = "research"


_FAILING = {
    FailOn.ERROR: ("error",),
    FailOn.WARNING: ("error", "warning"),
    FailOn.NONE: (),
}


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(audit)


def audit(
    names: Annotated[list[str] | None, typer.Argument(help="Audits. Default: all.")] = None,
    workspace: WorkspaceOption = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 on findings of this severity or a graver one.")
    ] = FailOn.ERROR,
    use: Annotated[
        Use | None, typer.Option(help="Check licences for this use.", show_default=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Benchmark that must not be in the corpus: a file, or a corpus's name."),
    ] = None,
    langs: Annotated[
        str | None, typer.Option(help="Languages of the mix that is planned, e.g. en,zh.")
    ] = None,
    stage: Annotated[StageName, typer.Option(help="Stage of that mix.")] = StageName.PRETRAIN,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe of that mix. Default: the stage's own.", show_default=False),
    ] = None,
    audits: Annotated[
        Path | None,
        typer.Option(
            help="Folder of .sql files to run too; one named like a shipped audit replaces it."
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Run the audits of --audits alone.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Examples to keep of each.")] = 20,
    html: Annotated[
        Path | None, typer.Option(help="Write the report page to this file.", show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --html.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Ask the workspace what is wrong with it; see manifests/audits.

    Exits with 1 when findings reach --fail-on, with 2 when an audit could not be run.
    """
    from cslm_data.auditing.runner import run_audits

    where = shell.workspace_of(workspace)
    if html is not None:
        _check_page(html, overwrite=overwrite)
    results = run_audits(
        where,
        names=names or [],
        folder=audits,
        only=only,
        use=use and use.value,
        against=against,
        languages=shell.languages_of(langs or ""),
        stage=stage.value,
        recipe=recipe,
        limit=limit,
    )
    if html is not None:
        from cslm_data.auditing.page import write_audit_page

        write_audit_page(where, results, html)
        typer.echo(f"report: {html}", err=json)
    if json:
        tables.print_json([_record(result) for result in results])
    else:
        _print_findings(results)
        _print_summary(results)
    for result in results:
        if result.failed:
            typer.secho(f"error: {result.skipped}", err=True, fg=typer.colors.RED)
    if any(result.failed for result in results):
        raise typer.Exit(shell.EXIT_ERROR)
    if any(result.count and result.severity in _FAILING[fail_on] for result in results):
        raise typer.Exit(shell.EXIT_FINDING)


def _check_page(path: Path, *, overwrite: bool) -> None:
    """Refuse before long work what would be refused after it."""
    from cslm_data.errors import AlreadyExistsError, UsageError

    if path.is_dir():
        raise UsageError(f"--html {path}: a folder; give a file, such as {path / 'audit.html'}")
    if path.exists() and not overwrite:
        raise AlreadyExistsError(f"--html {path}: exists; replace it with --overwrite")


def _record(result: AuditResult) -> dict[str, Any]:
    row = dataclasses.asdict(result)
    row["examples"] = result.records()
    del row["columns"]
    return row


def _print_findings(results: Sequence[AuditResult]) -> None:
    for result in results:
        if not result.count:
            continue
        title = f"{result.name} ({result.severity}): {result.title}"
        tables.print_table(
            result.columns, [[_short(v) for v in row] for row in result.examples], title=title
        )
        if result.count > len(result.examples):
            typer.echo(f"… and {result.count - len(result.examples):,} more; see --limit, --json")
        typer.echo(f"why: {result.why}")
        typer.echo(f"fix: {result.fix}\n")


def _short(value: Any) -> Any:
    """Lists as their first members, so that a table stays readable."""
    if isinstance(value, list):
        return ", ".join(map(str, value[:3])) + (" …" if len(value) > 3 else "")
    return value


def _print_summary(results: Sequence[AuditResult]) -> None:
    tables.print_table(
        ["audit", "severity", "findings", "hours", "result"],
        [
            (r.name, r.severity, None if r.skipped else r.count, r.hours, _outcome(r))
            for r in results
        ],
        title="audits",
    )
    counts = Counter(result.severity for result in results if result.count)
    typer.echo(
        f"{len(results)} audits: {counts['error']} with errors, {counts['warning']} with warnings, "
        f"{counts['info']} to read, {sum(r.skipped is not None for r in results)} not run"
    )


def _outcome(result: AuditResult) -> str:
    if result.failed:
        return "could not be run, see below"
    if result.skipped:
        return result.skipped
    if not result.count:
        return "ok"
    return {"error": "FOUND", "warning": "look", "info": "read"}[result.severity]
