"""The embedded aligner: how far its word times are from those of the shared data, and its cost.

Trains on one part of the speech and aligns another: `--split tenth` scores a keyed tenth of each
corpus that has word times (two fifths of ljspeech, which is 20 recordings) and trains on all else,
`human` and `synthetic` score the human or the espeak corpora with word times, of which then nothing
is trained on; `all` trains on everything, as `cslm-data align` does on a corpus of one's own (times
are never seen). A word is found in the other side by where its letters stand in the text, so that
two segmentations of Mandarin are compared where they agree.

espeak's word events leave the last phone of some words to nobody ("She" ends before its vowel):
beside the ends as they are given, a second figure takes the end of the last phone before the next
word begins.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import itertools
import json
import logging
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cslm_data.aligning.ctc_model import CtcModel
from cslm_data.aligning.timing import time_words, timing_of
from cslm_data.aligning.train_ctc import train_ctc
from cslm_data.corpora import Defaults
from cslm_data.ingest import ingest
from cslm_data.keys import key64
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

Row = dict[str, object]
Word = tuple[float, float, str]
SYNTHETIC_BAR_MS, HUMAN_BAR_MS = 60.0, 100.0


@dataclasses.dataclass
class Errors:
    """Differences in seconds, ours minus theirs."""

    starts: list[float] = dataclasses.field(default_factory=list)
    ends: list[float] = dataclasses.field(default_factory=list)
    phone_ends: list[float] = dataclasses.field(default_factory=list)
    right: list[float] = dataclasses.field(default_factory=list)
    """Mean score of an utterance with its own text."""
    wrong: list[float] = dataclasses.field(default_factory=list)
    """With that of another of its corpus."""
    num_words: int = 0
    refused: int = 0


def read_rows(data: Path) -> list[Row]:
    """Transcribed utterances, with absolute paths and word times where there are some."""
    times: dict[object, Row] = {}
    for path in sorted(data.glob("*/*.align.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            times[row["id"]] = row
    rows: list[Row] = []
    for path in sorted(data.glob("*/*.jsonl")):
        if path.name.endswith(".align.jsonl"):
            continue
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if row.get("text") and row.get("audio"):
                found = times.get(row["id"], {})
                row = {**row, "audio": str((path.parent / row["audio"]).resolve())}
                rows.append({**row, "words": found.get("words"), "phones": found.get("phones")})
    return rows


def is_scored(row: Row, split: str) -> bool:
    if not row["words"]:
        return False
    synthetic = str(row["corpus"]).startswith("espeak")
    if split != "tenth":
        return split == "all" or synthetic == (split == "synthetic")
    share = 40 if row["corpus"] == "ljspeech" else 10
    return key64("split", str(row["id"])) % 100 < share


def is_left_out(row: Row, split: str, corpora: set[object]) -> bool:
    """Not trained on: what is scored, or the whole of its corpus."""
    if split == "all":
        return False
    return is_scored(row, split) if split == "tenth" else row["corpus"] in corpora


def ends_of_phones(words: Sequence[Word], phones: Sequence[Word]) -> list[Word]:
    """The words with their ends where the last phone before the next word ends."""
    starts = [start for start, _, _ in words[1:]] + [float("inf")]
    found: list[Word] = []
    for (start, end, word), following in zip(words, starts, strict=True):
        own = [
            phone[1]
            for phone in phones
            if phone[2] != "sil" and phone[0] >= start - 1e-4 and phone[1] <= following + 1e-4
        ]
        found.append((start, max([end, *own]), word))
    return found


def letters(words: Sequence[Word]) -> tuple[list[str], dict[int, float], dict[int, float]]:
    """All letters of some words, and the times at those where words start and end."""
    text: list[str] = []
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for start, end, word in words:
        normal = [c for c in unicodedata.normalize("NFKC", word).casefold() if c.isalnum()]
        if normal:
            starts[len(text)] = start
            text += normal
            ends[len(text)] = end
    return text, starts, ends


def pairs(ours: Sequence[Word], theirs: Sequence[Word]) -> Iterator[tuple[str, float]]:
    """`starts` or `ends`, and the difference, wherever both have a word's."""
    our_text, our_starts, our_ends = letters(ours)
    their_text, their_starts, their_ends = letters(theirs)
    matcher = difflib.SequenceMatcher(None, their_text, our_text, autojunk=False)
    for block in matcher.get_matching_blocks():
        for place in range(block.size + 1):
            there, here = block.a + place, block.b + place
            if place < block.size and there in their_starts and here in our_starts:
                yield "starts", our_starts[here] - their_starts[there]
            if place and there in their_ends and here in our_ends:
                yield "ends", our_ends[here] - their_ends[there]


def stretch_of(row: Row, text: object = None) -> Stretch:
    return Stretch(
        utt_id=str(row["id"]),
        audio=str(row["audio"]),
        offset_s=0.0,
        duration_s=float(str(row["duration"])),
        language=str(row["language"]),
        audio_version="",
        text=str(text or row["text"]),
    )


def score(model: CtcModel, rows: Sequence[Row]) -> dict[str, Errors]:
    found: dict[str, Errors] = {}
    timing = timing_of(model, 0.0)
    for corpus, group in itertools.groupby(rows, key=lambda row: str(row["corpus"])):
        mine = list(group)
        errors = found.setdefault(corpus, Errors())
        aligned = time_words([stretch_of(row) for row in mine], model, timing)
        others = zip(mine, [*mine[1:], mine[0]], strict=True)
        swapped = [stretch_of(row, other["text"]) for row, other in others if other is not row]
        wrong = time_words(swapped, model, timing)
        errors.wrong += [mean_score(each[1]) for each in wrong if each[1]]
        for row, (_, words, *_) in zip(mine, aligned, strict=True):
            if words is None:
                errors.refused += 1
                continue
            ours = [(word["start_s"], word["end_s"], word["word"]) for word in words]
            theirs: list[Word] = [tuple(word) for word in row["words"]]  # type: ignore[misc, attr-defined]
            errors.num_words += len(theirs)
            errors.right.append(mean_score(words))
            for kind, difference in pairs(ours, theirs):
                getattr(errors, kind).append(difference)
            if corpus.startswith("espeak"):
                mended = ends_of_phones(theirs, row["phones"])  # type: ignore[arg-type]
                errors.phone_ends += [d for kind, d in pairs(ours, mended) if kind == "ends"]
    return found


def mean_score(words: Sequence[Row]) -> float:
    return float(np.mean([word["score"] for word in words]))


def print_table(found: dict[str, Errors]) -> None:
    print("| corpus | words | compared | mean | median | <50 | <100 | starts | ends | phone ends |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for corpus, errors in sorted(found.items()):
        both = np.abs([*errors.starts, *errors.ends]) * 1000
        if not len(both):
            continue
        means = [
            f"{np.abs(each).mean() * 1000:.0f}" if each else ""
            for each in (errors.starts, errors.ends, errors.phone_ends)
        ]
        shares = f"{np.mean(both < 50):.2f} | {np.mean(both < 100):.2f}"
        print(
            f"| {corpus} | {errors.num_words} | {len(errors.starts)} | {both.mean():.0f} | "
            f"{np.median(both):.0f} | {shares} | {' | '.join(means)} |"
        )
    for corpus, errors in sorted(found.items()):
        if errors.right and errors.wrong:
            worst, best = np.quantile(errors.right, 0.05), np.quantile(errors.wrong, 0.95)
            print(
                f"{corpus}: refused {errors.refused}; score {np.mean(errors.right):.2f} (5 % below "
                f"{worst:.2f}), with the text of another {np.mean(errors.wrong):.2f} (5 % above "
                f"{best:.2f})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with real/, synthetic/")
    parser.add_argument("--split", choices=("tenth", "human", "synthetic", "all"), default="tenth")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-hours", type=float, default=10.0, help="of speech to train on")
    parser.add_argument("--workspace", type=Path, help="kept: a training that was killed goes on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = read_rows(options.data.resolve())
    scored = [row for row in rows if is_scored(row, options.split)]
    corpora = {row["corpus"] for row in scored}
    training = [row for row in rows if not is_left_out(row, options.split, corpora)]
    with tempfile.TemporaryDirectory() as temporary:
        manifest = Path(temporary) / "speech.jsonl"
        kept = [{k: v for k, v in row.items() if k not in ("words", "phones")} for row in training]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in kept]
        manifest.write_text("".join(lines), encoding="utf-8")
        workspace = Workspace(options.workspace or Path(temporary) / "workspace")
        ingest(workspace, [manifest], defaults=Defaults())
        wall, used = time.monotonic(), time.process_time()
        model = train_ctc(
            workspace,
            epochs=options.epochs,
            num_threads=options.threads,
            max_hours=options.max_hours,
        )
        wall, used = time.monotonic() - wall, time.process_time() - used
    hours = sum(model.training["hours"].values())
    print(f"split {options.split}: trained on {hours:.2f} h, {model.training['epochs']} epochs")
    print(f"training: {wall / hours:.0f} s, {used / hours:.0f} CPU-s for an hour of speech")
    wall = time.monotonic()
    found = score(model, sorted(scored, key=lambda row: (str(row["corpus"]), str(row["id"]))))
    wall = time.monotonic() - wall
    seconds = 2 * sum(float(str(row["duration"])) for row in scored)
    print(f"aligning: {seconds / wall:.0f} s of speech per second")
    print_table(found)
    for names, bar in (("espeak", SYNTHETIC_BAR_MS), ("ljspeech aishell_sample", HUMAN_BAR_MS)):
        chosen = [e for c, e in found.items() if any(c.startswith(n) for n in names.split())]
        if chosen:
            all_ms = np.abs([d for e in chosen for d in (*e.starts, *e.ends)]) * 1000
            print(
                f"{names}: mean {all_ms.mean():.1f} ms; ratio: {bar / all_ms.mean():.2f} (bar: 1)"
            )


if __name__ == "__main__":
    main()
