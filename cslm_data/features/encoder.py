"""Frames → features: the transformer blocks of HuBERT, wav2vec 2.0 and WavLM up to a layer.

Reads the trained modules of transformers and torchaudio, which name their parts alike, and runs
them in one way: residual stream and norms in float32, products in the dtype asked for, attention
in scaled_dot_product_attention, everything that is padded masked. Source: wav2vec 2.0,
arXiv:2006.11477; HuBERT, arXiv:2106.07447; WavLM, arXiv:2110.13900.
"""

# B utterances, N frames, D features, H heads, E features of a head, G groups of channels

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cslm_data.features.attention import attend, attend_with_bias
from cslm_data.features.layers import (
    LayerNorm,
    Linear,
    activation,
    from_weights,
    layer_norm,
    linear,
)

_PARAMETERS = ("weight", "bias")


class PositionalConvolution:
    """Grouped convolution over time, by FFT in float32: (B, N, D) → (B, N, D).

    With 128 taps the direct sum costs as much as a transformer block; in the frequency domain it is
    a small product per frequency. Frames beyond either end count as zeros.
    """

    def __init__(self, conv: Any, device: str) -> None:
        weight_OIK = conv.weight.detach().float()
        taps, groups = weight_OIK.shape[2], conv.groups
        self._before = int(conv.padding[0])
        self._taps, self._groups = taps, groups
        self._points = 2 ** math.ceil(math.log2(2 * taps))
        spectrum_OIF = torch.fft.rfft(weight_OIK, n=self._points).conj()
        grouped_GOIF = spectrum_OIF.view(groups, -1, *spectrum_OIF.shape[1:])
        self._weight_FGIO = grouped_GOIF.permute(3, 0, 2, 1).contiguous().to(device)
        self._bias_D = None if conv.bias is None else conv.bias.detach().float().to(device)

    def __call__(self, x_BND: Tensor) -> Tensor:
        """Convolution by overlap-save: stretches whose last taps are thrown away."""
        size, num_frames, dim = x_BND.shape
        step = self._points - self._taps + 1
        count = -(-num_frames // step)
        after = count * step + self._taps - 1 - self._before - num_frames
        padded_BDN = functional.pad(x_BND.float().transpose(1, 2), (self._before, after))
        pieces_BDSP = padded_BDN.unfold(2, self._points, step)
        spectrum_BDSF = torch.fft.rfft(pieces_BDSP)
        grouped = spectrum_BDSF.view(size, self._groups, -1, count, spectrum_BDSF.shape[-1])
        by_frequency = grouped.permute(4, 1, 0, 3, 2).flatten(2, 3)  # F, G, B · S, I
        product = by_frequency @ self._weight_FGIO
        by_piece = product.view(*product.shape[:2], size, count, -1)
        spectrum = by_piece.permute(2, 3, 1, 4, 0).flatten(2, 3)  # B, S, D, F
        y_BSDP = torch.fft.irfft(spectrum, n=self._points)[..., :step]
        y_BND: Tensor = y_BSDP.transpose(2, 3).reshape(size, -1, dim)[:, :num_frames]
        return y_BND if self._bias_D is None else y_BND + self._bias_D


class _Position(NamedTuple):
    """One convolution of the positional embedding with what stands around it."""

    before: Callable[[Tensor], Tensor] | None
    convolution: PositionalConvolution
    after: LayerNorm | None
    activation: Callable[[Tensor], Tensor]


class _Gate(NamedTuple):
    """WavLM's gate of the relative position bias."""

    product: Linear
    constant_H11: Tensor


class _Block(NamedTuple):
    """A transformer block."""

    num_heads: int
    query_key_value: Linear
    """Queries come out scaled by 1 / sqrt(E)."""
    gate: _Gate | None
    out: Linear
    norm: LayerNorm
    first: Linear
    activation: Callable[[Tensor], Tensor]
    second: Linear
    final_norm: LayerNorm
    adapter: Callable[[Tensor], Tensor] | None


class Encoder:
    """Frames of the front end → features of the last block that is given: (B, N, C) → (B, N, D)."""

    def __init__(
        self,
        *,
        projection: Any,
        positional: Any,
        blocks: Sequence[Any],
        norms_first: bool,
        norm_before: Any | None,
        norm_after: Any | None,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        """From modules. `norms_first`: blocks norm their inputs rather than their outputs."""
        self._norms_first = norms_first
        norm = getattr(projection, "layer_norm", None)
        self._projection_norm = None if norm is None else layer_norm(norm, device)
        self._projection = linear(projection.projection, device, dtype)
        self._positions = _positions(positional, device)
        self._norm_before = None if norm_before is None else layer_norm(norm_before, device)
        self._norm_after = None if norm_after is None else layer_norm(norm_after, device)
        self._blocks = [_block(block, device, dtype) for block in blocks]
        gated = len(blocks) > 0 and hasattr(blocks[0].attention, "gru_rel_pos_linear")
        self._bias = _RelativeBias(blocks[0].attention, device) if gated else None

    def __call__(self, frames_BNC: Tensor, counts: Sequence[int]) -> Tensor:
        """float32 (B, N, D); utterance b has `counts[b]` frames, what follows is noise."""
        longest = frames_BNC.shape[1]
        valid_BN = None
        if min(counts) < longest:
            counts_B1 = torch.tensor(counts, device=frames_BNC.device)[:, None]
            valid_BN = torch.arange(longest, device=frames_BNC.device) < counts_B1
        if self._projection_norm is not None:
            frames_BNC = self._projection_norm(frames_BNC)
        x_BND = _mask(self._projection(frames_BNC).float(), valid_BN)
        x_BND = x_BND + self._embed_positions(x_BND, valid_BN)
        if self._norm_before is not None:
            x_BND = self._norm_before(x_BND)
        for block in self._blocks:
            x_BND = self._run(block, x_BND, valid_BN)
        return x_BND if self._norm_after is None else self._norm_after(x_BND)

    def _embed_positions(self, x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
        for position in self._positions:
            if position.before is not None:
                x_BND = _mask(position.before(x_BND), valid_BN)
            x_BND = position.convolution(x_BND)
            if position.after is not None:
                x_BND = position.after(x_BND)
            x_BND = _mask(position.activation(x_BND), valid_BN)
        return x_BND

    def _run(self, block: _Block, x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
        if self._norms_first:
            x_BND = x_BND + self._attend(block, block.norm(x_BND), valid_BN)
            x_BND = x_BND + _feed_forward(block, block.final_norm(x_BND))
        else:
            x_BND = block.norm(x_BND + self._attend(block, x_BND, valid_BN))
            x_BND = block.final_norm(x_BND + _feed_forward(block, x_BND))
        return x_BND if block.adapter is None else x_BND + block.adapter(x_BND)

    def _attend(self, block: _Block, x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
        size, num_frames, dim = x_BND.shape
        shape = (size, num_frames, 3, block.num_heads, dim // block.num_heads)
        query, key, value = block.query_key_value(x_BND).view(shape).permute(2, 0, 3, 1, 4)
        if self._bias is None or block.gate is None:
            mixed = attend(query, key, value, valid_BN)
        else:
            gate = _gate_of(block.gate, x_BND, block.num_heads)
            mixed = self._bias.attend(query, key, value, valid_BN, gate)
        return block.out(mixed.transpose(1, 2).reshape(size, num_frames, dim))


class _RelativeBias:
    """WavLM's bias per head and distance of frames, times each query's own gate."""

    def __init__(self, attention: Any, device: str) -> None:
        # Which bucket a distance falls into is left to the library: it hangs on a float32 log.
        self._find_bucket = attention._relative_positions_bucket
        self._table_KH = attention.rel_attn_embed.weight.detach().float().to(device)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, valid_BN: Tensor | None, gate: Tensor
    ) -> Tensor:
        """All (B, H, N, E), `gate` (B, H, N, 1)."""
        num_frames = query.shape[2]
        buckets = self._find_bucket(torch.arange(1 - num_frames, num_frames))
        by_distance_HD = self._table_KH[buckets.to(query.device)].T
        # Window w holds the distances of query N - 1 - w to every key.
        windows_HWN = by_distance_HD.unfold(1, num_frames, 1)

        def bias_of(first: int, last: int) -> Tensor:
            bias_HQN = windows_HWN[:, num_frames - last : num_frames - first].flip(1)
            bias: Tensor = gate[:, :, first:last] * bias_HQN
            return bias

        return attend_with_bias(query, key, value, valid_BN, bias_of)


def _gate_of(gate: _Gate, x_BND: Tensor, num_heads: int) -> Tensor:
    """Each query's factor of the position bias: (B, H, N, 1), between 1 and 2 plus a constant."""
    by_head_BHNE = x_BND.view(*x_BND.shape[:2], num_heads, -1).transpose(1, 2)
    gates_BHN2 = gate.product(by_head_BHNE).float().sigmoid()
    first, second = gates_BHN2.chunk(2, dim=-1)
    return first * (second * gate.constant_H11 - 1.0) + 2.0


def _feed_forward(block: _Block, x_BND: Tensor) -> Tensor:
    return block.second(block.activation(block.first(x_BND)))


def _mask(x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
    return x_BND if valid_BN is None else x_BND.masked_fill(~valid_BN[:, :, None], 0.0)


# ------------------------------------------------------------------- out of the libraries' modules
def _positions(positional: Any, device: str) -> list[_Position]:
    found = []
    for module in getattr(positional, "layers", [positional]):
        norm = getattr(module, "layer_norm", None)
        batch_norm = getattr(module, "batch_norm", None)
        found.append(
            _Position(
                before=None if batch_norm is None else _frozen_batch_norm(batch_norm, device),
                convolution=PositionalConvolution(module.conv, device),
                after=None if norm is None else layer_norm(norm, device),
                activation=activation(module, "activation"),
            )
        )
    return found


def _frozen_batch_norm(norm: Any, device: str) -> Callable[[Tensor], Tensor]:
    gain_D = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift_D = norm.bias - norm.running_mean * gain_D
    gain_D, shift_D = (value.detach().float().to(device) for value in (gain_D, shift_D))
    return lambda x_BND: x_BND * gain_D + shift_D


def _block(block: Any, device: str, dtype: torch.dtype) -> _Block:
    attention, feed_forward = block.attention, block.feed_forward
    adapter = getattr(block, "adapter_layer", None)
    num_heads = int(attention.num_heads)
    if hasattr(attention, "q_proj"):
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weight, bias = (torch.cat([getattr(p, n).detach() for p in parts]) for n in _PARAMETERS)
        out = attention.out_proj
    else:
        inner = attention.attention
        weight, bias = inner.in_proj_weight.detach().clone(), inner.in_proj_bias.detach().clone()
        out = inner.out_proj
    dim = weight.shape[1]
    weight[:dim] *= (dim // num_heads) ** -0.5
    bias[:dim] *= (dim // num_heads) ** -0.5
    return _Block(
        num_heads=num_heads,
        query_key_value=from_weights(weight, bias, device, dtype),
        gate=_gate(attention, device) if hasattr(attention, "gru_rel_pos_linear") else None,
        out=linear(out, device, dtype),
        norm=layer_norm(block.layer_norm, device),
        first=linear(feed_forward.intermediate_dense, device, dtype),
        activation=activation(feed_forward, "intermediate_act_fn"),
        second=linear(feed_forward.output_dense, device, dtype),
        final_norm=layer_norm(block.final_layer_norm, device),
        adapter=None if adapter is None else adapter.to(device, torch.float32),
    )


def _gate(attention: Any, device: str) -> _Gate:
    """Eight outputs are summed by fours before the sigmoid: so are their weights, once."""
    product = attention.gru_rel_pos_linear
    weight_2E, bias_2 = (
        getattr(product, name).detach().unflatten(0, (2, 4)).sum(dim=1) for name in _PARAMETERS
    )
    constant_H11 = attention.gru_rel_pos_const.detach().float()[0].to(device)
    return _Gate(from_weights(weight_2E, bias_2, device, torch.float32), constant_H11)
