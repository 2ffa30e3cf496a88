"""TextGrids of Praat, MFA and others: a file an utterance, tiers of words and phones.

Source: fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html; MFA's `SPEAKER - words`. The id of
the utterance is the name of the file, `CORPUS/name` with --corpus. Times are from its start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cslm_data.corpora.alignments import checked_alignment
from cslm_data.corpora.praat import Tier, decode_text, parse_textgrid
from cslm_data.corpora.rows import printable, refuse_name, reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import SUFFIXES
from cslm_data.errors import UsageError
from cslm_data.records import Alignment, Phone, Reject, Word

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

_SUFFIX = ".textgrid"
_WORDS = ("words", "word")
_PHONES = ("phones", "phone", "phonemes", "phoneme", "segments", "segment")
_OTHERS = (*SUFFIXES, ".parquet", ".ctm")
"""Beside files of these the folder is no whole: each file in it is read for itself."""

_MAX_BYTES = 64 * 2**20
_LOOKED_INTO = 3


def recognises(source: Source) -> bool:
    """A file of that name; a folder of them, or of folders of them, without manifests beside."""
    if not source.is_folder:
        return source.suffix == _SUFFIX
    files, folders = source.entries()
    if any(PurePosixPath(name.lower().removesuffix(".gz")).suffix in _OTHERS for name in files):
        return False
    below = (name for folder in folders[:_LOOKED_INTO] for name in source.entries(folder)[0])
    return any(name.lower().endswith(_SUFFIX) for name in (*files, *below))


def read(source: Source, defaults: Defaults) -> Iterator[Alignment | Reject]:
    """One alignment a file, in the order of their names."""
    names = source.names("**/*.[Tt]ext[Gg]rid") if source.is_folder else [""]
    if not names:
        raise UsageError(f"{source.uri}: no .TextGrid in this folder or below it")
    for name in names:
        if printable(name) != name:
            yield refuse_name(defaults.corpus or source.stem, name)
        else:
            yield _alignment(source, name, defaults)


def _alignment(source: Source, name: str, defaults: Defaults) -> Alignment | Reject:
    corpus = defaults.corpus or source.stem
    place = name or source.name
    stem = PurePosixPath(place).stem
    key = f"{defaults.corpus}/{stem}" if defaults.corpus else stem
    with source.open(name) as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        return reject(corpus, key, "line_too_long", f"{place}: over {_MAX_BYTES} bytes")
    try:
        tiers = parse_textgrid(decode_text(data))
        words = _tier(tiers, _WORDS)
        phones = _tier(tiers, _PHONES)
    except UnicodeDecodeError as error:
        detail = f"{place}: invalid UTF-8 at byte {error.start}; save it as UTF-8 or UTF-16"
        return reject(corpus, key, "not_utf8", detail)
    except ValueError as error:
        return reject(corpus, key, "bad_textgrid", f"{place}: {error}")
    return checked_alignment(
        corpus,
        key,
        [Word(word=label.strip(), start_s=start, end_s=end) for start, end, label in words],
        [Phone(phone=label.strip(), start_s=start, end_s=end) for start, end, label in phones],
        place=place,
    )


def _tier(tiers: list[Tier], names: tuple[str, ...]) -> tuple[tuple[float, float, str], ...]:
    """The intervals of the tier of one of these names; none without one. Raises ValueError."""
    named = [(tier.name.strip().casefold(), tier) for tier in tiers]
    for wanted in names:
        found = [tier for name, tier in named if name == wanted]
        found += [tier for name, tier in named if name.endswith(f" - {wanted}")]
        found = [tier for tier in found if tier.intervals]
        if len(found) > 1:
            several = ", ".join(tier.name for tier in found)
            raise ValueError(f"several tiers of {wanted} ({several}); one utterance has one")
        if found:
            return found[0].intervals
    return ()
