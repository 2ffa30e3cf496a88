"""One shard → what is wrong with it: checksum, tar, index, every sample of it."""

# N units of a sample

from __future__ import annotations

import hashlib
import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import xxhash

from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.records import Modality, Part, Role, Sample, Units
from cslm_data.shard_index import IndexEntry, ShardIndex, read_index
from cslm_data.shards import check_key, decode_sample, encode_sample
from cslm_data.text_tokenizer import TextTokenizer
from cslm_data.ustar import NPY_HEADER_BYTES, npy_header
from cslm_data.verifying.findings import Finding
from cslm_data.verifying.tar_walk import BrokenTarError, Member, walk

_MOST = 20
"""Findings of one check in one shard that are told one by one."""
_TEXTS = 4096
_BLOCK, _END = 512, 1024


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to look through, and what mix.json says of it."""

    path: Path
    split: str
    num_samples: int
    num_bytes: int
    sha256: str
    tokenizer_id: str
    num_units: int
    text_tokenizer_id: str
    template_version: str
    fast: bool


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What was found in one shard."""

    findings: tuple[Finding, ...]
    is_indexed: bool
    """Whether its index can be read."""
    num_samples: int
    num_units: int


@dataclass(kw_only=True)
class _Notes:
    """Findings of a shard; of one kind the first few, and how many more."""

    shard: str
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, check: str, detail: str, key: str = "") -> None:
        self.counts[check] += 1
        if self.counts[check] <= _MOST:
            self.findings.append(Finding(shard=self.shard, key=key, check=check, detail=detail))

    def told(self) -> tuple[Finding, ...]:
        more = (
            Finding(shard=self.shard, key="", check=check, detail=f"and {count - _MOST} more")
            for check, count in self.counts.items()
            if count > _MOST
        )
        return (*self.findings, *more)


def check_shard(task: ShardTask, *, tokenizer: TextTokenizer | None = None) -> ShardReport:
    """Look through one shard; with `fast` through its size and index alone."""
    notes = _Notes(shard=task.path.name)
    index = _check_index(task, notes)
    num_bytes = task.path.stat().st_size
    if num_bytes != task.num_bytes:
        notes.add("size", f"{num_bytes} bytes, mix.json says {task.num_bytes}")
    if index is not None:
        _check_layout(index, num_bytes, notes)
    if not task.fast and num_bytes:
        with (
            task.path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 != task.sha256:
                notes.add("sha256", f"its SHA-256 is {sha256}, mix.json says {task.sha256}")
            _check_samples(task, index, data, notes, tokenizer)
    return ShardReport(
        findings=notes.told(),
        is_indexed=index is not None,
        num_samples=0 if index is None else len(index),
        num_units=0 if index is None else int(index.num_units_N.sum()),
    )


# --- the index -------------------------------------------------------------------------------


def _check_index(task: ShardTask, notes: _Notes) -> ShardIndex | None:
    try:
        index = read_index(task.path)
    except MissingArtefactError:
        return None  # told as a missing file
    except CorruptArtefactError as error:
        notes.add("index", str(error))
        return None
    for what, found, right in (
        ("shard", index.shard, task.path.name),
        ("split", index.split, task.split),
        ("speech tokenizer", index.tokenizer_id, task.tokenizer_id),
        ("number of units", index.num_units, task.num_units),
        ("text tokenizer", index.text_tokenizer_id, task.text_tokenizer_id),
        ("template version", index.template_version, task.template_version),
    ):
        if found != right:
            notes.add("identity", f"its index says {what} {found}, mix.json says {right}")
    if len(index) != task.num_samples:
        notes.add("sums", f"{len(index)} samples in its index, {task.num_samples} in mix.json")
    return index


def _check_layout(index: ShardIndex, num_bytes: int, notes: _Notes) -> None:
    """Every member begins where the one before ends: what offsets and sizes alone show."""
    place = 0
    for entry in index.samples:
        for offset, size in filter(None, (entry.json, entry.units)):
            if offset != place + _BLOCK:
                detail = f"a member at byte {offset} of the index, {place + _BLOCK} is where it is"
                notes.add("index", detail, entry.key)
                return
            place = offset + size + -size % _BLOCK
        if (entry.units[1] - NPY_HEADER_BYTES if entry.units else 0) != 2 * entry.num_units:
            detail = f"{entry.num_units} units by the index, not by its size of the member"
            notes.add("index", detail, entry.key)
    if place + _END != num_bytes:
        notes.add("index", f"its index ends at byte {place + _END}, the file at {num_bytes}")


# --- the samples -----------------------------------------------------------------------------


def _check_samples(
    task: ShardTask,
    index: ShardIndex | None,
    data: mmap.mmap,
    notes: _Notes,
    tokenizer: TextTokenizer | None,
) -> None:
    texts: list[tuple[str, str]] = []
    seen: list[str] = []
    for key, document, array in _grouped(data, notes):
        entry = None
        if index is not None and len(seen) < len(index):
            entry = index.entry(len(seen))
        seen.append(key)
        if entry is not None and not _is_where(entry, key, document, array):
            notes.add("index", "its index has another sample, or other places, here", key)
            entry = None
        sample = _check_sample(task, entry, data, (key, document, array), notes)
        if sample is not None and tokenizer is not None:
            texts += ((key, s.text) for s in sample.segments if s.modality == "text")
        if tokenizer is not None and len(texts) >= _TEXTS:
            _check_texts(tokenizer, texts, notes)
            texts = []
    if tokenizer is not None:
        _check_texts(tokenizer, texts, notes)
    # A tar that breaks off has been told as such.
    if index is not None and len(seen) != len(index) and not notes.counts["tar"]:
        notes.add("index", f"{len(seen)} samples in the tar, {len(index)} in its index")


def _grouped(data: mmap.mmap, notes: _Notes) -> Iterator[tuple[str, Member, Member | None]]:
    """Key, JSON and units of each sample, in the order of the tar."""
    waiting: tuple[str, Member] | None = None
    try:
        for member in walk(data):
            key, _, suffix = member.name.partition(".")
            try:
                check_key(key)
            except ValueError as error:
                notes.add("members", str(error))
            if suffix == "json":
                if waiting is not None:
                    yield (*waiting, None)
                waiting = key, member
            elif suffix == "units.npy" and waiting is not None and waiting[0] == key:
                yield (*waiting, member)
                waiting = None
            else:
                detail = f"{member.name} does not follow the .json of its sample"
                notes.add("members", detail, key)
    except BrokenTarError as error:
        notes.add("tar", str(error))
    if waiting is not None:
        yield (*waiting, None)


def _is_where(entry: IndexEntry, key: str, document: Member, array: Member | None) -> bool:
    units = None if array is None else (array.offset, array.num_bytes)
    return (entry.key, entry.json, entry.units) == (
        key,
        (document.offset, document.num_bytes),
        units,
    )


def _check_sample(
    task: ShardTask,
    entry: IndexEntry | None,
    data: mmap.mmap,
    members: tuple[str, Member, Member | None],
    notes: _Notes,
) -> Sample | None:
    """The sample where it can be read; checks of its content are noted."""
    key, document, array = members
    json = data[document.offset : document.offset + document.num_bytes]
    npy = b"" if array is None else data[array.offset : array.offset + array.num_bytes]
    if entry is not None and xxhash.xxh64_intdigest(json + npy) != entry.checksum:
        notes.add("checksum", "its bytes are not those that were written", key)
    units_N: Units | None = None
    if array is not None:
        if npy[:NPY_HEADER_BYTES] != npy_header((len(npy) - NPY_HEADER_BYTES) // 2):
            notes.add("npy", "the header of its units is not that of a uint16 array", key)
            return None
        units_N = np.frombuffer(npy, "<u2", offset=NPY_HEADER_BYTES)
        if len(units_N) and int(units_N.max()) >= task.num_units:
            notes.add("unit", f"unit {units_N.max()} of a vocabulary of {task.num_units}", key)
    try:
        sample = decode_sample(key, json, units_N)
        problem = _problem(sample, units_N)
    except (CorruptArtefactError, TypeError) as error:
        notes.add("segments", str(error), key)
        return None
    if not problem and encode_sample(sample)[0] != json:
        problem = "its segments, written again, are other bytes"
    if problem:
        notes.add("segments", problem, key)
        return None
    if entry is not None and (entry.task, entry.languages) != (sample.task, sample.languages):
        detail = f"{sample.task} {sample.languages}, {entry.task} {entry.languages} in its index"
        notes.add("index", detail, key)
    return sample


def _problem(sample: Sample, units_N: Units | None) -> str:
    """What is wrong with the segments of a sample, or nothing."""
    if not sample.segments:
        return "it has no segments"
    for segment in sample.segments:
        for value, allowed in (
            (segment.modality, get_args(Modality)),
            (segment.role, get_args(Role)),
            (segment.part, get_args(Part)),
            (segment.trained, (True, False)),
        ):
            if value not in allowed:
                return f"a segment with {value!r}, which is none of {', '.join(map(str, allowed))}"
        if not isinstance(segment.text, str) or not isinstance(segment.language, str):
            return "a segment whose text or language is no text"
        if (segment.modality == "speech") != bool(len(segment.units) or not segment.text):
            return f"a segment of {segment.modality} with the content of the other kind"
    spoken = sum(len(segment.units) for segment in sample.segments)
    if spoken != (0 if units_N is None else len(units_N)):
        return f"{spoken} units in its segments, {0 if units_N is None else len(units_N)} in all"
    return ""


def _check_texts(tokenizer: TextTokenizer, texts: list[tuple[str, str]], notes: _Notes) -> None:
    """Every text must come back from its ids as it went in."""
    for (key, text), ids in zip(
        texts, tokenizer.encode_batch([text for _, text in texts]), strict=True
    ):
        back = tokenizer.decode(ids)
        if back != text:
            notes.add("lossy_text", f"{text!r} comes back from its ids as {back!r}"[:400], key)
