"""Audio that came inside of other files → packs. Writes `audio/` of the workspace, for ingest.

What a Parquet file, a pipe or a manifest holds as bytes is appended, as it is, to one pack a
source, and is addressed as a range of it: `/workspace/audio/<key>.pack#bytes=START-LENGTH`.
audio.py opens such a range of any file, here or at an address of fsspec.
"""

from __future__ import annotations

import io
import os
import re
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

from cslm_data.errors import StorageError
from cslm_data.keys import key64
from cslm_data.workspace import Workspace

_RANGE = re.compile(r"(?s)(.+)#bytes=(\d{1,18})-(\d{1,18})")

_unfinished: dict[str, Path] = {}
"""Packs that this process is writing, and what they are called meanwhile."""


class AudioStore:
    """Keeps the audio of one source while the block lasts; the pack is whole or the old one stays.

    The same audio in the same order gives the same pack, byte for byte; one that is there already
    is compared as it goes, and written only from where it differs. Until the block ends, addresses
    of a new pack can be opened in this process only. Hold the catalog's lock. Raises StorageError
    when the disk does not take it.
    """

    def __init__(self, workspace: Workspace, source_uri: str) -> None:
        self._path = workspace.audio / f"{key64(source_uri):016x}.pack"
        self._size = 0
        self._old: IO[bytes] | None = None
        self._new: IO[bytes] | None = None
        self._temporary: Path | None = None

    def __enter__(self) -> AudioStore:
        for leftover in self._path.parent.glob(f".{self._path.name}.*.tmp"):
            leftover.unlink()
        if self._path.is_file():
            self._old = self._path.open("rb")
        return self

    def keep(self, name: str, data: bytes) -> str:
        """The address of some encoded audio from now on; `name` says what it is in errors."""
        try:
            if self._old is not None and self._old.read(len(data)) != data:
                self._leave_old()
            if self._old is None:
                if self._new is None:
                    self._open_new()
                assert self._new is not None  # noqa: S101 - just opened
                self._new.write(data)
                self._new.flush()
        except OSError as error:
            raise StorageError(
                f"{self._path}: the audio of {name} cannot be written ({error}); make room, or put "
                "the workspace elsewhere, and ingest again"
            ) from error
        address = with_range(str(self._path), self._size, len(data))
        self._size += len(data)
        return address

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for stream in (self._old, self._new):
                if stream is not None:
                    stream.close()
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)
            _unfinished.pop(str(self._path), None)

    def _finish(self) -> None:
        """Give the pack its name; without audio there is none."""
        if self._old is not None and self._size < self._path.stat().st_size:
            self._leave_old()
        if self._size == 0:
            self._path.unlink(missing_ok=True)
        elif self._new is not None and self._temporary is not None:
            os.fsync(self._new.fileno())
            self._temporary.replace(self._path)

    def _leave_old(self) -> None:
        """From here on the audio differs from that of the pack that is there."""
        old, self._old = self._old, None
        assert old is not None  # noqa: S101 - the callers look
        with old:
            self._open_new()
            old.seek(0)
            rest = self._size
            while rest and (block := old.read(min(rest, 1 << 20))):
                assert self._new is not None  # noqa: S101 - just opened
                self._new.write(block)
                rest -= len(block)

    def _open_new(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        name = f".{self._path.name}.{uuid.uuid4().hex[:8]}.tmp"
        self._temporary = self._path.with_name(name)
        self._new = self._temporary.open("wb")
        _unfinished[str(self._path)] = self._temporary


def split_range(uri: str) -> tuple[str, tuple[int, int] | None]:
    """`x.pack#bytes=5-100` → `x.pack` and (5, 100): first byte and number; None without a range."""
    if "#bytes=" not in uri:
        return uri, None
    match = _RANGE.fullmatch(uri)
    return (match[1], (int(match[2]), int(match[3]))) if match else (uri, None)


def with_range(uri: str, start: int, length: int) -> str:
    """The address of some bytes of a file."""
    return f"{uri}#bytes={start}-{length}"


def find_pack(path: Path) -> Path:
    """Where the bytes of a local file are now: of a pack in the making, under its other name."""
    return _unfinished.get(str(path), path)


class Window(io.RawIOBase):
    """Some bytes of a seekable stream as a stream of their own; it does not close the other."""

    def __init__(self, stream: BinaryIO, start: int, length: int) -> None:
        self._stream, self._start, self._length, self._at = stream, start, length, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To a place in the window; returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The place in the window."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what follows; returns how many bytes."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._length - self._at))
        self._stream.seek(self._start + self._at)
        data = self._stream.read(wanted)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
