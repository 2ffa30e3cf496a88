"""A report on unit quality → an HTML page that needs nothing else: tables, plots and the JSON."""

# P phones, K units

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from cslm_data.html import embed_json
from cslm_data.plots import bar_plot, heat_map, line_plot
from cslm_data.quality.figure_tables import Cell, FigureTable, figure_tables
from cslm_data.quality.figures import TokenizerReport, UnitReport, as_json
from cslm_data.quality.robustness import CHANGES
from cslm_data.quality.usage import Counts
from cslm_data.workspace import atomic_path

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; border-top: 1px solid #ddd; padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p.about { color: #555; max-width: 52rem; margin: .2rem 0 .6rem; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .6rem; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid #999; font-weight: 600; vertical-align: bottom; }
td { border-bottom: 1px solid #eee; }
td.text, th.text { text-align: left; }
tbody tr:hover { background: #f5f7fa; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.plots > div { max-width: 100%; overflow-x: auto; }
svg text { font: 11px system-ui, sans-serif; fill: #333; }
svg .axis { stroke: #666; }
svg .grid { stroke: #e4e4e4; }
.legend span { margin-right: 1rem; font-size: .85rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem;
  vertical-align: -.1rem; }
.notes { background: #fff7e0; border-left: 4px solid #e0a800; padding: .5rem .5rem .5rem 1.8rem; }
"""


def write_page(report: UnitReport, path: Path) -> None:
    """Write the page, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(render_page(report), encoding="utf-8")


def render_page(report: UnitReport) -> str:
    """The page as HTML. Every name of the workspace is escaped: text is data."""
    names = " · ".join(tokenizer.name for tokenizer in report.tokenizers)
    tables = {table.name: table for table in figure_tables(report)}
    drawn = {"usage": _usage_plots(report), "robustness": _robustness_plots(report)}
    sections = [
        _section(table.title, _about(table) + _table(table) + drawn.get(name, ""))
        for name, table in tables.items()
    ]
    sections += [
        _section(f"phones of units, {tokenizer.name}", _heat_maps(tokenizer))
        for tokenizer in report.tokenizers
        if tokenizer.plots.phones
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>unit quality: {escape(names)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Unit quality</h1>{_tokenizers(report)}{_notes(report)}{''.join(sections)}"
        f"{_section('settings', _settings(report))}"
        f"{embed_json(as_json(report), 'figures')}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _about(table: FigureTable) -> str:
    return f'<p class="about">{escape(table.explanation)}</p>'


def _table(table: FigureTable) -> str:
    columns = list(zip(*table.rows, strict=True))
    classes = [
        ' class="text"' if any(isinstance(cell, str) for cell in column) else ""
        for column in columns
    ]
    texts = zip(*map(format_column, columns), strict=True)
    head = "".join(
        f"<th{kind}>{escape(name)}</th>" for kind, name in zip(classes, table.columns, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}{_shade(cell, table)}>{escape(text)}</td>"
            for kind, cell, text in zip(classes, row, texts_of_row, strict=True)
        )
        + "</tr>"
        for row, texts_of_row in zip(table.rows, texts, strict=True)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _shade(cell: Cell, table: FigureTable) -> str:
    if not table.is_matrix or not isinstance(cell, float):
        return ""
    return f' style="background:rgba(215,48,31,{0.7 * cell:.2f})"'


def format_column(cells: Sequence[Cell]) -> list[str]:
    """Figures as the page shows them: floats of a column to the same place, nothing as a dash."""
    floats = [abs(cell) for cell in cells if isinstance(cell, float)]
    places = 1 if floats and max(floats) >= 10 else 3

    def text(cell: Cell) -> str:
        if cell is None:
            return "–"
        if isinstance(cell, float):
            return f"{cell:,.{places}f}"
        return f"{cell:,}" if isinstance(cell, int) else cell

    return [text(cell) for cell in cells]


def _tokenizers(report: UnitReport) -> str:
    table = FigureTable(
        name="tokenizers",
        title="",
        explanation="",
        columns=("tokenizer", "id", "units", "frames/s"),
        rows=tuple(
            (tokenizer.name, tokenizer.tokenizer_id, tokenizer.num_units, tokenizer.frame_rate_hz)
            for tokenizer in report.tokenizers
        ),
    )
    speech = ", ".join(
        f"{row.num_utterances:,} utterances in {row.language} ({row.num_with_phones:,} with phones)"
        for row in report.speech
    )
    return f'{_table(table)}<p class="about">On {escape(speech)}.</p>'


def _notes(report: UnitReport) -> str:
    if not report.notes:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in report.notes)}</ul>'


def _settings(report: UnitReport) -> str:
    settings = report.settings
    labels = "as they are" if settings.exact_phones else "without stress and tone"
    robustness = settings.robustness_utterances or "no"
    abx = f"up to {settings.abx_cells:,} cells of each kind" if settings.abx_cells else "no cells"
    return (
        f'<p class="about">Seed {settings.seed}. Units of all utterances are counted; phones are '
        f"those of up to {settings.max_utterances:,} utterances a language, labels {labels}; ABX "
        f"scores {abx}; robustness is that of {robustness} utterances a language. A frame's phone "
        "is the one at its middle.</p>"
    )


# ------------------------------------------------------------------------------------------- plots
def _usage_plots(report: UnitReport) -> str:
    parts = []
    for tokenizer in report.tokenizers:
        ranks = {
            language: _ranks(tokens_K) for language, tokens_K in tokenizer.plots.tokens.items()
        }
        runs = {
            language: list(enumerate((runs / max(1, runs.sum())).tolist(), 1))
            for language, runs in tokenizer.plots.run_lengths.items()
        }
        longest = max(len(points) for points in runs.values())
        used = line_plot(
            ranks,
            title=f"use of units, {tokenizer.name}",
            x="rank of the unit",
            y="share of tokens",
            logarithmic="xy",
        )
        lengths = line_plot(
            runs,
            title=f"length of runs, {tokenizer.name}",
            x=f"frames of a run ({longest}: and over)",
            y="share of tokens",
            logarithmic="y",
        )
        parts.append(
            f"<h3>{escape(tokenizer.name)}</h3>"
            f'<div class="plots"><div>{used}</div><div>{lengths}</div></div>'
        )
    return "".join(parts)


def _ranks(tokens_K: Counts) -> list[tuple[float, float]]:
    shares = np.sort(tokens_K[tokens_K > 0])[::-1] / max(1, tokens_K.sum())
    return [(float(rank), float(share)) for rank, share in enumerate(shares.tolist(), 1)]


def _robustness_plots(report: UnitReport) -> str:
    parts = []
    for tokenizer in report.tokenizers:
        groups: dict[str, dict[str, float]] = {change: {} for change in CHANGES}
        for figure in tokenizer.robustness:
            groups[figure.change][figure.language] = figure.unit_edit_distance.mean
        bars = bar_plot(groups, title=f"robustness, {tokenizer.name}", y="unit edit distance")
        parts.append(f'<h3>{escape(tokenizer.name)}</h3><div class="scroll">{bars}</div>')
    return "".join(parts)


def _heat_maps(tokenizer: TokenizerReport) -> str:
    parts = [
        '<p class="about">How often a unit stands for each phone, p(phone | unit): white never, '
        "dark always. Rows: phones, the most frequent first. Columns: units in use, by their most "
        "likely phone.</p>"
    ]
    for (language, corpus), (labels, joint_PK) in tokenizer.plots.phones.items():
        order = np.argsort(-joint_PK.sum(axis=1), kind="stable")
        sorted_PK = joint_PK[order][:, joint_PK.any(axis=0)]
        shares_PK = sorted_PK / sorted_PK.sum(axis=0)
        best_K = shares_PK.argmax(axis=0)
        columns = np.lexsort((-shares_PK.max(axis=0), best_K))
        title = f"{language}, {corpus}"
        picture = heat_map(shares_PK[:, columns], [labels[i] for i in order], title=title)
        parts.append(f'<h3>{escape(title)}</h3><div class="scroll">{picture}</div>')
    return "".join(parts)
