"""--run, --stage → the folder of the run that answers."""

from __future__ import annotations

from pathlib import Path

from cslm_data.errors import MissingArtefactError
from cslm_data.workspace import Workspace
from cslm_train.run_folder import checkpoint_steps

STAGES = ("pretrain", "sft")
"""In the order of training; a run of a stage is named after it unless told otherwise."""


def choose_run(workspace: Workspace, *, run: str | None = None, stage: str | None = None) -> Path:
    """The run of that name or folder, else of that stage, else of the last stage trained so far.

    Raises MissingArtefactError that names the runs there are.
    """
    if run is not None:
        for folder in (workspace.runs / run, Path(run).expanduser()):
            if (folder / "run.json").is_file():
                return folder
        raise MissingArtefactError(f"{run}: no such run; {_there_are(workspace)}")
    wanted = STAGES[::-1] if stage is None else (stage,)
    for name in wanted:
        if checkpoint_steps(workspace.runs / name):
            return workspace.runs / name
    option = f" --stage {stage}" if stage else ""
    raise MissingArtefactError(
        f"{workspace.runs}: no trained {stage or 'model'} yet; {_there_are(workspace)} "
        f"(train with: cslm-train run{option})"
    )


def _there_are(workspace: Workspace) -> str:
    names = sorted(path.parent.name for path in workspace.runs.glob("*/run.json"))
    return f"there are {', '.join(names)}" if names else "there are none; run: cslm-train run"
