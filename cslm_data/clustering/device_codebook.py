"""Normalisation and centroids on a device: features stay there, only units come back. Files: none.

On a GPU the features of a batch are larger than all else: moved to the host and assigned there,
they would cost more than the network.
"""

# N frames, D features, E dimensions after normalisation

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.clustering.assignment import assign_on_device
from cslm_data.clustering.normalisation import SMALLEST, Normalisation
from cslm_data.records import Units

Floats = NDArray[np.float32]


class DeviceCodebook:
    """What `SpeechTokenizer.units_of` does, in torch, on one device."""

    def __init__(self, normalisation: Normalisation, centroids_KE: Floats, device: str) -> None:
        self._kind = normalisation.kind
        self._arrays = {
            name: torch.from_numpy(array).to(device) for name, array in normalisation.arrays.items()
        }
        self._centroids_KE = torch.from_numpy(centroids_KE).to(device)

    def units_of(self, features_ND: torch.Tensor) -> Units:
        """The unit of each frame: float32 (N, D) on the device → uint16 (N,) in memory."""
        with torch.inference_mode():
            units_N = assign_on_device(self._normalise(features_ND), self._centroids_KE)
            return units_N.cpu().numpy().astype(np.uint16)

    def _normalise(self, features_ND: torch.Tensor) -> torch.Tensor:
        if self._kind == "spherical":
            lengths_N = torch.linalg.vector_norm(features_ND, dim=1, keepdim=True)
            on_sphere: torch.Tensor = features_ND / lengths_N.clamp(min=SMALLEST)
            return on_sphere
        points: torch.Tensor = features_ND.float()
        if "mean" in self._arrays:
            points = points - self._arrays["mean"]
        if "basis" in self._arrays:
            points = points @ self._arrays["basis"]
        if "scale" in self._arrays:
            points = points / self._arrays["scale"]
        return points
