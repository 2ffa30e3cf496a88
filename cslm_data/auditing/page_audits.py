"""Results of audits → the page's first table: what was found, why it matters, how it sounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from cslm_data.auditing.clips import Clip, named_utterances
from cslm_data.auditing.page_tables import (
    boxed,
    cell,
    count,
    find_numbers,
    head,
    plain,
    show,
    tools,
)
from cslm_data.auditing.results import AuditResult

STATES = ("error", "warning", "info", "skipped", "passed")
"""What an audit came to, from the gravest down; `skipped`: it could not be asked."""

MAX_EXAMPLES = 100
"""Rows of an audit that are shown."""

_WORDS = {"info": "note", "skipped": "not asked"}
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_COMMAND = re.compile(
    r"`([^`]+)`|"
    r"(cslm-(?:data|train)(?: [a-z][a-z-]*)?"
    rf"(?: (?:{_QUOTED}|…|[A-Z][A-Z_]*\b|--(?:overwrite|json|only|unrestricted)\b"
    rf"|--[a-z][a-z-]*(?: (?:{_QUOTED}|[\w/-]+(?:\.\w+)*))?))*)"
)
"""Code inside of a text: in backticks, or a command of ours as far as it can be told from prose."""


def state_of(result: AuditResult) -> str:
    """One of STATES; an audit that is broken is an error."""
    if result.failed:
        return "error"
    if result.skipped is not None:
        return "skipped"
    return result.severity if result.count else "passed"


def order(results: Sequence[AuditResult]) -> list[AuditResult]:
    """The gravest first, of them those with most findings."""
    return sorted(results, key=lambda r: (STATES.index(state_of(r)), -r.count, r.name))


def audit_table(
    results: Sequence[AuditResult], clips: dict[str, Clip], numbers: dict[str, int]
) -> str:
    """The table of all audits with their details; `numbers` are the places of clips in the data."""
    if not results:
        return '<p class="empty">No audit was run.</p>'
    states = [state_of(result) for result in results]
    chips = "".join(
        f'<button type="button" data-state="{state}" aria-pressed="false">'
        f"{_word(state)} {states.count(state)}</button>"
        for state in STATES
        if state in states
    )
    more = (
        f'<div class="chips" role="group" aria-label="Show only">{chips}</div>'
        '<button type="button" class="small" data-open-all aria-pressed="false">Open all</button>'
    )
    bodies = "".join(
        _audit(place, result, clips, numbers) for place, result in enumerate(order(results))
    )
    columns = head(("state", "audit", "found", "hours"), (False, False, True, True))
    return (
        f'<div class="box">{tools("audits", count(len(results), "audit"), more)}'
        f'<div class="frame tall"><table class="audits" data-items="bodies">{columns}{bodies}'
        "</table></div></div>"
    )


def _word(state: str) -> str:
    return _WORDS.get(state, state)


def _audit(place: int, result: AuditResult, clips: dict[str, Clip], numbers: dict[str, int]) -> str:
    state = state_of(result)
    was_asked = result.skipped is None
    badge = "failed" if result.failed else _word(state)
    return (
        f'<tbody data-state="{state}"><tr class="summary">'
        f'<td data-value="{STATES.index(state)}"><span class="badge {state}">{badge}</span></td>'
        f'<td><button type="button" class="toggle" aria-expanded="false" '
        f'aria-controls="audit-{place}">{escape(show(result.title))}</button>'
        f'<span class="name">{escape(show(result.name))}</span></td>'
        f"{cell(result.count if was_asked else None, is_number=True)}"
        f"{cell(result.hours if was_asked else None, is_number=True)}</tr>"
        f'<tr class="detail" id="audit-{place}" hidden><td colspan="4">'
        f"{_details(result, clips, numbers)}</td></tr></tbody>"
    )


def _details(result: AuditResult, clips: dict[str, Clip], numbers: dict[str, int]) -> str:
    above = below = ""
    if result.skipped is not None:
        title = "It is broken" if result.failed else "It was not asked"
        above = f"<h4>{title}</h4>{_with_commands(result.skipped)}"
    elif not result.count:
        finding = {"error": "an error", "warning": "a warning", "info": "a note"}[result.severity]
        below = f'<p class="about">Nothing found; a finding is {finding}.</p>'
    return (
        f'{above}<div class="pair"><div><h4>Why it matters</h4><p>{escape(result.why)}</p></div>'
        f"<div><h4>What to do</h4>{_with_commands(result.fix)}</div></div>"
        f"{_examples(result, clips, numbers)}{below}"
    )


def _with_commands(text: str) -> str:
    """A text as a paragraph, its code as code, with a button to copy each command."""
    parts, at = [], 0
    for found in _COMMAND.finditer(text):
        code = found[1] or found[2]
        button = (
            '<button type="button" class="small" data-copy>Copy</button>'
            if code.startswith("cslm-")
            else ""
        )
        parts.append(escape(text[at : found.start()]))
        parts.append(f'<span class="command"><code>{escape(code)}</code>{button}</span>')
        at = found.end()
    return f'<p dir="auto">{"".join(parts)}{escape(text[at:])}</p>'


def _examples(result: AuditResult, clips: dict[str, Clip], numbers: dict[str, int]) -> str:
    rows = [tuple(map(plain, row)) for row in result.examples[:MAX_EXAMPLES]]
    if not rows:
        return ""
    heard = [
        [name for name in dict.fromkeys(named_utterances(row)) if name in clips] for row in rows
    ]
    to_play = any(heard)
    are_numbers = find_numbers(len(result.columns), rows)
    columns = tuple(name.replace("_", " ") for name in result.columns)
    if to_play:
        columns, are_numbers = ("", *columns), [False, *are_numbers]
    body = []
    for row, names in zip(rows, heard, strict=True):
        players = "".join(_player(clips[name], numbers[name]) for name in names)
        cells = "".join(
            cell(value, is_number=is_number)
            for value, is_number in zip(row, are_numbers[int(to_play) :], strict=True)
        )
        body.append(f"<tr>{f'<td class=listen>{players}</td>' if to_play else ''}{cells}</tr>")
    shown = f"{len(rows):,} of {count(result.count, 'finding')}"
    if len(rows) == result.count:
        shown = count(len(rows), "finding")
    return boxed("examples", shown, head(columns, are_numbers), "".join(body))


def _player(clip: Clip, number: int) -> str:
    name = escape(show(clip.utt_id), quote=True)
    if not clip.address:
        return f'<span class="unheard">cannot be played: {escape(show(clip.note))}</span>'
    return (
        f'<button type="button" class="play" data-clip="{number}" aria-label="play {name}" '
        f'title="{name}">▶</button>'
    )
