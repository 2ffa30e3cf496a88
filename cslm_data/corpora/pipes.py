"""Commands that a corpus names in the place of a file: run once, where a person has allowed it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading

from cslm_data.errors import AudioError

TIMEOUT_S = 600.0
MAX_BYTES = 2**31
"""No recording is larger; what prints more is stopped."""

_BLOCK_BYTES = 1 << 20


def run_pipe(command: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """What a shell command prints, run in the current folder as Kaldi and Lhotse do.

    Raises AudioError `pipe`: it failed, printed nothing or too much, or took longer than
    `timeout_s`; it and what it started are stopped then.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S602 - this is what --allow-pipes allows
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        printed = bytearray()
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            while block := process.stdout.read(_BLOCK_BYTES):
                printed += block
                if len(printed) > MAX_BYTES:
                    break
        finally:
            timer.cancel()
            if len(printed) > MAX_BYTES:
                _kill(process)
            assert process.stdout is not None  # noqa: S101
            process.stdout.close()
            status = process.wait()
        if late.is_set():
            raise AudioError("pipe", f"{command!r} took more than {timeout_s:g} s and was stopped")
        if len(printed) > MAX_BYTES:
            raise AudioError("pipe", f"{command!r} printed more than {MAX_BYTES} bytes")
        if status != 0 or not printed:
            errors.seek(0)
            said = errors.read(2000).decode("utf-8", "replace").strip() or "nothing on stderr"
            raise AudioError(
                "pipe",
                f"{command!r} ended with status {status} and {len(printed)} bytes ({said}); run it "
                "by hand in the folder of the recipe, and ingest from there",
            )
    return bytes(printed)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
