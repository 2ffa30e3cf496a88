"""When speech came → whether someone who listens meanwhile ever waits. Pure functions.

A listener hears the first speech when it is there, and what follows when it is there and all before
it has been played. Speech that comes later than that leaves a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class SpeechReady(NamedTuple):
    """A stretch of an answer's speech, and when it could be played."""

    num_units: int
    ready_s: float
    """Seconds since the question."""
    ready_tokens: int
    """Tokens generated until then, all kinds."""


@dataclass(frozen=True, kw_only=True)
class Playback:
    """How the speech of an answer came."""

    first_speech_tokens: int
    """Tokens generated until the first stretch of it could be played."""
    first_speech_s: float
    num_units: int
    units_per_second: float
    """Generated, the text before and between them included; all the time since the question."""
    speech_s: float | None
    """How long it plays. This and what follows is None where the duration of a unit is unknown."""
    smallest_margin_s: float | None
    """By how much the tightest stretch after the first came before it was needed; negative: late.
    None also for a single stretch."""
    num_gaps: int | None
    """Stretches that came late."""
    gaps_s: float | None
    """How long a listener waited for them, in all."""


def play(stretches: Sequence[SpeechReady], seconds_per_unit: float | None) -> Playback | None:
    """What a listener hears of stretches in the order of an answer; None without speech."""
    if not stretches:
        return None
    num_units = sum(stretch.num_units for stretch in stretches)
    last_s = stretches[-1].ready_s
    margins = None if seconds_per_unit is None else _margins(stretches, seconds_per_unit)
    gaps = None if margins is None else [-margin for margin in margins if margin < 0]
    return Playback(
        first_speech_tokens=stretches[0].ready_tokens,
        first_speech_s=stretches[0].ready_s,
        num_units=num_units,
        units_per_second=num_units / last_s if last_s > 0 else 0.0,
        speech_s=None if seconds_per_unit is None else num_units * seconds_per_unit,
        smallest_margin_s=min(margins) if margins else None,
        num_gaps=None if gaps is None else len(gaps),
        gaps_s=None if gaps is None else float(sum(gaps)),
    )


def _margins(stretches: Sequence[SpeechReady], seconds_per_unit: float) -> list[float]:
    """How long before it was needed each stretch after the first was there, in seconds."""
    margins = []
    played_s = stretches[0].ready_s + stretches[0].num_units * seconds_per_unit
    for stretch in stretches[1:]:
        margins.append(played_s - stretch.ready_s)
        played_s = max(played_s, stretch.ready_s) + stretch.num_units * seconds_per_unit
    return margins
