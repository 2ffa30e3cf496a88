"""An audit page as tests see it: its tables, its tags, its clips."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import soundfile

from cslm_data.auditing.page import write_audit_page

VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """Tables as texts, tags that are there, addresses that would be fetched."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.addresses, self.handlers = [], [], [], []
        self.rows, self.headings, self.scripts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            v for k, v in attrs if k in ("src", "href", "action", "poster", "srcset")
        ]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def write(workspace, results=(), **options):
    path = workspace.root / "audit.html"
    write_audit_page(workspace, list(results), path, **options)
    assert not list(workspace.root.glob(".*.tmp"))
    return path.read_text(encoding="utf-8")


def clips_in(text):
    [embedded] = re.findall(r'<script type="application/json" id="clips">(.*?)</script>', text)
    return {clip["id"]: clip for clip in json.loads(embedded)}


def decoded(clip):
    kind, data = clip["address"].split(";base64,")
    assert kind == "data:audio/mpeg"
    return soundfile.read(io.BytesIO(base64.b64decode(data)))
