"""Training of the embedded aligner ↔ its checkpoint: one safetensors file, whole or not at all."""

# V symbols

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.workspace import atomic_path, remove_leftovers

log = logging.getLogger(__name__)

_NETWORK, _OPTIMIZER = "network.", "optimizer."
_COUNTS, _STEPS, _LOSSES = "counts", "num_steps", "losses"


@dataclass(frozen=True)
class Progress:
    """What a training is beside its weights and its optimiser."""

    counts_V: NDArray[np.float64]
    num_steps: int
    losses: list[float]
    """One for each epoch that is done."""


def save_checkpoint(
    path: Path,
    identity: str,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write everything that an epoch leaves to the next one."""
    from safetensors.torch import save_file

    tensors = {f"{_NETWORK}{name}": value for name, value in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{_OPTIMIZER}{index}.{name}"] = value
    tensors[_COUNTS] = torch.from_numpy(progress.counts_V)
    tensors[_STEPS] = torch.tensor(progress.num_steps)
    tensors[_LOSSES] = torch.tensor(progress.losses, dtype=torch.float64)
    with atomic_path(path) as temporary:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            temporary,
            metadata={"identity": identity},
        )


def load_checkpoint(
    path: Path, identity: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Bring network and optimiser to where a training of this identity was.

    None where there is no checkpoint, or one of another training, which starts anew then.
    """
    from safetensors import SafetensorError, safe_open

    if path.parent.is_dir():
        remove_leftovers(path.parent)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get("identity")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        log.warning("%s: not a checkpoint (%s); training starts anew", path, error)
        return None
    if said != identity:
        log.info("%s is of other speech or options; training starts anew", path)
        return None
    network.load_state_dict(_with_prefix(tensors, _NETWORK))
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _with_prefix(tensors, _OPTIMIZER).items():
        index, _, kind = name.partition(".")
        states.setdefault(int(index), {})[kind] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    return Progress(
        tensors[_COUNTS].numpy().copy(), int(tensors[_STEPS]), tensors[_LOSSES].tolist()
    )


def _with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
