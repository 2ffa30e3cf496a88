"""One training → other ways to place it on the same GPUs, with what each needs of one of them.

What to change when a run does not fit: first what costs speed, then what changes the training.
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
    """DDP or FSDP, activations kept or computed again, all weights or adapters alone; half packs.

    The way that is configured is among them; the settings of each are those that differ from it.
    """
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
            settings=" ".join(choice.settings),
            total=total,
            fits=total <= memory_bytes,
            configured=choice.placement == placement and choice.lora == lora,
        )


def _choices(now: Placement, lora: LoraConfig) -> Iterator[_Choice]:
    sharded = now.shards if now.shards > 1 else now.world_size
    again = now.recompute_every or 1
    adapted = [lora] if lora.rank else [lora, replace(lora, rank=_LORA_RANK)]
    for chosen in adapted:
        for shards in dict.fromkeys((1, sharded)):
            for every in (0, again):
                yield _choice(now, lora, replace(now, shards=shards, recompute_every=every), chosen)
    if now.pack_length > 1:
        small = replace(
            now, shards=sharded, recompute_every=again, pack_length=now.pack_length // 2
        )
        yield _choice(now, lora, small, lora)


def _choice(
    now: Placement, lora_now: LoraConfig, placement: Placement, lora: LoraConfig
) -> _Choice:
    kind = "fsdp" if placement.shards > 1 else "ddp"
    alone = placement.world_size == 1
    every = placement.recompute_every
    parts = ["one GPU" if alone else f"FSDP over {placement.shards}" if kind == "fsdp" else "DDP"]
    settings = []
    if placement.shards != now.shards:
        settings.append(f"parallel.data_parallel={kind}")
    if every:
        parts.append("activation checkpointing")
    if every != now.recompute_every:
        settings.append(f"parallel.activation_checkpointing={'layer' if every else 'none'}")
    if lora.rank:
        parts.append(f"LoRA of rank {lora.rank}")
    if lora != lora_now:
        settings.append(f"lora.rank={lora.rank}")
    if placement.pack_length != now.pack_length:
        parts.append(f"packs of {placement.pack_length}")
        settings.append(f"data.pack_length={placement.pack_length}")
    return _Choice(name=", ".join(parts), settings=tuple(settings), placement=placement, lora=lora)
