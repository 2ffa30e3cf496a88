"""A trained network as a feature extractor: one by one, in batches, in windows.

Put together from two parts: a front that makes frames of a waveform, knowing statistics of the
whole utterance, and an encoder in which frames look at each other. The same two do all three ways
of running it, so that a unit does not depend on the way.
"""

# B utterances, T samples, N frames, C channels, D features

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.features.windows import CONTEXT_SAMPLES, CORE_SAMPLES, WINDOWS_IDENTITY, cut

Floats = NDArray[np.float32]

FrameEncoder = Callable[[Tensor, Sequence[int]], Tensor]
"""Frames (B, N, C), of which each utterance has so many → features, float32 (B, N, D)."""


class Front(Protocol):
    """Waveforms → frames; what it averages over an utterance is apart in `scan`."""

    hop: int
    """Samples from one frame to the next."""
    field: int
    """Samples that a frame sees."""

    def batch(self, waveforms: Sequence[Floats]) -> tuple[Tensor, list[int]]:
        """Frames (B, N, C) of whole utterances and the number of each; what follows is noise."""

    def scan(self, blocks: Iterable[Floats]) -> tuple[Any, int]:
        """Statistics of a recording met in blocks, and its number of samples."""

    def part(self, samples_T: Floats, statistics: Any) -> Tensor:
        """Frames (1, N, C) of a part of that recording."""


class NetworkExtractor:
    """float32 (T,) → float32 (N, D)."""

    def __init__(
        self,
        *,
        identity: dict[str, object],
        layer: int,
        dim: int,
        front: Front,
        encoder: FrameEncoder,
        device: str,
    ) -> None:
        """`identity` is completed here by the layer and the place of the windows."""
        self.identity = {**identity, "layer": layer, "windows": WINDOWS_IDENTITY}
        self.layer = layer
        self.dim = dim
        self.device = device
        self.frame_rate_hz = SAMPLE_RATE_HZ / front.hop
        self._front = front
        self._encoder = encoder

    def __call__(self, waveform_T: Floats) -> Floats:
        """Features of one utterance; one too short for a frame is padded with zeros."""
        return np.asarray(self.batch([waveform_T])[0].cpu().numpy(), np.float32)

    def batch(self, waveforms: Sequence[Floats]) -> list[Tensor]:
        """Features of each utterance, float32 (N, D) on `device`; what is padded is masked."""
        with torch.inference_mode():
            frames_BNC, counts = self._front.batch(waveforms)
            features_BND = self._encoder(frames_BNC, counts)
            return [
                features_ND[:count] for features_ND, count in zip(features_BND, counts, strict=True)
            ]

    def windows(
        self, open_blocks: Callable[[], Iterator[Floats]], num_samples: int
    ) -> Iterator[Floats]:
        """Features of a long recording, (n, D) each, in two passes over it.

        The first gathers what is averaged over the whole recording, the second goes through
        windows that overlap: only the reach of the attention differs from an unwindowed pass.
        """
        with torch.inference_mode():
            statistics, total = self._front.scan(open_blocks())
        hop, field = self._front.hop, self._front.field
        core, context = CORE_SAMPLES // hop, CONTEXT_SAMPLES // hop
        num_frames = 1 + max(0, total - field) // hop
        cores = [(first, min(num_frames, first + core)) for first in range(0, num_frames, core)]
        reach = [
            (max(0, first - context), min(num_frames, last + context)) for first, last in cores
        ]
        spans = [(first * hop, (last - 1) * hop + field) for first, last in reach]
        for (first, last), (seen, _), samples_T in zip(
            cores, reach, cut(open_blocks(), spans), strict=True
        ):
            with torch.inference_mode():
                frames_1NC = self._front.part(samples_T, statistics)
                features_ND = self._encoder(frames_1NC, [frames_1NC.shape[1]])[0]
                core_ND = features_ND[first - seen : last - seen].cpu().numpy()
            yield np.asarray(core_ND, np.float32)
