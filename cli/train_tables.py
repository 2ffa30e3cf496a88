"""What training did, as tables for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from cslm_cli import tables

if TYPE_CHECKING:
    from cslm_train.training.metrics import TrainSummary


def print_runs(summaries: Sequence[TrainSummary]) -> None:
    """What each stage did; losses of every task and languages; what was forgotten of text."""
    rows: list[tuple[str, Callable[[TrainSummary], Any]]] = [
        ("steps", lambda s: f"{s.steps} of {s.num_steps}"),
        ("parameters", lambda s: s.num_parameters),
        ("tokens read", lambda s: s.tokens),
        ("tokens trained", lambda s: s.trained_tokens),
        ("train loss, first", lambda s: s.first_train_loss),
        ("train loss, last", lambda s: s.last_train_loss),
        ("valid loss, first", lambda s: s.first_valid_loss),
        ("valid loss, last", lambda s: s.last_valid_loss),
        ("seconds", lambda s: s.seconds),
        ("tokens a second", lambda s: s.tokens_per_second),
        ("waiting for data", lambda s: f"{s.data_share_of_time:.1%}"),
        ("packs", lambda s: s.num_packs),
        ("padding share", lambda s: 1 - s.pack_fill),
        ("samples left out", lambda s: s.num_skipped),
        ("samples cut or split", lambda s: s.num_split),
        ("steps skipped", lambda s: s.num_skipped_steps),
    ]
    if any(summary.mfu is not None for summary in summaries):
        rows.append(("utilisation", lambda s: "" if s.mfu is None else f"{s.mfu:.1%}"))
    tables.print_table(
        ["", *(s.stage for s in summaries)],
        [(name, *(value(s) for s in summaries)) for name, value in rows],
    )
    tables.print_table(
        ["stage", "task/languages", "valid loss, first", "last"],
        [
            (summary.stage, group, first, last)
            for summary in summaries
            for group, (first, last) in summary.group_losses.items()
        ],
    )
    perplexities = [
        (summary.stage, language, first, last, f"× {last / first:.3f}")
        for summary in summaries
        for language, (first, last) in summary.text_perplexity.items()
    ]
    if perplexities:
        tables.print_table(
            ["stage", "language", "before the first step", "after the last", "change"],
            perplexities,
            title="perplexity of held-out written instructions",
        )
    for summary in summaries:
        typer.echo(f"{summary.stage}: {summary.run_dir}")
