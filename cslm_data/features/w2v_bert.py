"""wav2vec2-BERT of transformers: log mel energies → conformer blocks up to a layer.

The input is that of transformers' SeamlessM4TFeatureExtractor: Kaldi's log mel energies, each bin
normalised over the utterance, two frames of 10 ms side by side. A last odd frame is left out, as
the attention mask leaves it out there. The conformer is transformers' own, but for its attention,
which never holds a position vector for every pair of frames. Source: arXiv:2312.05187.
"""

# B utterances, T samples, F frames of 10 ms, M mel bins, N frames of 20 ms, D features, H heads,
# E features of a head, P distances, Q queries of a stretch

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cslm_data.errors import UsageError
from cslm_data.features.attention import attend_with_bias
from cslm_data.features.kaldi import BLOCK, FRAME, HOP, LogMel
from cslm_data.features.layers import from_weights
from cslm_data.features.network import FrameEncoder, Front
from cslm_data.features.windows import cut

Floats = NDArray[np.float32]

MODEL_TYPE = "wav2vec2-bert"

_SCALE = 2.0**15
"""Kaldi's samples are 16-bit integers."""
_FLOOR = 1.192092955078125e-07
_NORMALISE_EPS = 1e-7
_SCAN_FRAMES = 16 * BLOCK

_CONFIG_FIELDS = (
    "model_type", "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act",
    "feature_projection_input_dim", "layer_norm_eps", "position_embeddings_type",
    "rotary_embedding_base", "max_source_positions", "left_max_position_embeddings",
    "right_max_position_embeddings", "conv_depthwise_kernel_size",
)  # fmt: skip


def w2v_bert_parts(
    model: Any, settings: Mapping[str, Any], *, device: str, dtype: torch.dtype
) -> tuple[Front, FrameEncoder, dict[str, object]]:
    """Front, encoder and identity of a model whose upper layers are cut off already.

    `settings` is its preprocessor_config.json. Raises UsageError if the two do not fit.
    """
    num_bins = int(settings.get("num_mel_bins", 80))
    stride = int(settings.get("stride", 2))
    expected = int(model.config.feature_projection_input_dim)
    if num_bins * stride != expected:
        raise UsageError(
            f"wav2vec2-BERT: preprocessor_config.json makes {num_bins} × {stride} numbers a frame, "
            f"config.json expects {expected}; fetch the model again"
        )
    fields = {name: getattr(model.config, name, None) for name in _CONFIG_FIELDS}
    identity: dict[str, object] = {"config": fields, "num_mel_bins": num_bins, "stride": stride}
    front = MelFront(num_bins, stride, device=device)
    return front, Conformer(model, device=device, dtype=dtype), identity


class MelStatistics(NamedTuple):
    """Mean and scale of each bin over a whole utterance: float32 (M,)."""

    mean_M: Floats
    scale_M: Floats


class MelFront:
    """Waveforms → normalised log mel energies, `stride` frames side by side."""

    def __init__(self, num_bins: int, stride: int, *, device: str) -> None:
        self._log_mel = LogMel(num_bins, scale=_SCALE, floor=_FLOOR)
        self._stride, self._device = stride, device
        self.hop = HOP * stride
        self.field = FRAME + HOP * (stride - 1)

    def batch(self, waveforms: Sequence[Floats]) -> tuple[Tensor, list[int]]:
        """Frames (B, N, stride · M) and the number of each utterance, padded with zeros."""
        frames = []
        for wave_T in waveforms:
            missing = max(0, self.field - len(wave_T))
            mel_FM = self._log_mel(np.pad(np.asarray(wave_T, np.float32), (0, missing)))
            frames.append(self._stack(mel_FM, _statistics(*_sums(mel_FM))))
        counts = [len(frames_NC) for frames_NC in frames]
        padded_BNC = np.zeros((len(frames), max(counts), frames[0].shape[1]), np.float32)
        for frames_NC, row_NC in zip(frames, padded_BNC, strict=True):
            row_NC[: len(frames_NC)] = frames_NC
        return torch.from_numpy(padded_BNC).to(self._device), counts

    def scan(self, blocks: Iterable[Floats]) -> tuple[MelStatistics, int]:
        """Statistics of one recording, met in blocks, and its number of samples."""
        step, overlap = _SCAN_FRAMES * HOP, FRAME - HOP
        spans = ((start, start + step + overlap) for start in itertools.count(0, step))
        num_samples, sums = 0, _sums(np.zeros((0, 1), np.float32))
        for samples_T in cut(blocks, spans):
            num_samples += step if len(samples_T) == step + overlap else len(samples_T)
            if len(samples_T) >= FRAME:
                more = _sums(self._log_mel(np.ascontiguousarray(samples_T, np.float32)))
                sums = (sums[0] + more[0], sums[1] + more[1], sums[2] + more[2])
        return _statistics(*sums), num_samples

    def part(self, samples_T: Floats, statistics: MelStatistics) -> Tensor:
        """Frames (1, N, stride · M) of a part of the recording that has these statistics."""
        mel_FM = self._log_mel(np.ascontiguousarray(samples_T, np.float32))
        return torch.from_numpy(self._stack(mel_FM, statistics))[None].to(self._device)

    def _stack(self, mel_FM: Floats, statistics: MelStatistics) -> Floats:
        normal_FM = (mel_FM - statistics.mean_M) / statistics.scale_M
        whole = len(normal_FM) // self._stride * self._stride
        return normal_FM[:whole].reshape(whole // self._stride, -1)


_Sums = tuple[int, NDArray[np.float64], NDArray[np.float64]]


def _sums(mel_FM: Floats) -> _Sums:
    """Number of frames, their sum and the sum of their squares (M,)."""
    wide_FM = mel_FM.astype(np.float64)
    return len(mel_FM), wide_FM.sum(axis=0), np.square(wide_FM).sum(axis=0)


def _statistics(
    count: int, sum_M: NDArray[np.float64], squares_M: NDArray[np.float64]
) -> MelStatistics:
    """The variance is divided by F - 1, as transformers does."""
    mean_M = sum_M / count
    variance_M = np.maximum(0.0, squares_M - count * mean_M**2) / max(1, count - 1)
    scale_M = np.sqrt(variance_M + _NORMALISE_EPS)
    return MelStatistics(mean_M.astype(np.float32), scale_M.astype(np.float32))


class Conformer:
    """Frames → features of the last block left: (B, N, C) → float32 (B, N, D)."""

    def __init__(self, model: Any, *, device: str, dtype: torch.dtype) -> None:
        self._projection = _lower(model.feature_projection.to(device), device, dtype)
        self._encoder = model.encoder.to(device)
        for layer in self._encoder.layers:
            if layer.self_attn.position_embeddings_type == "relative_key":
                layer.self_attn = _RelativeKeyAttention(layer.self_attn, device, dtype)
        _lower(self._encoder, device, dtype)

    def __call__(self, frames_BNC: Tensor, counts: Sequence[int]) -> Tensor:
        """Utterance b has `counts[b]` frames, what follows is noise."""
        longest = frames_BNC.shape[1]
        mask_BN = None
        if min(counts) < longest:
            counts_B1 = torch.tensor(counts, device=frames_BNC.device)[:, None]
            mask_BN = torch.arange(longest, device=frames_BNC.device) < counts_B1
        hidden_BND = self._projection(frames_BNC)[0]
        features_BND: Tensor = self._encoder(hidden_BND, attention_mask=mask_BN).last_hidden_state
        return features_BND


class _RelativeKeyAttention(torch.nn.Module):
    """Attention with a key vector per clamped distance: 73 products a query, not one per pair."""

    def __init__(self, attention: Any, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self._num_heads = attention.num_heads
        self._left = attention.left_max_position_embeddings
        self._right = attention.right_max_position_embeddings
        scale = attention.head_size**-0.5
        query = attention.linear_q
        self._query = from_weights(query.weight * scale, query.bias * scale, device, dtype)
        self._key, self._value, self._out = (
            from_weights(module.weight, module.bias, device, dtype)
            for module in (attention.linear_k, attention.linear_v, attention.linear_out)
        )
        self._distances_PE = attention.distance_embedding.weight.detach().to(device, dtype)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        relative_position_embeddings: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, None]:
        """The signature of the module it stands for; the mask is additive, (B, 1, N, N)."""
        size, num_frames, dim = hidden_states.shape
        query, key, value = (
            product(hidden_states).view(size, num_frames, self._num_heads, -1).transpose(1, 2)
            for product in (self._query, self._key, self._value)
        )
        by_distance_BHNP = query @ self._distances_PE.T
        places_N = torch.arange(num_frames, device=query.device)

        def bias_of(first: int, last: int) -> Tensor:
            distance_QN = places_N - places_N[first:last, None]
            index_QN = distance_QN.clamp(-self._left, self._right) + self._left
            index_BHQN = index_QN.expand(size, self._num_heads, -1, -1)
            bias: Tensor = by_distance_BHNP[:, :, first:last].gather(3, index_BHQN)
            return bias

        valid_BN = None if attention_mask is None else attention_mask[:, 0, 0] == 0
        mixed = attend_with_bias(query, key, value, valid_BN, bias_of)
        joined_BND: Tensor = mixed.transpose(1, 2).reshape(size, num_frames, dim)
        return self._out(joined_BND).float(), None


class _Lowered(torch.nn.Module):
    """A matrix product in a lower dtype between float32 neighbours."""

    def __init__(self, module: Any, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self._over_time = isinstance(module, torch.nn.Conv1d)
        weight = module.weight.squeeze(2) if self._over_time else module.weight
        self._product = from_weights(weight, module.bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, I) → (B, N, O), channels and time exchanged for a convolution of one tap."""
        if self._over_time:
            return self._product(x.transpose(1, 2)).transpose(1, 2).float()
        return self._product(x).float()


def _lower(module: Any, device: str, dtype: torch.dtype) -> Any:
    """Replace the matrix products inside a module; in float32 it stays as it is."""
    if dtype is torch.float32:
        return module
    for name, child in module.named_children():
        one_tap = isinstance(child, torch.nn.Conv1d) and child.kernel_size == (1,)
        if one_tap or isinstance(child, torch.nn.Linear):
            setattr(module, name, _Lowered(child, device, dtype))
        else:
            _lower(child, device, dtype)
    return module
