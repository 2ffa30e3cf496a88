"""A program that speaks a text → its sound. Arguments are a list, never a line for a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from cslm_data.synthesis.backend import UnspeakableError

_SHOWN = 300


def run_program(
    arguments: Sequence[str], *, text: str, time_limit_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with a text on its stdin; what it started ends with it.

    Raises UnspeakableError: `tts_failed`, `tts_timeout`, with what it said on stderr.
    """
    try:
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise UnspeakableError("tts_failed", f"{arguments[0]}: cannot be run ({error})") from None
    try:
        data = text.encode("utf-8", "replace")
        out, errors = process.communicate(data, timeout=time_limit_s)
    except subprocess.TimeoutExpired:
        detail = f"{arguments[0]}: took longer than {time_limit_s:g} s; see --time-limit"
        raise UnspeakableError("tts_timeout", detail) from None
    finally:
        _end(process)
    if process.returncode:
        said = _tail(errors) or _tail(out) or "nothing on stderr"
        detail = f"{arguments[0]}: exit status {process.returncode}: {said}"
        raise UnspeakableError("tts_failed", detail)
    return subprocess.CompletedProcess(arguments, process.returncode, out, errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of its process group: a child of its own, or all of it in an error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        process.communicate()


def _tail(output: bytes) -> str:
    return " ".join(output.decode("utf-8", "replace").split())[-_SHOWN:]
