"""Unit files of other toolkits ⇄ utterances in units. One module per toolkit, nothing else.

    fairseq   {split}.tsv, {split}_{rank}_{nshard}.km, dict.km.txt   frame by frame
    slamkit   {split}.features.jsonl, {split}.tokens.jsonl           runs, the first with durations
    textless  {split}.units, {split}.durations                       runs with durations

A reader gives a line for each utterance, in the order of the file, and checks no more than that it
can be read; which utterance it is and whether its units make sense is for unit_import to say.
"""

# R runs of units (or frames, where runs are not joined)

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import UsageError

Numbers = NDArray[np.int64]
NameBy = Literal["path", "id"]
"""What names an utterance in a file: its recording, or its id in the catalog."""


class Line(NamedTuple):
    """What a file says of one utterance."""

    place: str
    """`train.tsv:3`, for messages."""
    name: str
    """As it stands in the file: a path, an id, or a file's name alone."""
    path: str
    """The recording it may name, absolute; empty where it can be none."""
    units_R: Numbers
    durations_R: Numbers | None
    """Frames of each unit; None where the file does not say."""
    num_samples: int | None
    """Length of the recording, where the file says it."""


class BadLine(NamedTuple):
    """A line that cannot be read."""

    place: str
    name: str
    reason: str
    detail: str


class Source(NamedTuple):
    """One file (or set of files that belong together) of utterances."""

    label: str
    """For messages: the file's name."""
    kind: Literal["frames", "runs", "durations", "unknown"]
    """What a line holds; `runs` have lost their lengths, `unknown` may be frames or runs."""
    read: Callable[[], Iterator[Line | BadLine]]


class ExportLine(NamedTuple):
    """One utterance to write."""

    utt_id: str
    name: str
    num_samples: int
    """Of the recording that `name` is the path of; 0 where it is an id."""
    units: list[int]
    """As they are to stand in the file: runs, or frames."""
    durations: list[int]


class Writer(Protocol):
    """Takes the utterances of one split, in order."""

    def add(self, line: ExportLine) -> None:
        """Write one utterance."""


class OpenWriter(Protocol):
    """Opens the files of a split."""

    def __call__(
        self, folder: Path, split: str, *, num_shards: int
    ) -> AbstractContextManager[Writer]:
        """In `folder`; they are whole when the block ends."""


@dataclass(frozen=True, kw_only=True)
class UnitFormat:
    """How a toolkit keeps units."""

    name_by: tuple[NameBy, ...]
    """What its files can name utterances by; the first is what it does itself."""
    dedup: bool
    """Whether it joins equal neighbours, if nobody says otherwise."""
    sample_rate_hz: int | None
    """Of the recordings that it reads, from local files; None where it reads none or any."""
    plain_names: bool
    """Whether names must fit into lines with tabs."""
    open_writer: OpenWriter
    find: Callable[[Path], list[Source]]
    """The sources at a file or in a folder. Raises UsageError where files are missing."""
    finish: Callable[[Path, NDArray[np.int64]], None] | None = None
    """Writes what concerns all splits, from the folder and the count of each unit."""


def _fairseq() -> UnitFormat:
    from cslm_data.units.formats import fairseq

    return UnitFormat(
        name_by=("path",),
        dedup=False,
        sample_rate_hz=16_000,
        plain_names=True,
        open_writer=fairseq.open_writer,
        find=fairseq.find,
        finish=fairseq.write_dictionary,
    )


def _slamkit() -> UnitFormat:
    from cslm_data.units.formats import slamkit

    return UnitFormat(
        name_by=("path", "id"),
        dedup=True,
        sample_rate_hz=None,
        plain_names=False,
        open_writer=slamkit.open_writer,
        find=slamkit.find,
    )


def _textless() -> UnitFormat:
    from cslm_data.units.formats import textless

    return UnitFormat(
        name_by=("id", "path"),
        dedup=True,
        sample_rate_hz=None,
        plain_names=True,
        open_writer=textless.open_writer,
        find=textless.find,
    )


FORMATS: dict[str, Callable[[], UnitFormat]] = {
    "fairseq": _fairseq,
    "slamkit": _slamkit,
    "textless": _textless,
}
"""What `--format` takes."""


def load_format(name: str) -> UnitFormat:
    """The format of that name. Raises UsageError that lists them."""
    if name not in FORMATS:
        raise UsageError(f"--format {name}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name]()


def parse_numbers(text: str) -> Numbers:
    """Whole numbers parted by blanks. Raises ValueError."""
    return np.array(text.split(), np.int64)


def one_line(name: str) -> bool:
    """Whether a name can stand in a file of lines with tabs between fields, and be read again."""
    return bool(name) and name == name.strip() and not set(name) & set("\t\n\r\v\f\x1c\x1d\x1e\x85")


def sources_in(path: Path, *suffixes: str) -> list[Path]:
    """The file itself, or the files of a folder that end so. Raises UsageError where none does."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder")
    found = sorted(each for each in path.glob("*") if each.name.endswith(suffixes))
    if not found:
        raise UsageError(f"{path}: holds no file that ends in {' or '.join(suffixes)}")
    return found
