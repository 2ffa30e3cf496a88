"""The shards of a mix, wherever they lie → memory maps: local ones as they are, others by a cache.

A shard from afar is fetched whole into a folder of this machine that all processes on it share.
What was not read for longest goes when the next one needs the room. A shard in the cache is named
by its content, complete and checked: it is fetched under another name first.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, StorageError, UsageError
from cslm_data.shards import MixInfo, ShardBytes, ShardEntry
from cslm_data.storage import LocalFolder, RemoteFolder, folder_at

log = logging.getLogger(__name__)

_FETCHERS = 4
"""Shards fetched at once ahead of their reading."""
_CHUNK_BYTES = 1 << 22
_TRIES = 4
_FIRST_WAIT_S = 1.0
"""Before the second try of a fetch that broke off; twice as long before each further one."""
_LOCKS = 64
_POLL_S = 0.1


class ShardStore(Protocol):
    """Where the shards of a mix are opened by name."""

    def open(self, name: str) -> ShardBytes:
        """A shard, to be read. Raises MissingArtefactError, CorruptArtefactError, StorageError."""

    def fetch_ahead(self, names: Iterable[str]) -> None:
        """Say which shards are opened next, the nearest first. Returns at once."""

    def close(self) -> None:
        """Stop fetching."""


def open_store(
    mix: MixInfo, *, shards: str = "", cache_dir: str = "", cache_gb: float = 100.0
) -> ShardStore:
    """The shards of a mix: beside it, or in the folder or at the URL `shards`.

    Raises UsageError for an address that cannot be one, or a cache too small for a shard.
    """
    if not shards:
        return LocalShards(mix.folder / "shards")
    folder = folder_at(shards, named="data.shards")
    if isinstance(folder, LocalFolder):
        return LocalShards(folder.path)
    store = CachedShards(
        remote=folder,
        entries={entry.shard: entry for entry in mix.entries},
        cache_dir=Path(cache_dir).expanduser().absolute() if cache_dir else default_cache_dir(),
        cache_bytes=int(cache_gb * 1e9),
    )
    total_gb = sum(entry.num_bytes for entry in mix.entries) / 1e9
    largest = max(mix.entries, key=lambda entry: entry.num_bytes, default=None)
    if largest is not None and largest.num_bytes > store.cache_bytes:
        raise UsageError(
            f"data.cache_gb is {cache_gb:g}, but {largest.shard} of mixes/{mix.folder.name} alone "
            f"has {largest.num_bytes / 1e9:.3g} GB; give it at least that, better all shards' "
            f"{total_gb:.3g} GB"
        )
    if total_gb > cache_gb:
        log.warning(
            "data.cache_gb is %g, but the shards of mixes/%s have %.3g GB: unless "
            "data.shuffle_packs keeps a stretch of steps to few, most are fetched again and again",
            cache_gb,
            mix.folder.name,
            total_gb,
        )
    return store


def default_cache_dir() -> Path:
    """Where shards from afar are kept unless `data.cache_dir` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cslm" / "shards"


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder of this machine, or that it has mounted."""

    folder: Path

    def open(self, name: str) -> ShardBytes:
        """See ShardStore."""
        return ShardBytes(self.folder / name)

    def fetch_ahead(self, names: Iterable[str]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


@dataclass(kw_only=True)
class CachedShards:
    """Shards from afar. Can be sent to other processes of this machine; they share the cache."""

    remote: RemoteFolder
    entries: Mapping[str, ShardEntry]
    """What mix.json says of each: the fetched bytes have to be these."""
    cache_dir: Path
    cache_bytes: int
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _threads: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)
    _asked: set[str] = field(default_factory=set, init=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Everything but what belongs to this process."""
        made = functools.partial(
            CachedShards,
            remote=self.remote,
            entries=dict(self.entries),
            cache_dir=self.cache_dir,
            cache_bytes=self.cache_bytes,
        )
        return made, ()

    def open(self, name: str) -> ShardBytes:
        """See ShardStore."""
        path = self._path(name)
        while True:
            if not path.exists():
                self._fetch(name)
            try:
                shard = ShardBytes(path)
                os.utime(path)  # what is read now goes last
                return shard
            except (MissingArtefactError, FileNotFoundError):
                continue  # another process needed the room in this very moment

    def fetch_ahead(self, names: Iterable[str]) -> None:
        """See ShardStore. No more is fetched than half the cache holds."""
        room = self.cache_bytes // 2
        for name in dict.fromkeys(names):
            room -= self.entries[name].num_bytes
            if room < 0:
                return
            if name not in self._asked and not self._path(name).exists():
                self._asked.add(name)
                with self._lock:
                    self._threads = self._threads or ThreadPoolExecutor(
                        _FETCHERS, thread_name_prefix="fetch-shard"
                    )
                    self._threads.submit(self._try_to_fetch, name)

    def close(self) -> None:
        """See ShardStore."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._asked.clear()
        if threads is not None:
            threads.shutdown(cancel_futures=True)

    def _try_to_fetch(self, name: str) -> None:
        try:
            self._fetch(name)
        except Exception as error:  # whoever opens it tries again, and says what is wrong
            log.debug("%s was not fetched ahead: %s", name, error)
        finally:
            self._asked.discard(name)

    def _path(self, name: str) -> Path:
        return self.cache_dir / f"{self.entries[name].sha256[:16]}-{name}"

    def _fetch(self, name: str) -> None:
        """Have a shard in the cache. One process fetches it, others wait for it."""
        path = self._path(name)
        wait_s = _FIRST_WAIT_S
        with _locked(self.cache_dir / f".lock-{int(path.name[:16], 16) % _LOCKS:02d}"):
            for last in (*(False,) * (_TRIES - 1), True):
                if path.exists():
                    break
                try:
                    self._download(name, path)
                except StorageError as error:
                    if last:
                        raise
                    log.warning("%s; trying again in %.0f s", error, wait_s)
                    time.sleep(wait_s)
                    wait_s *= 2

    def _download(self, name: str, path: Path) -> None:
        entry = self.entries[name]
        with self._room_for(path, entry.num_bytes) as (temporary, stream):
            digest, size = hashlib.sha256(), 0
            with self.remote.reading(name) as remote:
                while chunk := remote.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    stream.write(chunk)
            if (size, digest.hexdigest()) != (entry.num_bytes, entry.sha256):
                raise CorruptArtefactError(
                    f"{self.remote.address}/{name}: {size} bytes of SHA-256 "
                    f"{digest.hexdigest()[:12]}…, but mix.json says {entry.num_bytes} of "
                    f"{entry.sha256[:12]}…; upload the shards of this mix again, or name the "
                    "mix that they are of with --mix"
                )
            stream.flush()
            os.fsync(stream.fileno())
            temporary.replace(path)

    @contextlib.contextmanager
    def _room_for(self, path: Path, num_bytes: int) -> Iterator[tuple[Path, Any]]:
        """A temporary file that counts as `num_bytes` from the beginning, older shards gone."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        while True:
            with _locked(self.cache_dir / ".lock"):
                if _make_room(self.cache_dir, self.cache_bytes - num_bytes):
                    stream = temporary.open("wb")
                    fcntl.flock(stream, fcntl.LOCK_EX)
                    stream.truncate(num_bytes)
                    break
            time.sleep(_POLL_S)  # others are fetching, and what they fetch may go then
        try:
            with stream:
                yield temporary, stream
        finally:
            temporary.unlink(missing_ok=True)


def _make_room(cache_dir: Path, most_bytes: int) -> bool:
    """Delete leftovers and the shards read longest ago; whether no more is left than said."""
    fetching = 0
    for path in cache_dir.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()  # nobody holds it: whoever fetched it was killed
            except BlockingIOError:
                fetching += path.stat().st_size
    shards = sorted(
        (status.st_mtime_ns, status.st_size, path)
        for path in cache_dir.glob("*.tar")
        for status in [path.stat()]
    )
    held = fetching + sum(size for _, size, _ in shards)
    for _, size, path in shards:
        if held <= most_bytes:
            break
        path.unlink()
        held -= size
    return held <= most_bytes


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
