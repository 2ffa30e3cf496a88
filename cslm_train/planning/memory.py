"""Architecture + how it is trained → bytes of one GPU at the fullest moment of a step.

That moment is the begin of a backward pass with the gradients of the pack before it still there:
every part is counted as if it were there at once, so a real run needs a little less. Activations
are those that our model keeps for the backward pass; the tests count what autograd saves.
"""

# K trained positions, V vocabulary

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cslm_train.config import ModelConfig
from cslm_train.planning.parameters import Parameters

Precision = Literal["fp32", "bf16"]
Arithmetic = Literal["fp32", "autocast", "bf16"]
"""Of the layers: fp32; fp32 weights with bf16 products; all of it in bf16, as FSDP casts it."""

_FP32 = 4
_ADAM_MOMENTS = 2
_LOGIT_COPIES = 3
"""log-softmax, its gradient and the gradient of the logits: fp32 (K, V) each, at once."""
_GATHERED_LAYERS = 2
"""The layer that computes and the next one, which FSDP fetches meanwhile."""
RESERVE_BYTES = 2 * 1024**3
"""CUDA context, kernels, workspaces of cuBLAS and buffers of NCCL: assumed, not computed."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What decides the memory of a GPU beside the architecture."""

    world_size: int
    shards: int
    """FSDP: processes that share one copy of weights, gradients and optimizer; 1: each has all."""
    recompute_every: int
    """Activations of every so-manieth layer are computed again in the backward pass; 0: of none."""
    precision: Precision
    pack_length: int
    trained_share: float
    """Of the positions, those whose logits are computed; 1 is the worst case."""
    factored: bool = False
    """The optimizer is Adafactor."""

    @property
    def arithmetic(self) -> Arithmetic:
        """Of the layers."""
        if self.precision == "fp32":
            return "fp32"
        return "bf16" if self.shards > 1 else "autocast"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one GPU."""

    weights: int
    """fp32 weights, or the process's share of them."""
    bf16_weights: int
    """The bf16 copy of the matrices that autocast keeps through a step."""
    gradients: int
    buckets: int
    """Gradients on their way between the processes: DDP's buckets."""
    optimizer: int
    gathered: int
    """FSDP: layers, embedding and output projection made whole, and their whole gradients."""
    activations: int
    logits: int
    """fp32 logits of the trained positions and their gradients."""
    reserve: int
    total: int


def memory_of(
    model: ModelConfig, vocab_size: int, parameters: Parameters, placement: Placement
) -> Memory:
    """Bytes of one GPU at the fullest moment of a step."""
    total, trained = parameters.total + parameters.adapters, parameters.trainable
    arithmetic, shards = placement.arithmetic, placement.shards
    replicated = placement.world_size > 1 and shards == 1
    every = placement.recompute_every
    kept = activation_bytes(
        model,
        arithmetic,
        pack_length=placement.pack_length,
        recomputed_layers=math.ceil(model.num_layers / every) if every else 0,
    )
    layer = layer_activation_bytes(model, arithmetic) * placement.pack_length
    logits = logit_bytes(vocab_size, round(placement.trained_share * placement.pack_length))
    matrices = parameters.attention + parameters.feed_forward + vocab_size * model.model_dim
    parts = {
        "weights": _FP32 * total // shards,
        "bf16_weights": 2 * matrices if arithmetic == "autocast" else 0,
        "gradients": _FP32 * trained // shards,
        "buckets": _FP32 * trained if replicated else 0,
        "optimizer": optimizer_bytes(parameters, factored=placement.factored) // shards,
        "gathered": _gathered(model, parameters, arithmetic) if shards > 1 else 0,
        # A layer's activations that are computed again are there when the logits are gone.
        "activations": kept + (max(0, layer - logits) if every else 0),
        "logits": logits,
        "reserve": RESERVE_BYTES,
    }
    return Memory(**parts, total=sum(parts.values()))


def optimizer_bytes(parameters: Parameters, *, factored: bool) -> int:
    """State of the optimizer: two moments of each weight, or Adafactor's rows and columns."""
    numbers = parameters.factored_state if factored else _ADAM_MOMENTS * parameters.trainable
    return _FP32 * numbers


def logit_bytes(vocab_size: int, num_trained: int) -> int:
    """Of the logits (K, V) and their gradients, at the fullest moment of the loss."""
    return _LOGIT_COPIES * _FP32 * num_trained * vocab_size


def activation_bytes(
    model: ModelConfig, arithmetic: Arithmetic, *, pack_length: int, recomputed_layers: int = 0
) -> int:
    """What the forward pass of a pack keeps for the backward pass, without the logits."""
    width = model.model_dim
    residual = width * (2 if arithmetic == "bf16" else _FP32)
    whole_layers = model.num_layers - recomputed_layers
    layers = whole_layers * layer_activation_bytes(model, arithmetic) + recomputed_layers * residual
    last_norm = 2 * _FP32 * width
    dropped = _mask_bytes(model, arithmetic)
    return pack_length * (layers + last_norm + dropped)


def layer_activation_bytes(model: ModelConfig, arithmetic: Arithmetic) -> int:
    """What a decoder layer keeps of one position; no S×S attention among it.

    Of both norms the input and what it is normalised to, in fp32 (a GPU that has them in one kernel
    keeps less), and the output; under autocast each of five projections has a bf16 copy of that of
    its own instead. Queries, keys and values (repeated for all heads), attention before and after
    its documents are put together; gate, its activation, the inner projection, their product. The
    rotary factors of queries and keys, and sums of the softmax and the norms.
    """
    width, head = model.model_dim, model.head_width
    heads = model.num_heads * head
    size = _FP32 if arithmetic == "fp32" else 2
    norms = _FP32 * 4 * width + size * (5 if arithmetic == "autocast" else 2) * width
    if model.qk_norm:
        norms += _FP32 * 2 * (heads + model.num_kv_heads * head)
    rotary_and_sums = 16 * head // 2 + _FP32 * model.num_heads + 2 * _FP32
    inner = size * (5 * heads + 4 * model.ffn_inner_dim)
    return norms + inner + rotary_and_sums + 2 * _mask_bytes(model, arithmetic)


def _mask_bytes(model: ModelConfig, arithmetic: Arithmetic) -> int:
    """What one dropout keeps of a position."""
    if model.dropout == 0:
        return 0
    return model.model_dim * (_FP32 if arithmetic == "fp32" else 2)


def _gathered(model: ModelConfig, parameters: Parameters, arithmetic: Arithmetic) -> int:
    """FSDP: the root (embedding, output projection) stays whole through a step, layers come and go.

    Beside them their gradients, and fp32 of the largest while they are added up over the processes.
    """
    size = _FP32 if arithmetic == "fp32" else 2
    layer = (parameters.attention + parameters.feed_forward) // model.num_layers
    root = parameters.embedding + parameters.output
    whole = root + _GATHERED_LAYERS * layer
    gradients = root + layer if parameters.trainable > parameters.adapters else layer
    return size * (whole + gradients) + _FP32 * max(root, layer)
