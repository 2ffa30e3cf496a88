"""Where the units lie: `units/` of the workspace, another folder, or an object store (s3://…).

A folder is used the same way wherever it is. A file in it appears whole or not at all: locally by a
rename, in an object store because a put appears when it is complete. Addresses are those of fsspec;
credentials and endpoints come from where its filesystems look for them (for s3://: `AWS_*`, also
`AWS_ENDPOINT_URL`, `~/.aws`; for all: fsspec's configuration files and `FSSPEC_*`).
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import platform
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from cslm_data.errors import AlreadyExistsError, CslmError, StorageError, UsageError
from cslm_data.workspace import Workspace, atomic_path, remove_leftovers, write_json

SQL_ADDRESS = "cslm://units"
"""How DuckDB sees a folder that is not on this machine; see sql_files.py."""

_LOCATION = "location.json"
_OWNER = "cslm-units.json"
_UNITS_AT = "--units-at"
_PUT_IS_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
"""Filesystems where a put is seen when it is complete; elsewhere a rename makes it so."""


@dataclass(frozen=True)
class LocalFolder:
    """A flat folder of files of this machine, or that it has mounted."""

    path: Path

    @property
    def address(self) -> str:
        """The folder as a person would write it: an absolute path or URL."""
        return str(self.path)

    @property
    def sql_address(self) -> str:
        """The folder in SQL, on a connection of the catalog."""
        return str(self.path)

    def child(self, name: str) -> LocalFolder:
        """A folder in this one."""
        return LocalFolder(self.path / name)

    def prepare(self) -> None:
        """Make it, where it is not there yet, and remove leftovers. Hold its lock."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Delete what killed processes left half-written. Hold its lock."""
        remove_leftovers(self.path)

    def names(self, pattern: str) -> list[str]:
        """The names of its files that match, sorted; none where there is no folder yet."""
        return sorted(path.name for path in self.path.glob(pattern))

    def reading(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file, open to be read from any place in it."""
        return (self.path / name).open("rb")

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A local file to write; it gets the name when the block ends well, else it vanishes."""
        return atomic_path(self.path / name)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.path / name).unlink()


@dataclass(frozen=True)
class RemoteFolder:
    """The same at any other address that fsspec knows; it can be sent to other machines."""

    root: str
    """Where units are, without a slash at the end."""
    inner: str = ""
    """The folder within, starting with a slash."""

    @property
    def address(self) -> str:
        """See LocalFolder."""
        return self.root + self.inner

    @property
    def sql_address(self) -> str:
        """See LocalFolder."""
        return SQL_ADDRESS + self.inner

    def child(self, name: str) -> RemoteFolder:
        """See LocalFolder."""
        return RemoteFolder(self.root, f"{self.inner}/{name}")

    def prepare(self) -> None:
        """See LocalFolder."""
        filesystem, path = self.open_filesystem()
        # An object store has no folders; asked for one it would make a bucket.
        if not _put_is_whole(filesystem):
            with _explained(self.address, "made"):
                filesystem.makedirs(path, exist_ok=True)
            self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """See LocalFolder."""
        filesystem, _ = self.open_filesystem()
        if not _put_is_whole(filesystem):
            for name in self.names(".*.tmp"):
                self.remove(name)

    def names(self, pattern: str) -> list[str]:
        """See LocalFolder."""
        filesystem, path = self.open_filesystem()
        with _explained(self.address, "listed"):
            filesystem.invalidate_cache()
            try:
                found = filesystem.ls(path, detail=False)
            except FileNotFoundError:
                return []
        names = (str(each).rstrip("/").rsplit("/", 1)[-1] for each in found)
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """See LocalFolder."""
        filesystem, path = self.open_filesystem()
        with (
            _explained(f"{self.address}/{name}", "read"),
            filesystem.open(f"{path}/{name}", "rb") as stream,
        ):
            yield cast(BinaryIO, stream)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See LocalFolder."""
        with tempfile.TemporaryDirectory(prefix="cslm-") as folder:
            local = Path(folder) / name
            yield local
            filesystem, path = self.open_filesystem()
            with _explained(f"{self.address}/{name}", "written"):
                if _put_is_whole(filesystem):
                    filesystem.put_file(str(local), f"{path}/{name}")
                else:
                    temporary = f"{path}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
                    filesystem.put_file(str(local), temporary)
                    filesystem.mv(temporary, f"{path}/{name}")

    def remove(self, name: str) -> None:
        """See LocalFolder."""
        filesystem, path = self.open_filesystem()
        with _explained(f"{self.address}/{name}", "removed"):
            filesystem.rm_file(f"{path}/{name}")

    def open_filesystem(self) -> tuple[Any, str]:
        """The fsspec filesystem and the folder's path in it. Raises UsageError, StorageError."""
        import fsspec

        try:
            filesystem, path = fsspec.core.url_to_fs(self.address)
        except ImportError as error:
            scheme = self.root.split("://")[0]
            extra = " (for s3: pip install 'cslm[remote]')" if scheme == "s3" else ""
            raise UsageError(f"{self.root}: {error}; install it with pip{extra}") from None
        except ValueError as error:
            raise UsageError(f"{self.root}: {error}") from None
        except Exception as error:
            raise _explain(self.address, "reached", error) from error
        return filesystem, str(path)


Folder = LocalFolder | RemoteFolder


def _put_is_whole(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    names = {protocol} if isinstance(protocol, str) else set(protocol)
    return bool(names & _PUT_IS_WHOLE)


@contextlib.contextmanager
def _explained(address: str, doing: str) -> Iterator[None]:
    """What goes wrong on the way to another machine, as one error of ours.

    The filesystems of fsspec raise whatever their libraries do, so no narrower list would do.
    """
    try:
        yield
    except CslmError:
        raise
    except Exception as error:
        raise _explain(address, doing, error) from error


def _explain(address: str, doing: str, error: Exception) -> StorageError:
    lines = str(error).strip().splitlines()
    why = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    where = "AWS_* variables or ~/.aws" if address.startswith("s3") else "fsspec's configuration"
    return StorageError(
        f"{address}: cannot be {doing} ({why}); check the address, the network, and your "
        f"credentials ({where})"
    )


# ----------------------------------------------------------------------------- units of a workspace
def units_folder(workspace: Workspace) -> Folder:
    """Where a workspace has a folder of units per speech tokenizer."""
    said = _read_location(workspace)
    return (
        LocalFolder(workspace.units)
        if said is None
        else folder_at(said["address"], named=_UNITS_AT)
    )


def require_units_folder(workspace: Workspace) -> Folder:
    """The same, seen to be there.

    Raises StorageError when it is elsewhere and not what this workspace left there.
    """
    said = _read_location(workspace)
    folder = units_folder(workspace)
    if said is None:
        return folder
    if (_read_owner(folder) or {}).get("workspace") != said["workspace"]:
        raise StorageError(
            f"{folder.address}: the units of {workspace.root} should be here, but there is no "
            f"{_OWNER} of this workspace; mount or restore that folder (or check the endpoint); if "
            f"the units are gone for good, remove {workspace.units / _LOCATION} and run: "
            "cslm-data quantize"
        )
    return folder


def place_units(workspace: Workspace, address: str) -> None:
    """Remember that the units of a workspace are to lie at `address`. Said again, it checks it.

    Raises AlreadyExistsError where there are units already, here or of another workspace there;
    UsageError, StorageError for an address that cannot be used.
    """
    folder = folder_at(address, named=_UNITS_AT)
    said = _read_location(workspace)
    if folder == units_folder(workspace):
        return
    if said is not None:
        if (_read_owner(folder) or {}).get("workspace") != said["workspace"]:
            raise AlreadyExistsError(
                f"{workspace.root}: its units lie at {said['address']}; to move them, copy all "
                f"that is there, {_OWNER} too, to {folder.address} and run this command again"
            )
        token = said["workspace"]
    else:
        there = sorted({path.parent.name for path in workspace.units.glob("*/*.parquet")})
        if there:
            raise AlreadyExistsError(
                f"{workspace.units}: holds units already ({', '.join(there)}); to move them, copy "
                f"these folders to {folder.address}, remove them here and run this command again"
            )
        folder.prepare()
        token = _claim(folder, workspace)
    write_json(workspace.units / _LOCATION, {"address": folder.address, "workspace": token})


def _claim(folder: Folder, workspace: Workspace) -> str:
    """Mark a folder as this workspace's: two that plan parts in one would overwrite each other."""
    us = {"root": str(workspace.root), "host": platform.node()}
    owner = _read_owner(folder)
    if owner is None:
        token = uuid.uuid4().hex
        with folder.writing(_OWNER) as path:
            path.write_text(json.dumps({"workspace": token, **us}) + "\n", encoding="utf-8")
        return token
    if us.items() <= owner.items():
        return owner["workspace"]
    raise AlreadyExistsError(
        f"{folder.address}: holds the units of another workspace ({owner.get('root')} on "
        f"{owner.get('host')}); choose an empty place with --units-at, or, if that workspace is "
        f"gone, remove {_OWNER} there"
    )


def _read_owner(folder: Folder) -> dict[str, str] | None:
    if not folder.names(_OWNER):
        return None
    with folder.reading(_OWNER) as stream:
        return cast(dict[str, str], json.load(stream))


def _read_location(workspace: Workspace) -> dict[str, str] | None:
    path = workspace.units / _LOCATION
    if not path.exists():
        return None
    return cast(dict[str, str], json.loads(path.read_text(encoding="utf-8")))


def folder_at(address: str, *, named: str) -> Folder:
    """The folder at a path, a `file://` URL or any other URL of fsspec, given as `named`."""
    plain = address.removeprefix("file://")
    if re.match(r"\w\w+:(?!//)", plain):
        raise UsageError(
            f"{named} {address}: neither a folder nor a URL such as s3://bucket/folder"
        )
    if "://" not in plain:
        return LocalFolder(Path(plain).expanduser().absolute())
    if not address.split("://", 1)[1].strip("/"):
        raise UsageError(f"{named} {address}: names no bucket or folder, e.g. s3://bucket/folder")
    return RemoteFolder(address.rstrip("/"))
