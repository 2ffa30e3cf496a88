"""How control tokens and units are written in an exported tokenizer, where every token is a string.

Controls keep their names and unit 7 is `<unit_7>`, unless the text tokenizer has such a token of
its own already (Phi-3 has `<|end|>`): then ours says whose it is, `<|cslm_end|>`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import count

from cslm_data.framing import CONTROLS


@dataclass(frozen=True, kw_only=True)
class TokenNames:
    """The written form of every token that is no text."""

    controls: dict[str, str]
    """By our name, in the order of their ids."""
    unit_prefix: str
    unit_suffix: str
    num_units: int

    def unit(self, unit: int) -> str:
        """The token of a unit."""
        return f"{self.unit_prefix}{unit}{self.unit_suffix}"

    @property
    def added(self) -> list[str]:
        """Every token that follows those of text, in the order of their ids."""
        return [*self.controls.values(), *(self.unit(unit) for unit in range(self.num_units))]


def choose_names(taken: Container[str], num_units: int) -> TokenNames:
    """Names that none of the tokens `taken` has."""
    controls = {
        control: next(name for name in _variants(control) if name not in taken)
        for control in CONTROLS
    }
    for pattern in _variants("<unit_*>"):
        prefix, suffix = pattern.split("*")
        names = TokenNames(
            controls=controls, unit_prefix=prefix, unit_suffix=suffix, num_units=num_units
        )
        if not any(names.unit(unit) in taken for unit in range(num_units)):
            return names
    raise AssertionError("there is no end of names")


def _variants(name: str) -> Iterator[str]:
    """`<|end|>`, then `<|cslm_end|>`, `<|cslm_cslm_end|>` and so on."""
    opening = re.match(r"<\|?", name)
    assert opening is not None
    for times in count():
        yield opening[0] + "cslm_" * times + name[opening.end() :]
