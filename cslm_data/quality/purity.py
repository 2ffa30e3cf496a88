"""Frames with a phone and a unit each → PNMI and purities. Pure functions.

What HuBERT measures of its teachers (arXiv:2106.07447, §IV-E; fairseq's
`examples/hubert/measure_teacher_quality.py`), from the joint distribution of phone y and unit z:

    phone purity    E_z[max_y p(y | z)] = Σ_z max_y p(y, z)   accuracy of naming each unit a phone
    cluster purity  E_y[max_z p(z | y)] = Σ_y max_z p(y, z)   falls as there are more units
    PNMI            I(y; z) / H(y)                            share of the phone that a unit tells

A phone label means something within its corpus alone: corpora are aligned with different phone
sets. Over several corpora, information and entropy are therefore summed, weighted by frames, before
they are divided (I(y; z | corpus) / H(y | corpus)); for one corpus it is the plain definition.
"""

# N frames, P phones, K units

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cslm_data.keys import keyed_rng
from cslm_data.quality.usage import Counts, entropy_bits

Labels = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Purity:
    """How well units go with phones."""

    num_frames: int
    num_phones: int
    pnmi: float | None
    """0 … 1; None where there is one phone only."""
    phone_purity: float
    cluster_purity: float
    information_bits: float
    """I(phone; unit)."""
    phone_entropy_bits: float


def joint_counts(
    phones_N: Labels, units_N: NDArray[np.uint16], *, num_phones: int, num_units: int
) -> Counts:
    """How often each phone meets each unit: int32 (N,), uint16 (N,) → int64 (P, K)."""
    cells_N = phones_N.astype(np.int64) * num_units + units_N
    counts = np.bincount(cells_N, minlength=num_phones * num_units)
    return counts.reshape(num_phones, num_units)


def measure_purity(joints: Sequence[Counts]) -> Purity:
    """Figures of one joint count (P, K), or of several corpora's, each with phones of its own.

    Raises ValueError when there is no frame.
    """
    sizes = [int(joint_PK.sum()) for joint_PK in joints]
    num_frames = sum(sizes)
    if not num_frames:
        raise ValueError("no frames: there is nothing to measure")
    information = phone_entropy = 0.0
    for joint_PK, size in zip(joints, sizes, strict=True):
        if size:
            phones = entropy_bits(joint_PK.sum(axis=1))
            units = entropy_bits(joint_PK.sum(axis=0))
            phone_entropy += size / num_frames * phones
            information += size / num_frames * (phones + units - entropy_bits(joint_PK))
    return Purity(
        num_frames=num_frames,
        num_phones=sum(int(np.count_nonzero(joint_PK.any(axis=1))) for joint_PK in joints),
        pnmi=max(0.0, information / phone_entropy) if phone_entropy > 0 else None,
        phone_purity=sum(int(joint_PK.max(axis=0).sum()) for joint_PK in joints) / num_frames,
        cluster_purity=sum(int(joint_PK.max(axis=1).sum()) for joint_PK in joints) / num_frames,
        information_bits=max(0.0, information),
        phone_entropy_bits=phone_entropy,
    )


def shuffle_units(units_N: NDArray[np.uint16], *, seed: int, key: str) -> NDArray[np.uint16]:
    """The same units in an order that has nothing to do with the phones: the floor of PNMI."""
    return keyed_rng(seed, "shuffled units", key).permutation(units_N)
