"""Samples → token ids, many at a time: what the reader and the measuring of a plan share.

The wordings of prompts come again with every sample, so texts are kept with their ids for a while.
"""

# B samples, T tokens of all of them

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from cslm_data.framing import frame
from cslm_data.records import Segment
from cslm_train.packing.assign import Integers
from cslm_train.vocabulary import Flags, Ids, JointVocabulary

_KEPT_TEXTS = 8192
_LONGEST_KEPT = 256
"""Characters. What is longer hardly comes again."""


class SampleEncoder:
    """Encodes as `frame` and the vocabulary say. For one thread."""

    def __init__(self, vocabulary: JointVocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: OrderedDict[str, Ids] = OrderedDict()

    def encode(self, samples: Sequence[Sequence[Segment]]) -> tuple[Ids, Flags, Integers]:
        """The samples one after the other: ids int32 (T,), whether trained (T,), lengths (B,)."""
        framing = self._vocabulary.framing
        return self._vocabulary.encode_joined(
            [frame(segments, framing) for segments in samples], self._encode_texts
        )

    def _encode_texts(self, texts: list[str]) -> list[Ids]:
        kept = self._kept
        found = [kept.get(text) for text in texts]
        new = list(dict.fromkeys(t for t, ids in zip(texts, found, strict=True) if ids is None))
        encoded = self._vocabulary.text_tokenizer.encode_batch(new) if new else []
        fresh = {text: np.array(ids, np.int32) for text, ids in zip(new, encoded, strict=True)}
        result = []
        for text, ids in zip(texts, found, strict=True):
            if ids is None:
                ids = fresh[text]
                if len(text) <= _LONGEST_KEPT:
                    kept[text] = ids
            else:
                kept.move_to_end(text)
            result.append(ids)
        while len(kept) > _KEPT_TEXTS:
            kept.popitem(last=False)
        return result
