"""Decoded samples → how many of them are clipped. Pure array code.

A sample is clipped when it belongs to a run of three or more neighbours in one channel that are all
at full scale or beyond, or all equal to the channel's own extreme value, where that is not quiet: a
recording that was clipped and then turned down has flat tops too. A sine has none: near its peak
no three samples of 16 bits are equal, down to some 20 Hz at 16 kHz. Neither has a recording of few
quantisation levels (8 bits, spoken quietly), whose neighbours are equal everywhere. Flat tops that
a lossy codec bent are only found where they still reach full scale.
"""

# T samples

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RUN = 3
_FULL_SCALE = 1 - 2.0**-15
"""The largest positive sample of 16 bits."""
_QUIET = 0.05
"""Flat tops under this (-26 dBFS) are not clipping: steps of a few quantisation levels are flat."""
_LEVELS = 64
"""Nor are those of a recording that has fewer levels than this between 0 and its extreme value."""


class FlatTops:
    """Clipped samples of one channel at its upper edge, or its lower one, in one pass.

    Samples may come in pieces of any length; what is counted is of the extreme known so far, and
    begins anew when a higher one comes.
    """

    def __init__(self, *, downwards: bool = False) -> None:
        self._downwards = downwards
        self._edge = _QUIET
        self._counted = 0
        self._open = 0
        """Length of the run that reaches the end of what was heard."""

    @property
    def num_clipped(self) -> int:
        """Samples in runs at the edge."""
        return self._counted

    def add(self, samples_T: NDArray[np.float32], highest: float) -> None:
        """Hear more samples, of which `highest` reaches furthest: float32 (T,), a magnitude."""
        edge = min(highest, _FULL_SCALE)
        if edge < self._edge:
            self._open = 0
            return
        if edge > self._edge:
            self._edge, self._counted, self._open = edge, 0, 0
        limit = np.float32(edge)
        places = np.flatnonzero(samples_T <= -limit if self._downwards else samples_T >= limit)
        if not len(places):
            self._open = 0
            return
        ends = np.flatnonzero(places[1:] - places[:-1] > 1) + 1
        lengths = np.diff(np.concatenate([[0], ends, [len(places)]]))
        if edge < _FULL_SCALE and lengths.max() >= _RUN and _num_levels(samples_T, edge) < _LEVELS:
            self._open = 0
            return
        if places[0] == 0:
            # It goes on from before; what was long enough there is counted already.
            lengths[0] += self._open
            self._counted -= self._open if self._open >= _RUN else 0
        self._counted += int(lengths[lengths >= _RUN].sum())
        self._open = int(lengths[-1]) if places[-1] == len(samples_T) - 1 else 0


def _num_levels(samples_T: NDArray[np.float32], edge: float) -> float:
    """How often the smallest step between two values of some samples goes into `edge`."""
    steps = np.diff(np.unique(np.abs(samples_T)))
    return edge / float(steps.min()) if len(steps) else 1.0
