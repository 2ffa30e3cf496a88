"""Kaldi data directories: a folder a split, with all that validate_data_dir.sh asks for.

    wav.scp    recording → file, or command   segments   utterance → recording, start, end
    text       utterance → transcript         utt2lang   utterance → language
    utt2spk    utterance → speaker            spk2utt    speaker → utterances
    ids.jsonl  ours: which utterance and speaker of the catalog the names stand for

Untranscribed utterances are in a folder of their own, without a text. Names are made by
sql/export_kaldi_utterances.sql. Source: kaldi-asr.org/doc/data_prep.html;
egs/wsj/s5/utils/{validate_data_dir.sh,validate_text.pl}.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import orjson

from cslm_data.catalog import read_sql
from cslm_data.exporting.folders import flat_stem
from cslm_data.exporting.job import (
    Job,
    Row,
    local_path,
    problem_of_address,
    refusal,
    split_of,
)
from cslm_data.exporting.sorted_lines import SortedLines

log = logging.getLogger(__name__)

_UNTRANSCRIBED = "_untranscribed"
_RESERVED = (_UNTRANSCRIBED, ".json")
_FILES = ("segments", "utt2spk", "spk2utt", "utt2lang", "ids.jsonl")
_ILLEGAL = re.compile(r"(?<![A-Za-z0-9_])(<s>|</s>|#0)(?![A-Za-z0-9_])")
"""What `grep -w` finds of the symbols that are Kaldi's own."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_A_PATH = re.compile(r"^\s|\s$|^\||\|$|:\d+$|\]$|[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Paths that Kaldi takes for a pipe, for a place in an archive or for a range, or cannot read."""


def write(job: Job) -> None:
    """A folder for each split, `all` for what has none, and `…_untranscribed` beside them."""
    job.connection.execute(read_sql("export_kaldi_names"))
    rows = job.sayable(
        _named(job, job.rows("export_kaldi_utterances")),
        lambda row: _problem(row, pipes=job.pipes),
        suffix=".wav",
    )
    for (split, untranscribed), of_folder in itertools.groupby(
        rows, key=lambda row: (split_of(row), row.text is None)
    ):
        name = flat_stem(split, reserved=_RESERVED) + (_UNTRANSCRIBED if untranscribed else "")
        _write_folder(job, name, of_folder, with_text=not untranscribed)


def _named(job: Job, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows whose name and text Kaldi takes; rows are in the order of names, equal ones meet."""
    previous: tuple[str, bool, str] | None = None
    for row in rows:
        utt, spk, _ = row.more
        place = (split_of(row), row.text is None, utt)
        text = " ".join((row.text or "").split())
        if place == previous:
            detail = f"another utterance is named {utt} as well, as {spk} says both; change its id"
            job.refuse(refusal(row, "duplicate_name", detail))
            continue
        previous = place
        if found := _ILLEGAL.search(f"{utt} {text}"):
            detail = f"has {found[0]}, which is a symbol of Kaldi's own; change the transcript"
            job.refuse(refusal(row, "illegal_symbol", detail))
        elif found := _CONTROL.search(text):
            detail = f"its transcript has the control sign {found[0]!r}; change it"
            job.refuse(refusal(row, "bad_text", detail))
        else:
            yield row


def _problem(row: Row, *, pipes: bool) -> str:
    if problem := problem_of_address(row, remote=False):
        return problem
    path = local_path(row.audio)
    if row.num_channels > 1:
        return f"channels: {path} has {row.num_channels}, and a segment is of one"
    if not pipes and _NOT_A_PATH.search(path):
        return f"bad_path: Kaldi would not read {path!r} as a path"
    if "\n" in path or "\0" in path:
        return f"bad_path: {path!r} does not fit into a line"
    return ""


def _write_folder(job: Job, name: str, rows: Iterator[Row], *, with_text: bool) -> None:
    """Write a data directory; rows are in the order of their names."""
    folder = job.temporary / name
    folder.mkdir(exist_ok=True)
    rates: Counter[int] = Counter()
    with (
        _open_all(folder, _FILES + (("text",) if with_text else ())) as files,
        SortedLines(folder / ".recordings.tmp") as recordings,
    ):
        speaker = ""
        for row in rows:
            utt, spk, recording = row.more
            if job.is_cut(row):
                recording = utt
            end_s = row.offset_s + row.duration_s
            files["segments"].write(f"{utt} {recording} {row.offset_s:.6f} {end_s:.6f}\n")
            files["utt2spk"].write(f"{utt} {spk}\n")
            files["utt2lang"].write(f"{utt} {row.language}\n")
            if with_text:
                files["text"].write(f"{utt} {' '.join((row.text or '').split())}\n")
            if spk != speaker:
                files["spk2utt"].write(f"\n{spk}" if speaker else spk)
                speaker = spk
            files["spk2utt"].write(f" {utt}")
            files["ids.jsonl"].write(_identity(row, utt, spk))
            recordings.add(recording, _recording(local_path(row.audio), pipes=job.pipes))
            rates[row.sample_rate_hz] += 1
            job.wrote("utterances", name)
        files["spk2utt"].write("\n")
        with (folder / "wav.scp").open("w", encoding="utf-8", newline="\n") as stream:
            for recording, where in recordings.in_order():
                stream.write(f"{recording} {where}\n")
    if len(rates) > 1:
        several = ", ".join(f"{number} at {rate} Hz" for rate, number in sorted(rates.items()))
        log.warning("%s: recordings of several rates (%s); Kaldi wants one", name, several)


@contextlib.contextmanager
def _open_all(folder: Path, names: tuple[str, ...]) -> Iterator[dict[str, TextIO]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context((folder / name).open("w", encoding="utf-8", newline="\n"))
            for name in names
        }


def _identity(row: Row, utt: str, spk: str) -> str:
    fields = {"utt": utt, "id": row.utt_id, "spk": spk, "speaker": row.speaker}
    return orjson.dumps({**fields, "corpus": row.corpus}).decode() + "\n"


def _recording(path: str, *, pipes: bool) -> str:
    """What wav.scp says of a file: its path, or a command that prints it as wav."""
    quoted = shlex.quote(path)
    suffix = Path(path).suffix.lower()
    if not pipes or (suffix == ".wav" and not _NOT_A_PATH.search(path)):
        return path
    if suffix == ".wav":
        return f"cat {quoted} |"
    if suffix == ".flac":
        return f"flac -c -d -s {quoted} |"
    return f"ffmpeg -nostdin -v error -i {quoted} -f wav - |"
