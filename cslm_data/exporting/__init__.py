"""Catalog → files of other toolkits, and our own. One module per format, nothing else.

    manifest  <corpus>.jsonl, .align.jsonl, .bitext.jsonl, .dialogues.jsonl   all of the catalog
    nemo      <split>.jsonl                                                    utterances
    lhotse    <split>.cuts.jsonl.gz                                            and their words
    kaldi     <split>/wav.scp, segments, text, utt2spk, …                      utterances

and a mix:

    cslm, slamkit, hf-parquet: see mix_formats.py; energon: see energon.py

A writer takes the rows of a Job in their order and says of each what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cslm_data.errors import UsageError

if TYPE_CHECKING:
    from cslm_data.exporting.job import Job
    from cslm_data.exporting.mix_export import MixJob

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


def _mix_cslm() -> Callable[[MixJob], None]:
    from cslm_data.exporting.mix_formats import write_cslm

    return write_cslm


def _mix_slamkit() -> Callable[[MixJob], None]:
    from cslm_data.exporting.mix_formats import write_slamkit

    return write_slamkit


def _mix_hf_parquet() -> Callable[[MixJob], None]:
    from cslm_data.exporting.mix_formats import write_hf_parquet

    return write_hf_parquet


def _mix_energon() -> Callable[[MixJob], None]:
    from cslm_data.exporting.energon import write_energon

    return write_energon


MIX_WRITERS: dict[str, Callable[[], Callable[[MixJob], None]]] = {
    "cslm": _mix_cslm,
    "slamkit": _mix_slamkit,
    "hf-parquet": _mix_hf_parquet,
    "energon": _mix_energon,
}
"""What `--format` takes with `--mix`."""


def load_writer(name: str) -> Writer:
    """The writer of that format. Raises UsageError that lists them."""
    if name in MIX_WRITERS:
        raise UsageError(f"--format {name}: samples of a mix; name the mix with --mix")
    if name not in WRITERS:
        raise UsageError(f"--format {name}: choose one of {', '.join(WRITERS)}")
    return WRITERS[name]()


def load_mix_writer(name: str) -> Callable[[MixJob], None]:
    """The writer of that format for a mix. Raises UsageError that lists them."""
    if name not in MIX_WRITERS:
        raise UsageError(f"--mix: --format {name}: choose one of {', '.join(MIX_WRITERS)}")
    return MIX_WRITERS[name]()
