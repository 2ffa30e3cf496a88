"""Waveform → frames: the convolutions that HuBERT, wav2vec 2.0 and WavLM begin with.

The same numbers as the modules of transformers and torchaudio, computed otherwise:

- Every convolution is a matrix product over a strided view, channels last, in stretches of time
  whose working set stays in the cache. The first one stays in float32 whatever the dtype.
- The group norm of the base models averages each channel over the whole utterance. What it needs
  follows from mean and covariance of the first convolution's input patches (10 × 10 numbers), so
  it is folded into that convolution's weights. Padding does not enter the averages, and a long
  recording is encoded in windows under the norm of the whole.
"""

# B utterances, T samples, N frames, C channels, K samples of a patch

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cslm_data.features.layers import LayerNorm, Linear, activation, from_weights, layer_norm
from cslm_data.features.windows import cut

Floats = NDArray[np.float32]

_CPU_FRAMES = 400
_CPU_ROWS = 1000
"""On a CPU: frames made in one go (over the bytes of a number), and rows of the first convolution
before they are narrowed: both sets then stay in the caches."""
_GPU_FRAMES = 6_000
_SCAN_PATCHES = 1 << 16
"""Patches of a long recording summed at a time."""


class Moments(NamedTuple):
    """Of the patches that the first convolution sees; float64."""

    mean_BK: Tensor
    covariance_BKK: Tensor


class WaveStatistics(NamedTuple):
    """What must be known of whole utterances before a part of them can be encoded; float64."""

    mean_B1: Tensor
    """Mean of the samples, and square root of their variance; 0 and 1 if not to be normalised."""
    scale_B1: Tensor
    patches: Moments | None
    """Of the normalised waveform, where there is a group norm."""


class _Convolution(NamedTuple):
    """One layer; its weight is a matrix over patches of (kernel, channels)."""

    product: Linear
    kernel: int
    stride: int
    norm: LayerNorm | None
    activation: Callable[[Tensor], Tensor]


class _GroupNorm(NamedTuple):
    """A norm of each channel over time; float64."""

    gain_C: Tensor
    shift_C: Tensor
    eps: float


class FrontEnd:
    """Waveforms → frames (B, N, C) every 20 ms, before they are projected."""

    def __init__(
        self,
        layers: Sequence[Any],
        *,
        normalise_eps: float | None,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        """From a model's layers, modules with `conv`, `layer_norm`, perhaps `activation`.

        With `normalise_eps` waveforms are brought to mean 0 and variance 1 first, as
        (x - mean) / sqrt(variance + eps).
        """
        self._normalise_eps = normalise_eps
        self._device, self._dtype = device, dtype
        dtypes = itertools.chain([torch.float32], itertools.repeat(dtype))
        self._layers = [_convolution(*pair, device) for pair in zip(layers, dtypes, strict=False)]
        self._group_norm = _group_norm(layers[0], device)
        self.hop = math.prod(layer.stride for layer in self._layers)
        self.field = 1
        for layer in reversed(self._layers):
            self.field = (self.field - 1) * layer.stride + layer.kernel

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance; one too short for a frame is padded with zeros."""
        return 1 + max(0, num_samples - self.field) // self.hop

    def batch(self, waveforms: Sequence[Floats]) -> tuple[Tensor, list[int]]:
        """Frames (B, N, C) of utterances and how many of them each has; what follows is noise."""
        lengths = [len(wave_T) for wave_T in waveforms]
        counts = [self.num_frames(length) for length in lengths]
        size = (max(counts) - 1) * self.hop + self.field
        waves_BT = np.zeros((len(waveforms), max(size, *lengths)), np.float32)
        for wave_T, row_T in zip(waveforms, waves_BT, strict=True):
            row_T[: len(wave_T)] = wave_T
        wave_BT = torch.from_numpy(waves_BT).to(self._device)
        lengths_B1 = torch.tensor(lengths, device=self._device)[:, None]
        valid_BT = torch.arange(wave_BT.shape[1], device=self._device) < lengths_B1
        mean_B1, scale_B1 = self._level(wave_BT.double(), valid_BT, lengths_B1)
        normal_BT = self._normalise(wave_BT, mean_B1, scale_B1) * valid_BT
        patches = None
        if self._group_norm is not None:
            sums = self._sum_patches(normal_BT.double(), lengths_B1.clamp(min=self.field))
            patches = _moments(*sums)
        statistics = WaveStatistics(mean_B1, scale_B1, patches)
        return self._encode(normal_BT, max(counts), statistics), counts

    def part(self, samples_T: Floats, statistics: WaveStatistics) -> Tensor:
        """Frames (1, N, C) of a part of the recording that has these statistics."""
        wave_1T = torch.from_numpy(np.ascontiguousarray(samples_T))[None].to(self._device)
        normal_1T = self._normalise(wave_1T, statistics.mean_B1, statistics.scale_B1)
        return self._encode(normal_1T, self.num_frames(len(samples_T)), statistics)

    def scan(self, blocks: Iterable[Floats]) -> tuple[WaveStatistics, int]:
        """Statistics of one recording, met in blocks, and its number of samples."""
        kernel, stride = self._layers[0].kernel, self._layers[0].stride
        step = _SCAN_PATCHES * stride
        overlap = max(0, kernel - stride)
        spans = ((start, start + step + overlap) for start in itertools.count(0, step))
        num_samples, total, squares = 0, 0.0, 0.0
        sums = [torch.zeros((), dtype=torch.float64)] * 3
        for samples_T in cut(blocks, spans):
            new = step if len(samples_T) == step + overlap else len(samples_T)
            wave_1T = torch.from_numpy(np.asarray(samples_T, np.float64))[None]
            num_samples += new
            total += float(wave_1T[:, :new].sum())
            squares += float(wave_1T[:, :new].square().sum())
            if self._group_norm is not None and len(samples_T) >= kernel:
                found = self._sum_patches(wave_1T, torch.tensor([[len(samples_T)]]))
                sums = [before + more for before, more in zip(sums, found, strict=True)]
        mean, scale = 0.0, 1.0
        if self._normalise_eps is not None:
            mean = total / max(1, num_samples)
            variance = max(0.0, squares / max(1, num_samples) - mean**2)
            scale = math.sqrt(variance + self._normalise_eps)
        patches = None
        if self._group_norm is not None:
            raw = _moments(*sums)
            patches = Moments(
                ((raw.mean_BK - mean) / scale).to(self._device),
                (raw.covariance_BKK / scale**2).to(self._device),
            )
        mean_11, scale_11 = (
            torch.full((1, 1), value, dtype=torch.float64, device=self._device)
            for value in (mean, scale)
        )
        return WaveStatistics(mean_11, scale_11, patches), num_samples

    def _level(
        self, wave_BT: Tensor, valid_BT: Tensor, lengths_B1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and scale of each utterance, without its padding."""
        zero_B1 = torch.zeros_like(wave_BT[:, :1])
        if self._normalise_eps is None:
            return zero_B1, zero_B1 + 1
        count_B1 = lengths_B1.clamp(min=1)
        mean_B1 = wave_BT.sum(dim=1, keepdim=True) / count_B1
        centred_BT = (wave_BT - mean_B1) * valid_BT
        variance_B1 = centred_BT.square().sum(dim=1, keepdim=True) / count_B1
        return mean_B1, (variance_B1 + self._normalise_eps).sqrt()

    def _normalise(self, wave_BT: Tensor, mean_B1: Tensor, scale_B1: Tensor) -> Tensor:
        if self._normalise_eps is None:
            return wave_BT
        return (wave_BT - mean_B1.float()) / scale_B1.float()

    def _sum_patches(self, wave_BT: Tensor, lengths_B1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Number (B, 1), sum (B, K) and sum of outer products (B, K, K) of the patches."""
        kernel, stride = self._layers[0].kernel, self._layers[0].stride
        patches_BPK = wave_BT.unfold(1, kernel, stride)
        count_B1 = (lengths_B1 - kernel) // stride + 1
        index_P = torch.arange(patches_BPK.shape[1], device=wave_BT.device)
        patches_BPK = patches_BPK * (index_P < count_B1)[:, :, None]
        return count_B1, patches_BPK.sum(dim=1), patches_BPK.mT @ patches_BPK

    def _first_weights(self, statistics: WaveStatistics, size: int) -> tuple[Tensor, Tensor]:
        """Weights (B, K, C) and bias (B, 1, C) of the first layer, its group norm folded in."""
        product, norm = self._layers[0].product, self._group_norm
        if norm is None:
            weight_KC = product.weight_OI.T
            bias_C = weight_KC.new_zeros(weight_KC.shape[1])
            if product.bias_O is not None:
                bias_C = product.bias_O
            return weight_KC.expand(size, -1, -1), bias_C.expand(size, 1, -1)
        assert statistics.patches is not None
        weight_CK = product.weight_OI.double()
        # The channels' own means and variances over the utterance; a bias would cancel.
        mean_BC = statistics.patches.mean_BK @ weight_CK.T
        variance_BC = ((weight_CK @ statistics.patches.covariance_BKK) * weight_CK).sum(dim=2)
        gain_BC = norm.gain_C / (variance_BC.clamp(min=0) + norm.eps).sqrt()
        weight_BKC = weight_CK.T * gain_BC[:, None]
        bias_BC = norm.shift_C - mean_BC * gain_BC
        return weight_BKC.float(), bias_BC[:, None].float()

    def _encode(self, wave_BT: Tensor, num_frames: int, statistics: WaveStatistics) -> Tensor:
        """All layers, a stretch of time after the other: (B, T) → (B, N, C)."""
        size = len(wave_BT)
        weight_BKC, bias_B1C = self._first_weights(statistics, size)
        on_cpu = wave_BT.device.type == "cpu"
        most = _CPU_FRAMES // self._dtype.itemsize if on_cpu else _GPU_FRAMES
        count = min(num_frames, -(-num_frames * size // most))
        bounds = [num_frames * index // count for index in range(count + 1)]
        stretches = []
        for first, last in itertools.pairwise(bounds):
            part_BT = wave_BT[:, first * self.hop : (last - 1) * self.hop + self.field]
            frames_BNC = self._first_layer(part_BT, weight_BKC, bias_B1C, on_cpu=on_cpu)
            for layer in self._layers[1:]:
                frames_BNC = _convolve(frames_BNC, layer)
            stretches.append(frames_BNC)
        return stretches[0] if len(stretches) == 1 else torch.cat(stretches, dim=1)

    def _first_layer(
        self, wave_BT: Tensor, weight_BKC: Tensor, bias_B1C: Tensor, *, on_cpu: bool
    ) -> Tensor:
        layer = self._layers[0]
        patches_BPK = wave_BT.unfold(1, layer.kernel, layer.stride)
        num_rows = patches_BPK.shape[1]
        step = max(1, _CPU_ROWS // len(wave_BT)) if on_cpu else num_rows
        rows_BPC = wave_BT.new_empty(
            (len(wave_BT), num_rows, weight_BKC.shape[2]), dtype=self._dtype
        )
        for first in range(0, num_rows, step):
            out_BPC = torch.baddbmm(bias_B1C, patches_BPK[:, first : first + step], weight_BKC)
            if layer.norm is not None:
                out_BPC = layer.norm(out_BPC)
            rows_BPC[:, first : first + step] = layer.activation(out_BPC)
        return rows_BPC


def _convolve(frames_BNC: Tensor, layer: _Convolution) -> Tensor:
    """A layer after the first: (B, N, C) → (B, (N - kernel) // stride + 1, C)."""
    size, length, channels = frames_BNC.shape
    num_frames = (length - layer.kernel) // layer.stride + 1
    patches_BNK = frames_BNC.as_strided(
        (size, num_frames, layer.kernel * channels),
        (length * channels, layer.stride * channels, 1),
    )
    # One flat product: over a strided batch torch would multiply utterance by utterance.
    out_BNC = layer.product(patches_BNK.flatten(0, 1)).view(size, num_frames, -1)
    if layer.norm is not None:
        return layer.activation(layer.norm(out_BNC)).to(out_BNC.dtype)
    return layer.activation(out_BNC)


def _convolution(layer: Any, dtype: torch.dtype, device: str) -> _Convolution:
    conv, norm = layer.conv, getattr(layer, "layer_norm", None)
    weight_CK = conv.weight.detach().transpose(1, 2).flatten(1).contiguous()
    return _Convolution(
        product=from_weights(weight_CK, conv.bias, device, dtype),
        kernel=conv.kernel_size[0],
        stride=conv.stride[0],
        norm=layer_norm(norm, device) if isinstance(norm, torch.nn.LayerNorm) else None,
        activation=activation(layer, "activation"),
    )


def _group_norm(layer: Any, device: str) -> _GroupNorm | None:
    norm = getattr(layer, "layer_norm", None)
    if not isinstance(norm, torch.nn.GroupNorm):
        return None
    gain_C, shift_C = (p.detach().to(device, torch.float64) for p in (norm.weight, norm.bias))
    return _GroupNorm(gain_C, shift_C, norm.eps)


def _moments(count_B1: Tensor, sum_BK: Tensor, outer_BKK: Tensor) -> Moments:
    """Mean and covariance from sums, in float64."""
    mean_BK = sum_BK / count_B1
    outer_of_mean_BKK = mean_BK[:, :, None] * mean_BK[:, None]
    return Moments(mean_BK, outer_BKK / count_B1[:, :, None] - outer_of_mean_BKK)
