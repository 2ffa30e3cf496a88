"""--run, --stage, --checkpoint → the folder of the run that answers, and at which step."""

from __future__ import annotations

from pathlib import Path

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.workspace import Workspace
from cslm_train.run_folder import checkpoint_steps
from cslm_train.training.metrics import best_step

LAST_FIRST = ("sft", "pretrain")
"""The stages from the last on; a run of a stage is named after it unless told otherwise."""

TEACHES = {"chat": LAST_FIRST, "s2st": LAST_FIRST}
"""Where to look for a run that was taught to generate a task: the chains of modality in sft, all
others in pretrain."""


def choose_run(
    workspace: Workspace,
    *,
    run: str | None = None,
    stage: str | None = None,
    task: str | None = None,
) -> Path:
    """The run of that name or folder, else of that stage, else the last one trained so far.

    With a `task` to generate, the stage that teaches it comes first.
    Raises MissingArtefactError that names the runs there are.
    """
    if run is not None:
        for folder in (workspace.runs / run, Path(run).expanduser()):
            if (folder / "run.json").is_file():
                return folder
        raise MissingArtefactError(
            f"{run}: no such run; {_there_are(workspace)}; train one with: cslm-train run"
        )
    order = LAST_FIRST if task is None else TEACHES.get(task, LAST_FIRST[::-1])
    for name in order if stage is None else (stage,):
        if checkpoint_steps(workspace.runs / name):
            return workspace.runs / name
    option = f" --stage {stage}" if stage else ""
    raise MissingArtefactError(
        f"{workspace.runs}: no trained {stage or 'model'} yet; "
        f"{_there_are(workspace)}; train it with: cslm-train run{option}"
    )


def choose_checkpoint(run_dir: Path, which: str = "last") -> int:
    """The step of a checkpoint: `last`, `best` (of the lowest validation loss), or by its number.

    Raises MissingArtefactError that names the checkpoints there are, UsageError for another word.
    """
    steps = checkpoint_steps(run_dir)
    if not steps:
        raise MissingArtefactError(f"{run_dir}: no checkpoint yet; run: cslm-train run")
    there = f"there are {', '.join(map(str, steps))}"
    if which == "best":
        step = best_step(run_dir)
    elif which == "last":
        step = steps[-1]
    elif which.isdecimal():
        step = int(which) if int(which) in steps else None
    else:
        raise UsageError(f"--checkpoint {which}: give last, best or a step; {there}")
    if step is None:
        raise MissingArtefactError(
            f"{run_dir}: no checkpoint {which!r}; {there}"
            + (", none of them with a validation loss" if which == "best" else "")
        )
    return step


def _there_are(workspace: Workspace) -> str:
    names = sorted(path.parent.name for path in workspace.runs.glob("*/run.json"))
    return f"there are {', '.join(names)}" if names else "there are none"
