"""How often each unit is used → entropy, bitrate, dead units, divergence of languages. Pure.

A *token* is a unit after dedup (a run of equal frames), what a language model sees. Everything is
said of tokens unless its name says `frame`. Formulas, with p(u) the share of unit u among N tokens
of T seconds:

    entropy_bits   H = −Σ p(u) log2 p(u), perplexity 2^H
    bitrate        (N / T) · H, bits a second: as in ZeroSpeech 2019 (arXiv:1904.11469), durations
                   dropped; `frame_bitrate` is the same over the frames before dedup
    divergence     Jensen–Shannon: H((p + q) / 2) − (H(p) + H(q)) / 2, in bits, 0 … 1
    exclusive      a unit is a language's own when the language has at least the threshold of its
                   uses, each language counted as if it had said equally much
"""

# L languages, K units

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

EXCLUSIVE_SHARE = 0.95
"""A unit with at least this share of its uses in one language is that language's own."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How some speech uses the units of a tokenizer."""

    num_utterances: int
    seconds: float
    """Length of the speech: its frames by the frame rate."""
    num_frames: int
    num_tokens: int
    frames_per_s: float
    """Units a second before dedup: the frame rate."""
    tokens_per_s: float
    """Units a second after dedup."""
    mean_run_frames: float
    """Frames a token lasts."""
    entropy_bits: float
    perplexity: float
    bitrate: float
    """Bits a second, of the tokens without their durations."""
    frame_entropy_bits: float
    frame_bitrate: float
    num_used: int
    """Units that occur."""
    num_dead: int
    """Units that never do."""


@dataclass(frozen=True, kw_only=True)
class Exclusive:
    """Units that one language has for itself."""

    threshold: float
    share_of_units: float
    """Of the units that are used."""
    share_of_tokens: float
    """Of the tokens, each language counted equally."""
    num_units: dict[str, int]
    """How many units are the language's own."""


def measure_usage(
    tokens_K: Counts, frames_K: Counts, *, num_utterances: int, frame_rate_hz: float
) -> Usage:
    """Figures of some speech from its tokens and frames of each unit: int64 (K,) both."""
    num_tokens, num_frames = int(tokens_K.sum()), int(frames_K.sum())
    if not num_tokens:
        raise ValueError("no tokens: there is nothing to measure")
    seconds = num_frames / frame_rate_hz
    entropy = entropy_bits(tokens_K)
    frame_entropy = entropy_bits(frames_K)
    num_used = int(np.count_nonzero(tokens_K))
    return Usage(
        num_utterances=num_utterances,
        seconds=seconds,
        num_frames=num_frames,
        num_tokens=num_tokens,
        frames_per_s=frame_rate_hz,
        tokens_per_s=num_tokens / seconds,
        mean_run_frames=num_frames / num_tokens,
        entropy_bits=entropy,
        perplexity=2.0**entropy,
        bitrate=num_tokens / seconds * entropy,
        frame_entropy_bits=frame_entropy,
        frame_bitrate=frame_rate_hz * frame_entropy,
        num_used=num_used,
        num_dead=len(tokens_K) - num_used,
    )


def entropy_bits(counts: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Entropy of a distribution given by counts or weights of any shape, in bits."""
    weights = np.asarray(counts, np.float64).ravel()
    weights = weights[weights > 0]
    shares = weights / weights.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def divergence_bits(counts_LK: Counts) -> NDArray[np.float64]:
    """Jensen–Shannon divergence of every two languages: int64 (L, K) → float64 (L, L), bits."""
    shares_LK = counts_LK / counts_LK.sum(axis=1, keepdims=True)
    entropies = [entropy_bits(shares_K) for shares_K in shares_LK]
    result_LL = np.zeros((len(counts_LK), len(counts_LK)))
    for i in range(len(counts_LK)):
        for j in range(i):
            middle = entropy_bits((shares_LK[i] + shares_LK[j]) / 2)
            result_LL[i, j] = result_LL[j, i] = max(0.0, middle - (entropies[i] + entropies[j]) / 2)
    return result_LL


def find_exclusive(
    languages: Sequence[str], counts_LK: Counts, *, threshold: float = EXCLUSIVE_SHARE
) -> Exclusive:
    """Which units are one language's own: int64 (L, K) → shares, and units per language."""
    shares_LK = counts_LK / counts_LK.sum(axis=1, keepdims=True)
    totals_K = shares_LK.sum(axis=0)
    used_K = totals_K > 0
    owned_LK = used_K & (shares_LK >= threshold * totals_K)
    is_owned_K = owned_LK.any(axis=0)
    return Exclusive(
        threshold=threshold,
        share_of_units=float(is_owned_K.sum() / used_K.sum()),
        share_of_tokens=float(totals_K[is_owned_K].sum() / len(counts_LK)),
        num_units={name: int(own.sum()) for name, own in zip(languages, owned_LK, strict=True)},
    )
