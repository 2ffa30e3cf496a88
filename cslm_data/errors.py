"""Errors a user can cause and mend. Each message says what, where and what to do next."""

from __future__ import annotations


class CslmError(Exception):
    """Root of the errors that the command line prints as one clear message, without a traceback."""

    rank: int | None = None
    """The process it happened in, where several work together; None: in all of them alike."""


class UsageError(CslmError):
    """An option, a configuration field or a recipe that does not make sense."""


class AlreadyExistsError(CslmError):
    """Something finished is in the way and was not allowed to be replaced."""


class MissingArtefactError(CslmError):
    """An earlier step of the spine has not been run, or its result is gone."""


class TokenizerMismatchError(CslmError):
    """Units, shards or a checkpoint of another speech or text tokenizer."""


class LockedError(CslmError):
    """Another process is writing the same thing; the message names it."""


class StorageError(CslmError):
    """A folder on another machine that cannot be reached, or may not be read or written."""


class AudioError(CslmError):
    """Audio that cannot be decoded. `reason` is the short name that goes into `rejects`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RejectRateError(CslmError):
    """More rows were rejected than `--max-reject-rate` allows."""


class NoDataError(CslmError):
    """A step was asked for data that the workspace does not hold."""


class CorruptArtefactError(CslmError):
    """A file of ours does not hold what its identity or checksum promises."""


class LostProcessError(CslmError):
    """Another process of a run is gone, or does not answer."""


class EndedByFirstError(CslmError):
    """The first process could not begin, and says why; the others end with it."""


class DivergedError(CslmError):
    """A training whose steps have no usable gradient any more."""
