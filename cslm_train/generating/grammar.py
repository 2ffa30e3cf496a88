"""What an answer may look like: automata over the classes of tokens, as masks over logits.

A class is a control token's name, or `text` or `units` for all of those; `<|end|>` stands for
whatever token ends an answer in the vocabulary's framing. An answer of a task is well formed when
its automaton accepts it; decoding may be held to it, one state per answer.
"""

# G states, C classes, V vocabulary

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cslm_data.framing import ANSWER, CONTROLS, END, QUESTION, SPEECH_END, SPEECH_START
from cslm_train.vocabulary import JointVocabulary

TEXT, UNITS = "text", "units"

_CLASSES = (TEXT, *CONTROLS, UNITS)
"""In the order of their ids."""

START, DONE = "start", "done"

Rules = Mapping[str, Mapping[str, str]]
"""state → {class of the next token: state after it}. `done` follows the end."""

TEXT_ANSWER: Rules = {
    START: {TEXT: "text"},
    "text": {TEXT: "text", END: DONE},
}
"""text `<|end|>`"""

SPEECH_ANSWER: Rules = {
    START: {SPEECH_START: "opened"},
    "opened": {UNITS: "units"},
    "units": {UNITS: "units", SPEECH_END: "closed"},
    "closed": {END: DONE},
}
"""`<sosp>` units `<eosp>` `<|end|>`"""

TEXT_CHAIN: Rules = {
    START: {QUESTION: "asked", TEXT: "answer"},
    "asked": {TEXT: "question"},
    "question": {TEXT: "question", ANSWER: "answering"},
    "answering": {TEXT: "answer"},
    "answer": {TEXT: "answer", END: DONE},
}
"""`<|question|>` text `<|answer|>`, which training may leave out, then text `<|end|>`"""

CHAIN: Rules = {
    START: {QUESTION: "asked", TEXT: "answer"},
    "asked": {TEXT: "question"},
    "question": {TEXT: "question", ANSWER: "answering"},
    "answering": {TEXT: "answer"},
    "answer": {TEXT: "answer", SPEECH_START: "opened"},
    "opened": {UNITS: "units"},
    "units": {UNITS: "units", SPEECH_END: "spoken"},
    "spoken": {TEXT: "answer", END: DONE},
}
"""`<|question|>` text `<|answer|>`, which training may leave out, then text `<sosp>` units `<eosp>`
once or more, `<|end|>`"""


@dataclass(frozen=True, eq=False)
class Grammar:
    """An automaton over the tokens of a vocabulary. States are integers; the first is 0."""

    vocabulary: JointVocabulary
    rules: Rules

    @cached_property
    def _states(self) -> dict[str, int]:
        return {name: index for index, name in enumerate((*self.rules, DONE))}

    @cached_property
    def _table(self) -> np.ndarray:
        """State after each class, -1 where it is not allowed: int (G, C)."""
        table_GC = np.full((len(self._states), len(_CLASSES)), -1)
        for state, moves in self.rules.items():
            for name, following in moves.items():
                table_GC[self._states[state], _CLASSES.index(name)] = self._states[following]
        return table_GC

    @cached_property
    def allowed_GV(self) -> Tensor:
        """Which tokens may come in each state: bool (G, V)."""
        sizes = [self.vocabulary.num_text, *[1] * len(CONTROLS), self.vocabulary.num_units]
        allowed_GC = self._table >= 0
        allowed_GV = np.repeat(allowed_GC, sizes, axis=1)
        allowed_GV[:, [*self.vocabulary.special_ids, self.vocabulary.control_id(END)]] = False
        allowed_GV[:, self.vocabulary.end_id] = allowed_GC[:, _CLASSES.index(END)]
        return torch.from_numpy(allowed_GV)

    def forbidden(self, device: torch.device) -> Tensor:
        """The tokens that may not come in each state, on a device: bool (G, V)."""
        if device not in self._forbidden:
            self._forbidden[device] = ~self.allowed_GV.to(device)
        return self._forbidden[device]

    @cached_property
    def _forbidden(self) -> dict[torch.device, Tensor]:
        return {}

    def following(self, state: int, token: int) -> int:
        """The state after a token. Raises ValueError for one that may not come."""
        name = self._class_of(token)
        after = int(self._table[state, _CLASSES.index(name)]) if name in _CLASSES else -1
        if after < 0:
            raise ValueError(f"token {token} ({name}) may not come in state {state}")
        return after

    def _class_of(self, token: int) -> str:
        """Name of its class, or of a token that no rule holds."""
        kind = self.vocabulary.kind(token)
        if token == self.vocabulary.end_id:
            return END
        if kind == "control":
            name = CONTROLS[token - self.vocabulary.num_text]
            return name if name != END else "our own end"
        return "special" if kind == "special" else UNITS if kind == "units" else TEXT

    def accepts(self, ids: list[int]) -> bool:
        """Whether a whole answer, its end included, is well formed."""
        state = 0
        for token in ids:
            try:
                state = self.following(state, token)
            except ValueError:
                return False
        return state == self._states[DONE]
