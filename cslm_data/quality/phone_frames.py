"""Utterances in units and in phones → frames that have both, and spoken phones for ABX. Pure.

Unit i of an utterance covers [i, i + 1) / frame rate; the phone at its middle is its label. A frame
whose middle lies in no phone (a gap, or beyond the last one) has none and is not counted. A spoken
phone is made of the frames whose middle lies in it.
"""

# N frames, I intervals

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cslm_data.corpora.alignments import is_silence
from cslm_data.quality.abx import Item
from cslm_data.records import Units

Doubles = NDArray[np.float64]

SILENCE = "sil"
"""What every label of silence and noise becomes: one class, as in HuBERT's measurement."""

_STRESS_MARKS = re.compile("[ˈˌ˥˦˧˨˩]")
_DIGITS_AT_THE_END = re.compile(r"(?<=\D)[0-9]+$")


@dataclass(frozen=True, kw_only=True, eq=False)
class PhonedUtterance:
    """The units of an utterance, frame by frame, and its phones."""

    utt_id: str
    corpus: str
    speaker: str | None
    units_N: Units
    phones: Sequence[str]
    """I labels."""
    starts_s: Doubles
    """float64 (I,), never falling."""
    ends_s: Doubles


def fold_phone(label: str) -> str:
    """A label without stress and tone, `AH` of `AH0`, `iang` of `iang4`, `aː` of `ˈaː`; or `sil`.

    HuBERT's measurement takes all digits off; here those at the end alone, since X-SAMPA spells
    vowels with digits (`2:`, `9`).
    """
    if is_silence(label):
        return SILENCE
    folded = _DIGITS_AT_THE_END.sub("", _STRESS_MARKS.sub("", label.strip()))
    return folded or label.strip()


def exact_phone(label: str) -> str:
    """A label as it is; silence `sil`."""
    return SILENCE if is_silence(label) else label.strip()


def phone_of_frames(
    starts_s: Doubles, ends_s: Doubles, *, num_frames: int, frame_rate_hz: float
) -> NDArray[np.intp]:
    """Which interval the middle of each frame lies in, -1 for none: → int (N,)."""
    middles_s = _middles(num_frames, frame_rate_hz)
    found_N = np.searchsorted(starts_s, middles_s, side="right") - 1
    inside_N = (found_N >= 0) & (middles_s < ends_s[found_N])
    return np.where(inside_N, found_N, -1)


def spoken_phones(
    utterance: PhonedUtterance, *, frame_rate_hz: float, with_neighbours: bool
) -> Iterator[Item]:
    """The items of an utterance: every phone that is no silence, alone, or with both neighbours.

    With neighbours, both must be there, no silence and without a gap of a frame or more. Nothing
    comes of a speaker who is not known, nor of phones too short to have a frame. Labels, contexts
    and speakers carry the corpus: those of two corpora are never the same.
    """
    if utterance.speaker is None:
        return
    labels = [f"{utterance.corpus}/{label}" for label in utterance.phones]
    speaks = [label != SILENCE for label in utterance.phones]
    gaps_s = utterance.starts_s[1:] - utterance.ends_s[:-1]
    joined = gaps_s < 1 / frame_rate_hz
    middles_s = _middles(len(utterance.units_N), frame_rate_hz)
    firsts = np.searchsorted(middles_s, utterance.starts_s, side="left")
    ends = np.searchsorted(middles_s, utterance.ends_s, side="left")
    reach = 1 if with_neighbours else 0
    for i in range(reach, len(labels) - reach):
        if not speaks[i]:
            continue
        context = utterance.corpus
        if with_neighbours:
            if not (speaks[i - 1] and speaks[i + 1] and joined[i - 1] and joined[i]):
                continue
            context = f"{labels[i - 1]} {labels[i + 1]}"
        units_S = utterance.units_N[firsts[i - reach] : ends[i + reach]]
        if len(units_S):
            yield Item(
                key=f"{utterance.utt_id} {i}",
                phone=labels[i],
                context=context,
                speaker=f"{utterance.corpus}/{utterance.speaker}",
                units_S=units_S,
            )


def _middles(num_frames: int, frame_rate_hz: float) -> Doubles:
    """When each frame is half over, in seconds: float64 (N,)."""
    middles_s: Doubles = (np.arange(num_frames, dtype=np.float64) + 0.5) / frame_rate_hz
    return middles_s
