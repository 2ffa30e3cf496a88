"""Numbers → pictures inside a page: SVG lines and bars, PNG pixels for large matrices. Pure.

Nothing is fetched, nothing but the standard library and numpy is imported, every text is escaped.
"""

# R rows, C columns

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cslm_data.png import encode_png, make_palette

Points = Sequence[tuple[float, float]]

HIDDEN = ' style="display:none"'
"""What a hidden line or figure begins with."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#000000")
"""Okabe and Ito's colours, told apart by the colour-blind too; used in turn."""

_RAMP = ((255, 255, 255), (253, 212, 158), (252, 141, 89), (215, 48, 31), (80, 0, 20))
_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 12, 40
_ROW_PIXELS = 12
_GROUP_PIXELS = 96


def line_plot(
    series: Mapping[str, Points],
    *,
    title: str,
    x: str,
    y: str,
    logarithmic: Literal["", "y", "xy"] = "",
    legend: bool = True,
    hidden: Collection[int] = (),
) -> str:
    """Lines over two axes as SVG; a point that a logarithmic axis cannot show is left out.

    The n-th line is `data-series="n"`, for a script that hides and shows it; `hidden` ones are.
    """
    kept = {
        name: [
            (a, b)
            for a, b in points
            if (a > 0 or "x" not in logarithmic) and (b > 0 or "y" not in logarithmic)
        ]
        for name, points in series.items()
    }
    every = [point for points in kept.values() for point in points]
    if not every:
        return ""
    xs, ys = [a for a, _ in every], [b for _, b in every]
    x_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, "x" in logarithmic)
    lowest = min(ys) if "y" in logarithmic else 0.0
    y_axis = _Axis(lowest, max(ys), _HEIGHT - _BOTTOM, _TOP, "y" in logarithmic)
    parts = [_frame(x_axis, y_axis, x, y)]
    for place, (name, points) in enumerate(kept.items()):
        path = " ".join(f"{x_axis.at(a):.1f},{y_axis.at(b):.1f}" for a, b in points)
        parts.append(
            f'<polyline points="{path}" data-series="{place}"'
            f'{HIDDEN if place in hidden else ""} fill="none" '
            f'stroke="{_colour(place)}" stroke-width="1.6">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return _svg(title, "".join(parts), _WIDTH, _HEIGHT) + (_legend(list(kept)) if legend else "")


def histogram_plot(
    series: Sequence[tuple[str, int, Sequence[float]]],
    *,
    first: float,
    step: float,
    title: str,
    x: str,
    y: str,
    hidden: Collection[int] = (),
) -> str:
    """Outlines of histograms over one another as SVG, without a legend.

    A series is its name, its number (of its colour, and `data-series`), and the heights of its
    bins, which begin at `first` and are `step` wide; all have the same bins.
    """
    num_bins = max((len(heights) for _, _, heights in series), default=0)
    if not num_bins:
        return ""
    highest = max(max(heights) for _, _, heights in series)
    x_axis = _Axis(first, first + num_bins * step, _LEFT, _WIDTH - _RIGHT, False)
    y_axis = _Axis(0.0, highest or 1.0, _HEIGHT - _BOTTOM, _TOP, False)
    parts = [_frame(x_axis, y_axis, x, y)]
    for name, place, heights in series:
        outline = _outline(x_axis, y_axis, first, step, heights)
        parts.append(
            f'<polyline points="{outline}" data-series="{place}"'
            f'{HIDDEN if place in hidden else ""} fill="{_colour(place)}" fill-opacity="0.07" '
            f'stroke="{_colour(place)}" stroke-width="1.5">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return _svg(title, "".join(parts), _WIDTH, _HEIGHT)


def histogram_panel(
    heights: Sequence[float], place: int, *, first: float, step: float, title: str, highest: float
) -> str:
    """One small histogram as SVG, `highest` as high as the panel: for many, side by side."""
    width, height, bottom = 216, 96, 78
    x_axis = _Axis(first, first + len(heights) * step, 8, width - 8, False)
    y_axis = _Axis(0.0, highest or 1.0, bottom, 4, False)
    outline = _outline(x_axis, y_axis, first, step, heights)
    ticks = [tick for tick in x_axis.ticks() if x_axis.at(tick) <= width - 14]
    content = "".join(
        f'<path d="M{x_axis.at(tick):.1f} {bottom}v3" class="axis"/>'
        + _text(x_axis.at(tick), bottom + 14, f"{tick:g}", "middle")
        for tick in ticks
    )
    content += (
        f'<polyline points="{outline}" fill="{_colour(place)}" fill-opacity="0.3" '
        f'stroke="{_colour(place)}"/><path d="M8 {bottom}H{width - 8}" class="axis"/>'
    )
    return _svg(title, content, width, height)


def _outline(
    x_axis: _Axis, y_axis: _Axis, first: float, step: float, heights: Sequence[float]
) -> str:
    corners = [(first, 0.0)]
    for number, value in enumerate(heights):
        corners += [(first + number * step, value), (first + (number + 1) * step, value)]
    corners.append((first + len(heights) * step, 0.0))
    return " ".join(f"{x_axis.at(a):.1f},{y_axis.at(b):.1f}" for a, b in corners)


def bar_plot(groups: Mapping[str, Mapping[str, float]], *, title: str, y: str) -> str:
    """Groups of bars as SVG, the same bars in each: group → bar → height from 0."""
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    if not names:
        return ""
    width = _LEFT + _RIGHT + len(groups) * max(_GROUP_PIXELS, len(names) * 9 + 12)
    highest = max(value for bars in groups.values() for value in bars.values())
    y_axis = _Axis(0.0, highest or 1.0, _HEIGHT - _BOTTOM, _TOP, False)
    step = (width - _LEFT - _RIGHT) / len(groups)
    bar_width = (step - 12) / len(names)
    parts = [_y_axis(y_axis, y, width)]
    for number, (group, bars) in enumerate(groups.items()):
        left = _LEFT + number * step + 6
        for place, name in enumerate(names):
            if name in bars:
                top = y_axis.at(bars[name])
                parts.append(
                    f'<rect x="{left + place * bar_width:.1f}" y="{top:.1f}" '
                    f'width="{bar_width * 0.9:.1f}" height="{_HEIGHT - _BOTTOM - top:.1f}" '
                    f'fill="{_colour(place)}"><title>{escape(group)}, {escape(name)}: '
                    f"{bars[name]:.3g}</title></rect>"
                )
        parts.append(_text(left + step / 2 - 6, _HEIGHT - _BOTTOM + 15, group, "middle"))
    return _svg(title, "".join(parts), width, _HEIGHT) + _legend(names)


def heat_map(
    shares_RC: NDArray[np.float64], rows: Sequence[str], *, title: str, width: int = 900
) -> str:
    """A matrix of numbers from 0 to 1 as pixels, one row of text each: float64 (R, C).

    Columns that are more than there are pixels are shown several as one, by their largest number.
    """
    shares_RC = _at_most_columns(shares_RC, width)
    pixels_RC = (shares_RC * 255).round().astype(np.uint8)
    picture = base64.b64encode(encode_png(pixels_RC, make_palette(_RAMP))).decode()
    height = _ROW_PIXELS * len(rows)
    labels = "".join(
        _text(_LEFT - 4, _ROW_PIXELS * number + 10, label, "end")
        for number, label in enumerate(rows)
    )
    image = (
        f'<image x="{_LEFT}" y="0" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{picture}"/>'
        f'<rect x="{_LEFT}" y="0" width="{width}" height="{height}" fill="none" class="axis"/>'
    )
    return _svg(title, image + labels, _LEFT + width + 1, height + 1)


class _Axis:
    """Where values lie between two ends of a picture, in pixels."""

    def __init__(
        self, low: float, high: float, start: float, end: float, logarithmic: bool
    ) -> None:
        self._scale = math.log10 if logarithmic else float
        self._logarithmic = logarithmic
        self.low, self.high = low, high
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        low, high = self._scale(self.low), self._scale(self.high)
        share = (self._scale(value) - low) / (high - low) if high > low else 0.0
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values within: powers of ten, or about five steps of 1, 2 or 5."""
        if self._logarithmic:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [10.0**power for power in powers] or [self.low]
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _frame(x_axis: _Axis, y_axis: _Axis, x: str, y: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = [_y_axis(y_axis, y, _WIDTH)]
    for value in x_axis.ticks():
        at = x_axis.at(value)
        parts.append(f'<path d="M{at:.1f} {bottom}v4" class="axis"/>')
        parts.append(_text(at, bottom + 15, f"{value:g}", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, x, "middle"))
    return "".join(parts)


def _y_axis(axis: _Axis, y: str, width: float) -> str:
    parts = []
    for value in axis.ticks():
        at = axis.at(value)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{width - _RIGHT}" class="grid"/>')
        parts.append(_text(_LEFT - 6, at + 4, f"{value:g}", "end"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">'
        f"{escape(y)}</text>"
    )
    bottom = _HEIGHT - _BOTTOM
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{width - _RIGHT}" fill="none" class="axis"/>')
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(names: Sequence[str]) -> str:
    entries = "".join(
        f'<span><i style="background:{_colour(place)}"></i>{escape(name)}</span>'
        for place, name in enumerate(names)
    )
    return f'<p class="legend">{entries}</p>'


def _svg(title: str, content: str, width: float, height: float) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{content}</svg>'
    )


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _at_most_columns(shares_RC: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    num_columns = shares_RC.shape[1]
    if num_columns <= limit:
        return shares_RC
    starts = np.arange(limit) * num_columns // limit
    return np.maximum.reduceat(shares_RC, starts, axis=1)
