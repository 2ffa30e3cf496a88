"""fairseq HuBERT labels: `{split}.tsv`, `{split}_{rank}_{nshard}.km`, `dict.km.txt`.

The .tsv has the root folder on its first line, then `path<TAB>number of samples` for each
recording; the .km has a line of units for each, one unit a frame, cut into `nshard` files of
neighbours. fairseq's training reads recordings whole, at 16 kHz, and warns where labels and audio
differ by more than 0.1 s. `{split}.ids` (ours, a line each) holds the ids of the utterances, so
that units come back to where they were; fairseq does not look at it.

Source: fairseq, examples/hubert/simple_kmeans (feature_utils.py, dump_km_label.py) and
fairseq/data/audio/hubert_dataset.py.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from cslm_data.corpora.source import local_file
from cslm_data.errors import CorruptArtefactError, UsageError
from cslm_data.units.formats import (
    BadLine,
    ExportLine,
    Line,
    Source,
    Writer,
    parse_numbers,
    sources_in,
)


# --------------------------------------------------------------------------------------- writing
class _Writer:
    """Paths are written absolute, and made relative when all of them are known."""

    def __init__(self, tsv: TextIO, km: TextIO, ids: TextIO) -> None:
        self._tsv, self._km, self._ids = tsv, km, ids
        self.num_lines = 0
        self.root: str | None = None

    def add(self, line: ExportLine) -> None:
        folder = os.path.dirname(line.name)  # noqa: PTH120 - a string in, a string out
        self.root = folder if self.root is None else os.path.commonpath([self.root, folder])
        self._tsv.write(f"{line.name}\t{line.num_samples}\n")
        self._km.write(" ".join(map(str, line.units)) + "\n")
        self._ids.write(f"{line.utt_id}\n")
        self.num_lines += 1


@contextlib.contextmanager
def open_writer(folder: Path, split: str, *, num_shards: int) -> Iterator[Writer]:
    """The files of a split."""
    bare, whole = folder / f".{split}.tsv", folder / f".{split}.km"
    with (
        bare.open("w", encoding="utf-8") as tsv,
        whole.open("w", encoding="ascii") as km,
        (folder / f"{split}.ids").open("w", encoding="utf-8") as ids,
    ):
        writer = _Writer(tsv, km, ids)
        yield writer
    root = writer.root or "/"
    with (
        bare.open(encoding="utf-8") as lines,
        (folder / f"{split}.tsv").open("w", encoding="utf-8") as tsv,
    ):
        tsv.write(f"{root}\n")
        tsv.writelines(line[len(root.rstrip("/")) + 1 :] for line in lines)
    with whole.open(encoding="ascii") as lines:
        for rank in range(num_shards):
            start, end = (round(writer.num_lines / num_shards * r) for r in (rank, rank + 1))
            with (folder / f"{split}_{rank}_{num_shards}.km").open("w", encoding="ascii") as shard:
                shard.writelines(itertools.islice(lines, end - start))
    bare.unlink()
    whole.unlink()


def write_dictionary(folder: Path, counts_K: NDArray[np.int64]) -> None:
    """dict.km.txt: `unit count` in the order of the units, so that fairseq's ids follow them."""
    lines = (f"{unit} {count}\n" for unit, count in enumerate(counts_K.tolist()))
    (folder / "dict.km.txt").write_text("".join(lines), encoding="ascii")


# --------------------------------------------------------------------------------------- reading
def find(path: Path) -> list[Source]:
    """The .tsv files there, each with its labels."""
    if path.is_file() and path.suffix != ".tsv":
        raise UsageError(
            f"{path}: name the .tsv (or its folder); the .km files are looked for beside it"
        )
    sources = []
    for tsv in sources_in(path, ".tsv"):
        sources.append(Source(tsv.name, "frames", functools.partial(_read, tsv, _labels(tsv))))
    return sources


def _labels(tsv: Path) -> list[Path]:
    """`{split}.km`, or all shards of it in the order of their ranks."""
    whole = tsv.with_suffix(".km")
    if whole.is_file():
        return [whole]
    pattern = re.compile(re.escape(tsv.stem) + r"_(\d+)_(\d+)\.km")
    named = [(pattern.fullmatch(each.name), each) for each in tsv.parent.glob("*.km")]
    shards = {(int(m[2]), int(m[1])): each for m, each in named if m}
    sizes = {num_shards for num_shards, _ in shards}
    if len(sizes) != 1:
        what = "there are sets of several sizes" if sizes else "there is none"
        raise UsageError(
            f"{tsv}: its labels should be {whole.name} or {tsv.stem}_RANK_NSHARD.km beside it, "
            f"but {what}; put one set there"
        )
    (num_shards,) = sizes
    missing = [rank for rank in range(num_shards) if (num_shards, rank) not in shards]
    if missing:
        raise UsageError(
            f"{tsv}: of the {num_shards} shards of its labels {tsv.stem}_{missing[0]}_{num_shards}"
            ".km is missing; put it there"
        )
    return [shards[num_shards, rank] for rank in range(num_shards)]


def _read(tsv: Path, labels: list[Path]) -> Iterator[Line | BadLine]:
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> TextIO:
            return stack.enter_context(path.open(encoding="utf-8", errors="replace", newline="\n"))

        recordings = opened(tsv)
        root = recordings.readline().rstrip()
        units = itertools.chain.from_iterable(map(opened, labels))
        beside = tsv.with_suffix(".ids")
        ids = opened(beside) if beside.is_file() else None
        number = 1
        for number, (recording, line) in enumerate(itertools.zip_longest(recordings, units), 2):
            if recording is None or line is None:
                raise _uneven(tsv, labels[-1] if line is None else tsv)
            utt_id = "" if ids is None else ids.readline().rstrip("\n")
            yield _line(f"{tsv.name}:{number}", root, recording, line, utt_id, tsv)
        if ids is not None and (ids.readline() or (number > 1 and not utt_id)):
            raise _uneven(tsv, beside)


def _line(
    place: str, root: str, recording: str, units: str, utt_id: str, tsv: Path
) -> Line | BadLine:
    fields = recording.rstrip("\n").split("\t")
    name = utt_id or fields[0]
    if len(fields) != 2 or not fields[1].strip().isdecimal():
        return BadLine(place, name, "bad_line", "`path<TAB>number of samples` is expected")
    try:
        units_R = parse_numbers(units)
    except (ValueError, OverflowError):
        return BadLine(place, name, "bad_line", "its labels are not whole numbers and blanks")
    path = local_file(tsv).resolve(os.path.join(root, fields[0]))  # noqa: PTH118 - may be a URI
    return Line(place, name, path, units_R, None, int(fields[1]))


def _uneven(tsv: Path, shorter: Path) -> CorruptArtefactError:
    return CorruptArtefactError(
        f"{tsv}: {shorter.name} has not as many lines as the files that belong to it, so no line "
        "can be told to be whose; make them anew"
    )
