"""The local engine: processes of this machine, one thread each; none but this one for one worker.

Workers are spawned, never forked, ignore Ctrl-C (the parent handles it) and end with their parent,
also when it is killed. On request each sees one GPU and no other.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from typing import Any

from cslm_data.engines import Worker
from cslm_data.engines.threads import limit_threads, set_threads
from cslm_data.errors import CslmError, UsageError

log = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_AHEAD = 2
"""Parts waiting per worker: enough to keep it busy, few enough to keep the plan out of memory."""


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    number = torch.cuda.device_count()
    said = os.environ.get(_VISIBLE)
    return said.split(",")[:number] if said else [str(index) for index in range(number)]


def run_parts(
    parts: Iterable[Any],
    make_worker: Callable[[], Worker],
    num_workers: int | None = None,
    *,
    gpu_per_worker: bool | None = False,
) -> Iterator[tuple[Any, Any]]:
    """Run every part on this machine; see RunParts.

    More workers than GPUs share them evenly. Raises UsageError where GPUs are asked for and there
    is none.
    """
    waiting = iter(parts)
    # A single part needs no second process.
    first = list(itertools.islice(waiting, 2))
    waiting = itertools.chain(first, waiting)
    gpus = [] if gpu_per_worker is False else visible_gpus()
    if gpu_per_worker and not gpus:
        raise UsageError("there is no GPU on this machine; use --device cpu")
    workers = num_workers or len(gpus) or available_cores()
    if workers <= 1 or len(first) < 2:
        yield from _run_here(waiting, make_worker)
    else:
        yield from _run_in_processes(waiting, make_worker, workers, gpus)


def _run_here(parts: Iterable[Any], make_worker: Callable[[], Worker]) -> Iterator[tuple[Any, Any]]:
    worker: Worker | None = None
    for part in parts:
        worker = worker or make_worker()
        with limit_threads(1):
            result = worker(part)
        yield part, result


def _run_in_processes(
    parts: Iterator[Any], make_worker: Callable[[], Worker], num_workers: int, gpus: list[str]
) -> Iterator[tuple[Any, Any]]:
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    # Each process takes one from here, in whatever order they start.
    own_gpus = context.SimpleQueue()
    for gpu in itertools.islice(itertools.cycle(gpus), num_workers if gpus else 0):
        own_gpus.put(gpu)
    executor = ProcessPoolExecutor(
        num_workers,
        mp_context=context,
        initializer=_begin,
        initargs=(make_worker, own_gpus if gpus else None),
    )
    running: dict[Future[Any], Any] = {}
    try:
        for part in itertools.islice(parts, _AHEAD * num_workers):
            running[executor.submit(_work, part)] = part
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                part = running.pop(future)
                result = future.result()
                for following in itertools.islice(parts, 1):
                    running[executor.submit(_work, following)] = following
                yield part, result
    except BrokenProcessPool:
        raise CslmError(
            "a worker process died (killed, or out of memory); run the same command again: "
            "finished parts are kept. If it happens again, use fewer with --num-workers"
        ) from None
    except BaseException:
        # Ctrl-C, an error in a part, or a caller that stops listening: do not wait for the rest.
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_make_worker: Callable[[], Worker] | None = None
_worker: Worker | None = None


def _begin(make_worker: Callable[[], Worker], own_gpus: SimpleQueue[str] | None) -> None:
    """First thing in a new process, before torch is there to look for GPUs."""
    global _make_worker
    if own_gpus is not None:
        os.environ[_VISIBLE] = own_gpus.get()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _make_worker = make_worker


def _work(part: Any) -> Any:
    """One part. The worker is made with the first one, so that its errors reach the parent."""
    global _worker
    if _worker is None:
        assert _make_worker is not None
        _worker = _make_worker()
        set_threads(1)
    return _worker(part)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
