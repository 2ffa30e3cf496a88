"""Architecture + length of documents → FLOPs a token costs; device → FLOP/s it can do at most.

Their quotient at the measured speed is the model FLOPs utilisation (MFU): what of the device the
training uses, with no FLOP counted that is done twice. Source: PaLM, arXiv:2204.02311, appendix B;
attention is counted over the positions that a causal mask inside of documents leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cslm_train.config import ModelConfig


def matmul_parameters(model: ModelConfig) -> int:
    """Weights of the decoder layers that multiply every token: embeddings and norms do not."""
    width, head = model.model_dim, model.head_width
    queries_and_output = 2 * width * model.num_heads * head
    keys_and_values = 2 * width * model.num_kv_heads * head
    return model.num_layers * (
        queries_and_output + keys_and_values + 3 * width * model.ffn_inner_dim
    )


def flops_per_token(
    model: ModelConfig, vocab_size: int, mean_context: float, *, trained_share: float = 1.0
) -> float:
    """FLOPs of forward and backward pass for each token the model reads.

    Two for each weight and token forward, twice that backward; attention does two products of a
    head's width with each of `mean_context` positions. Logits are computed for `trained_share` of
    the tokens. Recomputed activations, frozen weights and adapters do not change the number.
    """
    logits = vocab_size * model.model_dim * trained_share
    attention = model.num_layers * 2 * model.num_heads * model.head_width * mean_context
    return 6 * (matmul_parameters(model) + logits + attention)


def num_attended(lengths: Iterable[int]) -> int:
    """Pairs of a token and a position that it attends to, itself too, of documents so long."""
    return sum(length * (length + 1) // 2 for length in lengths)


def mean_context(lengths: Sequence[int]) -> float:
    """Positions that a token attends to on average."""
    return num_attended(lengths) / max(1, sum(lengths))


class Peak(NamedTuple):
    """Highest dense throughput of one device in TFLOP/s; None: not known or not supported."""

    bf16: float | None
    fp32: float | None


PEAK_TFLOPS = {
    "A10": Peak(125, 31.2),
    "A10G": Peak(70, None),
    "A30": Peak(165, 10.3),
    "A40": Peak(149.7, 37.4),
    "A100": Peak(312, 19.5),
    "A800": Peak(312, 19.5),
    "RTX A6000": Peak(154.8, 38.7),
    "RTX 3090": Peak(71, 35.6),
    "RTX 4090": Peak(165.2, 82.6),
    "RTX 6000 Ada": Peak(364.2, 91.1),
    "L4": Peak(121, 30.3),
    "L40": Peak(181, 90.5),
    "L40S": Peak(362, 91.6),
    "H20": Peak(148, 44),
    "H100": Peak(989.4, 67),
    "H100 PCIe": Peak(756, 51),
    "H100 NVL": Peak(835, 60),
    "H800": Peak(989.4, 67),
    "H200": Peak(989.4, 67),
    "H200 NVL": Peak(835, 60),
    "GH200": Peak(989.4, 67),
    "B200": Peak(2250, 75),
    "B300": Peak(2250, 75),
    "GB200": Peak(2500, 80),
    "GB300": Peak(2500, 80),
    "MI210": Peak(181, 22.6),
    "MI250": Peak(181, 22.6),
    "MI250X": Peak(191.5, 23.9),
    "MI300A": Peak(980.6, 122.6),
    "MI300X": Peak(1307.4, 163.4),
    "MI325X": Peak(1307.4, 163.4),
    "MI350X": Peak(2306.9, 144.2),
    "MI355X": Peak(2516.6, 157.3),
}
"""By words of the device's name. bf16: matrix units without sparsity; fp32: without TF32. MI250(X):
the half of a card that PyTorch shows as a device. Source: the makers' data sheets, whose NVIDIA
matrix numbers from Hopper on are with sparsity, twice these."""


def peak_flops(device_name: str, precision: str) -> float | None:
    """Highest FLOP/s of a device by the name that PyTorch gives it, or a short one: `H100`.

    `precision` is `bf16` or `fp32`. None for a device that the table has not.
    """
    words = set(re.split(r"[^a-z0-9]+", device_name.lower()))
    known = [name for name in PEAK_TFLOPS if set(name.lower().split()) <= words]
    if not known:
        return None
    peak = PEAK_TFLOPS[max(known, key=lambda name: len(name.split()))]
    tflops = {"bf16": peak.bf16, "fp32": peak.fp32}[precision]
    return None if tflops is None else tflops * 1e12
