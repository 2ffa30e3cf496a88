"""samples → shards: USTAR files that the plain `webdataset` library reads, and back.

A shard holds segments, never token ids, so one set serves any base model. Each sample is
`<key>.json` (its segments) followed by `<key>.units.npy` (all its units, where it has speech).
Beside `<shard>.tar` lies `<shard>.tar.idx.json` with the byte offsets of both, through which
`ShardFile` reads without parsing the tar. The bytes depend on the samples alone: mtime 0, no owner.

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
from typing import Any, NamedTuple

import numpy as np
import orjson

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, TokenizerMismatchError
from cslm_data.framing import TEMPLATE_VERSION
from cslm_data.records import SPLITS, Sample, Segment, Split, Units
from cslm_data.ustar import NPY_HEADER_BYTES, UstarWriter, npy_header
from cslm_data.workspace import atomic_path

_UINT16 = np.dtype("<u2")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""90 + len(".units.npy") = 100 bytes, what a USTAR name holds."""


class IndexEntry(NamedTuple):
    """Where one sample lies: offset and size in bytes of the data of its members."""

    key: str
    task: str
    languages: str
    json: tuple[int, int]
    units: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """What a shard holds, by what it was made, and where each sample lies."""

    shard: str
    split: str
    tokenizer_id: str
    num_units: int
    template_version: str
    text_tokenizer_id: str
    samples: tuple[IndexEntry, ...]


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
    units_N = np.concatenate(speech).astype("<u2", copy=False) if speech else None
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS), units_N


def decode_sample(key: str, document: bytes, units_N: Units | None) -> Sample:
    """The sample of its JSON and its units: uint16 (N,)."""
    row = orjson.loads(document)
    segments = []
    for fields in row["segments"]:
        if "units" in fields:
            start, end = fields["units"]
            if units_N is None or end > len(units_N):
                raise CorruptArtefactError(f"sample {key}: its units are missing or too short")
            fields["units"] = units_N[start:end]
        segments.append(Segment(**fields))
    return Sample(key=key, task=row["task"], languages=row["languages"], segments=tuple(segments))


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
    """Write a shard and its index. Raises ValueError for a bad key or a unit >= `num_units`.

    Nothing has the name `path` until all of it, and its index, is on disk.
    """
    rows: list[dict[str, Any]] = []
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream:
            tar = UstarWriter(stream)
            for sample in samples:
                rows.append(_write_sample(tar, sample, num_units))
            tar.finish()
        identity = {
            "shard": path.name,
            "split": split,
            "tokenizer_id": tokenizer_id,
            "num_units": num_units,
            "template_version": template_version,
            "text_tokenizer_id": text_tokenizer_id,
        }
        body = b",\n".join(map(orjson.dumps, rows))
        with atomic_path(index_path(path)) as index:
            head = orjson.dumps(identity)[:-1]
            index.write_bytes(head + b',"samples":[\n' + body + b"\n]}\n")
    return ShardEntry(
        shard=path.name,
        split=split,
        num_samples=len(rows),
        num_bytes=tar.num_bytes,
        sha256=tar.sha256,
    )


def _write_sample(tar: UstarWriter, sample: Sample, num_units: int) -> dict[str, Any]:
    """Append the members of a sample; its row of the index."""
    name = check_key(sample.key)
    document, units_N = encode_sample(sample)
    row: dict[str, Any] = {
        "key": sample.key,
        "task": sample.task,
        "languages": sample.languages,
        "json": [tar.add(f"{name}.json", document), len(document)],
        "units": None,
    }
    if units_N is not None:
        if len(units_N) and units_N.max() >= num_units:
            raise CorruptArtefactError(
                f"sample {sample.key}: unit {units_N.max()} of a vocabulary of {num_units}; see "
                "which parts of units are damaged: cslm-data audit invalid_units"
            )
        array = npy_header(len(units_N)) + units_N.tobytes()
        row["units"] = [tar.add(f"{name}.units.npy", array), len(array)]
    return row


def index_path(shard: Path) -> Path:
    """Where the index of a shard lies."""
    return shard.with_name(shard.name + ".idx.json")


# --- reading ---------------------------------------------------------------------------------


def read_index(shard: Path) -> ShardIndex:
    """The index of a shard. Raises MissingArtefactError, CorruptArtefactError."""
    path = index_path(shard)
    try:
        row = orjson.loads(path.read_bytes())
        row["samples"] = tuple(
            IndexEntry(
                s["key"],
                s["task"],
                s["languages"],
                (s["json"][0], s["json"][1]),
                None if s["units"] is None else (s["units"][0], s["units"][1]),
            )
            for s in row["samples"]
        )
        return ShardIndex(**row)
    except FileNotFoundError:
        raise MissingArtefactError(
            f"{path}: no such index; build the mix again: cslm-data build-mix --overwrite"
        ) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptArtefactError(
            f"{path}: not a shard index ({error}); cslm-data build-mix --overwrite"
        ) from None


class ShardFile:
    """A memory-mapped shard: `sample(i)` by byte offset, units as views of the map."""

    def __init__(self, shard: Path) -> None:
        self.path = shard
        self.index = read_index(shard)
        try:
            with shard.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise MissingArtefactError(
                f"{shard}: no such shard; build the mix again: cslm-data build-mix --overwrite"
            ) from None

    def __len__(self) -> int:
        return len(self.index.samples)

    def sample(self, position: int) -> Sample:
        """The sample at a position of the shard."""
        entry = self.index.samples[position]
        offset, size = entry.json
        units_N = None if entry.units is None else self._units(entry.key, *entry.units)
        return decode_sample(entry.key, self._map[offset : offset + size], units_N)

    def _units(self, key: str, offset: int, num_bytes: int) -> Units:
        """Units of a member: uint16 (N,), read-only."""
        count = (num_bytes - NPY_HEADER_BYTES) // 2
        start = offset + NPY_HEADER_BYTES
        if self._map[offset:start] != npy_header(count):
            raise CorruptArtefactError(
                f"{self.path}: units of {key} do not begin where the index says; "
                "cslm-data build-mix --overwrite"
            )
        return np.frombuffer(self._map, _UINT16, count, start)


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
        file = ShardFile(shard)
        for position in range(len(file)):
            yield file.sample(position)
