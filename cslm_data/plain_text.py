"""Text of a corpus → text that a terminal shows as it is: nothing in it moves, colours or hides."""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing
    "\u2028\u2029\ufeff\ufff9-\ufffb\ud800-\udfff]"  # line ends, marks, halves of characters
    "|[\U000e0000-\U000e007f]"  # tags, which are invisible
)


def visible(text: str) -> str:
    r"""The text with control characters spelled out: ESC becomes `\x1b`."""
    return _CONTROLS.sub(_spell, text)


def visible_json(text: str) -> str:
    """The same of JSON: another spelling of the same value."""
    return _CONTROLS.sub(_spell_json, text)


def _spell(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _spell_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
