"""When a run ends: after its last step, or after the current one when a signal asks for it."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

from fairseq2.gang import Gang, all_sum

log = logging.getLogger(__name__)


class Stop:
    """Ends a run after its last step, or after the current one when a signal asks for it."""

    def __init__(self, num_steps: int, gang: Gang) -> None:
        self.wanted = False
        """Set by a signal handler."""
        self.request: Callable[[], None] = lambda: None
        """The trainer's `request_stop`."""
        self._num_steps = num_steps
        self._gang = gang

    def check(self, step: int) -> None:
        """Called at the beginning of a step by every rank, so that all stop after the same."""
        wanted = self.wanted
        if self._gang.size > 1:
            wanted = bool(all_sum(self._gang, int(wanted)))
        if wanted or step >= self._num_steps:
            self.request()


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """SIGTERM and the first Ctrl-C end the run after the current step, with a checkpoint."""
    replaced: dict[int, Any] = {}

    def ask(number: int, _: object) -> None:
        log.warning("%s: saving a checkpoint and stopping", signal.Signals(number).name)
        stop.wanted = True
        signal.signal(number, replaced[number])  # a second one ends it at once

    try:
        for number in (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGUSR1)):
            replaced[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread: whoever started us handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
