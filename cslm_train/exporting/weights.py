"""A checkpoint's weights → safetensors in transformers' names, in files of a size, streamed.

Step 1  plan: names, shapes and files, without a weight in memory
Step 2  write: one file's weights at a time, converted and rounded as they are read

Tied weights are saved once. The files are those that `save_pretrained` makes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cslm_data.errors import CorruptArtefactError
from cslm_data.progress import progress
from cslm_data.workspace import write_json
from cslm_train.config import ModelConfig
from cslm_train.models.hugging_face import OUTPUT, to_hugging_face, weight_shapes

log = logging.getLogger(__name__)

DtypeName = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[DtypeName, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class WrittenWeights:
    """What was written."""

    files: tuple[str, ...]
    num_parameters: int
    """Tied weights once."""
    num_bytes: int


def write_weights(
    weights: Mapping[str, Tensor],
    model: ModelConfig,
    folder: Path,
    *,
    vocab_size: int,
    dtype: torch.dtype,
    max_shard_bytes: int,
) -> WrittenWeights:
    """Write the weights of a run, in our names, into a folder.

    A file holds at most `max_shard_bytes`, or one weight that is larger. Raises
    CorruptArtefactError for weights of another model, and for one that is not finite in `dtype`.
    """
    from safetensors.torch import save_file

    _check_shapes(weights, model, vocab_size)
    planned = {
        theirs: (name, math.prod(meta.shape))
        for name, weight in weights.items()
        for theirs, meta in to_hugging_face({name: weight.to("meta")}, model).items()
    }
    shards = _plan(
        {name: count * dtype.itemsize for name, (_, count) in planned.items()}, max_shard_bytes
    )
    total = sum(count for _, count in planned.values())
    names = _file_names(len(shards))
    with progress("weights", total=len(planned), unit="tensors") as bar:
        for file, shard in zip(names, shards, strict=True):
            tensors = {}
            for theirs in shard:
                ours = planned[theirs][0]
                (converted,) = to_hugging_face({ours: weights[ours]}, model).values()
                tensors[theirs] = _round(ours, converted, dtype)
                bar.advance()
            save_file(tensors, folder / file, metadata={"format": "pt"})
            (folder / file).chmod(0o644)  # as the other files: it makes them for its owner alone
            del tensors
    if len(names) > 1:
        index = {
            "metadata": {"total_parameters": total, "total_size": total * dtype.itemsize},
            "weight_map": {
                name: file for file, shard in zip(names, shards, strict=True) for name in shard
            },
        }
        write_json(folder / INDEX, index)
    return WrittenWeights(
        files=tuple(names), num_parameters=total, num_bytes=total * dtype.itemsize
    )


def _check_shapes(weights: Mapping[str, Tensor], model: ModelConfig, vocab_size: int) -> None:
    """Raise CorruptArtefactError unless the weights are all of the model's and no more."""
    expected = weight_shapes(model, vocab_size)
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if model.tied_embeddings and OUTPUT not in weights:
        del expected[OUTPUT]
    wrong = [
        f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'there')}"
        for name in dict.fromkeys((*expected, *found))
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise CorruptArtefactError(
            f"the checkpoint does not hold the model of run.json: {'; '.join(wrong[:3])}"
        )


def _plan(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Names in their order, cut into files; sizes in bytes."""
    shards: list[list[str]] = []
    filled = 0
    for name, size in sizes.items():
        if not shards or filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _file_names(count: int) -> list[str]:
    """As transformers names them."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _round(name: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = weight.detach().to(dtype).contiguous()
    if torch.isfinite(rounded).all():
        return rounded
    why = "is no number: the run went astray before this step, choose an earlier checkpoint"
    if torch.isfinite(weight).all():
        why = f"is beyond the range of {dtype}: choose bf16 or fp32"
    raise CorruptArtefactError(f"{name}: a weight {why}")
