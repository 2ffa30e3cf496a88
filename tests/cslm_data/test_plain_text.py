from __future__ import annotations

import json

import pytest

from cslm_data.plain_text import visible, visible_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b31m\x07\x7f\x00\r", r"\x9b31m\x07\x7f\x00\x0d"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("two\nlines\tand ünïcödé 中文 👩‍👩‍👧 می‌خواهم", None),
    ],
)
def test_controls_are_spelled_out_and_writing_stays(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)
    document = json.dumps({"a": text}, ensure_ascii=False)
    assert json.loads(visible_json(document)) == {"a": text}
    assert visible(visible_json(document)) == visible_json(document)
