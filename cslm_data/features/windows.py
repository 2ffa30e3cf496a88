"""Long recordings → features, a window at a time, in the memory of one window.

A recording over `LONG_S` seconds is cut into cores of 30.72 s; an extractor sees each with 5.12 s
more on either side, and the frames of the core are kept. The grid of cores is fixed, so that the
units of a recording do not depend on the machine, and both numbers are whole multiples of every
frame step in use (and of the blocks of `kaldi.py`, which makes windowed MFCC exact).
"""

# N frames, D features, T samples

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import UsageError
from cslm_data.features import LONG_S, FeatureExtractor, WindowedExtractor

Floats = NDArray[np.float32]
OpenBlocks = Callable[[], Iterator[Floats]]

CORE_SAMPLES = 491_520
CONTEXT_SAMPLES = 81_920

WINDOWS_IDENTITY: dict[str, object] = {
    "longer_than_s": LONG_S,
    "core_samples": CORE_SAMPLES,
    "context_samples": CONTEXT_SAMPLES,
}
"""What enters the identity of an extractor whose features depend on where the windows lie."""

_LONG_SAMPLES = round(LONG_S * SAMPLE_RATE_HZ)


def features_of(extractor: FeatureExtractor, waveform_T: Floats) -> Floats:
    """Features of a waveform in memory, by windows if it is long: float32 (T,) → (N, D)."""
    if len(waveform_T) <= _LONG_SAMPLES:
        return extractor(waveform_T)

    def open_blocks() -> Iterator[Floats]:
        return iter([waveform_T])

    return np.concatenate(list(stream_features(extractor, open_blocks, len(waveform_T))))


def stream_features(
    extractor: FeatureExtractor, open_blocks: OpenBlocks, num_samples: int
) -> Iterator[Floats]:
    """Features of a recording, stretch after stretch: float32 (n, D) each, N in all.

    `open_blocks` opens the recording at 16 kHz from its start, as often as it is called; its blocks
    may have any length. By `num_samples` it is decided whether the recording is long. A short one
    is encoded whole; a long one as the extractor knows best, or in overlapping windows.
    """
    if num_samples <= _LONG_SAMPLES:
        yield extractor(np.concatenate([np.zeros(0, np.float32), *open_blocks()]))
    elif isinstance(extractor, WindowedExtractor):
        yield from extractor.windows(open_blocks, num_samples)
    else:
        yield from _overlapping(extractor, open_blocks())


def cut(blocks: Iterable[Floats], spans: Iterable[tuple[int, int]]) -> Iterator[Floats]:
    """The samples [start, stop) of each span of a stream; starts and stops never go back.

    The last one may be shorter than its span: there the recording ends.
    """
    stream = iter(blocks)
    held_T, held_from = np.zeros(0, np.float32), 0
    for start, stop in spans:
        pieces, held_until = [held_T], held_from + len(held_T)
        while held_until < stop and (block_T := next(stream, None)) is not None:
            pieces.append(block_T)
            held_until += len(block_T)
        filled = [piece_T for piece_T in pieces if len(piece_T)] or pieces[:1]
        held_T = filled[0] if len(filled) == 1 else np.concatenate(filled)
        held_T = held_T[max(0, start - held_from) :]
        held_from = max(start, held_from)
        yield held_T[: stop - held_from]
        if held_until < stop:
            return


def _overlapping(extractor: FeatureExtractor, blocks: Iterable[Floats]) -> Iterator[Floats]:
    """Windows for an extractor of which nothing but its frame rate is known."""
    hop = Fraction(SAMPLE_RATE_HZ) / Fraction(extractor.frame_rate_hz).limit_denominator(1000)
    core, context = (
        round(samples / hop / hop.denominator) * hop.denominator
        for samples in (CORE_SAMPLES, CONTEXT_SAMPLES)
    )
    starts = (max(0, index * core - context) for index in itertools.count())
    stops = ((index + 1) * core + context for index in itertools.count())
    spans = ((int(start * hop), int(stop * hop)) for start, stop in zip(starts, stops, strict=True))
    length = int((core + 2 * context) * hop)
    for index, window_T in enumerate(cut(blocks, spans)):
        before = min(context, index * core)
        features_ND = extractor(window_T)
        whole = length - int((context - before) * hop)
        if len(window_T) < whole:
            features_ND = features_ND[before:]
        elif len(features_ND) < before + core:
            raise UsageError(
                f"the extractor gives {len(features_ND)} frames for {len(window_T)} samples, which "
                f"its frame rate of {extractor.frame_rate_hz} Hz does not explain; recordings over "
                f"{LONG_S:g} s need a method `windows` of its own"
            )
        else:
            features_ND = features_ND[before : before + core]
        if len(features_ND):
            yield features_ND
