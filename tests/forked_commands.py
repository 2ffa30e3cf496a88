"""Commands in processes of their own, forked from one that has imported fairseq2 already.

A fresh interpreter spends seven seconds on that, a fork none; all else is as when a user types it:
`main`, arguments, environment, output, exit code.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")


def run_forked(
    module: str,
    arguments: list[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run `main` of a module; what it prints lies in files of `folder` meanwhile."""
    _CONTEXT.set_forkserver_preload(["cslm_train.train", "cslm_train.evaluate"])
    streams = [folder / name for name in ("stdout.txt", "stderr.txt")]
    process = _CONTEXT.Process(
        target=_main, args=(module, arguments, dict(environment), list(map(str, streams)))
    )
    process.start()
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(arguments, timeout_s)
    output, errors = (path.read_text(encoding="utf-8") for path in streams)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, output, errors)


def _main(
    module: str, arguments: list[str], environment: dict[str, str], streams: list[str]
) -> None:
    os.environ.update(environment)
    for descriptor, path in zip((1, 2), streams, strict=True):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.argv = [module, *arguments]
    code: object = 0
    try:
        importlib.import_module(module).main()
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
