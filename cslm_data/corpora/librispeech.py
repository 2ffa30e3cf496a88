"""LibriSpeech: folders `SPEAKER/CHAPTER/` with `*.flac` and `SPEAKER-CHAPTER.trans.txt`.

Source: openslr.org/12 (Panayotov et al., ICASSP 2015). The folder may be the whole corpus, a subset
(`dev-clean`), a speaker or a chapter. A recording without a line of transcript is untranscribed; a
line without a recording is refused because its audio is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cslm_data.corpora.id_lines import IdLine, read_id_lines, refuse_line
from cslm_data.corpora.rows import printable, refuse_name, reject
from cslm_data.corpora.source import Source
from cslm_data.records import Reject, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

_TRANSCRIPTS = re.compile(r"(\d+)-(\d+)\.trans\.txt")
_SUBSETS = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
_DEPTH = 3
"""Folders from the corpus down to a chapter: subset, speaker, chapter."""

_LOOKED_INTO = 3
"""So many folders of a folder are looked into to recognise the layout."""


def recognises(source: Source) -> bool:
    """The transcripts of a chapter, in one of the first folders."""
    return _is_chapter_below(source, "", _DEPTH)


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Reject]:
    """One utterance a recording, chapter by chapter, in the order of the names."""
    is_the_original = _is_the_original(source)
    corpus = defaults.corpus or ("librispeech" if is_the_original else source.name)
    language = defaults.language or ("en" if is_the_original else None)
    for folder, transcripts, recordings in _chapters(source, "", _DEPTH):
        if printable(folder) != folder:
            yield refuse_name(corpus, folder)
            continue
        lines: dict[str, IdLine] = {}
        for line in read_id_lines(source, transcripts) if transcripts else ():
            if line.problem or line.id in lines:
                yield refuse_line(line, corpus, "duplicate_id", "an earlier line has this id")
            else:
                lines[line.id] = line
        names = {name.removesuffix(".flac"): name for name in recordings}
        for key in sorted(names.keys() | lines.keys()):
            line_of = lines.get(key)
            audio = f"{folder}/{names.get(key, f'{key}.flac')}".removeprefix("/")
            place = line_of.place if line_of else audio
            if language is None:
                detail = f"{place}: this layout does not say the language; give --lang"
                yield reject(corpus, key, "no_language", detail)
                continue
            yield Utterance(
                utt_id=key,
                corpus=corpus,
                audio=source.child(audio).uri,
                language=language,
                speaker=key.split("-")[0],
                text=(line_of.value or None) if line_of else None,
                license=defaults.license,
                split=_split(source, folder) or defaults.split,
                place=place,
            )


def _chapters(source: Source, folder: str, depth: int) -> Iterator[tuple[str, str, list[str]]]:
    """The folders with recordings or transcripts: folder, file of transcripts, recordings."""
    files, folders = source.entries(folder)
    found = [name for name in files if _TRANSCRIPTS.fullmatch(name)]
    recordings = [name for name in files if re.fullmatch(r"\d+-\d+-\d+\.flac", name)]
    if found or recordings:
        yield folder, f"{folder}/{found[0]}".removeprefix("/") if found else "", recordings
    if depth:
        for name in folders:
            yield from _chapters(source, f"{folder}/{name}".removeprefix("/"), depth - 1)


def _is_chapter_below(source: Source, folder: str, depth: int) -> bool:
    files, folders = source.entries(folder)
    if any(_TRANSCRIPTS.fullmatch(name) for name in files):
        return True
    likely = [name for name in folders if name.isdecimal() or _SUBSETS.fullmatch(name)]
    return bool(depth) and any(
        _is_chapter_below(source, f"{folder}/{name}".removeprefix("/"), depth - 1)
        for name in likely[:_LOOKED_INTO]
    )


def _is_the_original(source: Source) -> bool:
    """Whether it is LibriSpeech itself, in English: its table of speakers, or a subset's name."""
    parts = [*source.uri.split("/")[-3:], *source.entries()[1]]
    return source.exists("SPEAKERS.TXT") or any(_SUBSETS.fullmatch(part) for part in parts)


def _split(source: Source, folder: str) -> str | None:
    """`train`, `dev` or `test`, from the name of the subset."""
    for part in reversed([*source.uri.split("/")[-3:], *folder.split("/")]):
        if match := _SUBSETS.fullmatch(part):
            return match[1]
    return None
