"""fairseq2's progress → our bar."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER, ProgressReporter, ProgressTask

from cslm_data.progress import Progress, progress


class _Task(ProgressTask):
    def __init__(self, bar: Progress, completed: int) -> None:
        self._bar = bar
        self._bar.advance(completed)

    def start(self) -> None:
        pass

    def step(self, value: int = 1) -> None:
        self._bar.advance(value)

    def close(self) -> None:
        pass


class StepProgress(ProgressReporter):
    """fairseq2's progress as ours: a bar of training steps, none within a validation."""

    def __init__(self, name: str, num_steps: int) -> None:
        self._name = name
        self._num_steps = num_steps
        self._stack = ExitStack()

    def create_task(
        self, name: str, total: int | None, completed: int = 0, *, start: bool = True
    ) -> ProgressTask:
        """A bar for the task `train`."""
        if name != "train":
            return NOOP_PROGRESS_REPORTER.create_task(name, total, completed)
        shown = progress(self._name, total=self._num_steps, unit="steps")
        return _Task(self._stack.enter_context(shown), completed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ex: Any) -> None:
        self._stack.close()
