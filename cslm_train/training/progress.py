"""fairseq2's progress and the rows of metrics → one live line: how far, how well and how fast.

A bar on a terminal, one line a minute elsewhere. What it shows beside the step is that of the
last row, so nothing is asked of the device for it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol, Self

from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER, ProgressReporter, ProgressTask

from cslm_data.plain_text import visible

log = logging.getLogger(__name__)

_LINE_EVERY_S = 60.0


class _View(Protocol):
    def update(self, step: int, facts: str) -> None:
        """Show where the run is."""


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
            f", {facts}" if facts else "",
            left,
        )


class _Bar:
    """A bar on the terminal; the time left counts the steps of this start alone."""

    def __init__(self, name: str, num_steps: int, first: int) -> None:
        from rich import progress as bars
        from rich.console import Console

        self.bars = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=20),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[facts]}", markup=False),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self.bars.add_task(visible(name), total=num_steps, completed=first, facts="")

    def update(self, step: int, facts: str) -> None:
        self.bars.update(self._task, completed=step, facts=facts)


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
        """Take over what a row of metrics says of training."""
        if category == "train":
            self._facts = facts_of(row)
            self.advance(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ex: Any) -> None:
        self._stack.close()


def facts_of(row: Mapping[str, Any]) -> str:
    """`loss 2.314, 12,345 tokens/s, padding 1.2 %, MFU 41 %, lr 6e-05`, as far as it is known."""
    known = []
    for name, form in _FACTS.items():
        value = row.get(name)
        if isinstance(value, (list, tuple)):  # learning rates of groups of weights
            value = max(value, default=None)
        if value is not None:
            known.append(form.format(value))
    if row.get("num_skipped_steps"):
        known.append(f"{row['num_skipped_steps']} skipped")
    return ", ".join(known)


_FACTS = {
    "nll": "loss {:.3f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "padding_share": "padding {:.1%}",
    "mfu": "MFU {:.1%}",
    "lr": "lr {:.3g}",
}
