"""What a report on unit quality says, as records; `as_json` for machines."""

# K units, P phones

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cslm_data.quality.abx import AbxScore, Speakers
from cslm_data.quality.purity import Purity
from cslm_data.quality.robustness import EditDistance
from cslm_data.quality.usage import Counts, Exclusive, Usage

ALL = "all"
"""Stands for all languages together."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was measured how."""

    seed: int
    max_utterances: int
    """With phones, per language: what PNMI, purities and ABX are measured on."""
    robustness_utterances: int
    """Per language; 0: not measured."""
    abx_cells: int
    """At most, per language and kind of ABX; 0: not measured."""
    exact_phones: bool
    """Whether stress and tone stay part of a phone."""
    exclusive_share: float


@dataclass(frozen=True, kw_only=True)
class LanguageSpeech:
    """The speech of a language that the report is about."""

    language: str
    num_utterances: int
    num_with_phones: int


@dataclass(frozen=True, kw_only=True)
class PhoneFigures:
    """How the units of a language go with its phones."""

    language: str
    corpus: str | None
    """None: all corpora of the language, see `purity`."""
    num_utterances: int
    unlabelled_share: float
    """Frames that lie in no phone; they count nowhere."""
    all_frames: Purity
    """Silence is one phone."""
    speech_frames: Purity | None
    """Without silence; None where there is nothing else."""
    shuffled_pnmi: float | None
    """PNMI of all frames with their units in random order: what chance gives."""


@dataclass(frozen=True, kw_only=True)
class AbxFigure:
    """One kind of ABX error of a language."""

    language: str
    context: str
    """`triphone` or `any`."""
    speakers: Speakers
    distance: str
    """`units`: equal or not; `centroids`: the angle between them."""
    score: AbxScore | None
    """None where the speech makes no triple."""


@dataclass(frozen=True, kw_only=True)
class RobustnessFigure:
    """Unit edit distance of a language under one change."""

    language: str
    change: str
    unit_edit_distance: EditDistance


@dataclass(frozen=True, kw_only=True, eq=False)
class Plots:
    """What the page draws besides the figures."""

    tokens: dict[str, Counts]
    """Language → tokens of each unit, int64 (K,)."""
    run_lengths: dict[str, Counts]
    """Language → runs of 1, 2, … frames; the last of that many and over."""
    phones: dict[tuple[str, str], tuple[list[str], Counts]]
    """Language and corpus → labels, and how often each meets each unit: int64 (P, K)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizerReport:
    """The figures of one speech tokenizer."""

    name: str
    tokenizer_id: str
    num_units: int
    frame_rate_hz: float
    usage: dict[str, Usage]
    """By language; `all` where there are several."""
    divergence_bits: dict[str, dict[str, float]] | None
    """Jensen–Shannon divergence of the use of units; None for one language."""
    exclusive: Exclusive | None
    phones: tuple[PhoneFigures, ...]
    abx: tuple[AbxFigure, ...]
    robustness: tuple[RobustnessFigure, ...]
    plots: Plots


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitReport:
    """Speech tokenizers side by side, on the utterances that all of them have units of."""

    settings: Settings
    speech: tuple[LanguageSpeech, ...]
    tokenizers: tuple[TokenizerReport, ...]
    notes: tuple[str, ...]
    """What is missing, and what to do about it."""


def as_json(report: UnitReport) -> dict[str, Any]:
    """The report as JSON-like values, without what is only drawn."""
    tokenizers = []
    for tokenizer in report.tokenizers:
        fields = {f.name: getattr(tokenizer, f.name) for f in dataclasses.fields(tokenizer)}
        del fields["plots"]
        tokenizers.append(_plain(fields))
    return {
        "settings": _plain(report.settings),
        "speech": _plain(report.speech),
        "tokenizers": tokenizers,
        "notes": list(report.notes),
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
