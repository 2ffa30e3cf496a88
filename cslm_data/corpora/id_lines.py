"""Lines of `id value`, as Kaldi, LibriSpeech and AISHELL-1 write tables; and a table looked up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import MAX_LINE_BYTES
from cslm_data.records import Reject


@dataclass(frozen=True, kw_only=True)
class IdLine:
    """One line of such a table."""

    place: str
    """`text:12`, relative to the folder that is the source."""
    id: str
    value: str
    """All after the id, blanks at both ends left out; may be empty."""
    problem: str = ""
    """`not_utf8` or `line_too_long` where the line cannot be read."""


def read_id_lines(source: Source, name: str = "") -> Iterator[IdLine]:
    """The lines of a file (of one in this folder) in order; blank ones are skipped.

    UTF-8; a BOM and CRLF are accepted. A line that cannot be read has its place for an id.
    """
    with source.open(name) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{name or source.name}:{number}"
            if len(line) > MAX_LINE_BYTES:
                while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
                    pass
                yield IdLine(place=place, id=place, value="", problem="line_too_long")
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.strip(b" \t\r\n")
            if not line:
                continue
            try:
                # Only blanks of ASCII part the id from the rest; a wide one belongs to the text.
                key, *value = re.split(r"[ \t]+", line.decode("utf-8"), maxsplit=1)
            except UnicodeDecodeError:
                yield IdLine(place=place, id=place, value="", problem="not_utf8")
            else:
                yield IdLine(place=place, id=key, value=value[0] if value else "")


def refuse_line(line: IdLine, corpus: str, reason: str, detail: str) -> Reject:
    """A line that becomes no record: why, or what makes it unreadable."""
    if line.problem == "not_utf8":
        reason, detail = line.problem, "invalid UTF-8; convert the file to UTF-8"
    elif line.problem:
        reason, detail = line.problem, f"over {MAX_LINE_BYTES} bytes; split it"
    return reject(corpus, line.id, reason, f"{line.place}: {detail}")


class IdTable:
    """Such a table looked up by id while it is read, each line once.

    Asked in the order of the file, as sorted tables are, it remembers next to nothing; asked in any
    other order it remembers what it has passed. The first line of an id counts.
    """

    def __init__(self, source: Source, name: str) -> None:
        self._lines = read_id_lines(source, name) if name else iter(())
        self._passed: dict[str, IdLine] = {}
        self._spare: list[IdLine] = []

    def take(self, key: str) -> IdLine | None:
        """The line of an id, which is then used up; None where there is none."""
        found = self._passed.pop(key, None)
        while found is None and (line := next(self._lines, None)) is not None:
            if line.problem or line.id in self._passed:
                self._spare.append(line)
            elif line.id == key:
                found = line
            else:
                self._passed[line.id] = line
        return found

    def rest(self) -> Iterator[IdLine]:
        """What nobody took, last of all: lines of other ids, second ones and unreadable ones."""
        yield from self._spare
        yield from self._passed.values()
        yield from self._lines
