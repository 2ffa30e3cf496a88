"""Lhotse: cuts as JSONL, or a folder with a manifest of recordings and one of supervisions.

Source: lhotse.readthedocs.io (cuts, corpus); lhotse/{cut,supervision,audio}. A supervision is an
utterance; a cut, or a recording, without one is an untranscribed utterance. A supervision starts
relative to its cut, its alignment relative to the recording, which is what Lhotse's own operations
on cuts keep to; an alignment that fits its supervision only when read from the cut's start is taken
so. The catalog knows recordings, not channels: a cut of one channel of several is refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cslm_data.corpora.alignments import checked_alignment
from cslm_data.corpora.language_tags import code_of
from cslm_data.corpora.pipes import run_pipe
from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import Row, first_fields, read_rows
from cslm_data.errors import AudioError, UsageError
from cslm_data.keys import key64
from cslm_data.records import Alignment, Phone, Reject, Utterance, Word

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

CUT_TYPES = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")
_PAIR = re.compile(r"(.*?)(recordings|supervisions|cuts)(.*)\.jsonl(\.gz)?")
_WORDS = ("word", "words")
_PHONES = ("phone", "phones", "phoneme", "phonemes")
_SLACK_S = 0.1
"""How far an alignment may reach beyond its supervision."""


def recognises(source: Source) -> bool:
    """A cut in the first row; of a folder, recordings and supervisions and no cuts beside them."""
    if source.is_folder:
        matches = [_PAIR.fullmatch(name) for name in source.names("*.jsonl*")]
        kinds = {match[2] for match in matches if match}
        return kinds == {"recordings", "supervisions"} and bool(_pairs(source))
    fields = first_fields(source)
    return fields.get("type") in CUT_TYPES and "id" in fields


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Alignment | Reject]:
    """The utterances of the cuts in their order, each followed by its alignment."""
    corpus = defaults.corpus or (source.name if source.is_folder else source.stem)
    audio = _Audio(source, defaults)
    if source.is_folder:
        pairs = _pairs(source)
        if not pairs:
            detail = "no …recordings….jsonl(.gz) with …supervisions… here; or give a file of cuts"
            raise UsageError(f"{source.uri}: {detail}")
        for recordings, supervisions in pairs:
            yield from _read_pair(source, recordings, supervisions, audio, corpus, defaults)
        return
    for row in read_rows(source):
        if isinstance(row, Row):
            yield from _read_cut(row.fields, row.place, audio, corpus, defaults)
        else:
            yield row


def _pairs(source: Source) -> list[tuple[str, str]]:
    """Names of the files of recordings with those of their supervisions."""
    names = source.names("*.jsonl*")
    found = []
    for name in names:
        match = _PAIR.fullmatch(name)
        if match and match[2] == "recordings":
            other = f"{match[1]}supervisions{match[3]}.jsonl"
            found += [(name, each) for each in (other, f"{other}.gz") if each in names][:1]
    return found


def _read_pair(
    source: Source,
    recordings: str,
    supervisions: str,
    audio: _Audio,
    corpus: str,
    defaults: Defaults,
) -> Iterator[Utterance | Alignment | Reject]:
    known: dict[str, Row] = {}
    used = set()
    for row in read_rows(source.child(recordings)):
        if not isinstance(row, Row):
            yield row
        elif (name := str(row.fields.get("id"))) in known:
            detail = f"{row.place}: an earlier recording has this id"
            yield reject(corpus, name, "duplicate_id", detail)
        else:
            known[name] = row
    for row in read_rows(source.child(supervisions)):
        if not isinstance(row, Row):
            yield row
            continue
        name = str(row.fields.get("recording_id"))
        if name not in known:
            key, detail = str(row.fields.get("id")), f"{row.place}: no recording {name!r}"
            yield reject(corpus, key, "no_audio", detail)
            continue
        used.add(name)
        cut = {
            "id": name,
            "start": 0.0,
            "recording": known[name].fields,
            "supervisions": [row.fields],
        }
        yield from _read_cut(cut, row.place, audio, corpus, defaults)
    for name, row in known.items():
        if name not in used:
            cut = {"id": name, "start": 0.0, "recording": row.fields}
            yield from _read_cut(cut, row.place, audio, corpus, defaults)


def _read_cut(
    cut: dict[str, Any], place: str, audio: _Audio, corpus: str, defaults: Defaults
) -> Iterator[Utterance | Alignment | Reject]:
    key = str(cut.get("id") or place)
    kind = cut.get("type", "MonoCut")
    if kind != "MonoCut":
        detail = f"{place}: a {kind}; only cuts of one recording (MonoCut) are utterances"
        yield reject(corpus, key, "cut_type", detail)
        return
    supervisions = cut.get("supervisions") or [None]
    for supervision in supervisions if isinstance(supervisions, list) else [supervisions]:
        said = supervision or {}
        if not isinstance(said, dict):
            yield reject(corpus, key, "bad_row", f"{place}: a supervision is an object")
            continue
        name = str(said.get("id") or key)
        try:
            address = audio.address(cut, said, place)
            offset_s = _seconds(cut, "start", 0.0) + _seconds(said, "start", 0.0)
            length = said.get("duration", cut.get("duration"))
            duration_s = None if length is None else _seconds({"duration": length}, "duration", 0.0)
        except AudioError as error:
            yield reject(corpus, name, error.reason, error.detail)
            continue
        except ValueError as error:
            yield reject(corpus, name, "bad_number", f"{place}: {error}")
            continue
        if not offset_s >= 0 or (duration_s is not None and not duration_s >= 0):
            detail = f"{place}: begins at {offset_s} s, for {duration_s} s; both are >= 0 s"
            yield reject(corpus, name, "negative_time", detail)
            continue
        language = said.get("language")
        language = code_of(str(language)) if language else defaults.language
        if language is None:
            yield reject(corpus, name, "no_language", f"{place}: no `language`; give --lang")
            continue
        text = str(said.get("text") or "")
        yield Utterance(
            utt_id=name,
            corpus=corpus,
            audio=address,
            offset_s=offset_s,
            duration_s=duration_s,
            language=language,
            speaker=str(said["speaker"]) if said.get("speaker") else None,
            text=text if text.strip() else None,
            license=defaults.license,
            split=defaults.split,
            place=place,
        )
        if said.get("alignment"):
            start_s = _seconds(said, "start", 0.0)
            yield _alignment(said, start_s, offset_s, duration_s, name, corpus, place)


def _alignment(
    said: dict[str, Any],
    start_s: float,
    offset_s: float,
    duration_s: float | None,
    key: str,
    corpus: str,
    place: str,
) -> Alignment | Reject:
    try:
        tiers = {
            kind: [_item(raw) for tier in names for raw in said["alignment"].get(tier) or []]
            for kind, names in (("words", _WORDS), ("phones", _PHONES))
        }
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        detail = f"{place}: [symbol, start, duration] expected ({error!r})"
        return reject(corpus, key, "bad_words", detail)
    items = [item for tier in tiers.values() for item in tier]
    end_s = float("inf") if duration_s is None else duration_s + _SLACK_S
    for base_s in (offset_s, start_s):
        if all(
            at - base_s >= -_SLACK_S and at + length - base_s <= end_s for _, at, length, _ in items
        ):
            break
    else:
        detail = f"{place}: the alignment does not lie within its supervision"
        return reject(corpus, key, "bad_times", detail)

    def span(at: float, length: float) -> tuple[float, float]:
        return max(0.0, round(at - base_s, 6)), max(0.0, round(at + length - base_s, 6))

    words = [
        Word(word=symbol, start_s=span(at, length)[0], end_s=span(at, length)[1], score=score)
        for symbol, at, length, score in tiers["words"]
    ]
    phones = [
        Phone(phone=symbol, start_s=span(at, length)[0], end_s=span(at, length)[1])
        for symbol, at, length, _ in tiers["phones"]
    ]
    return checked_alignment(corpus, key, words, phones, place=place)


def _item(raw: Any) -> tuple[str, float, float, float | None]:
    """Symbol, start, duration, score: a list, or an object before Lhotse 1.8."""
    if isinstance(raw, dict):
        raw = [raw["symbol"], raw["start"], raw["duration"], raw.get("score")]
    score = raw[3] if len(raw) > 3 else None
    return str(raw[0]), float(raw[1]), float(raw[2]), None if score is None else float(score)


def _seconds(fields: dict[str, Any], name: str, otherwise: float) -> float:
    value = fields.get(name)
    try:
        return otherwise if value is None else float(value)
    except TypeError:
        raise ValueError(f"{name} {value!r} is no number of seconds") from None


class _Audio:
    """Recordings of a manifest as addresses; one that comes as bytes is kept once in a row."""

    def __init__(self, source: Source, defaults: Defaults) -> None:
        self._source, self._defaults = source, defaults
        self._kept: tuple[int, str] = (0, "")
        self._base: str | None = None

    def address(self, cut: dict[str, Any], said: dict[str, Any], place: str) -> str:
        """The address of the one file that a cut's channel is the whole of. Raises AudioError."""
        recording = cut.get("recording")
        sources = recording.get("sources") if isinstance(recording, dict) else None
        if not isinstance(recording, dict) or not isinstance(sources, list) or not sources:
            detail = f"{place}: no recording with sources (cuts of features alone have no audio)"
            raise AudioError("no_audio", detail)
        if recording.get("transforms"):
            detail = f"{place}: its recording is transformed while it is read; save it with Lhotse"
            raise AudioError("transforms", detail)
        sources = [each for each in sources if isinstance(each, dict)]
        channels = [each.get("channels", [0]) for each in sources]
        wanted = said.get("channel", cut.get("channel"))
        if isinstance(wanted, list) and len(wanted) == 1:
            (wanted,) = wanted
        if wanted is None and len(channels) == 1 and isinstance(channels[0], list):
            wanted = channels[0][0] if len(channels[0]) == 1 else None
        for each, some in zip(sources, channels, strict=True):
            if some == [wanted]:
                return self._open(each, str(recording.get("id")), place)
        raise AudioError(
            "channel",
            f"{place}: channel {wanted} of a recording whose files have the channels {channels}; "
            "write each channel to a file of its own (sox IN OUT remix N) and name that",
        )

    def _open(self, fields: dict[str, Any], name: str, place: str) -> str:
        kind, where = fields.get("type"), str(fields.get("source") or "")
        if not where:
            raise AudioError("no_audio", f"{place}: a source of recording {name!r} says no audio")
        if kind == "url" or (kind == "file" and "://" in where):
            return where
        if kind == "file":
            return self._resolve(where)
        if kind not in ("command", "memory"):
            detail = f"{place}: audio of type {kind!r} cannot be read; write files with Lhotse"
            raise AudioError("no_audio", detail)
        if kind == "command" and not self._defaults.allow_pipes:
            detail = f"{place}: a command, {where!r}; if you trust it, run it with --allow-pipes"
            raise AudioError("pipe", detail)
        if self._defaults.keep_audio is None:
            raise AudioError("no_audio", f"{place}: there is no workspace to keep the audio in")
        key = key64(str(kind), where)
        if self._kept[0] != key:
            data = run_pipe(where) if kind == "command" else _bytes(where, place)
            self._kept = key, self._defaults.keep_audio(name, data)
        return self._kept[1]

    def _resolve(self, path: str) -> str:
        """Of a path: relative to the manifest; where the first is not there, to this folder."""
        if self._base is None and not Path(path).is_absolute():
            there = Source(str(Path.cwd()), is_folder=True)
            lies_here = self._source.is_remote or Source(self._source.folder(), True).exists(path)
            self._base = there.uri if not lies_here and there.exists(path) else ""
        return str(Path(self._base) / path) if self._base else self._source.resolve(path)


def _bytes(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise AudioError("unreadable", f"{place}: audio in memory that is not base64") from None
