"""Causal attention inside each document of a packed batch.

fairseq2's own attention builds an S×S mask for a packed batch. Without a mask, and at the cost of
the sum of the squared document lengths only: FlashAttention's variable-length kernels where they
are installed and can run (CUDA, half precision), else one causal call per document.
"""

# S positions of a pack, s of a document, H heads, K head dimension

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import final

import torch
from fairseq2.models.transformer import AttentionBias, AttentionBiasCache, CausalAttentionBias
from fairseq2.models.transformer.sdpa.base import SDPA
from fairseq2.models.transformer.sdpa.flash2 import Flash2SDPA
from fairseq2.models.transformer.sdpa.flash3 import Flash3SDPA
from fairseq2.models.transformer.sdpa.torch import TorchSDPA
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@final
class DocumentSDPA(SDPA):
    """Packed batches document by document; anything else as fairseq2 does it."""

    def __init__(
        self, bias: AttentionBias, *, dropout_p: float = 0.0, scale: float | None = None
    ) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.scale = scale
        self.per_document = isinstance(bias, CausalAttentionBias) and bias.attn_window_len is None
        self.otherwise = TorchSDPA(bias, dropout_p=dropout_p, scale=scale)
        kernels = flash_kernels() if scale is None else None
        self.flash = None if kernels is None else kernels(bias, dropout_p=dropout_p)

    @torch.compiler.disable  # the lengths differ in every pack: it would be compiled for each
    def forward(
        self,
        q: Tensor,
        q_layout: BatchLayout,
        k: Tensor,
        k_layout: BatchLayout,
        v: Tensor,
        bias_cache: AttentionBiasCache,
        *,
        needs_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Queries, keys, values of a pack (S, H, K) → their attention (S, H, K)."""
        lengths = list(q_layout.seq_lens)
        packed = q_layout.packed and k_layout.packed and list(k_layout.seq_lens) == lengths
        if not packed or not self.per_document or needs_weights:
            attention: tuple[Tensor, Tensor | None] = self.otherwise(
                q, q_layout, k, k_layout, v, bias_cache, needs_weights=needs_weights
            )
            return attention
        if self.flash is not None and not q_layout.padded and _is_half_on_cuda(q):
            flashed: tuple[Tensor, Tensor | None] = self.flash(
                q, q_layout, k, k_layout, v, bias_cache
            )
            return flashed
        padding = q_layout.width - sum(lengths)
        if padding:
            lengths.append(padding)
        dropout_p = self.dropout_p if self.training else 0.0
        documents = [
            scaled_dot_product_attention(
                q_sHK.transpose(0, 1)[None],
                k_sHK.transpose(0, 1)[None],
                v_sHK.transpose(0, 1)[None],
                dropout_p=dropout_p,
                is_causal=True,
                scale=self.scale,
            )[0].transpose(0, 1)
            for q_sHK, k_sHK, v_sHK in zip(
                torch.split(q, lengths),
                torch.split(k, lengths),
                torch.split(v, lengths),
                strict=True,
            )
        ]
        return torch.cat(documents), None


@cache
def flash_kernels() -> type[Flash2SDPA] | type[Flash3SDPA] | None:
    """The newest of FlashAttention's kernels that is installed and made for this GPU."""
    hopper = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
    if hopper and (find_spec("flash_attn_3") or find_spec("flash_attn_3_cuda")):
        return Flash3SDPA
    return Flash2SDPA if find_spec("flash_attn") else None


def _is_half_on_cuda(q: Tensor) -> bool:
    kind = q.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else q.dtype
    return kind == "cuda" and dtype in (torch.float16, torch.bfloat16)
