"""One training → other ways to place it on the same GPUs, with what each needs of one of them.

What to change when a run does not fit, from what costs the least speed to what changes the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cslm_train.config import LoraConfig
from cslm_train.planning.memory import Placement, memory_of
from cslm_train.planning.parameters import count_parameters
from cslm_train.planning.records import Architecture, Way

_LORA_RANK = 16


@dataclass(frozen=True, kw_only=True)
class _Choice:
    name: str
    settings: tuple[str, ...]
    placement: Placement
    lora: LoraConfig


def ways_of(
    architecture: Architecture, placement: Placement, lora: LoraConfig, *, memory_bytes: int
) -> Iterator[Way]:
    """Every way: DDP or FSDP, activations kept or computed again, all weights or adapters alone,
    packs as long as they are or half."""
    for choice in _choices(placement, lora):
        parameters = count_parameters(
            architecture.model,
            architecture.vocab_size,
            base_vocab_size=architecture.base_vocab_size,
            lora=choice.lora,
        )
        total = memory_of(
            architecture.model, architecture.vocab_size, parameters, choice.placement
        ).total
        yield Way(
            name=choice.name,
            settings=" ".join(f"--set {setting}" for setting in choice.settings),
            total=total,
            fits=total <= memory_bytes,
            configured=choice.placement == placement and choice.lora == lora,
        )


def _choices(placement: Placement, lora: LoraConfig) -> Iterator[_Choice]:
    several = placement.world_size > 1
    sharded = placement.shards if placement.shards > 1 else placement.world_size
    adapted = lora if lora.rank else replace(lora, rank=_LORA_RANK)
    half = placement.pack_length // 2
    for rank_settings, chosen_lora in (
        ((), lora),
        *(() if lora.rank else (((f"lora.rank={_LORA_RANK}",), adapted),)),
    ):
        for shards in dict.fromkeys((1, sharded)):
            for every in (0, placement.recompute_every or 1):
                yield _Choice(
                    name=_name(several, shards, every, chosen_lora.rank, placement.pack_length),
                    settings=(
                        *((f"parallel.data_parallel={_kind(shards)}",) if several else ()),
                        f"parallel.activation_checkpointing={'layer' if every else 'none'}",
                        *rank_settings,
                    ),
                    placement=replace(placement, shards=shards, recompute_every=every),
                    lora=chosen_lora,
                )
    if half >= 1:
        yield _Choice(
            name=_name(several, sharded, 1, lora.rank, half),
            settings=(
                *((f"parallel.data_parallel={_kind(sharded)}",) if several else ()),
                "parallel.activation_checkpointing=layer",
                f"data.pack_length={half}",
            ),
            placement=replace(placement, shards=sharded, recompute_every=1, pack_length=half),
            lora=lora,
        )


def _kind(shards: int) -> str:
    return "fsdp" if shards > 1 else "ddp"


def _name(several: bool, shards: int, every: int, rank: int, pack_length: int) -> str:
    parts = [f"FSDP over {shards}" if shards > 1 else "DDP" if several else "one GPU"]
    parts += ["activation checkpointing"] if every else []
    parts += [f"LoRA of rank {rank}"] if rank else []
    return ", ".join([*parts, f"packs of {pack_length}"])
