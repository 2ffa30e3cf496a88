"""Distributions and use of units → plots of the audit page, a language in one colour throughout."""

# K units

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cslm_data.auditing.overview import Counts, Measure, Overview, UnitUsage, unit_figures
from cslm_data.auditing.page_tables import count, show, table
from cslm_data.plots import COLOURS, HIDDEN, histogram_panel, histogram_plot, line_plot

_TITLES = {
    "duration_s": ("Duration", "s"),
    "characters_per_s": ("Characters per second", "characters/s, normalised text"),
    "units_per_s": ("Units per second", "units/s"),
    "snr_db": ("Signal to noise", "dB"),
    "rms_db": ("Loudness (RMS)", "dB of full scale"),
    "bandwidth_hz": ("Bandwidth", "Hz"),
}
"""Measures in the order of the page: title, unit."""

_MOST_POINTS = 200
"""Of a line over the ranks of units."""

_FEW_UTTERANCES = 30
"""Fewer have no distribution that one could see."""

_STATISTICS = ("values", "smallest", "1 %", "median", "mean", "99 %", "largest")


def legend(found: Overview, *, apart: bool = False) -> str:
    """Buttons that hide and show a language in all plots; `apart`: one that draws each by itself.

    Languages with few utterances begin hidden: their few bars would be all that one sees.
    """
    thin = _thin(found)
    counts = _num_utterances(found)
    keys = "".join(
        f'<button type="button" class="key" data-series="{place}" '
        f'aria-pressed="{str(place not in thin).lower()}">'
        f'<i style="background:{COLOURS[place]}"></i>{escape(_language(label))} '
        f"<span>{counts.get(label, 0):,}</span></button>"
        for place, label in enumerate(found.labels)
    )
    button = (
        '<button type="button" class="small" data-apart aria-pressed="false">Side by side</button>'
    )
    return (
        f'<div class="keys" role="group" aria-label="Languages">{keys}{button if apart else ""}'
        "</div>"
    )


def _num_utterances(found: Overview) -> dict[str, int]:
    """Utterances of each label."""
    for measure in found.measures:
        if measure.name == "duration_s":
            return {label: int(counts.sum()) for label, counts in measure.counts.items()}
    return {}


def _thin(found: Overview) -> set[int]:
    """Places of labels with too few utterances for a shape, unless all are such."""
    counts = _num_utterances(found)
    thin = {
        place for place, label in enumerate(found.labels) if counts.get(label, 0) < _FEW_UTTERANCES
    }
    return thin if len(thin) < len(found.labels) else set()


def _language(label: str) -> str:
    return "other languages" if label == "other" else label


def measure_plots(found: Overview) -> str:
    """A plot of each measure: all languages over one another, and each by itself."""
    thin = _thin(found)
    return "".join(_measure_plot(measure, found, thin) for measure in _in_order(found.measures))


def _in_order(measures: Sequence[Measure]) -> list[Measure]:
    kinds = list(_TITLES)
    return sorted(measures, key=lambda m: (kinds.index(m.name.split(" ")[0]), m.name))


def _title(measure: Measure, found: Overview) -> tuple[str, str]:
    kind, _, tokenizer_id = measure.name.partition(" ")
    title, unit = _TITLES[kind]
    names = {usage.tokenizer_id: usage.name for usage in found.units}
    return (f"{title}, {names.get(tokenizer_id, tokenizer_id)}" if tokenizer_id else title), unit


def _measure_plot(measure: Measure, found: Overview, thin: set[int]) -> str:
    title, unit = _title(measure, found)
    series = [
        (label, place, (measure.counts[label] / measure.counts[label].sum()).tolist())
        for place, label in enumerate(found.labels)
        if label in measure.counts
    ]
    shapes = [max(heights) for _, place, heights in series if place not in thin]
    highest = max(shapes, default=max((max(heights) for _, _, heights in series), default=1.0))
    series = [
        (label, place, [min(height, highest) for height in heights])
        for label, place, heights in series
    ]
    over = histogram_plot(
        [(_language(label), place, heights) for label, place, heights in series],
        first=measure.first,
        step=measure.step,
        title=title,
        x=unit,
        y="share of utterances",
        hidden=thin,
    )
    panels = "".join(
        f'<figure data-series="{place}"{HIDDEN if place in thin else ""}>'
        f"<figcaption>{escape(_language(label))} "
        f"<span>{int(measure.counts[label].sum()):,}</span></figcaption>"
        + histogram_panel(
            heights,
            place,
            first=measure.first,
            step=measure.step,
            title=f"{title}, {_language(label)}",
            highest=highest,
        )
        + "</figure>"
        for label, place, heights in series
    )
    return (
        f'<div class="plot"><h3>{escape(show(title))} <span>{escape(unit)}</span></h3>'
        f'<div class="over">{over}</div><div class="panels">{panels}</div></div>'
    )


def statistics_rows(found: Overview) -> tuple[tuple[str, ...], list[tuple[str | int | float, ...]]]:
    """The same in figures: columns and rows."""
    rows: list[tuple[str | int | float, ...]] = []
    for measure in _in_order(found.measures):
        title, unit = _title(measure, found)
        rows += [(f"{title} ({unit.split(',')[0]})", *each) for each in measure.statistics]
    return ("measure", "language", *_STATISTICS), rows


def unit_plots(found: Overview) -> str:
    """How evenly each speech tokenizer's units are used, and which are not used at all."""
    if not found.units:
        return '<p class="empty">No units yet: cslm-data quantize.</p>'
    thin = _thin(found)
    plots = "".join(_rank_plot(usage, found.labels, thin) for usage in found.units)
    columns = (
        "speech tokenizer",
        "language",
        "units",
        "used",
        "dead",
        "dead share",
        "tokens",
        "perplexity",
        "commonest share",
    )
    rows = [row for usage in found.units for row in _usage_rows(usage, found.labels)]
    dead = "".join(map(_dead_units, found.units))
    return (
        '<p class="about">Share of tokens of each unit, the most frequent first; a dead unit is '
        f"one that no utterance here has. {_sampled(found.units)}</p>{legend(found)}"
        f'<div class="plots">{plots}</div>{table("units", columns, rows)}{dead}'
    )


def _sampled(units: Sequence[UnitUsage]) -> str:
    return " ".join(
        f"{show(usage.name)}: counted in a sample of {usage.num_counted:,} of "
        f"{usage.num_utterances:,} utterances."
        for usage in units
        if usage.num_counted < usage.num_utterances
    )


def _rank_plot(usage: UnitUsage, labels: Sequence[str], thin: set[int]) -> str:
    ranks = {
        _language(label): _ranks(usage.tokens[label]) if label in usage.tokens else []
        for label in labels
    }
    plot = line_plot(
        ranks,
        title=f"use of units, {usage.name}",
        x="rank of the unit",
        y="share of tokens",
        logarithmic="xy",
        legend=False,
        hidden=thin,
    )
    return (
        f'<div class="plot"><h3>{escape(show(usage.name))}</h3><div class="over">{plot}</div></div>'
    )


def _ranks(tokens_K: Counts) -> list[tuple[float, float]]:
    """(rank, share), the most frequent first; of many ranks some, evenly on a logarithmic axis."""
    shares = np.sort(tokens_K[tokens_K > 0])[::-1] / max(1, tokens_K.sum())
    chosen = np.unique(np.geomspace(1, max(1, len(shares)), _MOST_POINTS).round().astype(int))
    return [(float(rank), float(shares[rank - 1])) for rank in chosen if rank <= len(shares)]


def _usage_rows(
    usage: UnitUsage, labels: Sequence[str]
) -> list[tuple[str | int | float | None, ...]]:
    rows: list[tuple[str | int | float | None, ...]] = []
    groups = [("all languages", list(usage.tokens.values()))]
    groups += [
        (_language(label), [usage.tokens[label]]) for label in labels if label in usage.tokens
    ]
    for name, tokens in groups:
        if not tokens:
            continue
        used, num_tokens, perplexity, commonest = unit_figures(tokens)
        dead = usage.num_units - used
        share = dead / usage.num_units if usage.num_units else None
        figures = (usage.num_units, used, dead, share, num_tokens, perplexity, commonest)
        rows.append((usage.name, name, *figures))
    return rows


def _dead_units(usage: UnitUsage) -> str:
    if not usage.tokens:
        return ""
    dead = np.flatnonzero(np.sum(np.stack(list(usage.tokens.values())), axis=0) == 0).tolist()
    if not dead:
        return f'<p class="about">{escape(show(usage.name))}: no dead unit.</p>'
    return (
        f'<p class="about">{escape(show(usage.name))}: {count(len(dead), "dead unit")}: '
        f"{escape(show(dead))}.</p>"
    )
