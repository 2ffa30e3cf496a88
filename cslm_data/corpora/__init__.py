"""READERS: one file per format, each a generator of records and nothing else.

A third party adds a reader through the entry-point group `cslm.readers`; it then comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Literal

from cslm_data.corpora import (
    aishell,
    alignments,
    bitext,
    common_voice,
    ctm,
    dialogues,
    hf_parquet,
    instructions,
    kaldi,
    lhotse,
    librispeech,
    manifest,
    messages,
    mls,
    moses,
    nemo,
    textgrid,
)
from cslm_data.corpora.columns import Columns
from cslm_data.corpora.source import Source
from cslm_data.errors import UsageError
from cslm_data.records import Alignment, BitextPair, Dialogue, Reject, Utterance

Record = Utterance | BitextPair | Dialogue | Alignment


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the command line says about rows that do not say it themselves."""

    corpus: str | None = None
    language: str | None = None
    license: str | None = None
    split: str | None = None
    allow_pipes: bool = False
    """Run the commands that a Kaldi wav.scp names, once, and keep what they print."""
    keep_audio: Callable[[str, bytes], str] | None = None
    """Keeps audio that came inside of another file, under a name; returns its address."""


Read = Callable[[Source, Defaults], Iterator[Record | Reject]]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A format: how to recognise a file, or a folder as a whole, and how to read it."""

    recognises: Callable[[Source], bool]
    read: Read | Columns
    """A generator of records; or fields and a query, for formats of plain rows, which are long."""
    reads_folders: bool | Literal["too"] = False
    """Takes a folder as a whole instead of one file; `too`: either."""


READERS: dict[str, Reader] = {
    "manifest": Reader(recognises=manifest.recognises, read=manifest.COLUMNS),
    "nemo": Reader(recognises=nemo.recognises, read=nemo.COLUMNS),
    "common_voice": Reader(
        recognises=common_voice.recognises_folder, read=common_voice.COLUMNS, reads_folders=True
    ),
    "common_voice_table": Reader(recognises=common_voice.recognises, read=common_voice.COLUMNS),
    "librispeech": Reader(
        recognises=librispeech.recognises, read=librispeech.read, reads_folders=True
    ),
    "mls": Reader(recognises=mls.recognises, read=mls.read, reads_folders=True),
    "aishell": Reader(recognises=aishell.recognises, read=aishell.read, reads_folders=True),
    "kaldi": Reader(recognises=kaldi.recognises, read=kaldi.read, reads_folders=True),
    "lhotse": Reader(recognises=lhotse.recognises, read=lhotse.read, reads_folders="too"),
    "hf_parquet": Reader(recognises=hf_parquet.recognises, read=hf_parquet.read),
    "textgrid": Reader(recognises=textgrid.recognises, read=textgrid.read, reads_folders="too"),
    "ctm": Reader(recognises=ctm.recognises, read=ctm.read),
    "alignments": Reader(recognises=alignments.recognises, read=alignments.read),
    "bitext": Reader(recognises=bitext.recognises, read=bitext.COLUMNS),
    "moses": Reader(recognises=moses.recognises_folder, read=moses.COLUMNS, reads_folders=True),
    "instructions": Reader(recognises=instructions.recognises, read=instructions.COLUMNS),
    "messages": Reader(recognises=messages.recognises, read=messages.read),
    "dialogues": Reader(recognises=dialogues.recognises, read=dialogues.read),
}
"""In the order in which the files of a folder are read: dialogues refer to utterances."""


def all_readers() -> dict[str, Reader]:
    """READERS, with those of third parties before them."""
    others = {entry.name: entry.load() for entry in entry_points(group="cslm.readers")}
    return {**others, **READERS}


def find_reader(name: str) -> Reader:
    """The reader of `--format NAME`. Raises UsageError with the names there are."""
    readers = all_readers()
    if name not in readers:
        raise UsageError(f"--format {name}: unknown; there are: {', '.join(readers)}")
    return readers[name]


def guess_format(source: Source) -> str | None:
    """The format of a file, or of a folder as a whole; None: none that we know."""
    for name, reader in all_readers().items():
        takes = reader.reads_folders if source.is_folder else reader.reads_folders is not True
        if takes and reader.recognises(source):
            return name
    return None
