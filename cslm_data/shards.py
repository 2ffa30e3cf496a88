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
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, TokenizerMismatchError
from cslm_data.framing import TEMPLATE_VERSION
from cslm_data.records import SPLITS, Sample, Segment, Split, Units
from cslm_data.shard_index import (
    IndexEntry,
    ShardIdentity,
    ShardIndex,
    index_path,
    read_index,
    write_index,
)
from cslm_data.ustar import HEADER_BYTES, NAME_BYTES, NPY_HEADER_BYTES, UstarWriter, npy_header
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

_UINT16 = np.dtype("<u2")
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


# --- one sample as bytes ---------------------------------------------------------------------


def encode_sample(sample: Sample) -> tuple[bytes, Units | None]:
    """A sample as JSON and, when it has speech, all its units: uint16 (N,)."""
    segments: list[dict[str, Any]] = []
    speech: list[Units] = []
    start = 0
    for segment in sample.segments:
        row: dict[str, Any] = {
            "modality": segment.modality,
            "language": segment.language,
            "role": segment.role,
            "trained": segment.trained,
            "part": segment.part,
        }
        if segment.modality == "speech":
            end = start + len(segment.units)
            row["units"] = [start, end]
            speech.append(segment.units)
            start = end
        else:
            row["text"] = segment.text
        segments.append(row)
    document = {"task": sample.task, "languages": sample.languages, "segments": segments}
    units_N = None
    if speech:
        units_N = speech[0] if len(speech) == 1 else np.concatenate(speech)
        units_N = units_N.astype("<u2", copy=False)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS), units_N


def decode_sample(key: str, document: bytes, units_N: Units | None) -> Sample:
    """The sample of its JSON and its units: uint16 (N,). Raises CorruptArtefactError."""
    units_M = _NO_UNITS if units_N is None else units_N
    return _decode(key, document, units_M, 0, len(units_M))


_NO_UNITS: Units = np.zeros(0, np.uint16)
_SAMPLE_FIELDS = {"task", "languages", "segments"}
_NUM_FIELDS = len(("modality", "language", "role", "trained", "part", "text or units"))


def _decode(key: str, document: bytes, units_M: Units, first: int, last: int) -> Sample:
    """The sample whose units are `units_M[first:last]`.

    What the JSON says becomes the fields of the records as it is: their constructors, which take a
    keyword each, would be most of the time that reading takes.
    """
    try:
        row = orjson.loads(document)
        if row.keys() != _SAMPLE_FIELDS:
            raise ValueError(f"fields {', '.join(row)}")
        segments = []
        for fields in row["segments"]:
            if len(fields) != _NUM_FIELDS:
                raise ValueError(f"a segment of the fields {', '.join(fields)}")
            if "text" in fields:
                fields["units"] = _NO_UNITS
            else:
                start, stop = fields["units"]
                fields["text"] = ""
                if not 0 <= start <= stop <= last - first:
                    raise ValueError("its units are missing or too short")
                fields["units"] = units_M[first + start : first + stop]
            segment = _new(Segment)
            _set(segment, "__dict__", fields)
            segments.append(segment)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtefactError(
            f"sample {key}: {error}; see what is damaged: cslm-data verify MIX"
        ) from None
    row["segments"] = tuple(segments)
    row["key"] = key
    sample = _new(Sample)
    _set(sample, "__dict__", row)
    return sample


_new, _set = object.__new__, object.__setattr__

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


class ShardBytes:
    """A memory-mapped shard, read by places that the caller knows; its index is not needed."""

    def __init__(self, shard: Path) -> None:
        self.path = shard
        try:
            with shard.open("rb") as stream:
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise MissingArtefactError(
                f"{shard}: no such shard; build the mix again: cslm-data build-mix --overwrite"
            ) from None
        except ValueError:
            raise CorruptArtefactError(
                f"{shard}: an empty file; build the mix again: cslm-data build-mix --overwrite"
            ) from None
        # Every member begins at an even place, so that all units are slices of one view.
        self._words_M = np.frombuffer(self._bytes, _UINT16, len(self._bytes) // 2)

    def sample(
        self, key: str, offset: int, num_bytes: int, units_offset: int, units_bytes: int
    ) -> Sample:
        """The sample whose members' data lie there. Raises CorruptArtefactError."""
        document = self._bytes[offset : offset + num_bytes]
        if not units_offset:
            return _decode(key, document, _NO_UNITS, 0, 0)
        return _decode(key, document, self._words_M, *self._span(key, units_offset, units_bytes))

    def key(self, offset: int) -> str:
        """Key of the sample whose JSON lies there, as the header before it says."""
        name = self._bytes[max(0, offset - HEADER_BYTES) : offset][:NAME_BYTES]
        return name.rstrip(b"\0").decode("ascii", "replace").partition(".")[0]

    def checksum(self, offset: int, num_bytes: int, units_offset: int, units_bytes: int) -> int:
        """What the index has of the sample whose members' data lie there: see IndexEntry."""
        document = self._bytes[offset : offset + num_bytes]
        if units_offset:
            document += self._bytes[units_offset : units_offset + units_bytes]
        return xxhash.xxh64_intdigest(document)

    def units(self, key: str, offset: int, num_bytes: int) -> Units:
        """The units of a sample whose array lies there, uint16 (N,)."""
        first, last = self._span(key, offset, num_bytes)
        return self._words_M[first:last]

    def _span(self, key: str, offset: int, num_bytes: int) -> tuple[int, int]:
        """Where the units of a sample begin and end in the words of the shard."""
        first = offset + NPY_HEADER_BYTES
        count = (num_bytes - NPY_HEADER_BYTES) // 2
        last = first // 2 + count
        if self._bytes[offset:first] != npy_header(count) or last > len(self._words_M) or first % 2:
            raise CorruptArtefactError(
                f"{self.path}: units of {key} do not begin where the index says; "
                "cslm-data build-mix --overwrite"
            )
        return first // 2, last


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
            yield units(key, offset, num_bytes) if offset else _NO_UNITS


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
