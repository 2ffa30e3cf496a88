"""A trained run + sentences → how near speech, text and translations lie to each other in it.

A sentence is read as a user's turn and stands for the mean of the last layer over its own tokens
(text or units). Means of each side are taken off first, since all sentences of a modality lie in
one corner. Of N pairs: cosine of a pair, and how often its partner is the nearest of all N.
"""

# N pairs, M model dimension, S positions, C classes

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from cslm_data.framing import frame
from cslm_data.records import Segment
from cslm_train.vocabulary import Ids, JointVocabulary

if TYPE_CHECKING:
    from cslm_train.models.loading import LoadedRun

Floats = NDArray[np.float64]
Read = Callable[[Ids], torch.Tensor]
"""Ids (S,) → last hidden states float32 (S, M)."""


def reader_of(run: LoadedRun) -> Read:
    """How a run reads some ids."""
    from fairseq2.nn import BatchLayout

    def read(ids: Ids) -> torch.Tensor:
        seqs = torch.from_numpy(ids.astype(np.int64))
        layout = BatchLayout.of(seqs, [len(ids)], packed=True)
        hidden, layout = run.model.decoder_frontend(seqs, layout)
        states: torch.Tensor = run.model.decoder(hidden, layout)
        return states

    return read


@torch.inference_mode()
def embed(read: Read, vocabulary: JointVocabulary, segments: Sequence[Segment]) -> Floats:
    """Mean of the last layer over each segment's own tokens: float64 (N, M)."""
    means = []
    for segment in segments:
        asked = dataclasses.replace(segment, role="user", trained=True)
        pieces = [
            dataclasses.replace(piece, trained=piece.trained and piece.kind in ("text", "units"))
            for piece in frame([asked], vocabulary.framing)
        ]
        ids, own = vocabulary.encode(pieces)
        states_SM = read(ids)
        means.append(states_SM[torch.from_numpy(own)].mean(0).double().numpy())
    return np.stack(means)


def _directions(vectors_NM: Floats) -> Floats:
    centred = vectors_NM - vectors_NM.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def pair_likeness(one_NM: Floats, other_NM: Floats) -> dict[str, float]:
    """Cosine of N pairs, and how often the nearest of the other side is the partner, both ways."""
    cosine_NN = _directions(one_NM) @ _directions(other_NM).T
    pairs = np.arange(len(one_NM))
    found = (cosine_NN.argmax(1) == pairs).mean() + (cosine_NN.argmax(0) == pairs).mean()
    return {
        "pairs": len(pairs),
        "cosine": float(np.diagonal(cosine_NN).mean()),
        "retrieval": float(found / 2),
        "chance": 1 / len(pairs),
    }


def class_likeness(one_NM: Floats, class_CM: Floats, classes_N: Sequence[int]) -> dict[str, float]:
    """How often the nearest of C classes is the right one."""
    nearest_N = (_directions(one_NM) @ _directions(class_CM).T).argmax(1)
    right = float((nearest_N == np.asarray(classes_N)).mean())
    return {"pairs": len(nearest_N), "retrieval": right, "chance": 1 / len(class_CM)}


@torch.inference_mode()
def text_loss(run: LoadedRun, encoded: Sequence[list[int]]) -> float:
    """Nats for each token of some documents, each alone, over the whole vocabulary."""
    from fairseq2.nn import BatchLayout

    total = count = 0.0
    longest = run.info.config.model.max_seq_len
    for document in encoded:
        ids = torch.tensor(document[: longest + 1])
        layout = BatchLayout.of(ids[:-1], [len(ids) - 1], packed=True)
        logits = run.model(ids[:-1], layout)
        total += float(cross_entropy(logits.float(), ids[1:], reduction="sum"))
        count += len(ids) - 1
    return total / count
