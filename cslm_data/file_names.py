"""Ids of utterances as names of files."""

from __future__ import annotations

import re

from cslm_data.keys import key64

_LONGEST = 100


def file_stem(utt_id: str) -> str:
    """An id as the name of a file without its ending, perhaps in folders (`corpus/id`).

    What a file system may refuse, or what would lead elsewhere, is replaced; such names get a hash,
    so that two ids never share one.
    """
    parts = [re.sub(r"[^\w.-]", "_", part)[:_LONGEST].lstrip(".") for part in utt_id.split("/")]
    plain = "/".join(part for part in parts if part)
    return plain if plain == utt_id else f"{plain}-{key64(utt_id):016x}"
