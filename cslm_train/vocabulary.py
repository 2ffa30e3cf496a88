"""Pieces ↔ token ids: text, control tokens and units in one vocabulary.

Ids are `[text 0…V) [controls] [units]`. Text goes through the text tokenizer alone and so can only
become text ids: a transcript that spells a control token or a unit stays characters. The special
tokens of a chat template are ids of the text tokenizer that no text becomes.
"""

# N tokens, B lists of pieces, T tokens of all of them

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cslm_data.framing import CONTROLS, Piece, TurnFraming
from cslm_data.keys import content_id

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]
Kind = Literal["control", "special", "text", "units"]

_NO_IDS: Ids = np.zeros(0, np.int32)


class TextTokenizer(Protocol):
    """What the vocabulary needs of a text tokenizer: plain characters in, ids in [0, V) out."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def text_tokenizer_id(self) -> str:
        """Identity of the tokenizer's content."""

    @property
    def framing(self) -> TurnFraming:
        """How turns are framed for it."""

    def special_id(self, name: str) -> int:
        """Id of a token that no text becomes."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing in it is special."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of each text."""

    def decode(self, ids: list[int]) -> str:
        """Text of some ids."""


class JointVocabulary:
    """The tokens a model knows: V of text, one per control, one per unit."""

    def __init__(self, text_tokenizer: TextTokenizer, num_units: int) -> None:
        self.text_tokenizer = text_tokenizer
        self.num_units = num_units
        self.num_text = text_tokenizer.vocab_size
        self._controls = {name: self.num_text + i for i, name in enumerate(CONTROLS)}
        self._first_unit = self.num_text + len(CONTROLS)
        self.framing = text_tokenizer.framing
        self._specials = {
            name: text_tokenizer.special_id(name) for name in sorted(self.framing.specials)
        }
        self._special_names = {token: name for name, token in self._specials.items()}
        kinds = {"control": self._controls, "special": self._specials}
        self._marks = {
            (kind, name): np.array([token], np.int32)
            for kind, tokens in kinds.items()
            for name, token in tokens.items()
        }

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._first_unit + self.num_units

    @property
    def identity(self) -> str:
        """Changes whenever an id changes its meaning."""
        return content_id(
            {
                "text_tokenizer_id": self.text_tokenizer.text_tokenizer_id,
                "controls": list(CONTROLS),
                "num_units": self.num_units,
            }
        )

    def control_id(self, name: str) -> int:
        """Id of a control token of `cslm_data.framing.CONTROLS`."""
        return self._controls[name]

    @property
    def end_id(self) -> int:
        """Id of the token that ends an answer."""
        kind, name = self.framing.end
        return self.control_id(name) if kind == "control" else self._specials[name]

    @property
    def special_ids(self) -> list[int]:
        """Ids of the framing's special tokens: below V, but no text."""
        return sorted(self._special_names)

    def unit_id(self, unit: int) -> int:
        """Id of a unit."""
        if not 0 <= unit < self.num_units:
            raise ValueError(f"unit {unit} is not one of {self.num_units}")
        return self._first_unit + unit

    def kind(self, token: int) -> Kind:
        """What an id stands for."""
        if not 0 <= token < self.size:
            raise ValueError(f"id {token} is not one of {self.size}")
        if token < self.num_text:
            return "special" if token in self._special_names else "text"
        return "control" if token < self._first_unit else "units"

    def encode(self, pieces: Sequence[Piece]) -> tuple[Ids, Flags]:
        """Pieces → ids int32 (N,) and whether the loss counts each, bool (N,)."""
        return self.encode_batch([pieces])[0]

    def encode_batch(self, batch: Sequence[Sequence[Piece]]) -> list[tuple[Ids, Flags]]:
        """`encode` of each list of pieces, with one call of the text tokenizer for all."""
        if not batch:
            return []
        ids_T, trained_T, lengths_B = self.encode_joined(batch)
        ends = np.cumsum(lengths_B)[:-1]
        return list(zip(np.split(ids_T, ends), np.split(trained_T, ends), strict=True))

    def encode_joined(
        self,
        batch: Sequence[Sequence[Piece]],
        encode_texts: Callable[[list[str]], Sequence[Ids | list[int]]] | None = None,
    ) -> tuple[Ids, Flags, NDArray[np.int64]]:
        """All lists of pieces one after the other: ids int32 (T,), trained (T,), lengths (B,).

        `encode_texts` stands in for the text tokenizer's `encode_batch`. Raises ValueError for a
        unit that there is not.
        """
        texts = [piece.text for pieces in batch for piece in pieces if piece.kind == "text"]
        encoded = iter((encode_texts or self.text_tokenizer.encode_batch)(texts) if texts else ())
        parts: list[Ids | list[int]] = []
        lengths: list[int] = []
        flags: list[bool] = []
        totals: list[int] = []
        marks, first_unit = self._marks, np.int32(self._first_unit)
        for pieces in batch:
            before = len(lengths)
            for piece in pieces:
                if piece.kind == "text":
                    part = next(encoded)
                elif piece.kind == "units":
                    part = piece.units + first_unit
                else:
                    part = marks[piece.kind, piece.text]
                parts.append(part)
                lengths.append(len(part))
                flags.append(piece.trained)
            totals.append(sum(lengths[before:]))
        ids_T = np.concatenate([*parts, _NO_IDS]).astype(np.int32, copy=False)
        if len(ids_T) and (largest := int(ids_T.max())) >= self.size:
            raise ValueError(f"unit {largest - self._first_unit} is not one of {self.num_units}")
        trained_T = np.repeat(np.array(flags, np.bool_), np.array(lengths, np.int64))
        return ids_T, trained_T, np.array(totals, np.int64)

    def decode(self, ids: Sequence[int]) -> list[Piece]:
        """Ids → pieces, whatever their order: adjacent ids of a kind make a piece."""
        pieces = []
        for kind, run in groupby((int(token) for token in ids), key=self.kind):
            if kind == "text":
                text = self.text_tokenizer.decode(list(run))
                pieces.append(Piece(kind="text", trained=False, text=text))
            elif kind == "units":
                units = np.fromiter(run, np.int64) - self._first_unit
                pieces.append(Piece(kind="units", trained=False, units=units.astype(np.uint16)))
            else:
                pieces.extend(Piece(kind=kind, trained=False, text=self._name(t)) for t in run)
        return pieces

    def _name(self, token: int) -> str:
        if token < self.num_text:
            return self._special_names[token]
        return CONTROLS[token - self.num_text]
