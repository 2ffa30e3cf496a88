"""Files of a checkpoint, each with some rows of every tensor → any rows of a tensor.

FSDP2 cuts a tensor into rows as `torch.chunk` does, and every rank saves its own. Files are
memory-mapped and opened when a row of them is asked for: whoever needs some rows reads only those,
so a checkpoint of any number of ranks goes to any other without a whole copy of it anywhere.
"""

# N rows of a whole tensor, R of them here

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from cslm_data.errors import CorruptArtefactError


def rows_of(num_rows: int, number: int, num_shards: int) -> tuple[int, int]:
    """First row of a shard and the first after it; the last shards may have none."""
    width = -(-num_rows // num_shards)
    return min(number * width, num_rows), min((number + 1) * width, num_rows)


def load_tensors(path: Path) -> dict[str, Any]:
    """A file of tensors and plain values, memory-mapped. Nothing else is unpickled.

    Raises CorruptArtefactError, and FileNotFoundError.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, EOFError, UnpicklingError):
        raise CorruptArtefactError(f"{path}: not a checkpoint of tensors; train again") from None
    return content


class ShardFiles:
    """The tensors that some files hold together."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._load = cache(load_tensors)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def first(self) -> Mapping[str, Any]:
        """The content of the first file; its names are those of all."""
        return self._load(self.files[0])

    def rows(self, name: str, num_rows: int, begin: int, end: int) -> Tensor:
        """Rows `begin` to `end` of a tensor of `num_rows`: (R, …).

        Raises CorruptArtefactError where the files do not hold them.
        """
        parts = []
        for number, file in enumerate(self.files):
            first, last = rows_of(num_rows, number, len(self.files))
            if max(begin, first) >= min(end, last):
                continue
            shard_R = self._tensor(file, name)
            if len(shard_R) != last - first:
                raise CorruptArtefactError(
                    f"{file}: {name} has {len(shard_R)} rows, but shard {number + 1} of "
                    f"{len(self.files)} of {num_rows} has {last - first}; a file is missing, or of "
                    "another checkpoint: start from another step"
                )
            parts.append(shard_R[max(begin, first) - first : min(end, last) - first])
        if not parts:
            return self._tensor(self.files[0], name)[:0]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def whole(self, name: str) -> Tensor:
        """A tensor from all files: (N, …)."""
        shards = [self._tensor(file, name) for file in self.files]
        if len(shards) == 1:
            return shards[0]
        num_rows = sum(map(len, shards))
        return self.rows(name, num_rows, 0, num_rows)

    def _tensor(self, file: Path, name: str) -> Tensor:
        tensor = self._load(file).get(name)
        if not isinstance(tensor, Tensor):
            raise CorruptArtefactError(f"{file}: holds no tensor {name}; train again")
        return tensor


def merged(files: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors, whole; those that share their memory in a file, as tied weights do, share it."""
    shards = ShardFiles(files)
    whole: dict[int, Tensor] = {}
    weights = {}
    for name, tensor in shards.first.items():
        place = tensor.untyped_storage().data_ptr() + tensor.storage_offset()
        if place not in whole:
            whole[place] = shards.whole(name)
        weights[name] = whole[place]
    return weights
