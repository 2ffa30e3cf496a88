"""Catalog → files of other toolkits, and our own. One module per format, nothing else.

    manifest  <corpus>.jsonl, .align.jsonl, .bitext.jsonl, .dialogues.jsonl   all of the catalog
    nemo      <split>.jsonl                                                    utterances
    lhotse    <split>.cuts.jsonl.gz                                            and their words
    kaldi     <split>/wav.scp, segments, text, utt2spk, …                      utterances

A writer takes the rows of a Job in their order and says of each what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cslm_data.errors import UsageError

if TYPE_CHECKING:
    from cslm_data.exporting.job import Job

Table = Literal["utterances", "alignments", "bitext", "dialogues"]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """How a format is written."""

    write: Callable[[Job], None]
    tables: tuple[Table, ...]
    """Whose rows it has lines for."""
    inside: tuple[Table, ...] = ()
    """Whose rows are a part of those lines."""
    relative: bool = True
    """Whether its users can do with paths that are relative to its files."""


def _manifest() -> Writer:
    from cslm_data.exporting import manifest

    tables: tuple[Table, ...] = ("utterances", "alignments", "bitext", "dialogues")
    return Writer(write=manifest.write, tables=tables)


def _nemo() -> Writer:
    from cslm_data.exporting import nemo

    return Writer(write=nemo.write, tables=("utterances",))


def _lhotse() -> Writer:
    from cslm_data.exporting import lhotse

    return Writer(write=lhotse.write, tables=("utterances",), inside=("alignments",))


def _kaldi() -> Writer:
    from cslm_data.exporting import kaldi

    return Writer(write=kaldi.write, tables=("utterances",), relative=False)


WRITERS: dict[str, Callable[[], Writer]] = {
    "manifest": _manifest,
    "nemo": _nemo,
    "lhotse": _lhotse,
    "kaldi": _kaldi,
}
"""What `--format` takes."""


def load_writer(name: str) -> Writer:
    """The writer of that format. Raises UsageError that lists them."""
    if name not in WRITERS:
        raise UsageError(f"--format {name}: choose one of {', '.join(WRITERS)}")
    return WRITERS[name]()
