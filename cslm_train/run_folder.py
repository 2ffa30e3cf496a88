"""runs/<name>/: what a training run leaves, and what says which run it is.

run.json                        identity, written before the first step
text_tokenizer/                 copy, so that the run needs nothing else to answer
base_model/                     config, template and their like of the model it began with
packs-<split>.parquet           the plan: which samples make which pack
batches-<epoch>.parquet         which step and rank reads which pack
checkpoints/step_<n>/           fairseq2's
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


@dataclass(frozen=True, kw_only=True)
class InitialRun:
    """The checkpoint whose weights a run began with."""

    run: str
    run_id: str
    step: int


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Identity of a run. Two runs with equal fields read the same batches and learn the same."""

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
    """Data-parallel processes."""
    num_steps: int
    init_from: InitialRun | None
    config: TrainConfig
    base_id: str | None = None
    """Identity of the Hugging Face model that it, or the run it began with, began with."""

    @property
    def run_id(self) -> str:
        """Content hash of everything but where things lie."""
        values = {**self.as_dict(), "run": ""}
        values["config"]["model"]["base"] = ""
        return content_id(values)

    def as_dict(self) -> dict[str, Any]:
        """JSON-like copy."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

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
            row["config"] = from_dict(row["config"], str(path))
            if row["init_from"] is not None:
                row["init_from"] = InitialRun(**row["init_from"])
            return cls(**row)
        except FileNotFoundError:
            raise MissingArtefactError(
                f"{run_dir}: no training run here; run: cslm-train run"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArtefactError(f"{path}: not a run ({error})") from None

    def differences(self, other: RunInfo) -> list[str]:
        """Fields that differ, as `config.optimizer.lr: 0.001 here, 0.002 in the other`."""
        mine, theirs = dict(_flatten(self.as_dict())), dict(_flatten(other.as_dict()))
        return [
            f"{name}: {mine.get(name)} here, {theirs.get(name)} asked for"
            for name in dict.fromkeys((*mine, *theirs))
            if mine.get(name) != theirs.get(name) and name != "config.model.base"  # a place
        ]


def _flatten(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value


def text_tokenizer_folder(run_dir: Path) -> Path:
    """The run's copy of its text tokenizer."""
    return run_dir / "text_tokenizer"


def base_model_folder(run_dir: Path) -> Path:
    """The run's copy of the small files of its base model."""
    return run_dir / "base_model"


def model_file(run_dir: Path, step: int) -> Path:
    """The weights of a checkpoint that is not sharded."""
    return run_dir / "checkpoints" / f"step_{step}" / "model" / "pp_00" / "tp_00" / "sdp_00.pt"


def checkpoint_steps(run_dir: Path) -> list[int]:
    """Steps of the finished checkpoints, in order."""
    folders = (run_dir / "checkpoints").glob("step_*")
    names = (folder.name.removeprefix("step_") for folder in folders)
    steps = sorted(int(name) for name in names if name.isdecimal())
    return [step for step in steps if model_file(run_dir, step).exists()]
