"""How many workers there are and where each computes, from what the user says."""

from __future__ import annotations

import functools

from cslm_data.engines import RunParts, load_engine
from cslm_data.features import is_network


def place_workers(
    engine: str, *, extractor: str, device: str, num_workers: int | None
) -> tuple[RunParts, int | None]:
    """The engine, bound to whether each worker has a GPU of its own, and the number of workers.

    None: as many workers as there is room for. Raises UsageError for an engine there is not.
    """
    gpu_per_worker: bool | None = None
    if not is_network(extractor) or device == "cpu":
        gpu_per_worker = False
    elif device == "cuda":
        gpu_per_worker = True
    elif device != "auto":
        # A GPU by its number: one worker, on that one.
        gpu_per_worker, num_workers = False, num_workers or 1
    return functools.partial(load_engine(engine), gpu_per_worker=gpu_per_worker), num_workers
