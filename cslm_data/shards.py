"""samples → shards: USTAR files that the plain `webdataset` library reads, and back.

A shard holds segments, never token ids, so one set serves any base model. Each sample is
`<key>.json` (its segments) followed by `<key>.units.npy` (all its units, where it has speech).
Beside `<shard>.tar` lies `<shard>.tar.idx.parquet` with the byte offsets of both, through which
`ShardFile` reads without parsing the tar. The bytes depend on the samples alone: mtime 0, no owner.
Several processes may write shards at once, each its own.

The index takes its name before the tar does, so a tar that is there is finished and indexed.
"""

# N units of one sample, all its speech segments one after the other

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, TokenizerMismatchError
from cslm_data.framing import TEMPLATE_VERSION
from cslm_data.records import SPLITS, Sample, Split, Units
from cslm_data.shard_bytes import NO_UNITS, ShardBytes, decode_sample, encode_sample
from cslm_data.shard_index import (
    IndexEntry,
    ShardIdentity,
    ShardIndex,
    index_path,
    read_index,
    write_index,
)
from cslm_data.ustar import UstarWriter, npy_header
from cslm_data.workspace import atomic_path

__all__ = [
    "IndexEntry",
    "MixInfo",
    "ShardBytes",
    "ShardEntry",
    "ShardFile",
    "ShardIndex",
    "check_key",
    "decode_sample",
    "encode_sample",
    "index_path",
    "iter_samples",
    "read_index",
    "write_shard",
]

_KEY = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""90 + len(".units.npy") = 100 bytes, what a USTAR name holds."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One row of the shards of a mix."""

    shard: str
    split: str
    num_samples: int
    num_bytes: int
    sha256: str


def check_key(key: str) -> str:
    """The key itself; ValueError when it cannot be the name of a tar member."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"bad sample key {key!r}: 1 to 90 of A-Z a-z 0-9 _ -")
    return key


# --- writing ---------------------------------------------------------------------------------


def write_shard(
    path: Path,
    samples: Iterable[Sample],
    *,
    split: Split,
    tokenizer_id: str,
    num_units: int,
    text_tokenizer_id: str,
    template_version: str = TEMPLATE_VERSION,
) -> ShardEntry:
    """Write a shard and its index. Raises ValueError for a bad key.

    Raises CorruptArtefactError for a unit >= `num_units`. Nothing has the name `path` until all of
    it, and its index, is on disk.
    """
    entries: list[IndexEntry] = []
    identity = ShardIdentity(
        shard=path.name,
        split=split,
        tokenizer_id=tokenizer_id,
        num_units=num_units,
        template_version=template_version,
        text_tokenizer_id=text_tokenizer_id,
    )
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream:
            tar = UstarWriter(stream)
            for sample in samples:
                entries.append(_write_sample(tar, sample, num_units))
            tar.finish()
        write_index(path, identity, entries)
    return ShardEntry(
        shard=path.name,
        split=split,
        num_samples=len(entries),
        num_bytes=tar.num_bytes,
        sha256=tar.sha256,
    )


def _write_sample(tar: UstarWriter, sample: Sample, num_units: int) -> IndexEntry:
    """Append the members of a sample; its row of the index."""
    name = check_key(sample.key)
    document, units_N = encode_sample(sample)
    json = tar.add(f"{name}.json", document), len(document)
    if units_N is None:
        checksum = xxhash.xxh64_intdigest(document)
        return IndexEntry(name, sample.task, sample.languages, json, None, 0, checksum)
    count = len(units_N)
    if count and (largest := int(np.maximum.reduce(units_N))) >= num_units:
        raise CorruptArtefactError(
            f"sample {name}: unit {largest} of a vocabulary of {num_units}; see "
            "which parts of units are damaged: cslm-data audit invalid_units"
        )
    array = npy_header(count) + units_N.tobytes()
    units = tar.add(f"{name}.units.npy", array), len(array)
    checksum = xxhash.xxh64_intdigest(document + array)
    return IndexEntry(name, sample.task, sample.languages, json, units, count, checksum)


# --- reading ---------------------------------------------------------------------------------


class ShardFile:
    """A memory-mapped shard: samples by their byte offsets, units as views of the map."""

    def __init__(self, shard: Path) -> None:
        self.path = shard
        self.index = read_index(shard)
        self._bytes = ShardBytes(shard)

    def __len__(self) -> int:
        return len(self.index)

    def sample(self, position: int) -> Sample:
        """The sample at a position of the shard."""
        index = self.index
        return self._bytes.sample(
            index.keys[position],
            int(index.json_offset_N[position]),
            int(index.json_bytes_N[position]),
            int(index.units_offset_N[position]),
            int(index.units_bytes_N[position]),
        )

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """The samples from one position up to another, faster than one by one."""
        index = self.index
        columns = (
            *(index.json_offset_N, index.json_bytes_N),
            *(index.units_offset_N, index.units_bytes_N),
        )
        places = (column_N[start:stop].tolist() for column_N in columns)
        return map(self._bytes.sample, index.keys[start:stop], *places)

    def units(self, start: int = 0, stop: int | None = None) -> Iterator[Units]:
        """All units of each sample, uint16 (N,), without a look at its segments."""
        index, units = self.index, self._bytes.units
        places = (c_N[start:stop].tolist() for c_N in (index.units_offset_N, index.units_bytes_N))
        for key, offset, num_bytes in zip(index.keys[start:stop], *places, strict=True):
            yield units(key, offset, num_bytes) if offset else NO_UNITS


# --- a mix of shards -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MixInfo:
    """What `mix.json` says of a mix: how it was made and what it holds."""

    folder: Path
    mix_id: str
    name: str
    stage: str
    languages: tuple[str, ...]
    seed: int
    recipe: dict[str, Any]
    tokenizer_id: str
    num_units: int
    frame_rate_hz: float
    text_tokenizer_id: str
    text_tokenizer: str
    """Folder of the text tokenizer, relative to the workspace or absolute."""
    template_version: str
    splits: dict[str, dict[str, int]]
    realised: tuple[dict[str, Any], ...]
    entries: tuple[ShardEntry, ...]
    counts: dict[str, int]
    missing: tuple[str, ...] = ()
    """What languages lack for tasks of the recipe, in words."""

    @classmethod
    def load(cls, mix_dir: Path) -> MixInfo:
        """Read `mix.json`. Raises MissingArtefactError, CorruptArtefactError."""
        path = mix_dir / "mix.json"
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                folder=mix_dir,
                languages=tuple(row.pop("languages")),
                realised=tuple(row.pop("realised")),
                missing=tuple(row.pop("missing", ())),
                entries=tuple(ShardEntry(**shard) for shard in row.pop("shards")),
                **row,
            )
        except FileNotFoundError:
            raise MissingArtefactError(
                f"{mix_dir}: no finished mix here; run: cslm-data build-mix"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArtefactError(
                f"{path}: not a mix ({error}); cslm-data build-mix --overwrite"
            ) from None

    def shards(self, split: str) -> list[Path]:
        """Shards of a split, in order."""
        return [self.folder / "shards" / e.shard for e in self.entries if e.split == split]

    def text_tokenizer_path(self) -> Path:
        """Folder of the text tokenizer that counted the tokens."""
        return self.folder.parent.parent / self.text_tokenizer

    def require(
        self,
        *,
        tokenizer_id: str | None = None,
        text_tokenizer_id: str | None = None,
        template_version: str | None = None,
    ) -> None:
        """Raise TokenizerMismatchError unless the mix was made with what is named."""
        for what, has, expected in (
            ("speech tokenizer", self.tokenizer_id, tokenizer_id),
            ("text tokenizer", self.text_tokenizer_id, text_tokenizer_id),
            ("template version", self.template_version, template_version),
        ):
            if expected is not None and has != expected:
                raise TokenizerMismatchError(
                    f"mixes/{self.folder.name}: made with {what} {has}, but {expected} is "
                    f"expected; build the mix again: cslm-data build-mix --stage {self.stage} "
                    f"--name {self.folder.name} --overwrite with that {what}"
                )


def iter_samples(mix_dir: Path, split: str) -> Iterator[Sample]:
    """Samples of a split in the order of the mix."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    for shard in MixInfo.load(mix_dir).shards(split):
        yield from ShardFile(shard).samples()
