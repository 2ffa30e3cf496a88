"""A row's `source_uri` and `place` → the line itself, as the source has it now."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cslm_data.corpora.source import Source
from cslm_data.errors import CslmError

_PLACE = re.compile(r"(?P<file>.*?)(?::(?P<line>\d+)|\[(?P<item>\d+)\])", re.DOTALL)
_LONGEST = 1 << 20
_SHOWN = 2000
_LARGEST = 1 << 28


def read_place(uri: str, place: str) -> tuple[str | None, str]:
    """The line (or JSON item) at a place, at most 2,000 characters; else None and why not."""
    if "://" in uri:
        return None, "not read: its source lies on another machine"
    found = _PLACE.fullmatch(place)
    if found is None:
        return None, "not read: its place names no line"
    path = Path(uri)
    try:
        if path.is_dir():
            path = path / found["file"]
            if not path.resolve().is_relative_to(Path(uri).resolve()):
                return None, "not read: its place leads out of its source"
        if not path.is_file():
            return None, f"not read: {path} is no file (any more)"
        source = Source(str(path), is_folder=False)
        text = _item(source, int(found["item"])) if found["item"] else None
        text = _line(source, int(found["line"])) if found["line"] else text
    except (CslmError, OSError, EOFError, ValueError, RuntimeError) as error:
        return None, f"not read: {str(error).strip() or type(error).__name__}"
    if text is None:
        return None, f"not read: {path} has no such line (any more)"
    return (text if len(text) <= _SHOWN else text[:_SHOWN] + " …"), ""


def _line(source: Source, number: int) -> str | None:
    with source.open() as stream:
        for _ in range(number - 1):
            piece = stream.readline(_LONGEST)
            while piece and not piece.endswith(b"\n"):
                piece = stream.readline(_LONGEST)
        line = stream.readline(_LONGEST)
    return line.decode("utf-8", "replace").rstrip("\r\n") if line else None


def _item(source: Source, index: int) -> str | None:
    with source.open() as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{source.name} is larger than {_LARGEST >> 20} MiB")
    values = json.loads(content.decode("utf-8-sig"))
    if not isinstance(values, list) or index >= len(values):
        return None
    return json.dumps(values[index], ensure_ascii=False)
