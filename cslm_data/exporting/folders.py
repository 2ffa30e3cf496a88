"""Folders that an export makes: whole or not at all, and never over something else.

What lies in them says of itself in export.json what it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cslm_data.audio import SAMPLE_RATE_HZ, decode
from cslm_data.errors import AlreadyExistsError
from cslm_data.file_names import file_stem
from cslm_data.keys import key64

DESCRIPTION = "export.json"
"""What an exported folder says of itself."""

CUT_FOLDER = "audio"
"""Where stretches lie that were cut out of their recordings."""


def check_free(out: Path, *, overwrite: bool) -> None:
    """Raise AlreadyExistsError unless the folder is new, empty, or an export to be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    is_export = (out / DESCRIPTION).is_file()
    if not (is_export and overwrite):
        how = "replace it with --overwrite" if is_export else "name an empty or a new folder"
        what = "an export already" if is_export else "something else"
        raise AlreadyExistsError(f"{out}: holds {what}; {how}")


@contextmanager
def made_whole(out: Path) -> Iterator[Path]:
    """A folder to write to that becomes `out` when the block ends well."""
    temporary, old = (out.with_name(f".{out.name}.{kind}.tmp") for kind in ("export", "old"))
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def cut_out(
    folder: Path, utt_id: str, *, audio: str, offset_s: float, duration_s: float, suffix: str
) -> tuple[str, int]:
    """Write a stretch as a recording: its path in `folder`, its samples. Raises AudioError.

    16 kHz and one channel, 16 bits: what the tokenizers hear. `suffix` (`.flac`) says the format.
    """
    import soundfile

    wave_T = decode(audio, offset_s=offset_s, duration_s=duration_s)
    inner = f"{CUT_FOLDER}/{file_stem(utt_id)}{suffix}"
    path = folder / inner
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(wave_T, -1, 1), SAMPLE_RATE_HZ, subtype="PCM_16")
    return inner, len(wave_T)


def flat_stem(name: str, *, reserved: tuple[str, ...] = ()) -> str:
    """A name (of a corpus, of a split) as that of a file in one folder; two never share one.

    `reserved` are endings that mean something else.
    """
    stem = file_stem(name)
    if "/" in stem or stem.endswith(reserved):
        return f"{stem.replace('/', '_')}-{key64(name):016x}"
    return stem
