"""The folder of an aligner's alignments: whose they are, and how they were made.

`aligner.json` beside the parts says so; alignments of two models, or made with other options, never
mix.
"""

from __future__ import annotations

import json
from dataclasses import replace

from cslm_data.aligning.timing import Timing
from cslm_data.errors import AlreadyExistsError, UsageError
from cslm_data.storage import LocalFolder
from cslm_data.units.parts import PARTS, PLANS, list_parts, list_plans
from cslm_data.workspace import write_json

IMPORTED = "imported"
"""Name of the folder of times that came with corpora."""

_IDENTITY = "aligner.json"


def check_name(name: str) -> None:
    """Raise UsageError for a model whose name cannot be that of a folder of alignments."""
    plain = name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if name == IMPORTED or not plain or name.startswith("."):
        raise UsageError(
            f"an aligner cannot be called {name!r}, which would be the name of its folder in "
            f"alignments/ ({IMPORTED!r} holds the times that came with corpora); rename it"
        )


def claim(folder: LocalFolder, timing: Timing, asked: float | None, aligner: str) -> Timing:
    """Mark a folder as that of this model and these options, or see that it is.

    Raises AlreadyExistsError.
    """
    path = folder.path / _IDENTITY
    if not path.exists():
        if list_parts(folder) or list_plans(folder):
            raise AlreadyExistsError(
                f"{folder.address}: alignments without {_IDENTITY}, so nobody knows of which "
                "aligner; restore that file, or replace them with --overwrite"
            )
        write_json(path, timing.identity)
        return timing
    there = json.loads(path.read_text(encoding="utf-8"))
    if asked is None:
        timing = replace(timing, min_score=there.get("min_score", timing.min_score))
    # Through JSON, as the other was.
    ours = json.loads(json.dumps(timing.identity))
    differing = [name for name in ours if ours[name] != there.get(name)]
    if differing:
        what = ", ".join(f"{name} {there.get(name)}, not {ours[name]}" for name in differing)
        raise AlreadyExistsError(
            f"{folder.address}: holds alignments of another model or other options ({what}); "
            f"replace them: cslm-data align --aligner {aligner} --overwrite"
        )
    return timing


def empty(folder: LocalFolder) -> None:
    """Remove all that is there, the identity last: what a kill leaves is still known."""
    for pattern in (PARTS, PLANS, _IDENTITY):
        for name in folder.names(pattern):
            folder.remove(name)
