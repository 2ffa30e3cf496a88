"""`cslm-data filter` and `dedup`: rows out of the way, with a reason, and back; one row's story."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, WorkspaceOption

from cslm_data.errors import UsageError
from cslm_data.plain_text import visible
from cslm_data.workspace import Workspace

if TYPE_CHECKING:
    from cslm_data.curating.curation import CurationSummary


class Table(StrEnum):
    """What is curated."""

    UTTERANCES = "utterances"
    BITEXT = "bitext"
    DIALOGUES = "dialogues"


class By(StrEnum):
    """What makes two rows the same."""

    TEXT = "text"
    AUDIO = "audio"


class Within(StrEnum):
    """Which rows are compared."""

    SPEAKER = "speaker"
    CORPUS = "corpus"
    LANGUAGE = "language"
    ALL = "all"


class Keep(StrEnum):
    """Which of the same rows stays."""

    FIRST = "first"
    LONGEST = "longest"
    BEST_SNR = "best-snr"


TableOption = Annotated[Table, typer.Option(help="What to look at.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be moved out.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("filter")(filter_)
    app.command()(dedup)


def filter_(
    predicate: Annotated[
        str | None,
        typer.Argument(
            help='SQL over a row, e.g. "duration_s < 0.3 or snr_db < 5".', show_default=False
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    reason: Annotated[
        str | None, typer.Option(help="Why; kept with the rows.", show_default=False)
    ] = None,
    table: TableOption = Table.UTTERANCES,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Whose units num_units and units_per_s are, by name or id.", show_default=False
        ),
    ] = None,
    undo: Annotated[
        str | None,
        typer.Option(help="Bring back what this filter or dedup moved out; or: last."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Print all filters and dedups.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Move the rows for which a predicate holds out of every later step; --undo brings them back.

    Columns are those of the table. Of utterances also what `measure` wrote (rms_db peak
    clipped_share dc_offset leading_silence_s trailing_silence_s silence_share snr_db bandwidth_hz
    samples_hash num_samples decoded_s), num_units units_per_s, num_characters characters_per_s,
    detected_language detected_confidence. Of bitext src_characters tgt_characters src_detected
    tgt_detected. Of dialogues num_turns num_characters num_spoken.
    """
    from cslm_data.curating import curation

    where = shell.workspace_of(workspace)
    if [predicate is not None, undo is not None, show].count(True) != 1:
        raise UsageError("give one of: a predicate, --undo, --list")
    if show:
        history = curation.list_curations(where)
        if json:
            tables.print_json(history)
            return
        tables.print_table(
            ["id", "kind", "table", "rows", "state", "reason", "what"],
            [
                (c.curation_id, c.kind, c.table_name, c.num_rows)
                + ("undone" if c.undone else "moved out", c.reason, c.predicate)
                for c in history
            ],
        )
        return
    if undo is not None:
        undone = curation.undo(where, undo)
        if json:
            tables.print_json(undone)
        else:
            typer.echo(
                f"{undone.num_rows} rows of {undone.table_name} are back ({undone.kind} "
                f"{undone.curation_id}: {visible(undone.reason)})"
            )
        return
    if reason is None:
        raise UsageError("--reason: say why, in a few words; it is kept with the rows")
    summary = curation.filter_rows(
        where,
        predicate or "",
        reason=reason,
        table=table.value,
        tokenizer=tokenizer,
        dry_run=dry_run,
    )
    _print(summary, dry_run=dry_run, json=json)


def dedup(
    workspace: WorkspaceOption = None,
    by: Annotated[By, typer.Option(help="What makes two rows the same.")] = By.TEXT,
    within: Annotated[
        Within | None,
        typer.Option(
            help="Which rows are compared. Default: of one speaker (utterances by text), language "
            "(bitext, dialogues), all (audio).",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        Keep, typer.Option(help="Which one stays; first: by a hash of the id.")
    ] = Keep.FIRST,
    keep_max: Annotated[int, typer.Option(min=1, help="How many stay.")] = 1,
    table: TableOption = Table.UTTERANCES,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Move out all but one of rows that say or sound the same; filter --undo brings them back."""
    from cslm_data.curating.dedup import dedup as run_dedup

    summary = run_dedup(
        shell.workspace_of(workspace),
        table=table.value,
        by=by.value,
        within=None if within is None else within.value,
        keep=keep.value,
        keep_max=keep_max,
        dry_run=dry_run,
    )
    _print(summary, dry_run=dry_run, json=json)


def _print(summary: CurationSummary, *, dry_run: bool, json: bool) -> None:
    if json:
        tables.print_json(summary)
        return
    if not summary.num_rows:
        typer.echo(f"nothing matched: no row of {summary.table} is moved out")
        return
    tables.print_table(
        ["corpus", "language", "moved out", "of", "hours"],
        [(m.corpus, m.language, m.num_rows, m.num_before, m.hours) for m in summary.moved],
    )
    done = "would be" if dry_run else "are"
    typer.echo(
        f"{summary.num_rows} rows of {summary.table} ({summary.hours:.3f} h) {done} moved out"
    )
    if summary.curation_id is not None:
        typer.echo(f"undo with: cslm-data filter --undo {summary.curation_id}")


def print_story(workspace: Workspace, key: str, *, json: bool) -> None:
    """Print what became of an id or a sample key, step by step."""
    from cslm_data.lineage.story_of_id import tell

    story = tell(workspace, key)
    if json:
        tables.print_json(story.as_dict())
        return
    for chapter in story.chapters:
        typer.echo(visible(chapter.title))
        for line in chapter.lines:
            typer.echo(f"  {visible(line)}")
