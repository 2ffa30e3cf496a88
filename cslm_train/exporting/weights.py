"""A checkpoint's weights → safetensors in transformers' names, in files of a size, streamed.

Step 1  plan: names, shapes and files, without a weight in memory
Step 2  write: one weight at a time, converted and rounded as it is read

Tied weights are saved once. The files are those that `save_pretrained` makes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cslm_data.errors import CorruptArtefactError
from cslm_data.progress import progress
from cslm_data.workspace import write_json
from cslm_train.config import ModelConfig
from cslm_train.models.hugging_face import to_hugging_face
from cslm_train.models.weights import OUTPUT, weight_shapes

log = logging.getLogger(__name__)

DtypeName = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[DtypeName, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}

_DTYPE_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class WrittenWeights:
    """What was written."""

    files: tuple[str, ...]
    num_parameters: int
    """Tied weights once."""
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A weight to be written."""

    ours: str
    """Our name."""
    shape: tuple[int, ...]


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
    _check_shapes(weights, model, vocab_size)
    planned = {
        theirs: _Planned(ours=name, shape=tuple(meta.shape))
        for name, weight in weights.items()
        for theirs, meta in to_hugging_face({name: weight.to("meta")}, model).items()
    }
    total = sum(math.prod(each.shape) for each in planned.values())
    shards = _plan(planned, dtype, max_shard_bytes)
    names = _file_names(len(shards))
    with progress("weights", total=len(planned), unit="tensors") as bar:
        for file, shard in zip(names, shards, strict=True):
            with (folder / file).open("wb") as stream:
                stream.write(_header(shard, dtype))
                for each in shard.values():
                    (converted,) = to_hugging_face({each.ours: weights[each.ours]}, model).values()
                    rounded = _round(each.ours, converted, dtype)
                    stream.write(rounded.view(torch.uint8).numpy().data)
                    bar.advance()
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


def _plan(
    planned: Mapping[str, _Planned], dtype: torch.dtype, most: int
) -> list[dict[str, _Planned]]:
    """Weights in their order, cut into files of at most so many bytes."""
    shards: list[dict[str, _Planned]] = []
    filled = 0
    for name, each in planned.items():
        size = math.prod(each.shape) * dtype.itemsize
        if not shards or filled + size > most:
            shards.append({})
            filled = 0
        shards[-1][name] = each
        filled += size
    return shards


def _header(shard: Mapping[str, _Planned], dtype: torch.dtype) -> bytes:
    """Length and JSON that a file of safetensors begins with; the weights follow as they lie.

    Source: the format's description in the README of safetensors. Its own writer takes all weights
    of a file at once, and copies them.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, each in shard.items():
        start, end = end, end + math.prod(each.shape) * dtype.itemsize
        entries[name] = {
            "dtype": _DTYPE_NAMES[dtype],
            "shape": list(each.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


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
