"""Where everything of a user lies: folder layout, atomic writes, locks."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.errors import LockedError, UsageError

ENVIRONMENT_VARIABLE = "CSLM_WORKSPACE"
DEFAULT_FOLDER = "workspace"


@dataclass(frozen=True)
class Workspace:
    """A folder with one place for each kind of artefact; see docs/formats.md."""

    root: Path

    @property
    def catalog(self) -> Path:
        """DuckDB file with the small tables."""
        return self.root / "catalog.duckdb"

    @property
    def tokenizers(self) -> Path:
        """Speech tokenizers, a folder each."""
        return self.root / "tokenizers"

    @property
    def text_tokenizers(self) -> Path:
        """Text tokenizers trained here, a folder each."""
        return self.root / "text_tokenizers"

    @property
    def units(self) -> Path:
        """Units as Parquet parts, a folder per speech tokenizer."""
        return self.root / "units"

    @property
    def measures(self) -> Path:
        """What was measured of the audio, as Parquet parts."""
        return self.root / "measures"

    @property
    def text_languages(self) -> Path:
        """What language texts seem to be in, as Parquet parts."""
        return self.root / "text_languages"

    @property
    def token_counts(self) -> Path:
        """How many tokens texts have, as Parquet parts, a folder per text tokenizer."""
        return self.root / "token_counts"

    @property
    def candidates(self) -> Path:
        """What mixes could hold of the catalog as it is; may be deleted, it is made again."""
        return self.root / "candidates"

    @property
    def audio(self) -> Path:
        """Audio that came inside of other files, packed."""
        return self.root / "audio"

    @property
    def synthesized(self) -> Path:
        """Speech that synthesize made, a folder per job."""
        return self.root / "synthesized"

    @property
    def alignments(self) -> Path:
        """Word times as Parquet parts, a folder per aligner."""
        return self.root / "alignments"

    @property
    def aligners(self) -> Path:
        """Acoustic models trained here for alignment, a folder each."""
        return self.root / "aligners"

    @property
    def mixes(self) -> Path:
        """Mixes with their shards, a folder each."""
        return self.root / "mixes"

    @property
    def rejects(self) -> Path:
        """What commands that leave no artefact of their own refused, a Parquet file each."""
        return self.root / "rejects"

    @property
    def runs(self) -> Path:
        """Training runs, a folder each."""
        return self.root / "runs"

    def folders(self) -> tuple[Path, ...]:
        """Every folder that views read files of."""
        return (
            *(self.tokenizers, self.units, self.measures, self.text_languages, self.alignments),
            *(self.mixes, self.rejects, self.runs),
        )

    @contextlib.contextmanager
    def lock(self, name: str, doing: str) -> Iterator[None]:
        """Hold the lock `name` for this process; it vanishes with the process, also after kill -9.

        Raises LockedError that names the holder when another process has it.
        """
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.lock"
        with path.open("a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                stream.seek(0)
                holder = stream.read().strip() or "an unknown process"
                raise LockedError(
                    f"{path.name}: {self.root} is in use by {holder}; "
                    "wait for it to end, or stop it, then run this command again"
                ) from None
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()} ({doing})")
            stream.flush()
            try:
                yield
            finally:
                stream.truncate(0)


def find_workspace(option: Path | None = None) -> Workspace:
    """The workspace of `--workspace`, `CSLM_WORKSPACE` or `./workspace`, in that order.

    Raises UsageError for a path that would be a pattern in SQL.
    """
    chosen = option or Path(os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_FOLDER)
    root = chosen.expanduser().absolute()
    if any(character in str(root) for character in "*?[]{}"):
        raise UsageError(
            f"--workspace {root}: the path of a workspace may not have * ? [ ] {{ }} in it; "
            "choose another folder"
        )
    return Workspace(root)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes the name `path` when the block ends well, else vanishes.

    The content is on disk before the name is: a kill at any moment leaves the old file or the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given, UTF-8, trailing newline."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process left in `folder`. Hold its lock."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
