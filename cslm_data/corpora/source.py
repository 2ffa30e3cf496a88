"""Where a corpus lies: a file or a folder, on this machine or at any address of fsspec (s3://…)."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from cslm_data.errors import StorageError, UsageError

_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
"""Endings of files that are decompressed while they are read, and fsspec's names for them."""


@dataclass(frozen=True)
class Source:
    """A file or folder to ingest. Two of the same address are the same source."""

    uri: str
    """Absolute path without links, or URL without a slash at the end."""
    is_folder: bool
    peeked: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was read of it to guess its format, so that it is read once."""

    @property
    def name(self) -> str:
        """Last part of the address: `train.jsonl.gz`."""
        return PurePosixPath(self.uri).name

    @property
    def plain_name(self) -> str:
        """Name without the ending of compression: `train.jsonl`."""
        path = PurePosixPath(self.name)
        return path.stem if path.suffix.lower() in _COMPRESSED else path.name

    @property
    def suffix(self) -> str:
        """Ending of that in lower case: `.jsonl`."""
        return PurePosixPath(self.plain_name).suffix.lower()

    @property
    def stem(self) -> str:
        """Name without these endings: `train`."""
        return PurePosixPath(self.plain_name).stem

    @property
    def is_remote(self) -> bool:
        """Whether it lies elsewhere."""
        return "://" in self.uri

    def child(self, name: str) -> Source:
        """A file in this folder, `name` relative to it."""
        return Source(f"{self.uri}/{name}", is_folder=False)

    def folder(self) -> str:
        """Address of the folder, for a file that of the folder it lies in."""
        return self.uri if self.is_folder else self.uri.rpartition("/")[0]

    def resolve(self, audio: str) -> str:
        """Address of a path that this source names: absolute, a URL, or relative to its folder."""
        if "://" in audio:
            return audio
        if self.is_remote:
            return audio if audio.startswith("/") else f"{self.folder()}/{audio}"
        try:
            # Links are left as they are: queries, which resolve most paths, cannot follow them.
            return os.path.normpath(Path(self.folder()) / Path(audio).expanduser())
        except (ValueError, RuntimeError):
            # A path that no file can have: a NUL in it, or the home of nobody.
            return f"{self.folder()}/{audio}"

    def exists(self, name: str = "") -> bool:
        """Whether it is there; with a name, whether the folder has such a file or folder."""
        address = f"{self.uri}/{name}" if name else self.uri
        if not self.is_remote:
            return os.path.exists(address)  # noqa: PTH110 - false for names no file can have
        filesystem, path = _filesystem(address)
        with _explained(address):
            return bool(filesystem.exists(path))

    def names(self, pattern: str) -> list[str]:
        """Files in this folder that match a glob (`*.tsv`, `**/*.trans.txt`), relative, sorted."""
        if not self.is_remote:
            root = Path(self.uri)
            found = [str(path.relative_to(root)) for path in root.glob(pattern) if path.is_file()]
            return sorted(found)
        filesystem, path = _filesystem(self.uri)
        with _explained(self.uri):
            if "**" in pattern:
                below = filesystem.find(path)
            else:
                entries = filesystem.glob(f"{path}/{pattern}", detail=True)
                below = [name for name, entry in entries.items() if entry["type"] == "file"]
        prefix = path.rstrip("/") + "/"
        relative = [str(name).removeprefix(prefix) for name in below]
        simple = pattern.replace("**/", "*")
        return sorted(name for name in relative if fnmatch.fnmatchcase(name, simple))

    def entries(self, folder: str = "") -> tuple[list[str], list[str]]:
        """Names of the files and of the folders in this folder, or in one below it, sorted."""
        address = f"{self.uri}/{folder}" if folder else self.uri
        if not self.is_remote:
            with _explained(address), os.scandir(address) as found:
                kinds = [(entry.name, _is_folder(entry)) for entry in found]
        else:
            filesystem, path = _filesystem(address)
            with _explained(address):
                listed = filesystem.ls(path, detail=True)
            kinds = [
                (PurePosixPath(str(entry["name"])).name, entry["type"] == "directory")
                for entry in listed
            ]
        kinds.sort()
        return [n for n, is_dir in kinds if not is_dir], [n for n, is_dir in kinds if is_dir]

    @contextlib.contextmanager
    def open(self, name: str = "") -> Iterator[BinaryIO]:
        """The bytes of this file, or of one in this folder, decompressed. Raises StorageError."""
        address = f"{self.uri}/{name}" if name else self.uri
        compression = _COMPRESSED.get(PurePosixPath(address.lower()).suffix)
        if not self.is_remote and compression is None:
            with Path(address).open("rb") as local:
                yield local
            return
        import fsspec

        with (
            _explained(address),
            fsspec.open(address, "rb", compression=compression) as stream,
        ):
            yield cast(BinaryIO, stream)

    @contextlib.contextmanager
    def open_text(self, name: str = "") -> Iterator[io.TextIOWrapper]:
        """The same as text: UTF-8, a BOM left out; bytes that are none become lone surrogates."""
        with (
            self.open(name) as stream,
            io.TextIOWrapper(
                stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
            ) as text,
        ):
            yield text


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is one itself; a loop of links is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def local_file(path: Path) -> Source:
    """A file of this machine that is known to be there."""
    return Source(str(path.resolve()), is_folder=False)


def find_source(address: str | Path) -> Source:
    """The file or folder at a path or URL. Raises UsageError where there is none."""
    text = str(address)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        path = Path(text).expanduser()
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; give a manifest or its folder")
        if not (path.is_file() or path.is_dir()):
            raise UsageError(f"{path}: a device or pipe, which cannot be read twice; give a file")
        return Source(str(path.resolve()), is_folder=path.is_dir())
    filesystem, path_there = _filesystem(text)
    with _explained(text):
        if filesystem.isfile(path_there):
            return Source(text.rstrip("/"), is_folder=False)
        if filesystem.isdir(path_there):
            return Source(text.rstrip("/"), is_folder=True)
    raise UsageError(f"{text}: no such file or folder; give a manifest or its folder")


def _filesystem(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        scheme = address.split("://")[0]
        extra = " (for s3: pip install 'cslm[remote]')" if scheme == "s3" else ""
        raise UsageError(f"{address}: {error}; install it with pip{extra}") from None
    except ValueError as error:
        raise UsageError(f"{address}: {error}") from None
    return filesystem, str(path)


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    """What goes wrong in reading, as one error of ours: fsspec raises what its libraries do."""
    try:
        yield
    except (StorageError, UsageError):
        raise
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        why = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise StorageError(
            f"{address}: cannot be read ({why}); check the address, your access to it, and that "
            "the file is whole"
        ) from error
