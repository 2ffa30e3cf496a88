"""AISHELL-1: `wav/{train,dev,test}/S*/*.wav` and `transcript/aishell_transcript_v0.8.txt`.

Source: openslr.org/33 (Bu et al., 2017). Its transcripts part words by blanks, which Mandarin is
not written with: they are joined, as everybody in the field does, but for blanks between two words
of Latin letters or digits. The folder is `data_aishell`, or the one above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cslm_data.corpora.id_lines import IdTable, refuse_line
from cslm_data.corpora.rows import printable, refuse_name
from cslm_data.corpora.source import Source
from cslm_data.errors import UsageError
from cslm_data.records import Reject, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

_TRANSCRIPTS = "transcript/aishell_transcript_v0.8.txt"
_SPLITS = ("train", "dev", "test")
_JOINED = re.compile(r"(?<![!-~ \t])[ \t]+|(?<![ \t])[ \t]+(?![!-~ \t])")
"""Blanks with something other than ASCII at one side at least."""


def recognises(source: Source) -> bool:
    """The file of transcripts, under its own name."""
    return _root(source) is not None


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Reject]:
    """One utterance a recording, split by split and speaker by speaker; then what is left over."""
    prefix = _root(source)
    if prefix is None:
        raise UsageError(f"{source.uri}: no {_TRANSCRIPTS} here, as AISHELL-1 has it")
    corpus = defaults.corpus or "aishell"
    table = IdTable(source, f"{prefix}{_TRANSCRIPTS}")
    for split in _SPLITS:
        folder = f"{prefix}wav/{split}"
        for speaker in source.entries(folder)[1] if source.exists(folder) else []:
            for name in source.entries(f"{folder}/{speaker}")[0]:
                if not name.lower().endswith(".wav"):
                    continue
                audio = f"{folder}/{speaker}/{name}"
                if printable(audio) != audio:
                    yield refuse_name(corpus, audio)
                    continue
                key = name[: -len(".wav")]
                line = table.take(key)
                text = join_segmented(line.value) if line else ""
                yield Utterance(
                    utt_id=key,
                    corpus=corpus,
                    audio=source.child(audio).uri,
                    language=defaults.language or "zh",
                    speaker=speaker,
                    text=text or None,
                    license=defaults.license,
                    split=split,
                    place=line.place if line else audio,
                )
    for line in table.rest():
        where = f"{prefix}wav/ (archives must be unpacked)"
        detail = f"no recording of this id in {where}, or it is its second line"
        yield refuse_line(line, corpus, "missing", detail)


def join_segmented(text: str) -> str:
    """Mandarin without the blanks between its words: `我 爱 ok go 吗` → `我爱ok go吗`."""
    return _JOINED.sub("", text)


def _root(source: Source) -> str | None:
    """Where in the folder the corpus begins: `` or `data_aishell/`; None: it is not there."""
    for prefix in ("", "data_aishell/"):
        if source.exists(f"{prefix}{_TRANSCRIPTS}"):
            return prefix
    return None
