"""The speech tokenizer: fit, identity, waveform → units. Files: none; see tokenizers/.

A frozen artefact, named by its content: extractor with its weights and layer, resampler,
normalisation, centroids and dedup rule. Units of two tokenizers never mix.
"""

# N frames (after dedup: units), D features, E dimensions after normalisation, K units, T samples

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ, resampler_identity
from cslm_data.clustering.assignment import NearestCentroid
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.errors import AudioError, TokenizerMismatchError
from cslm_data.features import BatchExtractor, FeatureExtractor, load_extractor, readable_name
from cslm_data.features.windows import features_of
from cslm_data.keys import content_id
from cslm_data.records import Units

if TYPE_CHECKING:
    import torch

    from cslm_data.clustering.device_codebook import DeviceCodebook

Floats = NDArray[np.float32]

DEDUP_RUNS = "runs"
"""The dedup rule: a run of equal units becomes one, with its length; over 65 535 it is split."""

DEFAULT_NORMALISATION = "standardise"

_LONGEST_RUN = 0xFFFF


class Encoded(NamedTuple):
    """An utterance in units."""

    units: Units
    """uint16 (N,), a run of equal frames once."""
    durations: NDArray[np.uint16]
    """uint16 (N,), frames of each run."""
    num_frames: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechTokenizer:
    """Everything that turns a waveform into units."""

    extractor: str
    """Spec of the feature extractor, e.g. `mfcc`; where to find it, not what it is."""
    extractor_identity: dict[str, object]
    """What it is: kind, weights, layer, normalisation of the waveform."""
    layer: int | None
    frame_rate_hz: float
    resampler: str
    normalisation: Normalisation
    centroids_KE: Floats
    """In the space after normalisation."""
    dedup: str = DEDUP_RUNS
    fit: dict[str, Any] = field(default_factory=dict)
    """How it was fitted: seed, frames per language, inertia. No part of the identity."""
    created: int = 0
    """Place in the order in which the tokenizers of a workspace were made."""
    name: str = ""
    """Folder in the workspace."""
    device: str = "auto"
    """Where to run; no part of the identity."""
    dtype: str = "float32"

    def __getstate__(self) -> dict[str, object]:
        """What travels to another process: not the loaded network."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def num_units(self) -> int:
        """Size K of the vocabulary."""
        return len(self.centroids_KE)

    @property
    def identity(self) -> dict[str, object]:
        """All that determines the units, as JSON-like values."""
        return {
            "format": 2,
            "extractor": self.extractor_identity,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "resampler": self.resampler,
            "normalisation": {
                "kind": self.normalisation.kind,
                **{name: _array_id(array) for name, array in self.normalisation.arrays.items()},
            },
            "centroids": _array_id(self.centroids_KE),
            "dedup": self.dedup,
        }

    @functools.cached_property
    def tokenizer_id(self) -> str:
        """Readable prefix and content hash, e.g. `mfcc-500-1a2b3c4d5e6f`."""
        name = readable_name(self.extractor, self.layer)
        return f"{name}-{self.num_units}-{content_id(self.identity, length=12)}"

    @functools.cached_property
    def features(self) -> FeatureExtractor:
        """The extractor, loaded when first needed and checked to be the one of the fit."""
        loaded = load_extractor(
            self.extractor, layer=self.layer, device=self.device, dtype=self.dtype
        )
        found = content_id(loaded.identity)
        expected = content_id(self.extractor_identity)
        of_layer = "" if self.layer is None else f" --layer {self.layer}"
        refit = f"cslm-data fit-tokenizer --extractor {self.extractor}{of_layer}"
        if found != expected:
            raise TokenizerMismatchError(
                f"{self.tokenizer_id}: {self.extractor} is not what this tokenizer was fitted with "
                f"(weights and settings {found}, not {expected}); bring the old ones back, or fit "
                f"a new tokenizer: {refit}"
            )
        if self.resampler != resampler_identity():
            raise TokenizerMismatchError(
                f"{self.tokenizer_id}: fitted with {self.resampler}, but {resampler_identity()} "
                f"is installed; install that one, or fit a new tokenizer: {refit}"
            )
        return loaded

    def encode(self, waveform_T: Floats) -> Encoded:
        """Units of one utterance at 16 kHz: float32 (T,) → units, durations, number of frames.

        Raises AudioError `empty` without samples, `not_finite` where features overflow.
        """
        if not len(waveform_T):
            raise AudioError("empty", "no samples are left at 16 kHz; correct its duration")
        features_ND = features_of(self.features, waveform_T)
        if not np.isfinite(features_ND).all():
            raise AudioError("not_finite", "its features are not finite; check the recording")
        units_N = self.units_of(features_ND)
        return Encoded(*dedup(units_N), len(units_N))

    def units_of(self, features_ND: Floats | torch.Tensor) -> Units:
        """The unit of each frame, before dedup: float32 (N, D) → uint16 (N,).

        Features on a device are assigned there, and only the units leave it.
        """
        if isinstance(features_ND, np.ndarray):
            return self._nearest(self.normalisation.apply(features_ND))
        return self._codebook_on(str(features_ND.device)).units_of(features_ND)

    @functools.cached_property
    def _nearest(self) -> NearestCentroid:
        """Exact for what is computed in float32; where the network is not, nor need this be."""
        fast = False
        if self.dtype == "bfloat16" and isinstance(self.features, BatchExtractor):
            from cslm_data.clustering.lloyd import fast_arithmetic

            fast = fast_arithmetic("cpu") == "bfloat16"
        return NearestCentroid(self.centroids_KE, bfloat16=fast)

    @functools.cached_property
    def _codebook_on(self) -> Callable[[str], DeviceCodebook]:
        from cslm_data.clustering.device_codebook import DeviceCodebook

        def make(device: str) -> DeviceCodebook:
            return DeviceCodebook(self.normalisation, self.centroids_KE, device)

        return functools.cache(make)


def dedup(units_N: Units) -> tuple[Units, NDArray[np.uint16]]:
    """Runs of equal units: uint16 (N,) → units and durations, uint16 (R,) each.

    A run over 65 535 frames (22 minutes) becomes several of the same unit, so that durations fit.
    """
    units_N = np.asarray(units_N, np.uint16)
    if not len(units_N):
        return np.zeros(0, np.uint16), np.zeros(0, np.uint16)
    starts = np.flatnonzero(np.concatenate([[True], units_N[1:] != units_N[:-1]]))
    lengths = np.diff(np.append(starts, len(units_N)))
    runs = units_N[starts]
    if lengths.max() > _LONGEST_RUN:
        pieces = -(-lengths // _LONGEST_RUN)
        last = np.cumsum(pieces) - 1
        rest = lengths - (pieces - 1) * _LONGEST_RUN
        runs = np.repeat(runs, pieces)
        lengths = np.full(len(runs), _LONGEST_RUN)
        lengths[last] = rest
    return runs, lengths.astype(np.uint16)


def expand(units: Units, durations: NDArray[np.uint16]) -> Units:
    """The frames of some runs: the inverse of `dedup`."""
    return np.repeat(np.asarray(units, np.uint16), np.asarray(durations, np.int64))


def _array_id(array: Floats) -> str:
    """BLAKE2b-128 of shape and little-endian float32 values."""
    digest = hashlib.blake2b(str(list(array.shape)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()
