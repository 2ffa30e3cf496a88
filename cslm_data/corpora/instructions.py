"""Text instructions: `{prompt,response}` (a string or a list of turns) and Alpaca.

Sources: docs/formats.md; Stanford Alpaca's `instruction,input,output`.
"""

from __future__ import annotations

from cslm_data.corpora.columns import Columns
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import first_fields

COLUMNS = Columns(
    table="dialogues",
    fields=(
        *("id", "response", "instruction", "input", "output"),
        *("language", "lang", "license", "split", "corpus"),
    ),
    nested=("prompt",),
    query="rows_of_instructions",
)


def recognises(source: Source) -> bool:
    """A prompt with its response, neither of them spoken."""
    names = first_fields(source).keys()
    pair = {"prompt", "response"} <= names and "prompt_audio" not in names
    return pair or {"instruction", "output"} <= names
