"""CTM: a word a line, `utterance channel start duration word [confidence]`; `;;` begins a comment.

Source: NIST's SCTK, doc/infmts.htm; Kaldi's `steps/get_train_ctm.sh`. Times are in seconds from the
start of the utterance. Lines of one utterance may be apart, and need not be in order of time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cslm_data.corpora.alignments import checked_alignment
from cslm_data.corpora.id_lines import IdLine, read_id_lines, refuse_line
from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.records import Alignment, Reject, Word

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults


def recognises(source: Source) -> bool:
    """A file of that name."""
    return source.suffix == ".ctm"


def read(source: Source, defaults: Defaults) -> Iterator[Alignment | Reject]:
    """One alignment an utterance, those whose lines are apart last.

    The file is read twice, so that only the utterances whose lines are apart are held in memory.
    """
    corpus = defaults.corpus or source.stem
    apart = _apart(source)
    scattered: dict[str, list[IdLine]] = {key: [] for key in apart}
    lines: list[IdLine] = []
    for line in _lines(source):
        if lines and (line.problem or line.id != lines[0].id):
            yield _alignment(lines, corpus)
            lines = []
        if line.problem:
            yield refuse_line(line, corpus, line.problem, "")
        elif line.id in scattered:
            scattered[line.id].append(line)
        else:
            lines.append(line)
    if lines:
        yield _alignment(lines, corpus)
    for lines in scattered.values():
        yield _alignment(lines, corpus)


def _lines(source: Source) -> Iterator[IdLine]:
    return (line for line in read_id_lines(source) if not line.id.startswith(";;"))


def _apart(source: Source) -> dict[str, None]:
    """The utterances whose lines do not all follow one another, in order of their second place."""
    seen: set[str] = set()
    apart: dict[str, None] = {}
    last = ""
    for line in _lines(source):
        if line.problem:
            # A line that cannot be read ends the run of its utterance.
            last = ""
        elif line.id != last:
            if line.id in seen:
                apart[line.id] = None
            seen.add(line.id)
            last = line.id
    return apart


def _alignment(lines: list[IdLine], corpus: str) -> Alignment | Reject:
    """The words of one utterance; one line that cannot be understood refuses all of it."""
    key, words, channels = lines[0].id, [], set()
    for line in lines:
        cells = line.value.split()
        try:
            channel, start, length, word = cells[:4]
            start_s, length_s = float(start), float(length)
            score = float(cells[4]) if len(cells) > 4 else None
        except ValueError as error:
            detail = f"{line.place}: channel, start, duration, word expected ({error})"
            return reject(corpus, key, "bad_words", detail)
        if not (start_s >= 0 and length_s >= 0 and math.isfinite(start_s + length_s)):
            detail = f"{line.place}: {word!r} at {start} s for {length} s; times are >= 0 s"
            return reject(corpus, key, "bad_times", detail)
        channels.add(channel)
        end_s = round(start_s + length_s, 6)
        words.append(Word(word=word, start_s=start_s, end_s=end_s, score=score))
    if len(channels) > 1:
        several = ", ".join(sorted(channels))
        detail = f"{lines[0].place}: words of the channels {several}; an utterance is of one"
        return reject(corpus, key, "channel", detail)
    words.sort(key=lambda word: (word.start_s, word.end_s))
    return checked_alignment(corpus, key, words, [], place=lines[0].place)
