"""What can be said of text: its comparable form, its language, its scripts. Raw text is kept."""

from cslm_data.text.columns import normalise_column, text_keys_column
from cslm_data.text.normal_form import CHINESE, UNSPACED, TextRules, normalise, text_key

__all__ = [
    "CHINESE",
    "UNSPACED",
    "TextRules",
    "normalise",
    "normalise_column",
    "text_key",
    "text_keys_column",
]
