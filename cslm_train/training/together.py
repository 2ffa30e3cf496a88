"""Errors of several processes: each is told once, and a process that is gone ends the others."""

from __future__ import annotations

import atexit
import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fairseq2.gang import Gang, GangError, broadcast_flag
from torch.distributed import DistError

from cslm_data.errors import (
    CslmError,
    DivergedError,
    EndedByFirstError,
    LostProcessError,
    NoDataError,
    UsageError,
)
from cslm_train.run_folder import checkpoint_steps
from cslm_train.training.parallel import leave

_OF_ALL = (DivergedError, NoDataError, UsageError)
"""What every process finds alike."""
_OF_MESSAGES = re.compile(
    r"\b(gloo|nccl|c10d|tcpstore)\b|connection (closed|reset|refused)|broken pipe|timed out",
    re.IGNORECASE,
)
"""What torch says when a message to another process fails; its exception is a RuntimeError."""


def first_alone(gang: Gang, work: Callable[[], object]) -> None:
    """Let rank 0 work while the others wait. Its error ends them, without a word of their own."""
    error: BaseException | None = None
    if gang.rank == 0:
        try:
            work()
        except BaseException as caught:
            error = caught
    failed = broadcast_flag(gang, error is not None) if gang.size > 1 else error is not None
    if error is not None:
        raise error
    if failed:
        raise EndedByFirstError("the first process could not begin")


@contextlib.contextmanager
def among_others(gang: Gang, run_dir: Path) -> Iterator[None]:
    """Errors know their rank, and one of talking to another process says what that means.

    Raises LostProcessError.
    """
    try:
        yield
    except _OF_ALL:
        raise
    except CslmError as error:
        error.rank = gang.rank if gang.size > 1 else None
        raise
    except Exception as error:
        if gang.size == 1 or not _is_of_messages(error):
            raise
        atexit.unregister(leave)  # it would wait for the one that is gone
        steps = checkpoint_steps(run_dir)
        lost = LostProcessError(
            f"{run_dir}: another of the {gang.size} processes is gone or does not answer "
            f"({_last_words(error)}); its own message, if it had one, stands above. The same "
            f"command goes on {f'after step {steps[-1]}' if steps else 'from the beginning'}"
        )
        lost.rank = gang.rank
        raise lost from error


def _is_of_messages(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, GangError | DistError):
            return True
        if isinstance(error, RuntimeError) and _OF_MESSAGES.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _last_words(error: BaseException) -> str:
    """What the innermost error says, without the place in torch's sources."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    words = re.sub(r"\[[^\]]*\.(cc|cpp|h):\d+\]\s*", "", str(error))
    return " ".join(words.split())[:160].rstrip(".")
