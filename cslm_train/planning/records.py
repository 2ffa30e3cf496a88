"""What is asked of a plan, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cslm_train.config import ModelConfig
from cslm_train.planning.devices import GPU
from cslm_train.planning.memory import Memory, Placement
from cslm_train.planning.parameters import Parameters
from cslm_train.planning.reading import Group, Reading


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is planned, beside the configuration."""

    stage: str
    mix: str | None = None
    """None: named as the stage."""
    tokens: int | None = None
    """Instead of a mix: tokens of one pass."""
    sample_tokens: int = 512
    """How long samples are, where no mix says it."""
    shape: str | None = None
    """A public model by name, or a config.json, instead of `model.base` or a model from scratch."""
    init_from: Path | None = None
    """Run whose weights are begun with; None: for sft `runs/pretrain`, where it is."""
    num_units: int | None = None
    """Units of the speech tokenizer; None: the mix's, or as many as the paper has."""
    num_gpus: int = 1
    """Data-parallel processes of all nodes, one a GPU."""
    mfu: float = 0.4
    """Share of the peak that the model's FLOPs reach."""
    trained_share: float = 1.0
    """Of a pack's positions, those that are predicted; 1 is the worst case for memory."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is trained."""

    source: str
    """Where it is from, in words."""
    model: ModelConfig
    vocab_size: int
    base_vocab_size: int | None
    """Rows of text that the base model brings; None: from scratch."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How long a run is."""

    num_steps: int
    warmup_steps: int
    num_epochs: float
    packs_per_step: int
    packs_per_gpu: int
    """Of a step, one after the other on each GPU."""
    samples_per_step: int
    tokens_per_step: int
    num_tokens: int
    """Read in the whole run."""
    learning_rates: tuple[tuple[int, float], ...]
    """Step and rate: first, end of warm-up, quarters, last."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to place the training on the GPUs."""

    name: str
    settings: str
    """What to `--set` to have it, beside the configuration."""
    total: int
    """Bytes of one GPU."""
    fits: bool
    configured: bool
    """It is what the configuration says."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is computed, and how long it takes at the assumed MFU."""

    mfu: float
    flops_per_token: float
    total_flops: float
    tokens_per_second: float
    hours: float
    gpu_hours: float


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What the run's folder comes to."""

    checkpoint_bytes: int
    num_checkpoints: int
    """Kept, and the one being written."""
    total_bytes: int
    export_bytes: int
    """The exported model in bf16."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The arithmetic of a run."""

    stage: str
    mix: str | None
    num_gpus: int
    gpu: GPU
    architecture: Architecture
    parameters: Parameters
    groups: tuple[Group, ...]
    reading: Reading
    steps: Steps
    placement: Placement
    memory: Memory
    fits: bool
    ways: tuple[Way, ...]
    cost: Cost
    disk: Disk
    notes: tuple[str, ...]
    """What is assumed or amiss, in words."""
