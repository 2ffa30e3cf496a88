"""Tokens → logits of what follows them, with the keys and values of all that was read before.

The sums of the model's own forward pass, by its own projections and norms, so whatever stands in
their place (biases, LoRA) counts. Left out is what one more position does not need, and what made
up most of its time in a small model: layouts, masks, copies of the heads that queries share, and
the modules around the modules. Nothing here waits for the device.
"""

# B sequences, S positions of a step, N positions read in all, M model dimension, V vocabulary,
# H query heads, G key and value heads, R = H / G, K width of a head, L layers

from __future__ import annotations

from typing import cast

import torch
from fairseq2.models.transformer import StandardMultiheadAttention, TransformerEmbeddingFrontend
from fairseq2.models.transformer_lm import (
    StandardTransformerLMDecoder,
    StandardTransformerLMDecoderLayer,
)
from fairseq2.nn import RotaryEncoder
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from cslm_train.models.family import SpeechLM


class ReadSequences:
    """Sequences of equal length that a model has read, and can go on reading together."""

    def __init__(self, model: SpeechLM, *, num_sequences: int, capacity: int) -> None:
        """Room for `capacity` positions of each."""
        self.num_read = 0
        decoder = cast(StandardTransformerLMDecoder, model.decoder)
        self._last_norm = decoder.layer_norm
        self._final_proj = model.final_proj
        self._embed = cast(TransformerEmbeddingFrontend, model.decoder_frontend).embed
        self._layers = [cast(StandardTransformerLMDecoderLayer, x) for x in decoder.layers]
        attention = _attention(self._layers[0])
        encoder = cast(RotaryEncoder, attention.pos_encoder)
        self._rotations_NE = torch.view_as_complex(encoder.freqs)[1:]  # the first is of padding
        weight = next(model.decoder_frontend.parameters())
        shape = (num_sequences, attention.num_key_value_heads, capacity, attention.head_dim)
        self._keys = [weight.new_empty(shape) for _ in self._layers]
        self._values = [weight.new_empty(shape) for _ in self._layers]

    @torch.inference_mode()
    def read(self, ids_BS: Tensor) -> Tensor:
        """Read on; logits of what follows the last: int (B, S) → (B, V)."""
        begin, end = self.num_read, self.num_read + ids_BS.size(1)
        rotations_S1E = self._rotations_NE[begin:end, None]
        # One position sees all before it; a first stretch is causal; only one in between is masked.
        mask_SN = _mask(begin, end, ids_BS.device) if begin and end - begin > 1 else None
        hidden_BSM = self._embed(ids_BS)
        for layer, keys_BGNK, values_BGNK in zip(
            self._layers, self._keys, self._values, strict=True
        ):
            attention = _attention(layer)
            q_BSHK, k_BSGK, v_BSGK = _project(
                attention, layer.self_attn_layer_norm(hidden_BSM), rotations_S1E
            )
            keys_BGNK[:, :, begin:end] = k_BSGK.transpose(1, 2)
            values_BGNK[:, :, begin:end] = v_BSGK.transpose(1, 2)
            seen_BSM = _attend(q_BSHK, keys_BGNK[:, :, :end], values_BGNK[:, :, :end], mask_SN)
            hidden_BSM = hidden_BSM + attention.output_proj(seen_BSM)
            hidden_BSM = hidden_BSM + layer.ffn(layer.ffn_layer_norm(hidden_BSM))
        self.num_read = end
        last_BM = hidden_BSM[:, -1]
        if self._last_norm is not None:
            last_BM = self._last_norm(last_BM)
        logits_BV: Tensor = self._final_proj(last_BM)
        return logits_BV

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        """Forget all sequences but these."""
        index = torch.tensor(rows, device=self._keys[0].device)
        self._keys = [keys.index_select(0, index) for keys in self._keys]
        self._values = [values.index_select(0, index) for values in self._values]


def _attention(layer: StandardTransformerLMDecoderLayer) -> StandardMultiheadAttention:
    return cast(StandardMultiheadAttention, layer.self_attn)


def _project(
    attention: StandardMultiheadAttention, hidden_BSM: Tensor, rotations_S1E: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, S, H, K) and keys (B, S, G, K), turned to their positions, and values."""
    per_head = (*hidden_BSM.shape[:2], -1, attention.head_dim)
    q_BSHK = attention.q_proj(hidden_BSM).view(per_head)
    k_BSGK = attention.k_proj(hidden_BSM).view(per_head)
    v_BSGK = attention.v_proj(hidden_BSM).view(per_head)
    if attention.q_norm is not None:
        q_BSHK = attention.q_norm(q_BSHK)
    if attention.k_norm is not None:
        k_BSGK = attention.k_norm(k_BSGK)
    return _rotate(q_BSHK, rotations_S1E), _rotate(k_BSGK, rotations_S1E), v_BSGK


def _rotate(heads: Tensor, rotations_S1E: Tensor) -> Tensor:
    """Rotary positions as fairseq2's RotaryEncoder: pairs of neighbours, in fp32."""
    pairs = torch.view_as_complex(heads.float().view(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotations_S1E).view(heads.shape).type_as(heads)


def _attend(
    q_BSHK: Tensor, keys_BGNK: Tensor, values_BGNK: Tensor, mask_SN: Tensor | None
) -> Tensor:
    """What the last S positions see of all N: (B, S, H·K)."""
    batch, steps, heads, width = q_BSHK.shape
    groups = keys_BGNK.size(1)
    if steps == 1:
        # The queries that share a head stand in for positions: all of them see everything.
        q_BGRK = q_BSHK.view(batch, groups, heads // groups, width)
        seen_BGRK = scaled_dot_product_attention(q_BGRK, keys_BGNK, values_BGNK)
        return seen_BGRK.reshape(batch, 1, heads * width)
    seen_BHSK = scaled_dot_product_attention(
        q_BSHK.transpose(1, 2),
        keys_BGNK.repeat_interleave(heads // groups, dim=1),
        values_BGNK.repeat_interleave(heads // groups, dim=1),
        attn_mask=mask_SN,
        is_causal=mask_SN is None,
    )
    return seen_BHSK.transpose(1, 2).reshape(batch, steps, heads * width)


def _mask(begin: int, end: int, device: torch.device) -> Tensor:
    """Positions from begin to end see those up to themselves: bool (S, N)."""
    return torch.ones(end - begin, end, dtype=torch.bool, device=device).tril(begin)
