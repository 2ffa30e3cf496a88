"""Speech whose units are numbered from 0, cut into chunks: what tests of interleave share."""

from __future__ import annotations

import numpy as np

from cslm_data.interleave import interleave


def cut(text, words, durations, *, language="en", frame_rate_hz=50.0, **how):
    """Chunks of a text whose units are numbered from 0."""
    return interleave(
        text,
        words,
        np.arange(len(durations), dtype=np.uint16),
        np.array(durations, np.uint16),
        language=language,
        frame_rate_hz=frame_rate_hz,
        **how,
    )


def shown(chunks):
    return [(chunk.text, chunk.units.tolist()) for chunk in chunks]
