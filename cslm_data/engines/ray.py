"""The Ray engine: actors on the machines of a cluster, with a core (or a GPU) and one thread each.

The cluster is that of `RAY_ADDRESS`, else one started on this machine (`ray start --head`),
else one of this machine alone for the time of the run. Every machine needs the same installation of
this package, and must find audio, weights and output under the same paths or URLs.

A worker that is lost with its machine, or killed, is replaced, and its parts are done again
elsewhere: they are written whole or not at all, and depend on nothing but themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cslm_data.engines import Worker
from cslm_data.engines.local import available_cores
from cslm_data.engines.threads import set_threads
from cslm_data.errors import CslmError, UsageError

log = logging.getLogger(__name__)

_AHEAD = 2
"""Parts at a worker: one at work, one that waits there, so that it never idles."""
_ATTEMPTS = 5
"""How often a worker may be lost over one part, or while it starts, before we give up."""
_TRIES_TO_JOIN = 3
"""Of a second each, at RAY_ADDRESS."""
_PATIENCE_S = 30.0
"""How long to wait for a first worker before saying so."""


def run_parts(
    parts: Iterable[Any],
    make_worker: Callable[[], Worker],
    num_workers: int | None = None,
    *,
    gpu_per_worker: bool | None = False,
) -> Iterator[tuple[Any, Any]]:
    """Run every part on a Ray cluster; see RunParts.

    Raises UsageError without Ray, without a cluster at RAY_ADDRESS or without a GPU where one is
    asked for; CslmError for a part that loses its worker again and again.
    """
    waiting = iter(parts)
    first = list(itertools.islice(waiting, 1))
    if not first:
        return
    with _connected() as ray:
        if gpu_per_worker is None:
            gpu_per_worker = ray.cluster_resources().get("GPU", 0) >= 1
        room = _count(ray, "GPU" if gpu_per_worker else "CPU")
        pool = _Pool(ray, make_worker, num_workers or room, gpu_per_worker=gpu_per_worker)
        try:
            yield from pool.run(itertools.chain(first, waiting))
        finally:
            pool.close()


class _Actor:
    """What lives in a process of the cluster."""

    def begin(self, make_worker: Callable[[], Worker]) -> None:
        self._work = make_worker()
        set_threads(1)

    def work(self, part: Any) -> Any:
        return self._work(part)


@dataclass(eq=False)
class _Task:
    """A part on its way."""

    part: Any
    lost: int = 0


@dataclass(eq=False)
class _Seat:
    """A place in the pool: an actor, and what it has been given, in the order of its work."""

    actor: Any
    tasks: deque[_Task] = field(default_factory=deque)
    lost: int = 0
    """How many actors of this place died before they began."""


class _Pool:
    """Actors and the parts that they are at."""

    def __init__(
        self,
        ray: Any,
        make_worker: Callable[[], Worker],
        num_workers: int,
        *,
        gpu_per_worker: bool,
    ) -> None:
        self._ray = ray
        # Once into the object store, from where each machine fetches it once.
        self._recipe = ray.put(make_worker)
        self._actor_class = ray.remote(num_cpus=1, num_gpus=int(gpu_per_worker))(_Actor)
        self._starting: dict[Any, _Seat] = {}
        self._ready: set[_Seat] = set()
        self._running: dict[Any, tuple[_Seat, _Task]] = {}
        self._again: deque[_Task] = deque()
        for _ in range(num_workers):
            self._start(lost=0)

    def run(self, parts: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        """Yields (part, result) as they finish."""
        tasks = (_Task(part) for part in parts)
        while True:
            self._hand_out(tasks)
            # While nobody is ready there is a part left: the first one was seen before we began.
            if self._ready and not self._running:
                return
            references = [*self._starting, *self._running]
            done, _ = self._ray.wait(references, timeout=None if self._ready else _PATIENCE_S)
            if not done:
                log.warning("ray: still waiting for the cluster to have a core or GPU to spare")
            for reference in done:
                if reference in self._starting:
                    self._begun(reference)
                else:
                    yield from self._finished(reference)

    def close(self) -> None:
        """End every actor, also in the middle of a part."""
        for seat in [*self._starting.values(), *self._ready]:
            self._ray.kill(seat.actor)

    def _start(self, *, lost: int) -> None:
        seat = _Seat(self._actor_class.remote(), lost=lost)
        self._starting[seat.actor.begin.remote(self._recipe)] = seat

    def _hand_out(self, tasks: Iterator[_Task]) -> None:
        for seat in self._ready:
            while len(seat.tasks) < _AHEAD:
                task = self._again.popleft() if self._again else next(tasks, None)
                if task is None:
                    return
                seat.tasks.append(task)
                self._running[seat.actor.work.remote(task.part)] = (seat, task)

    def _begun(self, reference: Any) -> None:
        """An actor is ready, or died on the way."""
        seat = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _fault(error, "the start of a worker") from error
        except self._ray.exceptions.RayError as error:
            log.warning("ray: a worker died while it started: %s", _first_line(error))
            if seat.lost + 1 == _ATTEMPTS:
                raise CslmError(
                    f"ray: a worker died {_ATTEMPTS} times while it started "
                    f"({_first_line(error)}); look into the logs of the cluster, and whether its "
                    "machines have the memory: fewer with --num-workers"
                ) from None
            self._ray.kill(seat.actor)
            self._start(lost=seat.lost + 1)
        else:
            self._ready.add(seat)

    def _finished(self, reference: Any) -> Iterator[tuple[Any, Any]]:
        """A part is done, or its worker was lost."""
        seat, task = self._running.pop(reference)
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _fault(error, f"part {_short(task.part)}") from error
        except self._ray.exceptions.RayError as error:
            self._lost(seat, error)
            self._again.append(task)
        else:
            seat.tasks.remove(task)
            yield task.part, result

    def _has_result(self, reference: Any) -> bool:
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError:
            return False
        return True

    def _lost(self, seat: _Seat, error: Exception) -> None:
        """Replace an actor, the first time that one of its parts says that it is gone."""
        if seat not in self._ready:
            return
        self._ready.remove(seat)
        # A part may have ended whose result was not taken yet: it is not the one at fault.
        ended = [
            id(task)
            for reference, (other, task) in self._running.items()
            if other is seat and self._has_result(reference)
        ]
        at_work = next(task for task in seat.tasks if id(task) not in ended)
        at_work.lost += 1
        log.warning("ray: a worker was lost, its parts are done again: %s", _first_line(error))
        if at_work.lost == _ATTEMPTS:
            raise CslmError(
                f"ray: part {_short(at_work.part)} lost its worker {_ATTEMPTS} times "
                f"({_first_line(error)}); finished parts are kept: if it is a lack of memory, run "
                "the same command again with fewer --num-workers"
            ) from None
        self._ray.kill(seat.actor)
        self._start(lost=0)


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """Ray, connected to a cluster; what was not connected before is not afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UsageError(
            "--engine ray: Ray is missing; install it: pip install 'cslm[ray]'"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    in_main = threading.current_thread() is threading.main_thread()
    on_terminate = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        _join(ray)
        yield ray
    finally:
        ray.shutdown()
        if in_main:
            signal.signal(signal.SIGTERM, on_terminate)


def _join(ray: Any) -> None:
    """Connect to the cluster there is, or start one of this machine."""
    # Ray's own printing would get among what the command prints, on stdout too.
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray._private.worker.print_to_stdstream = _log_quietly
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS", "")
    if address:
        _check_address(address)
        _join_address(ray, address, quiet)
    else:
        try:
            ray.init("auto", **quiet)
        except ConnectionError:
            ray.init("local", num_cpus=available_cores(), include_dashboard=False, **quiet)
    resources = ray.cluster_resources()
    log.info(
        "ray: %d machines, %d CPUs, %d GPUs",
        sum(node["Alive"] for node in ray.nodes()),
        resources.get("CPU", 0),
        resources.get("GPU", 0),
    )


def _join_address(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    """Connect to the cluster of RAY_ADDRESS, with the token of this user if it asks for one.

    `ray start` makes a cluster ask for it where it finds one; given an address, `ray.init` does not
    look for it.
    """
    from ray._private import ray_constants
    from ray._private.authentication import authentication_token_setup

    tries = ray_constants.NUM_REDIS_GET_RETRIES
    ray_constants.NUM_REDIS_GET_RETRIES = _TRIES_TO_JOIN
    try:
        try:
            ray.init(address, **quiet)
        except ConnectionError:
            if not authentication_token_setup.maybe_enable_token_auth_if_token_available():
                raise
            ray.init(address, **quiet)
    except ConnectionError as error:
        raise UsageError(
            f"RAY_ADDRESS={address}: {_first_line(error)}; if the cluster asks for a token (ray "
            "start says so), bring ~/.ray/auth_token of its head here and set RAY_AUTH_MODE=token"
        ) from None
    finally:
        ray_constants.NUM_REDIS_GET_RETRIES = tries


def _check_address(address: str) -> None:
    """Raise UsageError for a RAY_ADDRESS where nobody answers; Ray would wait there for minutes."""
    if "://" in address:
        raise UsageError(
            f"RAY_ADDRESS={address}: Ray Client is not supported; run this command on a machine of "
            "the cluster, with RAY_ADDRESS=host:6379 or without it"
        )
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise UsageError(
            f"RAY_ADDRESS={address}: no cluster answers there ({_first_line(error)}); start one "
            "with: ray start --head, or unset RAY_ADDRESS"
        ) from None


def _log_quietly(data: dict[str, Any], ignore_prefix: bool) -> None:
    for line in data.get("lines", []):
        log.debug("ray: %s", line)


def _count(ray: Any, kind: str) -> int:
    """How many CPUs or GPUs the cluster has."""
    number = int(ray.cluster_resources().get(kind, 0))
    if not number:
        advice = "use --device cpu, or add" if kind == "GPU" else "add"
        raise UsageError(
            f"--engine ray: the cluster has no {kind}; {advice} a machine that has one: ray start "
            "--address=…"
        )
    return number


def _fault(error: Any, where: str) -> BaseException:
    """What our code raised over there: our own errors as they are, others with their place."""
    cause: BaseException = error.cause
    if not isinstance(cause, CslmError):
        cause.add_note(f"raised by {where}")
    return cause


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _short(part: Any) -> str:
    return textwrap.shorten(str(part), 200)
