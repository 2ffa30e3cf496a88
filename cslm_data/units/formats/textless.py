"""textlesslib: `{split}.units` and `{split}.durations`, an utterance a line, `name<TAB>numbers`.

`transcribe.py --preserve_name --durations --deduplicate` writes such files; its name is the
recording's without folder and ending, ours is the id of the utterance. Without names (its default)
the order is that of its manifest, a .tsv beside; without --deduplicate every unit is a frame and
lasts 1.

Source: textlesslib, tools/distributed_transcribe/{transcribe,data_handler}.py.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

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


class _Writer:
    def __init__(self, units: TextIO, durations: TextIO) -> None:
        self._units, self._durations = units, durations

    def add(self, line: ExportLine) -> None:
        self._units.write(f"{line.name}\t{' '.join(map(str, line.units))}\n")
        self._durations.write(f"{line.name}\t{' '.join(map(str, line.durations))}\n")


@contextlib.contextmanager
def open_writer(folder: Path, split: str, *, num_shards: int) -> Iterator[Writer]:
    """The two files of a split."""
    del num_shards
    with (
        (folder / f"{split}.units").open("w", encoding="utf-8") as units,
        (folder / f"{split}.durations").open("w", encoding="utf-8") as durations,
    ):
        yield _Writer(units, durations)


def find(path: Path) -> list[Source]:
    """The .units files there, each with the .durations beside it."""
    if path.is_file() and path.suffix != ".units":
        raise UsageError(f"{path}: name the .units file; .durations is looked for beside it")
    sources = []
    for units in sources_in(path, ".units"):
        durations = units.with_suffix(".durations")
        beside = durations if durations.is_file() else None
        kind: Literal["durations", "unknown"] = "durations" if beside else "unknown"
        sources.append(Source(units.name, kind, functools.partial(_read, units, beside)))
    return sources


def _read(units: Path, durations: Path | None) -> Iterator[Line | BadLine]:
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> TextIO:
            return stack.enter_context(path.open(encoding="utf-8", errors="replace", newline="\n"))

        streams = [opened(units), *([opened(durations)] if durations else [])]
        names = _manifest_names(opened(units.with_suffix(".tsv"))) if _bare(units) else None
        for number, lines in enumerate(itertools.zip_longest(*streams), 1):
            name = None if names is None else next(names, None)
            if None in lines or (names is not None and name is None):
                raise _uneven(units)
            yield _line(
                f"{units.name}:{number}", [line.rstrip("\n") for line in lines], name, units
            )
        if names is not None and next(names, None) is not None:
            raise _uneven(units)


def _bare(units: Path) -> bool:
    """Whether the file is without names. Raises UsageError if nothing beside it says them."""
    with units.open(encoding="utf-8", errors="replace") as stream:
        if "\t" in stream.readline():
            return False
    if not units.with_suffix(".tsv").is_file():
        raise UsageError(
            f"{units}: its lines have no names; put the manifest it was made from beside it as "
            f"{units.with_suffix('.tsv').name}, or write it with --preserve_name"
        )
    return True


def _manifest_names(manifest: TextIO) -> Iterator[str]:
    root = manifest.readline().strip()
    for line in manifest:
        yield os.path.join(root, line.rstrip("\n").split("\t")[0])  # noqa: PTH118 - may be a URI


def _line(place: str, lines: list[str], name: str | None, units: Path) -> Line | BadLine:
    if name is None:
        named = [line.partition("\t") for line in lines]
        if any(not tab for _, tab, _ in named) or len({name for name, _, _ in named}) > 1:
            said = named[0][0] if named[0][1] else place
            return BadLine(place, said, "bad_line", "`name<TAB>numbers` with one name is expected")
        name, lines = named[0][0], [numbers for _, _, numbers in named]
    try:
        units_R, *more = (parse_numbers(numbers) for numbers in lines)
    except (ValueError, OverflowError):
        return BadLine(place, name, "bad_line", "whole numbers parted by blanks are expected")
    path = local_file(units).resolve(name) if "/" in name else ""
    return Line(place, name, path, units_R, more[0] if more else None, None)


def _uneven(units: Path) -> CorruptArtefactError:
    return CorruptArtefactError(
        f"{units}: the files beside it (.durations, .tsv) have not as many lines as it has, so no "
        "line can be told to be whose; make them anew"
    )
