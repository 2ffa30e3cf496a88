"""Progress of long work: a bar with rate and ETA on a terminal, one line a minute elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from cslm_data.plain_text import visible

log = logging.getLogger(__name__)

_LINE_EVERY_S = 60.0


class Progress(Protocol):
    """Counts finished work."""

    def advance(self, amount: float = 1) -> None:
        """Say that `amount` more is done."""


class _Lines:
    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done = 0.0
        self._start = self._said = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said < _LINE_EVERY_S:
            return
        self._said = now
        rate = self._done / (now - self._start)
        if self._total and rate > 0:
            left_s = (self._total - self._done) / rate
            of = f" of {self._total:.0f}"
            eta = f", {left_s:.0f} s left"
        else:
            of = eta = ""
        log.info("%s: %.0f%s %s, %.1f/s%s", self._name, self._done, of, self._unit, rate, eta)


class _Bar:
    def __init__(self, name: str, total: float | None, unit: str) -> None:
        from rich import progress as bars
        from rich.console import Console
        from rich.text import Text

        class _Rate(bars.ProgressColumn):
            def render(self, task: bars.Task) -> Text:
                return Text(f"{task.speed:.1f}/s" if task.speed else "")

        self.bars = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn(unit),
            _Rate(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self.bars.add_task(visible(name), total=total)

    def advance(self, amount: float = 1) -> None:
        self.bars.advance(self._task, amount)


@contextlib.contextmanager
def progress(name: str, *, total: float | None, unit: str) -> Iterator[Progress]:
    """Show progress of `total` `unit`s of work while the block runs."""
    if sys.stderr.isatty():
        bar = _Bar(name, total, unit)
        with bar.bars:
            yield bar
    else:
        yield _Lines(name, total, unit)
