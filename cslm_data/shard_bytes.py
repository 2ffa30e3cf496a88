"""One sample ↔ its bytes in a shard: a JSON of its segments, and all its units as an array."""

# N units of one sample, all its speech segments one after the other; M units of a whole shard

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.records import Sample, Segment, Units
from cslm_data.ustar import HEADER_BYTES, NAME_BYTES, NPY_HEADER_BYTES, npy_header

_UINT16 = np.dtype("<u2")


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
    units_M = NO_UNITS if units_N is None else units_N
    return _decode(key, document, units_M, 0, len(units_M))


NO_UNITS: Units = np.zeros(0, np.uint16)
"""Of a sample without speech."""
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
                fields["units"] = NO_UNITS
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
            return _decode(key, document, NO_UNITS, 0, 0)
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
