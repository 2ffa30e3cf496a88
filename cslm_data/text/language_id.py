"""Texts → the language each seems to be in. Reads the catalog, writes text_languages/.

Two passes: a quick one, and a slower, more exact one over the texts where the quick one does not
find the language that was expected.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.catalog import open_catalog, run_over_files
from cslm_data.progress import progress
from cslm_data.workspace import Workspace, atomic_path, remove_leftovers

if TYPE_CHECKING:
    from lingua import LanguageDetector

Detected = tuple[str | None, float]
"""ISO 639-1 code, None where nothing can be said; and how sure that is, 0 to 1."""

_COMMON = """
    ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nb nl pl pt ro ru sk sl
    sv th tr uk ur vi zh
"""
COMMON = frozenset(_COMMON.split())
"""What a text is taken for besides the languages of the catalog.

All 75 of lingua's are slower by 1.7 and mistake more of short texts for rare languages.
"""

MAX_CHARACTERS = 400
"""Longer texts are judged by their beginning."""
MIN_LETTERS = 10
"""Shorter texts are not judged. A letter of Han, kana or Hangul counts as three."""
QUICK_CONFIDENCE = 0.8
_TEXTS_PER_PART = 20_000
_TEXTS_AT_ONCE = 2_000
_ALIASES = {
    **dict.fromkeys(("cmn", "yue", "wuu", "hak", "nan"), "zh"),
    "no": "nb",
    "fil": "tl",
}
"""Codes of the catalog → what the detector calls the language."""
_ALIKE = ({"nb", "nn"}, {"bs", "hr", "sr"})
"""Languages that are not held against each other: their texts hardly tell."""

_SCHEMA = pa.schema(
    [
        ("text_hash", pa.uint64()),
        ("language", pa.string()),
        ("detected", pa.string()),
        ("confidence", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class TextSummary:
    """What `measure_texts` did: texts = agreed + undecided + other."""

    num_texts: int
    """Distinct texts of a language that were judged now; those judged before don't count."""
    num_agreed: int
    num_undecided: int
    """Too short, no letters, or of a language that the detector does not know."""
    num_other: int
    """Seem to be in another language than their corpus says."""
    others: dict[tuple[str, str], int] = field(default_factory=dict)
    """(language said, language detected) → texts."""


@functools.cache
def known_languages() -> frozenset[str]:
    """The languages that can be told from a text, as ISO 639-1 codes."""
    from lingua import Language

    return frozenset(language.iso_code_639_1.name.lower() for language in Language.all())


def detect_languages(
    texts: Sequence[str],
    *,
    candidates: Collection[str] = COMMON,
    expected: Sequence[str] | None = None,
    threads: int | None = 1,
) -> list[Detected]:
    """The most likely of `candidates` for each text, and its confidence.

    `expected` says what each text is said to be in: where a quick look confirms it, no closer one
    follows. `threads`: 1, or None for all cores that the process may use. Candidates that the detector
    does not know are left out. Source: lingua, n-gram models; they come with the package.
    """
    usable = frozenset(map(_alias, candidates)) & known_languages()
    heads = [text[:MAX_CHARACTERS] for text in texts]
    found: list[Detected] = [(None, 0.0)] * len(heads)
    open_rows = [row for row, head in enumerate(heads) if _is_long_enough(head)]
    if expected is not None:
        quick = _detect([heads[row] for row in open_rows], usable, True, threads)
        for row, (language, confidence) in zip(open_rows, quick, strict=True):
            if confidence >= QUICK_CONFIDENCE and same_language(language, expected[row]):
                found[row] = (language, confidence)
        open_rows = [row for row in open_rows if found[row][0] is None]
    exact = _detect([heads[row] for row in open_rows], usable, False, threads)
    for row, answer in zip(open_rows, exact, strict=True):
        found[row] = answer
    return found


def same_language(one: str | None, other: str | None) -> bool:
    """Whether two codes name one language, as far as text tells: nb and no, sr and hr."""
    if one is None or other is None:
        return False
    pair = {_alias(one), _alias(other)}
    return len(pair) == 1 or any(pair <= alike for alike in _ALIKE)


def measure_texts(
    workspace: Workspace,
    *,
    threads: int | None = None,
    texts_per_part: int = _TEXTS_PER_PART,
) -> TextSummary:
    """Detect the language of every distinct text of the catalog that has none yet.

    Writes text_languages/part-*.parquet. A part appears whole or not at all, and what is in a part
    is not done again. `detected` is the language that the corpus says where the two are not told
    apart. Raises MissingArtefactError without a catalog, LockedError while another process does
    the same.
    """
    folder = workspace.text_languages
    with open_catalog(workspace, doing="a plan of texts"):
        pass  # nothing is made in a folder that is no workspace
    with workspace.lock("text_languages", "detecting the languages of texts"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        plan = folder / ".plan.tmp"
        try:
            with open_catalog(workspace, doing="a plan of texts") as connection:
                run_over_files(connection, "text_languages_todo", str(plan))
            return _work_through(plan, folder, threads, texts_per_part)
        finally:
            plan.unlink(missing_ok=True)


def _work_through(
    plan: Path, folder: Path, threads: int | None, texts_per_part: int
) -> TextSummary:
    counts: dict[tuple[str, str | None], int] = {}
    with pq.ParquetFile(plan) as file:
        total = file.metadata.num_rows
        candidates = COMMON | _languages_of(plan)
        with progress("languages of texts", total=total, unit="texts") as bar:
            for batch in file.iter_batches(texts_per_part):
                rows = pa.Table.from_batches([batch])
                judged: list[Detected] = []
                pairs = zip(rows["text"].to_pylist(), rows["language"].to_pylist(), strict=True)
                while some := list(islice(pairs, _TEXTS_AT_ONCE)):
                    judged += _judge(some, candidates, threads)
                    bar.advance(len(some))
                _write_part(folder, rows, judged)
                said = rows["language"].to_pylist()
                for key in zip(said, (language for language, _ in judged), strict=True):
                    counts[key] = counts.get(key, 0) + 1
    others = {
        (said, found): number
        for (said, found), number in sorted(counts.items(), key=lambda item: -item[1])
        if found is not None and found != said
    }
    undecided = sum(number for (_, found), number in counts.items() if found is None)
    other = sum(others.values())
    return TextSummary(
        num_texts=total,
        num_agreed=total - undecided - other,
        num_undecided=undecided,
        num_other=other,
        others=others,
    )


def _languages_of(plan: Path) -> frozenset[str]:
    with pq.ParquetFile(plan) as file:
        batches = file.iter_batches(columns=["language"])
        return frozenset().union(*(batch["language"].unique().to_pylist() for batch in batches))


def _judge(
    rows: Sequence[tuple[str, str]], candidates: Collection[str], threads: int | None
) -> list[Detected]:
    texts, said = zip(*rows, strict=True)
    judged = detect_languages(texts, candidates=candidates, expected=said, threads=threads)
    return [
        (language if same_language(found, language) else found, confidence)
        if _alias(language) in known_languages()
        else (None, 0.0)
        for (found, confidence), language in zip(judged, said, strict=True)
    ]


def _write_part(folder: Path, rows: pa.Table, judged: Sequence[Detected]) -> None:
    """A part of its own name: a text of a language is the first of one part at most."""
    languages, confidences = zip(*judged, strict=True)
    columns = [rows["text_hash"], rows["language"], pa.array(languages, pa.string()), confidences]
    table = pa.table(columns, schema=_SCHEMA)
    first = f"{table['text_hash'][0].as_py():016x}-{table['language'][0].as_py()}"
    with atomic_path(folder / f"part-{first}.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _is_long_enough(text: str) -> bool:
    weight = 0
    for character in text:
        if character.isalpha():
            weight += 3 if _is_dense(character) else 1
            if weight >= MIN_LETTERS:
                return True
    return False


def _is_dense(character: str) -> bool:
    """Whether a letter is of Han, kana or Hangul, which say more a letter."""
    return "\u3040" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7a3"


def _alias(code: str) -> str:
    return _ALIASES.get(code, code)


def _detect(
    texts: Sequence[str], candidates: frozenset[str], quick: bool, threads: int | None
) -> list[Detected]:
    if not texts or not candidates:
        return [(None, 0.0)] * len(texts)
    detector = _detector(candidates, quick)
    if threads == 1:
        answers = [detector.compute_language_confidence_values(text) for text in texts]
    else:
        answers = detector.compute_language_confidence_values_in_parallel(list(texts))
    best = [values[0] for values in answers]
    return [
        (value.language.iso_code_639_1.name.lower(), round(value.value, 4))
        if value.value > 0
        else (None, 0.0)
        for value in best
    ]


@functools.lru_cache(4)
def _detector(candidates: frozenset[str], quick: bool) -> LanguageDetector:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in sorted(candidates)]
    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*codes)
    return (builder.with_low_accuracy_mode() if quick else builder).build()
