"""Kaldi data directory: `wav.scp`, `segments`, `text`, `utt2spk`, `utt2lang`.

Source: kaldi-asr.org/doc/data_prep.html. A segment is an offset and a duration of its recording,
never a file of its own. Besides files, a wav.scp names commands (`sox … |`), which run only where
that is allowed, and places in archives (`raw.ark:1234`), which are read where they hold wav.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cslm_data.audio_store import with_range
from cslm_data.corpora.id_lines import IdLine, IdTable, read_id_lines, refuse_line
from cslm_data.corpora.language_tags import code_of
from cslm_data.corpora.pipes import run_pipe
from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.errors import AudioError, UsageError
from cslm_data.records import Reject, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

log = logging.getLogger(__name__)

_SPLITS = ("train", "dev", "valid", "test", "eval")
_UNKNOWN_SIZE = 0x7FFFF000
"""A wav written to a pipe says 0, or a size from here up: unknown."""


def recognises(source: Source) -> bool:
    """A wav.scp."""
    return source.exists("wav.scp")


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Reject]:
    """One utterance a segment, or a recording without segments; then what is left over."""
    if not recognises(source):
        raise UsageError(f"{source.uri}: no wav.scp here; give a data directory of Kaldi")
    corpus = defaults.corpus or source.name
    tables = {name: _table(source, name) for name in ("text", "utt2spk", "utt2lang")}
    recordings = _Recordings(source, defaults)
    stretches = _segments(source) if source.exists("segments") else _whole(source)
    for stretch in stretches:
        said = {name: table.take(stretch.line.id) for name, table in tables.items()}
        yield _utterance(stretch, said, recordings, source, corpus, defaults)
    for line in tables["text"].rest():
        detail = "no segment or recording has this id, or it is its second line"
        yield refuse_line(line, corpus, "no_audio", detail)
    for line in recordings.repeated:
        yield refuse_line(line, corpus, "duplicate_id", "an earlier line of wav.scp has this id")
    if unused := recordings.num_unused():
        log.warning("%s: %d recordings of wav.scp have no segment", source.uri, unused)


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """What wav.scp or segments says of an utterance."""

    line: IdLine
    recording: str
    start: str = "0"
    end: str = "-1"
    """Seconds; -1: the end of the recording."""
    problem: str = ""


def _table(source: Source, name: str) -> IdTable:
    return IdTable(source, name if source.exists(name) else "")


def _whole(source: Source) -> Iterator[_Stretch]:
    for line in read_id_lines(source, "wav.scp"):
        yield _Stretch(line=line, recording=line.id)


def _segments(source: Source) -> Iterator[_Stretch]:
    for line in read_id_lines(source, "segments"):
        cells = line.value.split()
        if len(cells) == 3:
            yield _Stretch(line=line, recording=cells[0], start=cells[1], end=cells[2])
        elif len(cells) == 4:
            problem = (
                "a segment of one channel (5 columns); write that channel to a file of its own"
            )
            yield _Stretch(line=line, recording=cells[0], problem=problem)
        else:
            problem = f"id, recording, start and end are expected, not {len(cells) + 1} columns"
            yield _Stretch(line=line, recording="", problem=problem)


def _utterance(
    stretch: _Stretch,
    said: dict[str, IdLine | None],
    recordings: _Recordings,
    source: Source,
    corpus: str,
    defaults: Defaults,
) -> Utterance | Reject:
    line, text, speaker = stretch.line, said["text"], said["utt2spk"]
    if line.problem:
        return refuse_line(line, corpus, line.problem, "")
    if stretch.problem:
        reason = "channel" if "channel" in stretch.problem else "bad_row"
        return refuse_line(line, corpus, reason, stretch.problem)
    try:
        start_s, end_s = float(stretch.start), float(stretch.end)
    except ValueError:
        detail = f"start {stretch.start!r} and end {stretch.end!r} are seconds"
        return refuse_line(line, corpus, "bad_number", detail)
    if not start_s >= 0 or (end_s != -1 and not end_s >= start_s):
        detail = f"from {stretch.start} to {stretch.end} s; times are >= 0 s and in order"
        return refuse_line(line, corpus, "negative_time", detail)
    language = code_of(said["utt2lang"].value) if said["utt2lang"] else defaults.language
    if not language:
        return refuse_line(line, corpus, "no_language", "no utt2lang; give --lang")
    try:
        audio = recordings.address(stretch, corpus)
    except AudioError as error:
        return reject(corpus, line.id, error.reason, error.detail)
    return Utterance(
        utt_id=line.id,
        corpus=corpus,
        audio=audio,
        offset_s=start_s,
        duration_s=None if end_s == -1 else end_s - start_s,
        language=language,
        speaker=(speaker.value or None) if speaker else None,
        text=(text.value or None) if text else None,
        license=defaults.license,
        split=defaults.split or _split(source.name),
        place=line.place,
    )


def _split(name: str) -> str | None:
    """The split that a data directory is named after: `dev` for `dev_clean`; None: none."""
    head = re.split(r"[-_.]", name.lower())[0]
    return head if head in _SPLITS else None


class _Recordings:
    """What wav.scp says, as addresses of audio, each made once."""

    def __init__(self, source: Source, defaults: Defaults) -> None:
        self._source, self._defaults = source, defaults
        self._by_id: dict[str, IdLine] = {}
        self._known: dict[str, str | AudioError] = {}
        self._base: str | None = None
        self._is_whole = not source.exists("segments")
        self.repeated: list[IdLine] = []
        if not self._is_whole:
            for line in read_id_lines(source, "wav.scp"):
                if line.problem or line.id in self._by_id:
                    self.repeated.append(line)
                else:
                    self._by_id[line.id] = line

    def num_unused(self) -> int:
        """Recordings that no segment asked for."""
        return 0 if self._is_whole else len(self._by_id) - len(self._known)

    def address(self, stretch: _Stretch, corpus: str) -> str:
        """The address of a stretch's recording. Raises AudioError."""
        if self._is_whole:
            return self._make(stretch.line)
        line = self._by_id.get(stretch.recording)
        if line is None:
            detail = f"{stretch.line.place}: wav.scp has no recording {stretch.recording!r}"
            raise AudioError("no_audio", detail)
        if line.id not in self._known:
            try:
                self._known[line.id] = self._make(line)
            except AudioError as error:
                self._known[line.id] = error
        found = self._known[line.id]
        if isinstance(found, AudioError):
            raise AudioError(found.reason, found.detail)
        return found

    def _make(self, line: IdLine) -> str:
        name = line.value
        if name.endswith("|") or name.startswith("|") or name == "-":
            return self._run(line)
        if not name:
            raise AudioError("no_audio", f"{line.place}: no file after the id")
        if match := re.fullmatch(r"(.+):(\d+)", name):
            return _in_archive(self._resolve(match[1]), int(match[2]), line.place)
        return self._resolve(name)

    def _run(self, line: IdLine) -> str:
        if not line.value.endswith("|"):
            raise AudioError("pipe", f"{line.place}: {line.value!r} is no audio that can be read")
        if not self._defaults.allow_pipes or self._defaults.keep_audio is None:
            detail = (
                f"{line.place}: names a command, {line.value!r}; if you trust who wrote it, run it "
                "with --allow-pipes, else write files and name those"
            )
            raise AudioError("pipe", detail)
        data = run_pipe(line.value[:-1].strip())
        return self._defaults.keep_audio(line.id, data)

    def _resolve(self, name: str) -> str:
        """Of a path. A relative one is relative to this folder, or to the recipe's two above it."""
        if name.startswith(("/", "~")) or "://" in name:
            return self._source.resolve(name)
        if self._base is None:
            recipe = self._source.uri.rsplit("/", 2)[0]
            is_here = self._source.exists(name) or not Source(recipe, is_folder=True).exists(name)
            self._base = "" if is_here else recipe
        return self._source.resolve(f"{self._base}/{name}" if self._base else name)


def _in_archive(archive: str, start: int, place: str) -> str:
    """The address of a wav in a Kaldi archive, whose header says how long it is."""
    import fsspec

    try:
        with fsspec.open(archive, "rb").open() as stream:
            stream.seek(start)
            head = stream.read(8)
    except FileNotFoundError:
        raise AudioError("missing", f"{place}: {archive}: no such file") from None
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{place}: {archive}: {error}") from None
    size = int.from_bytes(head[4:], "little")
    if head[:4] != b"RIFF" or size == 0 or size >= _UNKNOWN_SIZE:
        raise AudioError(
            "archive",
            f"{place}: at byte {start} of {archive} is no wav that says its size; write files with "
            "wav-copy, or archives with wav-copy ark:… ark,scp:…",
        )
    return with_range(archive, start, size + 8)
