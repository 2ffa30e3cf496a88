"""A command in a process of its own: how long it took and what memory it and its workers held."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

_LOOK_EVERY_S = 0.05


class Measured(NamedTuple):
    """One run of one command."""

    wall_s: float
    peak_mb: float
    """Of the process and its children together, each shared page once."""
    output: str


def cslm_data(*arguments: object) -> list[str]:
    """The words of a command of `cslm-data`."""
    return [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)]


def run_measured(command: list[str], *, environment: dict[str, str] | None = None) -> Measured:
    """Run a command to its end; its standard output comes back. Fails where the command does.

    Keep the process that calls this small: what a child inherits before it begins counts as its.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as warned:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=said, stderr=warned, env={**os.environ, **(environment or {})}
        )
        watch = _Watch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.ended.set()
        watch.join()
        said.seek(0)
        warned.seek(0)
        words = " ".join(command[1:])
        assert process.returncode == 0, f"{words}: {process.returncode}\n{warned.read()[-3000:]}"
        return Measured(wall_s, max(usage.ru_maxrss / 1024, watch.peak_mb), said.read())


class _Watch(threading.Thread):
    """Looks at a process and its descendants until told that they ended."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.peak_mb = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(_LOOK_EVERY_S):
            family = _family(self._pid)
            if len(family) > 1:  # alone, the kernel's own count is the better one
                self.peak_mb = max(self.peak_mb, sum(map(_held_mb, family)))


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _held_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def show(name: str, measured: Measured) -> Measured:
    """Print one run, and hand it on."""
    print(f"{name:28} {measured.wall_s:8.2f} s  peak {measured.peak_mb:6.0f} MB", flush=True)
    return measured


def realised_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Requested against realised of the training split, as `mix-plan --json` says it."""
    rows: list[dict[str, Any]] = document.get("info", document)["realised"]
    return [row for row in rows if row["split"] == "train"]


def check_shares(rows: list[dict[str, Any]]) -> float:
    """The largest distance of a realised share from the requested one, as a part of that one.

    Asserts 0.1 %, or a sample where that is more; a row with a note says why it is further.
    """
    worst = 0.0
    total = sum(row["realised_tokens"] for row in rows)
    for row in rows:
        if row["note"] or not row["requested_share"]:
            continue
        off = abs(row["realised_share"] - row["requested_share"])
        sample = row["realised_tokens"] / max(row["num_samples"], 1) / total
        allowed = max(0.001 * row["requested_share"], sample)
        assert off <= allowed, f"{row['task']} {row['languages']}: {row}"
        worst = max(worst, off / row["requested_share"])
    return worst
