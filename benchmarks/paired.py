"""Two ways to do one thing, timed in turn, so that a noisy machine is fair to both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of one run in this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall_s(work: Callable[[], object]) -> float:
    """Wall seconds of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ratio(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int = 5,
    clock: Callable[[Callable[[], object]], float] = cpu_s,
) -> float:
    """Median over rounds of theirs / ours, after one round that is not counted."""
    ratios = []
    for number in range(rounds + 1):
        ours_s, theirs_s = clock(ours), clock(theirs)
        if number:
            ratios.append(theirs_s / ours_s)
    return statistics.median(ratios)


def report(name: str, ratio: float, bar: float) -> None:
    """The line that every benchmark ends with."""
    print(f"{name}\nratio: {ratio:.2f} (bar: {bar:g})")
