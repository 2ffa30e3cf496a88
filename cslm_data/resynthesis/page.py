"""What was resynthesised as one HTML page: play the original and its units, look at both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from cslm_data.workspace import atomic_path


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One utterance; its files relative to the page."""

    title: str
    text: str
    facts: str
    original: Path | None
    resynthesis: Path
    picture: Path


_HEAD = """<!doctype html>
<html><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em; max-width: 1120px }}
img {{ max-width: 100% }}
audio {{ vertical-align: middle; margin-right: 2em }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
"""


def write_page(path: Path, title: str, about: str, entries: Sequence[Entry]) -> None:
    """Write the page; it needs nothing but the files it names."""
    parts = [_HEAD.format(title=escape(title), about=escape(about))]
    for entry in entries:
        parts.append(f"<h2>{escape(entry.title)}</h2>\n")
        if entry.text:
            parts.append(f"<p>{escape(entry.text)}</p>\n")
        players = [("original", entry.original), ("from units", entry.resynthesis)]
        parts.append("<p>")
        for label, file in players:
            if file is not None:
                source = escape(quote(file.as_posix()), quote=True)
                parts.append(f'{label} <audio controls preload="none" src="{source}"></audio>\n')
        picture = escape(quote(entry.picture.as_posix()), quote=True)
        parts.append(f"</p>\n<p>{escape(entry.facts)}</p>\n")
        parts.append(f'<p><a href="{picture}"><img src="{picture}" alt="log mel"></a></p>\n')
    parts.append("</body></html>\n")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(parts), encoding="utf-8")
