"""What self-contained pages of HTML are made of: numbers as texts, data for a script. Pure."""

from __future__ import annotations

import json
from typing import Any


def embed_json(value: Any, name: str) -> str:
    """An element that holds JSON: `JSON.parse(document.getElementById(name).textContent)`."""
    # A `<` inside would end the element that holds it.
    text = json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def format_number(value: float) -> str:
    """A number to about three places that mean something: `1,234`, `12.3`, `0.00142`."""
    size = abs(value)
    if isinstance(value, int) or value == 0 or size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 else f"{value:#.3g}"
