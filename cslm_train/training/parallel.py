"""Processes → gangs; model → the same model, shared among them as `parallel:` says.

bf16 with FSDP2 is a policy: fp32 weights and optimizer state in shards, each layer's weights cast
to bf16 when they are gathered, gradients reduced in fp32. Without shards it is autocast, which
leaves normalisation and the loss in fp32. One process is never sharded, whatever is asked for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import warnings
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from fairseq2.device import CPU, Device
from fairseq2.gang import (
    FakeGang,
    Gang,
    Gangs,
    ProcessGroupGang,
    create_fsdp_gangs,
    create_parallel_gangs,
)
from fairseq2.models.transformer_lm import apply_ac_to_transformer_lm, apply_fsdp_to_transformer_lm
from fairseq2.nn.data_parallel import DataParallelFacade, set_data_parallel_facade
from fairseq2.nn.ddp import to_ddp
from fairseq2.nn.fsdp import (
    FSDP2Module,
    FSDPWrapper,
    fsdp2_load_local_state_dict,
    fsdp2_local_state_dict,
    fsdp2_no_sync,
    to_fsdp2,
)
from fairseq2.nn.utils.grad import clip_grad_norm
from fairseq2.nn.utils.module import reset_non_persistent_buffers, to_device, to_empty
from fairseq2.world_info import WorldInfo
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn import Module

from cslm_data.errors import UsageError
from cslm_train.config import ParallelConfig
from cslm_train.models.family import SpeechLM

Precision = Literal["fp32", "bf16"]


def root_gang(world: WorldInfo, device: Device, *, timeout_minutes: float) -> Gang:
    """All processes of a run; by itself a process needs no others.

    They stay together until they exit, over both stages: torchrun keeps the addresses of the first
    group that they form, and a second one would call at those.
    """
    if world.size == 1:
        return FakeGang(device)
    if not dist.is_initialized():
        timeout = timedelta(minutes=timeout_minutes)
        with _silent_stdout():
            ProcessGroupGang.create_default_process_group(device, timeout=timeout)
        atexit.register(leave)
    everyone = dist.group.WORLD
    assert everyone is not None
    return _LastingGang(everyone, device)


def leave() -> None:
    """Part from the other processes, in good order; not for one that has lost another."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _LastingGang(ProcessGroupGang):  # type: ignore[misc] # final for typing only
    def close(self) -> None:
        """Nothing: fairseq2's trainer would part at the end of each run."""


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Gloo greets its peers on stdout, which is for the summary of a run."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def make_gangs(root: Gang, parallel: ParallelConfig) -> Gangs:
    """Who shares data and who shares weights. Raises UsageError for a group that does not fit."""
    gangs = create_parallel_gangs(root)
    if parallel.data_parallel == "ddp" or root.size == 1:
        return gangs
    size = parallel.shard_group_size
    if size is not None and root.size % size:
        raise UsageError(
            f"parallel.shard_group_size: {root.size} processes do not make groups of {size}; set "
            "it to a divisor of their number, or leave it out to shard over all"
        )
    with _silent_stdout():
        return create_fsdp_gangs(gangs, size)


def is_sharded(gangs: Gangs) -> bool:
    """Whether each process holds only some rows of the weights."""
    return gangs.sdp.size > 1


def uses_autocast(precision: Precision, gangs: Gangs) -> bool:
    """Whether bf16 is autocast: shards are cast by FSDP2 itself."""
    return precision == "bf16" and not is_sharded(gangs)


def make_room(model: Module) -> None:
    """Memory on the CPU for a model of meta tensors, whose weights come from files."""
    to_empty(model, CPU)
    reset_non_persistent_buffers(model)


def share_model(
    model: SpeechLM, gangs: Gangs, parallel: ParallelConfig, *, precision: Precision
) -> Module:
    """The model with activation checkpointing, compiled, then DDP or FSDP2, as asked for.

    Rank 0 has the weights, on any device; those of the others may be meta tensors. Layer by layer
    they go to all, so no other process ever holds the whole of a sharded model.
    """
    if parallel.activation_checkpointing == "layer":
        apply_ac_to_transformer_lm(model, parallel.checkpoint_every_nth_layer)
    if parallel.compile:
        # torch.compile looks whether activations have gradients, and warns of that itself.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not")
        model.decoder.compile_layerwise()  # its attention stays as it is, see DocumentSDPA
    if is_sharded(gangs):
        return _shard(model, gangs, precision)
    if gangs.root.rank == 0:
        to_device(model, gangs.device)
    return to_ddp(model, gangs) if gangs.root.size > 1 else model


def _shard(model: SpeechLM, gangs: Gangs, precision: Precision) -> Module:
    def by_layer(module: Module, wrapper: FSDPWrapper) -> Module:
        return apply_fsdp_to_transformer_lm(cast(SpeechLM, module), "layer", wrapper)

    sharded = to_fsdp2(
        model,
        gangs,
        by_layer,
        mixed_precision_dtype=torch.bfloat16 if precision == "bf16" else None,
        fp32_reduce=True,
        broadcast_state=True,
    )
    set_data_parallel_facade(sharded, _Sharded(sharded))
    return sharded


class _Sharded(DataParallelFacade):
    """fairseq2's way to FSDP2, but that a validation does not gather the whole model."""

    def __init__(self, module: Module) -> None:
        self._module = weakref.ref(module)

    def _get(self) -> FSDP2Module:
        module = self._module()
        assert module is not None
        return cast(FSDP2Module, module)

    def state_dict(self) -> dict[str, object]:
        return fsdp2_local_state_dict(self._get())

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        fsdp2_load_local_state_dict(self._get(), state_dict)

    def no_sync(self) -> contextlib.AbstractContextManager[None]:
        return fsdp2_no_sync(self._get())

    def clip_grad_norm(self, max_norm: float | None) -> Tensor:
        return clip_grad_norm(self._get(), max_norm)

    @contextlib.contextmanager
    def summon_full_parameters(self) -> Iterator[None]:
        """Nothing: each layer is gathered when it runs, for every rank runs as many batches.

        What a forward pass left gathered, for a backward pass that does not come, is let go.
        """
        try:
            yield
        finally:
            for module in self._get().modules():
                if isinstance(module, FSDPModule):
                    module.reshard()


class WithoutGradients(Module):
    """A model to validate: FSDP2 cannot gather under inference mode, which fairseq2 validates in.

    No parameter is registered here, for they are the model's.
    """

    def __init__(self, model: Module) -> None:
        super().__init__()
        self._models = (model,)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the model."""
        with torch.inference_mode(False), torch.no_grad():
            output: Tensor = self._models[0](*args, **kwargs)
        return output
