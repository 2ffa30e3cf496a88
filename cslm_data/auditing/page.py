"""Audits and overview of a workspace → one HTML file that needs nothing else. Reads, writes it.

Step 1: the overview is gathered, and clips of findings are cut, while the catalog is open.
Step 2: sections are drawn; all text of the catalog is escaped, nothing of it is ever code.
Step 3: style and script go into the page, and a policy that lets it load nothing and run no other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from cslm_data.auditing.clips import Clip, Clips, cut_clips
from cslm_data.auditing.overview import MAX_LANGUAGES, MIX_COLUMNS, Cell, Mix, Overview, gather
from cslm_data.auditing.page_audits import audit_table, state_of
from cslm_data.auditing.page_plots import legend, measure_plots, statistics_rows, unit_plots
from cslm_data.auditing.page_tables import (
    boxed,
    cell,
    count,
    find_numbers,
    head,
    listing,
    show,
    table,
)
from cslm_data.auditing.results import AuditResult
from cslm_data.catalog import open_catalog
from cslm_data.html import embed_json, format_number
from cslm_data.workspace import Workspace, atomic_path

CLIPS_PER_AUDIT = 6


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A part of the page, and its line in the navigation."""

    name: str
    title: str
    content: str
    number: int | None = None
    """What the navigation says beside the title."""


def write_audit_page(
    workspace: Workspace,
    results: Sequence[AuditResult],
    path: Path,
    *,
    clips: int = CLIPS_PER_AUDIT,
    seed: int = 0,
) -> None:
    """Write the page of some audits and of the workspace, whole or not at all.

    Each audit gets clips of up to `clips` utterances of its examples, which `seed` draws. Raises
    MissingArtefactError without a catalog, LockedError while another process writes it.
    """
    with open_catalog(workspace, doing="a report") as connection:
        found = gather(connection, workspace)
        heard = cut_clips(connection, results, per_audit=clips, seed=seed)
    page = render_page(found, results, heard, title=workspace.root.name)
    with atomic_path(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))


def render_page(
    found: Overview, results: Sequence[AuditResult], heard: Clips, *, title: str
) -> str:
    """The page as HTML."""
    numbers = {utt_id: number for number, utt_id in enumerate(heard.by_utterance)}
    sections = [
        _Section(
            name="audits",
            title="Audits",
            content=audit_table(results, heard.by_utterance, numbers) + _about_clips(heard),
            number=len(results),
        ),
        *_sections(found),
    ]
    links = "".join(
        f'<a href="#{section.name}">{section.title}'
        f"<span>{'' if section.number is None else f'{section.number:,}'}</span></a>"
        for section in sections
    )
    body = "".join(
        f'<section id="{section.name}"><h2>{section.title}</h2>{section.content}</section>'
        for section in sections
    )
    script = _asset("page_script.js")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; media-src data:; "
        f"script-src '{_script_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    name = escape(show(title))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {name}</title><style>{_asset('page_style.css')}</style>"
        "<noscript><style>tr.detail[hidden] { display: table-row !important }</style></noscript>"
        f'</head><body><nav aria-label="Sections"><strong>{name}</strong>{links}</nav>'
        f"<main><h1>Audit of {name}</h1><p>{escape(_about(found))}</p>"
        f"{_strip(found, results)}{body}</main>"
        '<div class="player" hidden role="region" aria-label="Player">'
        '<audio controls preload="none"></audio>'
        '<p><strong><bdi></bdi></strong> <span></span><br><bdi dir="auto"></bdi></p>'
        '<button type="button" class="small" data-close>Close</button></div>'
        f"{embed_json([_clip(clip) for clip in heard.by_utterance.values()], 'clips')}"
        f"<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("cslm_data.auditing").joinpath(name).read_text(encoding="utf-8")


def _script_hash(script: str) -> str:
    """The name by which a Content-Security-Policy allows this script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _clip(clip: Clip) -> dict[str, object]:
    return {
        "id": show(clip.utt_id),
        "language": clip.language,
        "text": None if clip.text is None else show(clip.text),
        "seconds": round(clip.clip_s, 3),
        "whole": round(clip.duration_s, 3),
        "address": clip.address,
        "note": show(clip.note),
    }


def _about(found: Overview) -> str:
    totals = found.totals
    return (
        f"{count(totals.num_corpora, 'corpus', 'corpora')} in "
        f"{count(totals.num_languages, 'language')}; what was moved out is counted nowhere but in "
        "its own section."
    )


def _about_clips(heard: Clips) -> str:
    left_out = ""
    if heard.num_left_out:
        left_out = f" {count(heard.num_left_out, 'more clip')} would have made the page too large."
    if not heard.by_utterance and not left_out:
        return ""
    return (
        '<p class="about">▶ plays the beginning of an utterance, as loud as it is in its file. '
        f"Some examples have clips, drawn at random.{left_out}</p>"
    )


def _strip(found: Overview, results: Sequence[AuditResult]) -> str:
    """The figures that one looks for first."""
    totals = found.totals
    states = [state_of(result) for result in results]
    cards = [
        _card(
            f"{states.count(state):,}",
            words if states.count(state) != 1 else words[:-1],
            state if states.count(state) else "",
            "audits",
        )
        for state, words in (("error", "errors"), ("warning", "warnings"))
    ]
    cards += [
        _card(f"{states.count('passed'):,}", "passed", "", "audits"),
        _card(format_number(totals.hours), "hours", "", "speech"),
        _card(f"{totals.num_utterances:,}", "utterances", "", "speech"),
        _card(f"{totals.num_speakers:,}", "speakers", "", "speech"),
        _card(f"{totals.num_languages:,}", "languages", "", "speech"),
        _card(f"{totals.num_texts:,}", "texts", "", "speech"),
        _card(f"{totals.num_pairs:,}", "bitext pairs", "", "bitext"),
        _card(f"{totals.num_dialogues:,}", "dialogues", "", "bitext"),
        _card(f"{totals.num_rejected:,}", "rejected", "", "rejects"),
        _card(f"{totals.num_moved_out:,}", "moved out", "", "curations"),
    ]
    return f'<div class="strip">{"".join(cards)}</div>'


def _card(figure: str, words: str, kind: str, target: str) -> str:
    return f'<a class="{kind}" href="#{target}"><b>{figure}</b><span>{words}</span></a>'


def _sections(found: Overview) -> list[_Section]:
    untranscribed = found.totals.num_utterances - found.totals.num_transcribed
    return [
        _Section(
            name="speech",
            title="Speech and texts",
            number=found.coverage.num_groups,
            content=(
                '<p class="about">Per corpus, language and its own split. Texts: transcripts, '
                "both sides of translations, turns of dialogues. "
                f"{count(untranscribed, 'utterance has', 'utterances have')} no transcript.</p>"
                + listing(
                    "speech and texts",
                    found.coverage,
                    empty="The catalog is empty: cslm-data ingest FOLDER.",
                    bars={"hours"},
                )
            ),
        ),
        _Section(
            name="bitext",
            title="Bitext, dialogues",
            content=(
                "<h3>Bitext pairs</h3>"
                + listing("pairs", found.pairs, empty="No translations.", bars={"pairs"})
                + "<h3>Dialogues and instructions</h3>"
                + listing("dialogues", found.dialogues, empty="None.", bars={"dialogues"})
            ),
        ),
        _Section(name="distributions", title="Distributions", content=_distributions(found)),
        _Section(name="units", title="Units", content=unit_plots(found)),
        _Section(
            name="mixes",
            title="Mixes",
            number=len(found.mixes),
            content="".join(map(_mix, found.mixes))
            or '<p class="empty">No mix yet: cslm-data build-mix.</p>',
        ),
        _Section(
            name="rejects",
            title="Rejects",
            number=found.totals.num_rejected,
            content=listing(
                "rejects", found.rejects, empty="Nothing was refused.", bars={"refused"}
            ),
        ),
        _Section(
            name="curations",
            title="Moved out",
            number=found.totals.num_moved_out,
            content=listing("curations", found.curations, empty="Nothing was moved out."),
        ),
        _Section(
            name="licences",
            title="Licences",
            content=listing("licences", found.licenses, empty="Nothing to license."),
        ),
    ]


def _distributions(found: Overview) -> str:
    if not found.measures:
        return '<p class="empty">No utterance yet.</p>'
    columns, rows = statistics_rows(found)
    names = {measure.name for measure in found.measures}
    few = ""
    if found.totals.num_languages > MAX_LANGUAGES:
        few = f'<p class="about">Of the {MAX_LANGUAGES} languages with most utterances.</p>'
    unmeasured = (
        ""
        if "rms_db" in names
        else '<p class="empty">Loudness, signal to noise and bandwidth: cslm-data measure.</p>'
    )
    return (
        '<p class="about">Share of each language\'s utterances in each bin; what lies beyond an '
        f"end is counted in the last bin there. Languages with few utterances begin hidden.</p>"
        f"{unmeasured}"
        f"{legend(found, apart=True)}"
        f'<div class="plots">{measure_plots(found)}</div><h3>In figures</h3>'
        f"{few}{table('figures', columns, rows)}"
    )


def _mix(mix: Mix) -> str:
    problem = f'<p class="problem">{escape(mix.problem)}</p>' if mix.problem else ""
    title = f"<h3>{escape(show(mix.name))}</h3>"
    if not mix.rows:
        return title + problem
    numbers = find_numbers(len(MIX_COLUMNS), mix.rows)
    requested, realised = (MIX_COLUMNS.index(f"{word} share") for word in ("requested", "realised"))
    shares = [_number(row[place]) or 0.0 for row in mix.rows for place in (requested, realised)]
    body = "".join(
        "<tr>"
        + "".join(
            cell(value, is_number=is_number, is_share=name.endswith("share"))
            + (
                _bullet(_number(row[requested]), _number(row[realised]), max(shares) or 1.0)
                if name == "realised share"
                else ""
            )
            for name, value, is_number in zip(MIX_COLUMNS, row, numbers, strict=True)
        )
        + "</tr>"
        for row in mix.rows
    )
    beside = realised + 1
    columns = head(
        (*MIX_COLUMNS[:beside], "", *MIX_COLUMNS[beside:]),
        (*numbers[:beside], False, *numbers[beside:]),
    )
    return (
        f'{title}<p class="about">{escape(mix.about)}. Bars: realised share of training tokens; '
        f"marks: requested.</p>{problem}{boxed('mix', count(len(mix.rows), 'row'), columns, body)}"
    )


def _number(value: Cell) -> float | None:
    return value if isinstance(value, int | float) else None


def _bullet(requested: float | None, realised: float | None, largest: float) -> str:
    if requested is None or realised is None:
        return "<td></td>"
    return (
        f'<td><span class="bullet"><i style="width:{100 * realised / largest:.1f}%"></i>'
        f'<b style="left:calc({100 * requested / largest:.1f}% - 1px)"></b></span></td>'
    )
