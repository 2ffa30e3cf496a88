"""Units of any tokenizer → log mel energies, by a ridge regression. Reads and writes a folder mel/.

A unit stands for its centroid (its largest directions) and for the mean of the log mel energies
that it was seen with; five frames of that around each moment predict the energies there. A code of
a tokenizer without centroids (S3) stands for its mean energies alone.
"""

# N frames of units, F frames of 10 ms, K units, E dimensions of a centroid, B mel bins
# P numbers that stand for a unit, Q inputs of the regression, S places within a frame of units

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.features.kaldi import FRAME, HOP
from cslm_data.records import Units
from cslm_data.resynthesis.distance import NUM_BINS
from cslm_data.workspace import atomic_path, write_json

Floats = NDArray[np.float32]
Float64s = NDArray[np.floating[Any]]

_REACH = 2
_DIRECTIONS, _MEAN_DIRECTIONS = 64, 32
_PRIOR_FRAMES = 3
"""A unit seen this often is trusted half, one never seen has the mean of all."""
_RIDGE = 1e-3
_MEL_RATE_HZ = SAMPLE_RATE_HZ / HOP

RECIPE: dict[str, object] = {
    "format": 1,
    "mel_bins": NUM_BINS,
    "reach": _REACH,
    "directions": [_DIRECTIONS, _MEAN_DIRECTIONS],
    "prior_frames": _PRIOR_FRAMES,
    "ridge": _RIDGE,
}
"""What a fit depends on besides tokenizer and speech; one of another recipe is made anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MelRegression:
    """What stands for each unit, and what it says of the energies."""

    frame_rate_hz: float
    embedding_KP: Floats
    weights_SQB: Floats
    """The last input is 1."""

    def log_mel_of_units(self, units_N: Units, num_mel_frames: int) -> Floats:
        """uint16 (N,) → float32 (F, 80), on the grid of `LogMel`."""
        frame_F, place_F = _places(num_mel_frames, len(units_N), self.frame_rate_hz)
        inputs_FQ = _inputs(self.embedding_KP, units_N, frame_F)
        log_mel_FB = np.empty((num_mel_frames, self.weights_SQB.shape[2]), np.float32)
        for place, weights_QB in enumerate(self.weights_SQB):
            log_mel_FB[place_F == place] = inputs_FQ[place_F == place] @ weights_QB
        return log_mel_FB


def fit(
    speech: Iterable[tuple[Units, Floats]], *, centroids_KE: Floats, frame_rate_hz: float
) -> MelRegression:
    """From utterances, each as frames of units (N,) and log mel energies (F, 80)."""
    seen = list(speech)
    num_units = len(centroids_KE)
    places = [_places(len(mel_FB), len(units_N), frame_rate_hz) for units_N, mel_FB in seen]
    counts_K = np.zeros(num_units)
    sums_KB = np.zeros((num_units, NUM_BINS))
    for (units_N, mel_FB), (frame_F, _) in zip(seen, places, strict=True):
        np.add.at(counts_K, units_N[frame_F], 1)
        np.add.at(sums_KB, units_N[frame_F], mel_FB)
    mean_B = sums_KB.sum(axis=0) / counts_K.sum()
    means_KB = (sums_KB - counts_K[:, None] * mean_B) / (counts_K + _PRIOR_FRAMES)[:, None]
    blocks = [_largest_directions(means_KB, _MEAN_DIRECTIONS)]
    if centroids_KE.shape[1] > 1:
        blocks.append(_largest_directions(centroids_KE.astype(np.float64), _DIRECTIONS))
    embedding_KP = np.concatenate(blocks, axis=1).astype(np.float32)
    num_places = _num_places(frame_rate_hz)
    num_inputs = (2 * _REACH + 1) * embedding_KP.shape[1] + 1
    squares_SQQ = np.zeros((num_places, num_inputs, num_inputs))
    products_SQB = np.zeros((num_places, num_inputs, NUM_BINS))
    for (units_N, mel_FB), (frame_F, place_F) in zip(seen, places, strict=True):
        inputs_FQ = _inputs(embedding_KP, units_N, frame_F)
        for place in range(num_places):
            there_FQ = inputs_FQ[place_F == place]
            squares_SQQ[place] += there_FQ.T @ there_FQ
            products_SQB[place] += there_FQ.T @ mel_FB[place_F == place]
    weights = [_ridge(*pair) for pair in zip(squares_SQQ, products_SQB, strict=True)]
    return MelRegression(
        frame_rate_hz=frame_rate_hz,
        embedding_KP=embedding_KP,
        weights_SQB=np.stack(weights).astype(np.float32),
    )


def _num_places(frame_rate_hz: float) -> int:
    """Energies differ within a frame of units where there are several of them."""
    return max(1, round(_MEL_RATE_HZ / frame_rate_hz))


def _places(
    num_mel_frames: int, num_frames: int, frame_rate_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The frame of units at each frame of energies, and where in it: int64 (F,) each."""
    at_F = (np.arange(num_mel_frames) * HOP + FRAME / 2) / SAMPLE_RATE_HZ * frame_rate_hz
    num_places = _num_places(frame_rate_hz)
    place_F = np.minimum((at_F % 1 * num_places).astype(np.int64), num_places - 1)
    return np.clip(at_F.astype(np.int64), 0, num_frames - 1), place_F


def _inputs(embedding_KP: Floats, units_N: Units, frame_F: NDArray[np.int64]) -> Floats:
    """What stands for the units around each moment: (F, Q); at the edges the last unit stays."""
    around_FR = frame_F[:, None] + np.arange(-_REACH, _REACH + 1)
    units_FR = units_N[np.clip(around_FR, 0, len(units_N) - 1)]
    flat_FQ = embedding_KP[units_FR].reshape(len(frame_F), -1)
    return np.concatenate([flat_FQ, np.ones((len(frame_F), 1), np.float32)], axis=1)


def _largest_directions(points_KE: Float64s, most: int) -> Float64s:
    """The points along their directions of largest variance, with a usual spread of 1."""
    centred_KE = points_KE - points_KE.mean(axis=0)
    _, axes_EE = np.linalg.eigh(centred_KE.T @ centred_KE)
    along_KP = centred_KE @ axes_EE[:, ::-1][:, :most]
    spread = float(along_KP.std(axis=0).mean())
    return np.asarray(along_KP / (spread or 1.0))


def _ridge(squares_QQ: Float64s, products_QB: Float64s) -> Float64s:
    """Weights (Q, B) that fit best and are small; the constant input may weigh what it likes."""
    num_frames = max(squares_QQ[-1, -1], 1.0)
    penalty_Q = np.full(len(squares_QQ), _RIDGE * num_frames)
    penalty_Q[-1] = _RIDGE
    return np.linalg.solve(squares_QQ + np.diag(penalty_Q), products_QB)


# --------------------------------------------------------------------------------------- on disk
def save(regression: MelRegression, folder: Path, about: dict[str, Any]) -> None:
    """Write arrays, then mel.json with their hashes: a kill leaves something that does not load."""
    arrays = {"embedding": regression.embedding_KP, "weights": regression.weights_SQB}
    for name, array in arrays.items():
        with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(array, "<f4"), allow_pickle=False)
    hashes = {name: _hash(array) for name, array in arrays.items()}
    rate = {"frame_rate_hz": regression.frame_rate_hz}
    write_json(folder / "mel.json", {**about, **rate, "recipe": RECIPE, "arrays": hashes})


def load(folder: Path) -> tuple[MelRegression, dict[str, Any]] | None:
    """What was saved there with this recipe; None where there is none, or none that is whole."""
    try:
        about = json.loads((folder / "mel.json").read_text(encoding="utf-8"))
        embedding_KP = np.load(folder / "embedding.npy", allow_pickle=False)
        weights_SQB = np.load(folder / "weights.npy", allow_pickle=False)
        hashes = {"embedding": _hash(embedding_KP), "weights": _hash(weights_SQB)}
        if about["recipe"] != RECIPE or about["arrays"] != hashes:
            return None
        regression = MelRegression(
            frame_rate_hz=float(about["frame_rate_hz"]),
            embedding_KP=embedding_KP,
            weights_SQB=weights_SQB,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return regression, about


def _hash(array: Floats) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array, "<f4").tobytes(), digest_size=16).hexdigest()
