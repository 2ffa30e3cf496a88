"""What acoustic models that are networks of torch have in common. Implements AcousticModel."""

# T samples, N frames, V symbols

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.aligning.acoustic import Spelling
from cslm_data.audio import SAMPLE_RATE_HZ

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CtcNetwork:
    """A CTC network over waveforms; see AcousticModel."""

    aligner_id: str
    name: str
    symbols: tuple[str, ...]
    spelling: Spelling
    hop: int
    """Samples from one frame to the next."""
    field: int
    """Samples that a frame is computed from: what is shorter is padded with silence."""
    columns: tuple[int, ...]
    """Where each symbol stands among the network's outputs."""
    logits: Callable[[Floats], torch.Tensor]
    """float32 (T,) → all outputs before the softmax (N, outputs), of one utterance."""

    @property
    def frame_rate_hz(self) -> float:
        """See AcousticModel."""
        return SAMPLE_RATE_HZ / self.hop

    def emissions(self, waveform_T: Floats) -> Floats:
        """See AcousticModel."""
        if len(waveform_T) < self.field:
            waveform_T = np.pad(waveform_T, (0, self.field - len(waveform_T)))
        with torch.inference_mode():
            logits_NV = self.logits(np.ascontiguousarray(waveform_T, np.float32))
            all_NV = torch.log_softmax(logits_NV.float(), dim=-1)
            emissions_NV: Floats = all_NV[:, list(self.columns)].cpu().numpy()
        return emissions_NV


def hop_of(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Step and field of view of convolutions one after the other, in samples."""
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return math.prod(strides), field


def normalised(waveform_T: Floats, eps: float) -> Floats:
    """Mean 0 and variance 1, as (x - mean) / sqrt(variance + eps)."""
    wave_T = waveform_T.astype(np.float64)
    wave_T -= wave_T.mean()
    return (wave_T / math.sqrt(float(np.mean(wave_T**2)) + eps)).astype(np.float32)
