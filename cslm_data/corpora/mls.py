"""Multilingual LibriSpeech: `{train,dev,test}/audio/SPEAKER/BOOK/*.flac` and `transcripts.txt`.

Source: openslr.org/94 (Pratap et al., Interspeech 2020). The folder is a language (`mls_german`,
`mls_german_opus`), whose name says which, or one of its splits. A recording without a line of
transcript is untranscribed; a line without a recording is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cslm_data.corpora.id_lines import IdTable, refuse_line
from cslm_data.corpora.language_tags import code_of
from cslm_data.corpora.rows import printable, refuse_name, reject
from cslm_data.corpora.source import Source
from cslm_data.errors import UsageError
from cslm_data.records import Reject, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

_SPLITS = ("train", "dev", "test")
_LANGUAGE = re.compile(r"mls_([a-z]+)(_opus)?")
_AUDIO = re.compile(r"(\d+_\d+_\d+)\.(flac|opus|wav|mp3|ogg)")


def recognises(source: Source) -> bool:
    """Transcripts beside a folder of audio, in the folder or in one of its splits."""
    return bool(_parts(source))


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Reject]:
    """One utterance a recording, book by book; after each split what is left of its transcripts."""
    named = next(filter(None, (_LANGUAGE.fullmatch(p) for p in source.uri.split("/")[-2:])), None)
    corpus = defaults.corpus or (named[0] if named else source.name)
    language = defaults.language or (code_of(named[1]) if named else None)
    parts = _parts(source)
    if not parts:
        raise UsageError(f"{source.uri}: no transcripts.txt beside a folder `audio`")
    for prefix, split in parts:
        table = IdTable(source, f"{prefix}transcripts.txt")
        for speaker in source.entries(f"{prefix}audio")[1]:
            for book in source.entries(f"{prefix}audio/{speaker}")[1]:
                folder = f"{prefix}audio/{speaker}/{book}"
                for name in source.entries(folder)[0]:
                    if not (match := _AUDIO.fullmatch(name)):
                        continue
                    if printable(folder) != folder:
                        yield refuse_name(corpus, f"{folder}/{name}")
                        continue
                    line = table.take(match[1])
                    place = line.place if line else f"{folder}/{name}"
                    if language is None:
                        detail = f"{place}: the folder's name does not say it; give --lang"
                        yield reject(corpus, match[1], "no_language", detail)
                        continue
                    yield Utterance(
                        utt_id=match[1],
                        corpus=corpus,
                        audio=source.child(f"{folder}/{name}").uri,
                        language=language,
                        speaker=speaker,
                        text=(line.value or None) if line else None,
                        license=defaults.license,
                        split=split or defaults.split,
                        place=place,
                    )
        for line in table.rest():
            detail = f"no recording of this id in {prefix}audio/, or it is its second line"
            yield refuse_line(line, corpus, "missing", detail)


def _parts(source: Source) -> list[tuple[str, str | None]]:
    """Where there are transcripts beside audio: prefix of the names, split."""
    if _has_both(source, ""):
        name = source.name
        return [("", name if name in _SPLITS else None)]
    return [(f"{split}/", split) for split in _SPLITS if _has_both(source, f"{split}/")]


def _has_both(source: Source, prefix: str) -> bool:
    return source.exists(f"{prefix}transcripts.txt") and source.exists(f"{prefix}audio")
