"""A part's stretches + transcripts → rows of word times: the work that align hands to workers.

No catalog here: a worker process starts without the database. Rows go back to whoever asked, who
writes them into the workspace. Long recordings pass through the model in the overlapping windows of
features/windows.py, and of each window's emissions only the symbols of the transcript are kept.
"""

# T samples, N frames, V symbols

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cslm_data.aligning.acoustic import AcousticModel
from cslm_data.aligning.forced import (
    DEFAULT_BOUNDARIES,
    Boundaries,
    CannotAlign,
    align_words,
)
from cslm_data.aligning.models import AlignerOptions, load_aligner
from cslm_data.aligning.spelling import (
    SPELLING_VERSION,
    Alphabet,
    CannotSpell,
    SpelledWord,
    make_alphabet,
    separator_of,
    spell,
)
from cslm_data.engines import Worker
from cslm_data.errors import AudioError, CorruptArtefactError
from cslm_data.features.windows import WINDOWS_IDENTITY
from cslm_data.keys import md5_key
from cslm_data.units.extraction import Block, map_features
from cslm_data.units.parts import Part
from cslm_data.units.stretches import Stretch

Floats = NDArray[np.float32]
AlignmentRow = tuple[Any, ...]

_WORD = pa.struct(
    [
        ("word", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("score", pa.float64()),
    ]
)
_PHONE = pa.struct([("phone", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())])
ALIGNMENT_COLUMNS = pa.schema(
    [
        ("utt_id", pa.string()),
        ("words", pa.list_(_WORD)),
        ("phones", pa.list_(_PHONE)),
        ("audio_version", pa.string()),
        ("language", pa.string()),
        ("text_hash", pa.uint64()),
        ("reject_reason", pa.string()),
        ("reject_detail", pa.string()),
    ]
)
NO_TEXT = "no_text"
_LEAST = np.float32(-1e4)
_DIGITS = 4
"""Decimals of times and scores: a tenth of a millisecond is finer than any frame."""


@runtime_checkable
class BoundedModel(AcousticModel, Protocol):
    """An acoustic model that knows how its symbols lie in the sounds they stand for."""

    boundaries: Boundaries


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Everything beside the recording and its transcript that word times depend on."""

    aligner_id: str
    name: str
    frame_rate_hz: float
    spelling: str
    boundaries: Boundaries
    min_score: float

    @property
    def identity(self) -> dict[str, object]:
        """As it is written beside the alignments."""
        return {
            **asdict(self),
            "spelling_version": SPELLING_VERSION,
            "windows": WINDOWS_IDENTITY,
        }


def timing_of(model: AcousticModel, min_score: float) -> Timing:
    """How a model aligns."""
    own = model.boundaries if isinstance(model, BoundedModel) else DEFAULT_BOUNDARIES
    return Timing(
        aligner_id=model.aligner_id,
        name=model.name,
        frame_rate_hz=model.frame_rate_hz,
        spelling=model.spelling,
        boundaries=own,
        min_score=min_score,
    )


def make_timer(aligner: str, options: AlignerOptions, timing: Timing) -> Worker:
    """A worker that returns the rows of a part, in its order.

    Raises CorruptArtefactError where this machine finds another model under the name.
    """
    model = load_aligner(aligner, options)
    if model.aligner_id != timing.aligner_id:
        raise CorruptArtefactError(
            f"--aligner {aligner}: the model changed meanwhile, or is another one on this machine "
            f"({model.aligner_id}, not {timing.aligner_id}); make it the same everywhere"
        )

    def work(part: Part) -> list[AlignmentRow]:
        return time_words(part.stretches, model, timing)

    return work


def time_words(
    stretches: Sequence[Stretch], model: AcousticModel, timing: Timing
) -> list[AlignmentRow]:
    """A row for each stretch: its words with their times, or why there are none."""
    alphabet = make_alphabet(model.symbols, model.spelling)
    tasks: dict[str, _Task] = {}
    rows: dict[str, AlignmentRow] = {}
    for stretch in stretches:
        try:
            tasks[stretch.utt_id] = _prepare(stretch, alphabet)
        except CannotSpell as refusal:
            rows[stretch.utt_id] = _refused(stretch, refusal.reason, refusal.detail)

    def consume(stretch: Stretch, _first_frame: int, emissions_NV: Block) -> Floats:
        return np.asarray(emissions_NV, np.float32)[:, tasks[stretch.utt_id].columns]

    hearable = [stretch for stretch in stretches if stretch.utt_id in tasks]
    heard = map_features(_Emissions(model), hearable, consume)
    for stretch, blocks in zip(hearable, heard, strict=True):
        if isinstance(blocks, AudioError):
            rows[stretch.utt_id] = _refused(stretch, blocks.reason, blocks.detail)
        else:
            rows[stretch.utt_id] = _align(
                stretch, tasks[stretch.utt_id], np.concatenate(blocks), timing
            )
    return [rows[stretch.utt_id] for stretch in stretches]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """An utterance to align."""

    words: Sequence[SpelledWord]
    columns: Sequence[int]
    """Of the emissions, those that its words are spelled in: the blank first."""
    separator: int | None


def _prepare(stretch: Stretch, alphabet: Alphabet) -> _Task:
    if stretch.text is None:
        raise CannotSpell(NO_TEXT, "it has no transcript; add one to its source and ingest again")
    words = spell(stretch.text, stretch.language, alphabet)
    separator = separator_of(alphabet, stretch.language)
    used = {token for word in words for token in word.tokens}
    if separator is not None:
        used.add(separator)
    return _Task(words=words, columns=[0, *sorted(used)], separator=separator)


class _Emissions:
    """An acoustic model as a feature extractor: its features are its emissions."""

    def __init__(self, model: AcousticModel) -> None:
        self._model = model
        self.identity: dict[str, object] = {"aligner": model.aligner_id}
        self.frame_rate_hz = model.frame_rate_hz
        self.dim = len(model.symbols)

    def __call__(self, waveform_T: Floats) -> Floats:
        # What cannot be at all is as good as what hardly can be, and can be added up.
        return np.maximum(self._model.emissions(waveform_T), _LEAST)


def _align(stretch: Stretch, task: _Task, emissions_NU: Floats, timing: Timing) -> AlignmentRow:
    column_of = {column: index for index, column in enumerate(task.columns)}
    try:
        times = align_words(
            emissions_NU,
            [[column_of[token] for token in word.tokens] for word in task.words],
            frame_rate_hz=timing.frame_rate_hz,
            separator=None if task.separator is None else column_of[task.separator],
            boundaries=timing.boundaries,
            duration_s=stretch.duration_s,
        )
    except CannotAlign as refusal:
        return _refused(stretch, refusal.reason, refusal.detail)
    score = math.fsum(time.score for time in times) / len(times)
    if score < timing.min_score:
        return _refused(
            stretch,
            "low_score",
            f"its words score {score:.3f} on average, less than {timing.min_score:g}; see whether "
            "the text is what is said, or align again with a lower --min-score and --overwrite",
        )
    words = [
        {
            "word": spelled.word,
            "start_s": round(time.start_s, _DIGITS),
            "end_s": round(time.end_s, _DIGITS),
            "score": round(time.score, _DIGITS),
        }
        for spelled, time in zip(task.words, times, strict=True)
    ]
    return (stretch.utt_id, words, None, *_version(stretch), None, None)


def _refused(stretch: Stretch, reason: str, detail: str) -> AlignmentRow:
    return (stretch.utt_id, None, None, *_version(stretch), reason, detail)


def _version(stretch: Stretch) -> tuple[Any, ...]:
    """What the row was made of."""
    text_hash = None if stretch.text is None else md5_key(stretch.text)
    return stretch.audio_version, stretch.language, text_hash
