"""What a writer is given: the chosen rows of the catalog as a stream, and where refusals go."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.audio_store import split_range
from cslm_data.catalog import Connection, read_sql
from cslm_data.errors import AudioError, UsageError
from cslm_data.exporting.folders import CUT_FOLDER, cut_out
from cslm_data.progress import Progress
from cslm_data.records import Reject
from cslm_data.reject_files import RejectFile

STAGE = "export"

_ROWS = 2048
_READERS = 8

Made = TypeVar("Made")


class Row(NamedTuple):
    """An utterance to write; columns that every query of utterances has."""

    utt_id: str
    corpus: str
    audio: str
    offset_s: float
    duration_s: float
    sample_rate_hz: int
    num_channels: int
    language: str
    speaker: str | None
    text: str | None
    kind: str
    license: str | None
    split: str | None
    more: tuple[Any, ...] = ()
    """What else the query gave, in its order."""


NUM_COLUMNS = len(Row._fields) - 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which rows are exported."""

    languages: list[str] | None = None
    split: str | None = None
    corpus: str | None = None
    where: str | None = None
    """SQL over `utterances`. It says nothing of bitext and dialogues: they are not chosen then."""

    def fill(self, name: str) -> tuple[str, dict[str, Any]]:
        """The text of `<name>.sql` and its values."""
        text = read_sql(name)
        for inner in ("export_chosen", "export_chosen_dialogues", "export_best_alignments"):
            text = text.replace("{" + inner + "}", read_sql(inner))
        values = {
            "languages": self.languages,
            "split": self.split,
            "corpus": self.corpus,
            "whole": self.where is None,
        }
        wanted = {key: value for key, value in values.items() if f"${key}" in text}
        return text.replace("{where}", self.where or "true"), wanted


@dataclass(kw_only=True)
class Job:
    """One export: what to write, and what was."""

    connection: Connection
    choice: Choice
    temporary: Path
    """Where the folder is made."""
    out: Path
    """Where it will be."""
    relative: bool
    cut: bool
    pipes: bool
    refused: RejectFile
    bar: Progress
    written: Counter[str] = field(default_factory=Counter)
    """Rows of each table that were written."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows of each table that were not."""
    files: Counter[str] = field(default_factory=Counter)
    """Rows in each file or folder."""
    num_cut: int = 0

    # ------------------------------------------------------------------------- rows
    def query(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a query of ours, some at a time."""
        text, values = self.choice.fill(name)
        result: Any = ask(self.choice, lambda: self.connection.sql(text, params=values))
        with result.to_arrow_reader(_ROWS) as reader:
            for batch in reader:
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def rows(self, name: str) -> Iterator[Row]:
        """The same of a query of utterances."""
        for values in self.query(name):
            yield Row._make((*values[:NUM_COLUMNS], values[NUM_COLUMNS:]))

    def each(self, rows: Iterator[Row], work: Callable[[Row], Made | Reject]) -> Iterator[Made]:
        """What `work` makes of the rows, in order, made ahead by threads; refusals are noted."""
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as readers:
            while batch := list(itertools.islice(rows, _READERS * 32)):
                for made in readers.map(work, batch):
                    if isinstance(made, Reject):
                        self.refuse(made)
                    else:
                        yield made

    def sayable(
        self, rows: Iterator[Row], problem_of: Callable[[Row], str], *, suffix: str = ".flac"
    ) -> Iterator[Row]:
        """The rows whose audio the format can name, and with `cut` the others, cut out.

        `problem_of` says `reason: what is wrong` of a row, or nothing.
        """

        def look(row: Row) -> Row | Reject:
            problem = problem_of(row)
            if not problem:
                return row
            if self.cut:
                return self._cut(row, suffix)
            reason = problem.split(":")[0]
            detail = f"{problem}; write such utterances as recordings of their own with --cut"
            return refusal(row, reason, detail)

        if self.cut:
            for made in self.each(rows, look):
                self.num_cut += self.is_cut(made)
                yield made
            return
        for row in rows:
            found = look(row)
            if isinstance(found, Reject):
                self.refuse(found)
            else:
                yield found

    def _cut(self, row: Row, suffix: str) -> Row | Reject:
        try:
            inner, num_samples = cut_out(
                self.temporary,
                row.utt_id,
                audio=row.audio,
                offset_s=row.offset_s,
                duration_s=row.duration_s,
                suffix=suffix,
            )
        except AudioError as error:
            return refusal(row, error.reason, error.detail)
        return row._replace(
            audio=str(self.out / inner),
            offset_s=0.0,
            duration_s=num_samples / SAMPLE_RATE_HZ,
            sample_rate_hz=SAMPLE_RATE_HZ,
            num_channels=1,
        )

    # ------------------------------------------------------------------------- addresses
    def is_cut(self, row: Row) -> bool:
        """Whether its audio was cut out by this export."""
        return self.cut and row.audio.startswith(f"{self.out / CUT_FOLDER}/")

    def here(self, row: Row) -> str:
        """Where its audio is now: if it was cut out, in the folder that is being made."""
        if self.is_cut(row):
            return str(self.temporary / Path(row.audio).relative_to(self.out))
        return row.audio

    def place(self, audio: str) -> str:
        """An address as a file in the folder writes it: absolute, or relative to the folder."""
        path = local_path(audio)
        if not self.relative or "://" in path:
            return path
        relative = os.path.relpath(path, self.out)
        return path if relative.startswith("~") else relative

    # ------------------------------------------------------------------------- what became of it
    def wrote(self, table: str, file: str) -> None:
        """Note a row that was written."""
        self.written[table] += 1
        self.files[file] += 1
        self.bar.advance()

    def refuse(self, reject: Reject, table: str = "utterances") -> None:
        """Note a row that was not."""
        self.rejected[table] += 1
        self.refused.add(reject)
        self.bar.advance()


def ask(choice: Choice, query: Callable[[], Any]) -> Any:
    """Run a query; what is wrong with the predicate is told as such. Raises UsageError."""
    try:
        return query()
    except duckdb.Error as error:
        if choice.where is None:
            raise
        raise UsageError(f"--where {choice.where!r}: {str(error).strip()}") from None


def refusal(row: Row, reason: str, detail: str) -> Reject:
    """A reject of this stage."""
    return Reject(stage=STAGE, corpus=row.corpus, key=row.utt_id, reason=reason, detail=detail)


def local_path(audio: str) -> str:
    """An address without the scheme that says it is of this machine."""
    return audio.removeprefix("file://")


def split_of(row: Row) -> str:
    """The split whose files a row goes to."""
    return row.split or "all"


def problem_of_address(row: Row, *, remote: bool) -> str:
    """Why no other toolkit could open its audio: `packed`, or `remote` where that is one."""
    file, bytes_of_it = split_range(row.audio)
    if bytes_of_it is not None:
        return f"packed: its audio lies inside of {local_path(file)}"
    if not remote and "://" in local_path(row.audio):
        return f"remote: {row.audio} lies on another machine"
    return ""
