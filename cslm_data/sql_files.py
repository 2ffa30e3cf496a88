"""Remote units for DuckDB: a read-only filesystem of one folder, under an address of its own.

DuckDB reads `cslm://units/<tokenizer_id>/part-….parquet` through fsspec, so that it needs no
extension, no credentials, and sees nothing else of the machine that the units lie on.
"""

from __future__ import annotations

import datetime
import functools
import io
import os
import threading
from collections.abc import Callable
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from cslm_data.storage import SQL_ADDRESS, RemoteFolder

_PROTOCOL, _ROOT = SQL_ADDRESS.split("://")
_THREADS = 16
_SMALL_BYTES = 1 << 20
"""Fetched in one go: a round trip costs more than these bytes, and a footer alone takes two."""


def register_files(connection: duckdb.DuckDBPyConnection, folder: RemoteFolder) -> None:
    """Let a connection read a folder, as it is now, under SQL_ADDRESS."""
    if connection.filesystem_is_registered(_PROTOCOL):
        connection.unregister_filesystem(_PROTOCOL)
    connection.register_filesystem(_SqlFiles(folder))
    # They wait for another machine more than they compute.
    connection.execute("set threads = greatest(current_setting('threads')::integer, ?)", [_THREADS])


class _SqlFiles(AbstractFileSystem):  # type: ignore[misc]
    """The files of a remote folder as they were when first listed."""

    protocol = _PROTOCOL
    cachable = False

    def __init__(self, folder: RemoteFolder) -> None:
        super().__init__()
        self._inner, self._path = folder.open_filesystem()
        self._inner.invalidate_cache()
        self._listed: dict[str, list[dict[str, Any]]] = {}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Files and folders in a folder; each folder is listed once."""
        path = self._strip_protocol(path)
        if path not in self._listed:
            entries = self._inner.ls(self._outside(path), detail=True)
            self._listed[path] = [
                {**entry, "name": f"{path}/{entry['name'].rstrip('/').rsplit('/', 1)[-1]}"}
                for entry in entries
            ]
        entries = self._listed[path]
        return entries if detail else [entry["name"] for entry in entries]

    def modified(self, path: str) -> datetime.datetime:
        """When a file was last written, as far as its filesystem says."""
        info = self.info(path)
        said = info.get("LastModified") or info.get("last_modified") or info.get("created")
        if isinstance(said, datetime.datetime):
            return said
        return datetime.datetime.fromtimestamp(0, datetime.UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise PermissionError(f"{path}: units are only read here")
        fetch = functools.partial(self._inner.cat_file, self._outside(path))
        return _File(fetch, self.size(path))

    def _outside(self, path: str) -> str:
        """The path in the filesystem behind; there is nothing above the root."""
        parts = path.split("/")
        if parts[0] != _ROOT or ".." in parts:
            raise FileNotFoundError(path)
        return "/".join([self._path, *parts[1:]])


class _File:
    """A file open for several threads of DuckDB, each of which seeks, then reads.

    A small one comes whole with the first read: DuckDB opens some that it never reads.
    """

    def __init__(self, fetch: Callable[..., bytes], size: int) -> None:
        self._fetch = fetch
        self._small = size <= _SMALL_BYTES
        self._content: bytes | None = None
        self._lock = threading.Lock()
        self._own = threading.local()
        self._last = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Where this thread reads next."""
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("places are counted from the beginning")
        self._own.place = self._last = offset
        return offset

    def tell(self) -> int:
        """Where this thread reads next; the last place of any, where it has none."""
        place: int = getattr(self._own, "place", self._last)
        return place

    def read(self, size: int) -> bytes:
        """Bytes from there on."""
        place = self.tell()
        content = self._range(place, place + size)
        self.seek(place + len(content))
        return content

    def close(self) -> None:
        """Forget the content."""
        self._content = None

    def _range(self, start: int, end: int) -> bytes:
        if not self._small:
            return self._fetch(start=start, end=end)
        with self._lock:
            if self._content is None:
                self._content = self._fetch()
            return self._content[start:end]
