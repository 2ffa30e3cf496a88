"""Engines run the planned parts of a job: on this machine, or on a cluster.

An engine takes parts, a picklable recipe of a worker and a number of workers, and yields each part
with its result as it finishes. A part's result depends on the part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from cslm_data.errors import UsageError

Worker = Callable[[Any], Any]


class RunParts(Protocol):
    """Runs every part; yields (part, result) in the order in which they finish."""

    def __call__(
        self,
        parts: Iterable[Any],
        make_worker: Callable[[], Worker],
        num_workers: int | None = None,
        *,
        gpu_per_worker: bool | None = False,
    ) -> Iterator[tuple[Any, Any]]:
        """`make_worker` is called once in each worker; what it returns, once for each part.

        Without `num_workers` there is one for every core, or every GPU, that there is. With
        `gpu_per_worker` each worker sees one GPU and no other; None: so where there are any. What a
        worker raises is raised here and ends the run; parts that finished stay finished.
        """


def _local() -> RunParts:
    from cslm_data.engines.local import run_parts

    return run_parts


def _ray() -> RunParts:
    from cslm_data.engines.ray import run_parts

    return run_parts


ENGINES: dict[str, Callable[[], RunParts]] = {"local": _local, "ray": _ray}
"""Engines by the name that `--engine` takes."""


def load_engine(name: str) -> RunParts:
    """The engine of that name. Raises UsageError for one there is not."""
    if name not in ENGINES:
        raise UsageError(f"--engine {name}: no such engine; there is {', '.join(sorted(ENGINES))}")
    return ENGINES[name]()
