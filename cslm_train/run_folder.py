"""runs/<name>/: what a training run leaves, and what says which run it is.

run.json                        identity, written before the first step
text_tokenizer/                 copy, so that the run needs nothing else to answer
base_model/                     config, template and their like of the model it began with
packs-<split>.parquet           the plan: which samples make which pack
batches-<epoch>.parquet         which step and rank reads which pack
checkpoints/step_<n>/           fairseq2's; one file for each rank that holds rows of the weights
metrics/{train,valid}.jsonl, tb/
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.keys import content_id
from cslm_data.workspace import write_json
from cslm_train.config import TrainConfig
from cslm_train.config_files import from_dict
from cslm_train.packing.stretches import Stretch, Stretches

_NOT_IDENTITY = frozenset(
    {
        *("num_processes", "num_steps", "stretches"),
        *("config.model.base", "config.data.shards", "config.data.cache_dir"),
        *("config.data.cache_gb", "config.data.prefetch", "config.parallel"),
    }
)
"""Where things lie and how the work is shared: another value of one is no other run."""


@dataclass(frozen=True, kw_only=True)
class InitialRun:
    """The checkpoint whose weights a run began with."""

    run: str
    run_id: str
    step: int


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Identity of a run: with equal fields it reads the same packs in the same order.

    How many processes share them, and how, may change from one start to the next.
    """

    run: str
    stage: str
    mix: str
    mix_id: str
    languages: tuple[str, ...]
    tokenizer_id: str
    num_units: int
    frame_rate_hz: float
    text_tokenizer_id: str
    num_text: int
    """Ids of text; those of the controls and units follow."""
    vocabulary_id: str
    vocab_size: int
    template_version: str
    num_processes: int
    """Data-parallel processes of the last start."""
    num_steps: int
    """Steps of the whole run, with those processes to its end."""
    init_from: InitialRun | None
    config: TrainConfig
    base_id: str | None = None
    """Identity of the Hugging Face model that it, or the run it began with, began with."""
    stretches: Stretches = ()
    """What was read with how many processes, the last start last."""
    averaged: tuple[int, ...] = ()
    """Steps whose mean its only checkpoint is; none for a run that was trained."""

    @property
    def run_id(self) -> str:
        """Content hash of everything but where things lie and how the work was shared."""
        return content_id({**self._identity(), "run": ""})

    def as_dict(self) -> dict[str, Any]:
        """JSON-like copy."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def _identity(self) -> dict[str, Any]:
        return dict(_flatten(self.as_dict()))

    def save(self, run_dir: Path) -> None:
        """Write run.json."""
        write_json(run_dir / "run.json", {"run_id": self.run_id, **self.as_dict()})

    @classmethod
    def load(cls, run_dir: Path) -> RunInfo:
        """Read run.json. Raises MissingArtefactError, CorruptArtefactError."""
        path = run_dir / "run.json"
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            row.pop("run_id")
            row["languages"] = tuple(row["languages"])
            row["averaged"] = tuple(row.get("averaged", ()))
            row["config"] = from_dict(row["config"], str(path))
            if row["init_from"] is not None:
                row["init_from"] = InitialRun(**row["init_from"])
            row["stretches"] = tuple(Stretch(**each) for each in row.get("stretches", ()))
            return cls(**row)
        except FileNotFoundError:
            raise MissingArtefactError(
                f"{run_dir}: no training run here; run: cslm-train run"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArtefactError(f"{path}: not a run ({error})") from None

    def differences(self, other: RunInfo) -> list[str]:
        """What differs in identity, as `config.optimizer.lr: 0.001 here, 0.002 in the other`."""
        mine, theirs = self._identity(), other._identity()
        return [
            f"{name}: {mine.get(name)} here, {theirs.get(name)} asked for"
            for name in dict.fromkeys((*mine, *theirs))
            if mine.get(name) != theirs.get(name)
        ]


def _flatten(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of a run's identity by their whole names."""
    for name, value in tree.items():
        path = f"{at}{name}"
        if path in _NOT_IDENTITY:
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            yield path, value


def text_tokenizer_folder(run_dir: Path) -> Path:
    """The run's copy of its text tokenizer."""
    return run_dir / "text_tokenizer"


def base_model_folder(run_dir: Path) -> Path:
    """The run's copy of the small files of its base model."""
    return run_dir / "base_model"


def model_file(run_dir: Path, step: int) -> Path:
    """The weights of a checkpoint, or the rows of the first rank when it is sharded."""
    return checkpoint_folder(run_dir, step) / "model" / "pp_00" / "tp_00" / "sdp_00.pt"


def model_files(run_dir: Path, step: int) -> list[Path]:
    """The weights of a checkpoint: one file, or one of each rank that holds some rows."""
    return sorted(model_file(run_dir, step).parent.glob("sdp_*.pt"), key=_number)


def optimizer_files(run_dir: Path, step: int) -> list[Path]:
    """The state of the optimizer, in as many files as the weights."""
    folder = checkpoint_folder(run_dir, step) / "optimizer" / "pp_00" / "tp_00"
    return sorted(folder.glob("sdp_*.pt"), key=_number)


def trainer_files(run_dir: Path, step: int) -> list[Path]:
    """The state of each process: step, schedule, random numbers, running sums."""
    return sorted((checkpoint_folder(run_dir, step) / "trainer").glob("rank_*.pt"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """Everything of a checkpoint."""
    return run_dir / "checkpoints" / f"step_{step}"


def checkpoint_steps(run_dir: Path) -> list[int]:
    """Steps of the finished checkpoints, in order."""
    folders = (run_dir / "checkpoints").glob("step_*")
    names = (folder.name.removeprefix("step_") for folder in folders)
    steps = sorted(int(name) for name in names if name.isdecimal())
    return [step for step in steps if model_file(run_dir, step).exists()]
