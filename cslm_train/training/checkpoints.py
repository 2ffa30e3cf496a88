"""Checkpoints: written and read as tensors and plain values, committed after their validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq2.io import (
    DataNotPicklableError,
    TensorFileDumper,
    TensorFileDumpOptions,
    TensorFileLoader,
    TensorFileLoadOptions,
)


class TensorsOnlyLoader(TensorFileLoader):
    """Unpickles nothing but tensors and plain values, also where fairseq2 would allow anything."""

    def __init__(self, loader: TensorFileLoader) -> None:
        self._loader = loader

    def load(self, file: Path, options: TensorFileLoadOptions | None = None) -> dict[str, object]:
        """See TensorFileLoader."""
        strict = dataclasses.replace(options or TensorFileLoadOptions(), restrict=True)
        state: dict[str, object] = self._loader.load(file, strict)
        return state


class TensorsOnlyDumper(TensorFileDumper):
    """Writes every file so that TensorsOnlyLoader can read it.

    Raises the OSError of a write that failed; fairseq2 says of a full disk that the data cannot be
    pickled.
    """

    def __init__(self, dumper: TensorFileDumper) -> None:
        self._dumper = dumper

    def dump(
        self, data: Mapping[str, object], file: Path, options: TensorFileDumpOptions | None = None
    ) -> None:
        """See TensorFileDumper."""
        try:
            self._dumper.dump(data, file, TensorFileDumpOptions(pickle_protocol=2))
        except DataNotPicklableError as error:
            if (failed_write := _first_cause(error)) is not None:
                raise failed_write from None
            raise


def _first_cause(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


class CommitLater:
    """A checkpoint manager as the validator sees it: it does not finish a checkpoint being saved.

    So a checkpoint exists only once the validation of its step is recorded, and a run that is
    killed between the two validates again.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def maybe_complete_save_operation(self, *, blocking: bool = False) -> bool | None:
        """Nothing; the trainer does it at its next step."""
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)
