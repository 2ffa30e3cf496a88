"""A base model's rows for text → rows of the joint vocabulary, for embedding and output alike.

Rows of text are the base model's; those of controls and units are new. A new row that begins at the
mean of the old ones gives its token about a middling probability, so that what the base model says
about text hardly changes (Hewitt, "Initializing new word embeddings for pretrained language
models", 2021).
"""

# V tokens of text, R rows of the base model, N new rows, M model dimension, K units, D features

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cslm_data.framing import CONTROLS
from cslm_data.keys import keyed_rng
from cslm_train.models.weights import EMBEDDING, OUTPUT
from cslm_train.vocabulary import JointVocabulary

NewRows = Literal["mean", "subword", "kmeans"]

_NOISE: dict[NewRows, float] = {"mean": 0.1, "subword": 0.1, "kmeans": 1.0}

_SPELLINGS = {
    "<sosp>": "start of speech",
    "<eosp>": "end of speech",
    "<|pad|>": "padding",
    "<|bos|>": "begin",
}
"""What the names of controls mean in words; others are their name without its marks."""


def extend_rows(
    weights: dict[str, Tensor],
    vocabulary: JointVocabulary,
    *,
    how: NewRows,
    noise: float | None,
    seed: int,
    centroids_KD: NDArray[np.float32] | None = None,
) -> dict[str, Tensor]:
    """A base model's weights, fp32, with rows for the joint vocabulary.

    `noise` is over the standard deviation of the old rows (None: 1 for `kmeans`, else 0.1).
    `kmeans` without centroids is `mean`.
    """
    how = "mean" if centroids_KD is None and how == "kmeans" else how
    noise = _NOISE[how] if noise is None else noise
    tied = weights[OUTPUT] is weights[EMBEDDING]
    extended = {name: weight.float() for name, weight in weights.items()}
    for name in (EMBEDDING,) if tied else (EMBEDDING, OUTPUT):
        old_RM = extended[name][: vocabulary.num_text]
        unset = vocabulary.num_text - len(old_RM)  # tokens the base model never had rows for
        count = vocabulary.size - len(old_RM)
        mean_M, std_M = old_RM.mean(0), old_RM.std(0)
        around_NM = mean_M.expand(count, -1).clone()
        if how == "subword":
            around_NM[unset:] = _spelt(old_RM, vocabulary)
        spread_NM = _normal((count, old_RM.size(1)), seed, name)
        if how == "kmeans" and centroids_KD is not None:
            first_unit = unset + len(CONTROLS)
            spread_NM[first_unit:] = _projected(centroids_KD, old_RM.size(1), seed, name)
        extended[name] = torch.cat([old_RM, around_NM + noise * std_M * spread_NM])
    if tied:
        extended[OUTPUT] = extended[EMBEDDING]
    return extended


def _normal(shape: tuple[int, int], seed: int, *names: str) -> Tensor:
    drawn = keyed_rng(seed, "new rows", *names).standard_normal(shape)
    return torch.from_numpy(drawn).float()


def _spelt(old_RM: Tensor, vocabulary: JointVocabulary) -> Tensor:
    """For each new token, the mean of the rows of the tokens that spell it."""
    names = [_SPELLINGS.get(name, name.strip("<|>")) for name in CONTROLS]
    names += [f"unit {unit}" for unit in range(vocabulary.num_units)]
    spelt = vocabulary.text_tokenizer.encode_batch(names)
    known = [[token for token in ids if token < len(old_RM)] for ids in spelt]
    return torch.stack([old_RM[ids].mean(0) if ids else old_RM.mean(0) for ids in known])


def _projected(centroids_KD: NDArray[np.float32], model_dim: int, seed: int, name: str) -> Tensor:
    """Centroids at random places of the model's space, (K, M), about as far apart as before.

    Each dimension has mean 0 and about variance 1 over the units. Source: a Gaussian random
    projection, Johnson and Lindenstrauss 1984.
    """
    centred_KD = centroids_KD - centroids_KD.mean(0)
    spread = np.sqrt((centred_KD**2).sum(1).mean())
    directions_DM = keyed_rng(seed, "centroids", name).standard_normal(
        (centroids_KD.shape[1], model_dim)
    )
    return torch.from_numpy(centred_KD @ directions_DM / max(spread, 1e-12)).float()
