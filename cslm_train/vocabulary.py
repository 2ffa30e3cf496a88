"""Pieces ↔ token ids: text, control tokens and units in one vocabulary.

Ids are `[text 0…V) [controls] [units]`. Text goes through the text tokenizer alone and so can only
become text ids: a transcript that spells a control token or a unit stays characters. The special
tokens of a chat template are ids of the text tokenizer that no text becomes.
"""

# N tokens

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cslm_data.framing import CONTROLS, Piece, TurnFraming
from cslm_data.keys import content_id

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]
Kind = Literal["control", "special", "text", "units"]


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
        texts = [piece.text for pieces in batch for piece in pieces if piece.kind == "text"]
        encoded = iter(self.text_tokenizer.encode_batch(texts) if texts else [])
        return [self._join([self._encode_piece(p, encoded) for p in pieces]) for pieces in batch]

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

    def _encode_piece(self, piece: Piece, encoded: Iterator[list[int]]) -> tuple[Ids, bool]:
        if piece.kind == "control":
            return np.array([self._controls[piece.text]], np.int32), piece.trained
        if piece.kind == "special":
            return np.array([self._specials[piece.text]], np.int32), piece.trained
        if piece.kind == "text":
            return np.array(next(encoded), np.int32), piece.trained
        ids = piece.units.astype(np.int32) + np.int32(self._first_unit)
        if len(ids) and int(ids.max()) >= self.size:
            worst = int(piece.units.max())
            raise ValueError(f"unit {worst} is not one of {self.num_units}")
        return ids, piece.trained

    @staticmethod
    def _join(parts: list[tuple[Ids, bool]]) -> tuple[Ids, Flags]:
        ids = np.concatenate([part for part, _ in parts] or [np.zeros(0, np.int32)])
        trained = np.repeat(
            np.array([flag for _, flag in parts], np.bool_),
            np.array([len(part) for part, _ in parts], np.int64),
        )
        return ids, trained
