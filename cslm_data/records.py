"""The words of the project as frozen records: what every other module speaks in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.uint16]
"""Deduplicated units, uint16 (N,)."""

Role = Literal["system", "user", "assistant"]
Modality = Literal["text", "speech"]
Part = Literal["", "tq", "ta", "sa"]
Stage = Literal["pretrain", "sft"]
Split = Literal["train", "valid", "test"]

_NO_UNITS: Units = np.zeros(0, np.uint16)

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One stretch of speech: `duration_s` seconds from `offset_s` of the recording at `audio`."""

    utt_id: str
    corpus: str
    audio: str
    """Absolute path or fsspec URI."""
    language: str
    """ISO 639 code, e.g. `zh`."""
    offset_s: float = 0.0
    duration_s: float | None = None
    """None: to the end of the recording."""
    sample_rate_hz: int | None = None
    num_channels: int | None = None
    speaker: str | None = None
    text: str | None = None
    """The transcript as the corpus has it; None: untranscribed."""
    kind: str = "human"
    """`human`, `tts` or `synthetic`."""
    license: str | None = None
    split: str | None = None
    """The corpus's own split, where it has one."""
    audio_version: str | None = None
    """Fingerprint of the audio file's content; units of another version are stale."""
    place: str = ""
    """Where its source says it: `train.tsv:12`; of a folder, relative to it."""


@dataclass(frozen=True, kw_only=True)
class BitextPair:
    """A sentence and its translation."""

    pair_id: str
    corpus: str
    src_lang: str
    tgt_lang: str
    src: str
    tgt: str
    license: str | None = None
    split: str | None = None
    place: str = ""
    """Where its source says it: `train.tsv:12`; of a folder, relative to it."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a dialogue, with text, speech, or both."""

    role: Role
    language: str
    text: str | None = None
    audio: str | None = None
    """Absolute path or URI; the catalog links it to an utterance of the same audio."""
    offset_s: float = 0.0
    speaker: str | None = None
    utt_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A list of turns. A text instruction is a dialogue of two turns without audio."""

    dialogue_id: str
    corpus: str
    turns: tuple[Turn, ...]
    parallel_id: str | None = None
    """Dialogues that say the same in several languages share it: cross-language answers use it."""
    license: str | None = None
    split: str | None = None
    place: str = ""
    """Where its source says it: `train.tsv:12`; of a folder, relative to it."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of an alignment, in seconds from the start of its utterance."""

    word: str
    start_s: float
    end_s: float
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A phone of an alignment, in seconds from the start of its utterance; silence is one too."""

    phone: str
    """The label as its aligner wrote it, with stress and tone."""
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Words, phones or both of one utterance, each in order of time; empty: not known."""

    utt_id: str
    words: tuple[Word, ...] = ()
    phones: tuple[Phone, ...] = ()
    place: str = ""
    """Where its source says it: `train.tsv:12`; of a folder, relative to it."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Something refused, and why. `reason` is a short name, `detail` says what to do next."""

    stage: str
    corpus: str
    key: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """A typed span of a training sample: text, or units for speech, never both."""

    modality: Modality
    language: str
    role: Role
    trained: bool
    part: Part = ""
    """Place in the chain of modality: text question, text answer chunk, speech answer chunk."""
    text: str = ""
    units: Units = field(default_factory=lambda: _NO_UNITS)

    def __eq__(self, other: object) -> bool:
        """Equal when every field and every unit is equal."""
        if not isinstance(other, Segment):
            return NotImplemented
        return (
            (self.modality, self.language, self.role, self.trained, self.part, self.text)
            == (other.modality, other.language, other.role, other.trained, other.part, other.text)
        ) and np.array_equal(self.units, other.units)

    def __hash__(self) -> int:
        """Agrees with `__eq__`."""
        return hash((self.modality, self.language, self.role, self.part, self.text))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An ordered list of segments for one task."""

    key: str
    """Unique in its mix; no dot (WebDataset cuts names at the first dot), only `[A-Za-z0-9_-]`."""
    task: str
    languages: str
    """`en` for a task inside one language, `en-zh` for one across two (source first)."""
    segments: tuple[Segment, ...]

    def with_segments(self, segments: tuple[Segment, ...]) -> Sample:
        """The same sample made of other segments."""
        return dataclasses.replace(self, segments=segments)
