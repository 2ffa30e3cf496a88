"""SlamKit: JSONL of its two stages, an utterance a line.

`extract_features.py` writes `{"units": […], "duration": […], "file_name"}`, units as runs with
their lengths in frames; `prepare_tokens.py` makes `{"file_name", "audio_repr": "<Un3><Un49>…"}` of
it, what its training reads, where lengths are lost. Both are written here; the first is the one to
read.

Source: SlamKit (slp-rl), cli/extract_features.py, cli/prepare_tokens.py,
slamkit/tokeniser/unit_tokeniser.py, example_data/{features,tokens}.jsonl.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cslm_data.corpora.source import local_file
from cslm_data.corpora.tables import Row, read_rows
from cslm_data.units.formats import BadLine, ExportLine, Line, Numbers, Source, Writer, sources_in

_FEATURES, _TOKENS = ".features.jsonl", ".tokens.jsonl"
_UNITS = re.compile(r"(?:<Un\d+>)*", re.ASCII)
_UNIT = re.compile(r"<Un(\d+)>", re.ASCII)


class _Writer:
    def __init__(self, features: TextIO, tokens: TextIO) -> None:
        self._features, self._tokens = features, tokens

    def add(self, line: ExportLine) -> None:
        name = json.dumps(line.name, ensure_ascii=False)
        self._features.write(
            f'{{"units": {line.units}, "duration": {line.durations}, "file_name": {name}}}\n'
        )
        units = "".join(f"<Un{unit}>" for unit in line.units)
        self._tokens.write(f'{{"file_name": {name}, "audio_repr": "{units}"}}\n')


@contextlib.contextmanager
def open_writer(folder: Path, split: str, *, num_shards: int) -> Iterator[Writer]:
    """The two files of a split."""
    del num_shards
    with (
        (folder / f"{split}{_FEATURES}").open("w", encoding="utf-8") as features,
        (folder / f"{split}{_TOKENS}").open("w", encoding="utf-8") as tokens,
    ):
        yield _Writer(features, tokens)


def find(path: Path) -> list[Source]:
    """The .jsonl files there; of a split that has both, the one with durations."""
    files = sources_in(path, ".jsonl")
    names = {file.name for file in files}
    kept = [
        file
        for file in files
        if not (file.name.endswith(_TOKENS) and file.name.replace(_TOKENS, _FEATURES) in names)
    ]
    return [
        Source(
            file.name,
            "durations" if _has_durations(file) else "runs",
            functools.partial(_read, file),
        )
        for file in kept
    ]


def _has_durations(path: Path) -> bool:
    """Whether the first line that can be read is of the first stage."""
    first = next((row for row in read_rows(local_file(path)) if isinstance(row, Row)), None)
    return first is not None and "audio_repr" not in first.fields


def _read(path: Path) -> Iterator[Line | BadLine]:
    for row in read_rows(local_file(path)):
        if isinstance(row, Row):
            yield _line(row, path)
        else:
            yield BadLine(row.key, row.key, row.reason, row.detail)


def _line(row: Row, path: Path) -> Line | BadLine:
    name = row.text("file_name")
    if name is None:
        return BadLine(row.place, row.place, "bad_line", "the field `file_name` is empty")
    audio = local_file(path).resolve(name)
    text = row.fields.get("audio_repr")
    if isinstance(text, str):
        if not _UNITS.fullmatch(text):
            return BadLine(
                row.place, name, "bad_line", "`audio_repr` is not of the form <Un1><Un2>"
            )
        units_R = np.array(_UNIT.findall(text), np.int64)
        return Line(row.place, name, audio, units_R, None, None)
    units, durations = (_whole_numbers(row.fields.get(key)) for key in ("units", "duration"))
    if units is None or durations is None:
        return BadLine(
            row.place,
            name,
            "bad_line",
            "lists of whole numbers `units` and `duration`, or `audio_repr`, are expected",
        )
    return Line(row.place, name, audio, units, durations, None)


def _whole_numbers(value: Any) -> Numbers | None:
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        return None
    try:
        return np.array(value, np.int64)
    except OverflowError:
        return None
