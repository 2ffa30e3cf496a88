"""Waveform, changed but saying the same → how far its units move.

Unit edit distance (Gat et al., arXiv:2209.15483): the Levenshtein distance between the units of an
utterance and those of its changed copy, both after dedup, here divided by the number of units of
the original; the mean over utterances. 0: nothing moved; 1: as many edits as there are units.
"""

# T samples, M and N units

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ, resample
from cslm_data.errors import AudioError
from cslm_data.keys import keyed_rng
from cslm_data.progress import Progress
from cslm_data.records import Units

if TYPE_CHECKING:
    from cslm_data.speech_tokenizer import SpeechTokenizer
    from cslm_data.units.stretches import Stretch

Floats = NDArray[np.float32]
Change = Callable[[Floats, float, np.random.Generator], Floats]
"""Waveform (T,), seconds of a frame, a generator keyed to the utterance → the changed waveform."""

NOISE_DB = 20.0


@dataclass(frozen=True, kw_only=True)
class EditDistance:
    """Unit edit distance under one change, over some utterances."""

    mean: float
    standard_error: float | None
    """Of the mean; None for one utterance."""
    num_utterances: int


def _through(rate_hz: int) -> Change:
    """Recorded at another rate."""

    def change(waveform_T: Floats, frame_s: float, rng: np.random.Generator) -> Floats:
        there_T = resample(waveform_T, SAMPLE_RATE_HZ, rate_hz)
        return resample(there_T, rate_hz, SAMPLE_RATE_HZ)

    return change


def _speed(factor: float) -> Change:
    """Played faster or slower, pitch and tempo together (Ko et al., Interspeech 2015)."""

    def change(waveform_T: Floats, frame_s: float, rng: np.random.Generator) -> Floats:
        return resample(waveform_T, round(factor * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)

    return change


def _shift(frames: float) -> Change:
    """Begun later: the first samples are cut off."""

    def change(waveform_T: Floats, frame_s: float, rng: np.random.Generator) -> Floats:
        return waveform_T[round(frames * frame_s * SAMPLE_RATE_HZ) :]

    return change


def _noise(waveform_T: Floats, frame_s: float, rng: np.random.Generator) -> Floats:
    """White noise, its power that of the utterance less the signal-to-noise ratio."""
    power = float(np.mean(np.square(waveform_T, dtype=np.float64)))
    noise_T = rng.standard_normal(len(waveform_T)) * np.sqrt(power / 10 ** (NOISE_DB / 10))
    noisy_T: Floats = (waveform_T + noise_T).astype(np.float32)
    return noisy_T


CHANGES: Mapping[str, Change] = {
    "22.05 kHz": _through(22_050),
    "8 kHz": _through(8_000),
    "noise 20 dB": _noise,
    "speed 0.9": _speed(0.9),
    "speed 1.1": _speed(1.1),
    "shift half frame": _shift(0.5),
    "shift one frame": _shift(1.0),
}
"""To 22.05 kHz and back all is kept that a recording has; to 8 kHz and back, half the band."""


def measure_robustness(
    tokenizer: SpeechTokenizer, stretches: Iterable[Stretch], *, seed: int, bar: Progress
) -> tuple[dict[str, EditDistance], list[str]]:
    """Unit edit distance under each change, and why some utterances could not be used.

    What leaves no sound (a shift longer than the utterance) is not counted under that change.
    """
    distances: dict[str, list[float]] = {name: [] for name in CHANGES}
    problems: list[str] = []
    for stretch in stretches:
        bar.advance()
        try:
            waveform_T = stretch.waveform()
            units = tokenizer.encode(waveform_T).units
        except AudioError as error:
            problems.append(f"{stretch.utt_id}: {error}")
            continue
        for name, change in CHANGES.items():
            rng = keyed_rng(seed, "unit edit distance", name, stretch.utt_id)
            changed_T = change(waveform_T, 1 / tokenizer.frame_rate_hz, rng)
            if len(changed_T):
                moved = edit_distance(units, tokenizer.encode(changed_T).units)
                distances[name].append(moved / len(units))
    return {name: _summary(values) for name, values in distances.items() if values}, problems


def edit_distance(units_M: Units, units_N: Units) -> int:
    """Insertions, deletions and substitutions from one sequence to the other (Levenshtein)."""
    steps = np.arange(len(units_N) + 1)
    row = steps.copy()
    for number, unit in enumerate(units_M, 1):
        best = np.empty_like(row)
        best[0] = number
        np.minimum(row[:-1] + (units_N != unit), row[1:] + 1, out=best[1:])
        # Insertions: best[j] = min over i ≤ j of best[i] + (j − i).
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def _summary(values: list[float]) -> EditDistance:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return EditDistance(
        mean=float(np.mean(values)), standard_error=error, num_utterances=len(values)
    )
