"""What a look through a mix finds: one row per thing that is wrong, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

_AGAIN = "build the mix again: cslm-data build-mix --overwrite"
_FIXES = {
    "unknown_file": "take the file away",
    "text_tokenizer": "put the text tokenizer back, or " + _AGAIN,
    "lossy_text": "choose a text tokenizer that keeps every character with --text-tokenizer, or "
    "move the source out: cslm-data filter",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong. `shard` and `key` are empty where it is not about one."""

    shard: str
    key: str
    check: str
    detail: str

    @property
    def fix(self) -> str:
        """What to do."""
        return _FIXES.get(self.check, _AGAIN)
