"""Text → speech through a table of backends, for data that has no speech yet.

A spec names a backend: one of BACKENDS, an entry point of the group `cslm.tts`, or a Python
callable as `package.module:function`. Beside the backends lie the steps of `synthesize`: choosing
rows, plans and parts, speaking, and publishing what was spoken as a manifest.
"""

from __future__ import annotations

from collections.abc import Callable

from cslm_data.errors import UsageError
from cslm_data.synthesis.backend import Backend, BackendOptions


def _espeak(options: BackendOptions) -> Backend:
    from cslm_data.synthesis.espeak import load_espeak

    return load_espeak(options)


def _command(options: BackendOptions) -> Backend:
    from cslm_data.synthesis.command import load_command

    return load_command(options)


BACKENDS: dict[str, Callable[[BackendOptions], Backend]] = {
    "espeak": _espeak,
    "command": _command,
}
"""Backends by the name that `--backend` takes, heavy imports inside the entries."""


def load_backend(spec: str, options: BackendOptions) -> Backend:
    """The backend of a spec, ready to speak.

    Raises UsageError for one there is not or that makes no sense, MissingArtefactError where its
    program is not installed.
    """
    if options.command is not None and spec != "command":
        raise UsageError(f"--backend {spec}: --command is for --backend command alone")
    if spec in BACKENDS:
        return BACKENDS[spec](options)
    from cslm_data.synthesis.entry_point import load_entry_point

    return load_entry_point(spec, sorted(BACKENDS))
