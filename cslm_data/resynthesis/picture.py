"""Two recordings of the same speech and the units between them as one drawing (SVG).

The log mel energies of each are a picture of their own inside it, time runs to the right and wraps
every five seconds, and the numbers of the units can be read after zooming in.
"""

# F frames of 10 ms, B mel bins, N frames of units

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.features.kaldi import FRAME, HOP
from cslm_data.png import encode_png, make_palette
from cslm_data.records import Units, Word

Floats = NDArray[np.float32]

LONGEST_S = 60.0
"""What is drawn of a longer recording, from its start."""

_STRIP_S = 5.0
_PX_PER_S = 200
_MEL_PX, _UNITS_PX, _WORDS_PX, _GAP_PX, _MARGIN_PX, _HEAD_PX = 120, 22, 14, 26, 70, 28
_STRIP_PX = 2 * _MEL_PX + _UNITS_PX + _WORDS_PX + _GAP_PX
_RANGE_NEPERS = 60 / 10 * np.log(10)
"""From black to the brightest: 60 dB of energy."""
_COLOURS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
_FIRST_EDGE_S = (FRAME - HOP) / 2 / SAMPLE_RATE_HZ
_HOP_S = HOP / SAMPLE_RATE_HZ


@dataclass(frozen=True, kw_only=True, eq=False)
class Panels:
    """What is drawn: energies of the original (where there is one) and of its units, on one scale.

    A run of units lasts `durations` frames at `frame_rate_hz`.
    """

    title: str
    original_FB: Floats | None
    resynthesis_FB: Floats
    units: Units
    durations: NDArray[np.uint16]
    frame_rate_hz: float
    words: Sequence[Word] = ()


def draw(panels: Panels) -> str:
    """The drawing as an SVG document that needs no other file."""
    upper_FB = panels.original_FB
    shown = [each for each in (upper_FB, panels.resynthesis_FB) if each is not None]
    brightest = max(float(each.max()) for each in shown)
    duration_s = max(len(each) for each in shown) * _HOP_S + _FIRST_EDGE_S
    drawn_s = min(duration_s, LONGEST_S)
    num_strips = max(1, int(np.ceil(drawn_s / _STRIP_S - 1e-9)))
    height = _HEAD_PX + num_strips * _STRIP_PX
    width = _MARGIN_PX + round(min(drawn_s, _STRIP_S) * _PX_PER_S) + 10
    note = "" if drawn_s == duration_s else f" (the first {drawn_s:g} s of {duration_s:.1f} s)"
    body = [f'<text x="4" y="18" font-size="13">{escape(panels.title + note)}</text>']
    starts_R, ends_R = _edges(panels)
    for strip in range(num_strips):
        start_s = strip * _STRIP_S
        end_s = min(start_s + _STRIP_S, drawn_s)
        top = _HEAD_PX + strip * _STRIP_PX
        body.append(f'<g transform="translate({_MARGIN_PX},{top})">')
        if upper_FB is not None:
            body += _image(upper_FB, start_s, end_s, 0, brightest, "original")
        body += _image(
            panels.resynthesis_FB, start_s, end_s, _MEL_PX + _UNITS_PX, brightest, "from units"
        )
        body += _unit_marks(panels.units, starts_R, ends_R, start_s, end_s)
        body += _word_marks(panels.words, start_s, end_s)
        body += _time_marks(start_s, end_s)
        body.append("</g>")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif"><rect width="100%" height="100%" '
        f'fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _image(
    log_mel_FB: Floats, start_s: float, end_s: float, top: int, brightest: float, label: str
) -> list[str]:
    """The energies between two moments as an embedded picture, low frequencies at the bottom."""
    first = max(0, int(np.floor((start_s - _FIRST_EDGE_S) / _HOP_S)))
    last = int(np.ceil((end_s - _FIRST_EDGE_S) / _HOP_S))
    part_FB = log_mel_FB[first:last]
    middle = top + _MEL_PX / 2
    marks = [
        f'<text x="-4" y="{middle}" font-size="11" text-anchor="end">{label}</text>',
    ]
    if not len(part_FB):
        return marks
    scaled_FB = 1 + (part_FB - brightest) / _RANGE_NEPERS
    pixels_BF = (np.clip(scaled_FB, 0, 1).T[::-1] * 255).astype(np.uint8)
    data = base64.b64encode(encode_png(pixels_BF, make_palette(_COLOURS))).decode()
    x = (first * _HOP_S + _FIRST_EDGE_S - start_s) * _PX_PER_S
    width = len(part_FB) * _HOP_S * _PX_PER_S
    marks.append(
        f'<image x="{x:.2f}" y="{top}" width="{width:.2f}" height="{_MEL_PX}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    )
    return marks


def _edges(panels: Panels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start and end of each run in seconds."""
    ends_R = np.cumsum(panels.durations, dtype=np.int64) / panels.frame_rate_hz
    return np.concatenate([[0.0], ends_R[:-1]]), ends_R


def _unit_marks(
    units: Units,
    starts_R: NDArray[np.float64],
    ends_R: NDArray[np.float64],
    start_s: float,
    end_s: float,
) -> list[str]:
    """A line at each boundary between units, and their numbers, upright between the lines."""
    first = int(np.searchsorted(ends_R, start_s, side="right"))
    last = int(np.searchsorted(starts_R, end_s, side="left"))
    lines, numbers = [], []
    for unit, run_start_s, run_end_s in zip(
        units[first:last].tolist(),
        starts_R[first:last].tolist(),
        ends_R[first:last].tolist(),
        strict=True,
    ):
        left = (max(run_start_s, start_s) - start_s) * _PX_PER_S
        right = (min(run_end_s, end_s) - start_s) * _PX_PER_S
        lines.append(f"M{left:.2f} {_MEL_PX}v{_UNITS_PX}")
        size = min(8.0, right - left)
        numbers.append(
            f'<text transform="translate({(left + right) / 2 + 0.35 * size:.2f},'
            f'{_MEL_PX + _UNITS_PX - 2}) rotate(-90)" font-size="{size:.1f}">{unit}</text>'
        )
    path = f'<path d="{"".join(lines)}" stroke="#999" stroke-width="0.3" fill="none"/>'
    return [path, *numbers]


def _word_marks(words: Sequence[Word], start_s: float, end_s: float) -> list[str]:
    top = 2 * _MEL_PX + _UNITS_PX
    marks = []
    for word in words:
        left, right = max(word.start_s, start_s), min(word.end_s, end_s)
        if left < right:
            middle = ((left + right) / 2 - start_s) * _PX_PER_S
            x = (left - start_s) * _PX_PER_S
            marks.append(f'<path d="M{x:.2f} {top}v{_WORDS_PX}" stroke="#999" stroke-width="0.6"/>')
            marks.append(
                f'<text x="{middle:.2f}" y="{top + 11}" font-size="10" text-anchor="middle">'
                f"{escape(word.word)}</text>"
            )
    return marks


def _time_marks(start_s: float, end_s: float) -> list[str]:
    top = 2 * _MEL_PX + _UNITS_PX + _WORDS_PX
    marks = []
    for tenth in range(round(start_s * 10), int(end_s * 10 + 1e-6) + 1):
        x = (tenth / 10 - start_s) * _PX_PER_S
        length = 6 if tenth % 5 == 0 else 3
        marks.append(f'<path d="M{x:.2f} {top}v{length}" stroke="black" stroke-width="0.6"/>')
        if tenth % 5 == 0:
            marks.append(
                f'<text x="{x:.2f}" y="{top + 15}" font-size="9" text-anchor="middle">'
                f"{tenth / 10:g} s</text>"
            )
    return marks
