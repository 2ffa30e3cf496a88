"""fairseq2's progress and the rows of metrics → what is seen live: how far, how well, how fast.

A bar on a terminal with the loss of each task and languages under it; elsewhere one line a minute,
and one for each validation. What it shows beside the step is that of the
last row, so nothing is asked of the device for it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol, Self

from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER, ProgressReporter, ProgressTask

from cslm_data.plain_text import visible

log = logging.getLogger(__name__)

_LINE_EVERY_S = 60.0


class _View(Protocol):
    def update(self, step: int, facts: str) -> None:
        """Show where the run is."""

    def validated(self, step: int, losses: str) -> None:
        """Show what a validation has found."""


class _Lines:
    """A line a minute, through the log."""

    def __init__(self, name: str, num_steps: int, first: int) -> None:
        self._name, self._num_steps, self._first = name, num_steps, first
        self._start = self._said = time.monotonic()

    def update(self, step: int, facts: str) -> None:
        now = time.monotonic()
        if now - self._said < _LINE_EVERY_S:
            return
        self._said = now
        rate = (step - self._first) / (now - self._start)
        left = f", {(self._num_steps - step) / rate:.0f} s left" if rate > 0 else ""
        log.info(
            "%s: %s of %s steps%s%s",
            self._name,
            step,
            self._num_steps,
            left,
            f", {facts}" if facts else "",
        )

    def validated(self, step: int, losses: str) -> None:
        log.info("%s: after step %s, valid %s", self._name, step, losses)


class _Bar:
    """A bar on the terminal; the time left counts the steps of this start alone."""

    def __init__(self, name: str, num_steps: int, first: int) -> None:
        from rich import progress as bars
        from rich.console import Console
        from rich.table import Column

        self.bars = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=20),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(Column(no_wrap=True, min_width=7)),
            bars.TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            bars.TextColumn(
                "{task.fields[facts]}", markup=False, table_column=Column(overflow="fold")
            ),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self.bars.add_task(visible(name), total=num_steps, completed=first, facts="")
        self._valid = ""

    def update(self, step: int, facts: str) -> None:
        shown = "\n".join(filter(None, (facts.replace("; ", "\n"), self._valid)))
        self.bars.update(self._task, completed=step, facts=shown)

    def validated(self, step: int, losses: str) -> None:
        self._valid = f"valid {losses}"


class _Task(ProgressTask):
    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress

    def start(self) -> None:
        pass

    def step(self, value: int = 1) -> None:
        self._progress.advance(value)

    def close(self) -> None:
        pass


class StepProgress(ProgressReporter):
    """The progress of a run's training steps, on one process; none within a validation."""

    def __init__(self, name: str, num_steps: int, *, shown: bool = True) -> None:
        self._name = name
        self._num_steps = num_steps
        self._shown = shown
        self._stack = ExitStack()
        self._view: _View | None = None
        self._step = 0
        self._facts = ""

    def create_task(
        self, name: str, total: int | None, completed: int = 0, *, start: bool = True
    ) -> ProgressTask:
        """The task `train`."""
        if name != "train" or not self._shown:
            return NOOP_PROGRESS_REPORTER.create_task(name, total, completed)
        self._step = completed
        if sys.stderr.isatty():
            bar = _Bar(self._name, self._num_steps, completed)
            self._stack.enter_context(bar.bars)
            self._view = bar
        else:
            self._view = _Lines(self._name, self._num_steps, completed)
        return _Task(self)

    def advance(self, steps: int) -> None:
        """Say that so many more steps have begun."""
        self._step += steps
        if self._view is not None:
            self._view.update(self._step, self._facts)

    def show(self, category: str, row: Mapping[str, Any]) -> None:
        """Take over what a row of metrics says."""
        if category == "train":
            self._facts = facts_of(row)
        elif category == "valid" and self._view is not None:
            self._view.validated(self._step, facts_of(row, names=("nll",)))
        self.advance(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ex: Any) -> None:
        self._stack.close()


def facts_of(row: Mapping[str, Any], *, names: Iterable[str] | None = None) -> str:
    """`loss 2.314, 12,345 tokens/s, padding 1.2 %, MFU 41 %, lr 6e-05; asr/en 1.024, mt/en-zh …`.

    As far as it is known; of the first part those of `names` alone.
    """
    known = []
    for name in _FACTS if names is None else names:
        form = _FACTS[name]
        value = row.get(name)
        if isinstance(value, (list, tuple)):  # learning rates of groups of weights
            value = max(value, default=None)
        if value is not None:
            known.append(form.format(value))
    if row.get("num_skipped_steps"):
        known.append(f"{row['num_skipped_steps']} skipped")
    losses = [
        f"{name.removeprefix('nll/')} {value:.3f}"
        for name, value in sorted(row.items())
        if name.startswith("nll/")
    ]
    return "; ".join(", ".join(part) for part in (known, losses) if part)


_FACTS = {
    "nll": "loss {:.3f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "padding_share": "padding {:.1%}",
    "mfu": "MFU {:.1%}",
    "lr": "lr {:.3g}",
}
