"""The speech tokenizer: fit, save, load, identity, encode. Reads and writes tokenizers/.

A frozen artefact, named by its content: extractor with its weights and layer, resampler,
standardisation, centroids and dedup rule. Units of two tokenizers never mix.
"""

# N frames (after dedup: units), D features, K units, T samples

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ, resampler_identity
from cslm_data.errors import (
    AudioError,
    CorruptArtefactError,
    MissingArtefactError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.features import FeatureExtractor, load_extractor, normalise_spec, readable_name
from cslm_data.keys import content_id
from cslm_data.kmeans import Backend, assign_units, fit_kmeans
from cslm_data.records import Units
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

DEDUP_RUNS = "runs"
"""The dedup rule: a run of equal units becomes one, with its length; over 65 535 it is split."""

_LONGEST_RUN = 0xFFFF
_ARRAYS = ("centroids", "mean", "std")
_TEMPORARY = ".tmp"


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
    mean_D: Floats
    std_D: Floats
    centroids_KD: Floats
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

    @property
    def num_units(self) -> int:
        """Size K of the vocabulary."""
        return len(self.centroids_KD)

    @property
    def identity(self) -> dict[str, object]:
        """All that determines the units, as JSON-like values."""
        return {
            "format": 1,
            "extractor": self.extractor_identity,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "resampler": self.resampler,
            "mean": _array_id(self.mean_D),
            "std": _array_id(self.std_D),
            "centroids": _array_id(self.centroids_KD),
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
        if content_id(loaded.identity) != content_id(self.extractor_identity):
            raise TokenizerMismatchError(
                f"{self.tokenizer_id}: {self.extractor} is not what this tokenizer was fitted "
                "with (other weights or settings); bring the old ones back, or fit a new "
                f"tokenizer: cslm-data quantize --extractor {self.extractor}"
            )
        if self.resampler != resampler_identity():
            raise TokenizerMismatchError(
                f"{self.tokenizer_id}: fitted with {self.resampler}, but {resampler_identity()} "
                "is installed; install that one, or fit a new tokenizer"
            )
        return loaded

    def encode(self, waveform_T: Floats) -> Encoded:
        """Units of one utterance at 16 kHz: float32 (T,) → units, durations, number of frames.

        Raises AudioError `empty` without samples, `not_finite` where features overflow.
        """
        if not len(waveform_T):
            raise AudioError("empty", "no samples are left at 16 kHz; correct its duration")
        features_ND = self.features(waveform_T)
        if not np.isfinite(features_ND).all():
            raise AudioError("not_finite", "its features are not finite; check the recording")
        units_N = assign_units(standardise(features_ND, self.mean_D, self.std_D), self.centroids_KD)
        units, durations = dedup(units_N)
        return Encoded(units, durations, len(units_N))


def standardise(features_ND: Floats, mean_D: Floats, std_D: Floats) -> Floats:
    """Each dimension with the mean and spread of the fit: float32 (N, D) → (N, D)."""
    return (features_ND - mean_D) / std_D


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


def fit(
    frames_ND: Floats,
    *,
    extractor: str,
    layer: int | None,
    features: FeatureExtractor,
    num_units: int,
    seed: int,
    num_iterations: int = 25,
    backend: Backend = "faiss",
    provenance: dict[str, Any] | None = None,
) -> SpeechTokenizer:
    """A tokenizer from a sample of frames of `features`, the loaded form of `extractor`.

    Every dimension is standardised first: the larger ones would otherwise decide alone (on MFCC it
    lifted a digit classifier on the units from 98.0 to 99.5 %).
    """
    mean_D = frames_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread_D = frames_ND.std(axis=0, dtype=np.float64).astype(np.float32)
    std_D = np.where(spread_D > 1e-6, spread_D, np.float32(1))
    result = fit_kmeans(
        standardise(frames_ND, mean_D, std_D),
        num_units=num_units,
        seed=seed,
        num_iterations=num_iterations,
        backend=backend,
    )
    return SpeechTokenizer(
        extractor=normalise_spec(extractor),
        extractor_identity=json.loads(json.dumps(features.identity)),
        layer=layer,
        frame_rate_hz=features.frame_rate_hz,
        resampler=resampler_identity(),
        mean_D=mean_D,
        std_D=std_D,
        centroids_KD=result.centroids_KD,
        fit={
            "asked_num_units": num_units,
            "seed": seed,
            "backend": backend,
            "num_frames": result.num_frames,
            "inertia": list(result.inertia),
            **(provenance or {}),
        },
    )


# --------------------------------------------------------------------------------------- on disk
def save(tokenizer: SpeechTokenizer, folder: Path) -> None:
    """Write a tokenizer as a folder that appears whole or not at all; an existing one stays.

    The temporary folder lies one level deeper than tokenizers do, so that no view sees it.
    """
    temporary = folder.parent / _TEMPORARY / folder.name
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    document = {
        "tokenizer_id": tokenizer.tokenizer_id,
        "extractor": tokenizer.extractor,
        "layer": tokenizer.layer,
        "num_units": tokenizer.num_units,
        "dim": tokenizer.centroids_KD.shape[1],
        "frame_rate_hz": tokenizer.frame_rate_hz,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "resampler": tokenizer.resampler,
        "normalisation": "standardise",
        "dedup": tokenizer.dedup,
        "extractor_identity": tokenizer.extractor_identity,
        "created": tokenizer.created,
        "fit": tokenizer.fit,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (temporary / "tokenizer.json").write_text(text, encoding="utf-8")
    for name, array in zip(_ARRAYS, _arrays(tokenizer), strict=True):
        np.save(temporary / f"{name}.npy", np.ascontiguousarray(array, "<f4"), allow_pickle=False)
    for path in temporary.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    temporary.rename(folder)


def load(folder: Path, *, device: str = "auto", dtype: str = "float32") -> SpeechTokenizer:
    """Read a tokenizer; the extractor is only loaded when something is encoded.

    Raises MissingArtefactError without a tokenizer there, CorruptArtefactError when its content is
    not what its id says.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise MissingArtefactError(
            f"{folder}: no speech tokenizer here; make one with: cslm-data quantize"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        arrays = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS]
        tokenizer = SpeechTokenizer(
            extractor=document["extractor"],
            extractor_identity=document["extractor_identity"],
            layer=document["layer"],
            frame_rate_hz=float(document["frame_rate_hz"]),
            resampler=document["resampler"],
            dedup=document["dedup"],
            centroids_KD=arrays[0],
            mean_D=arrays[1],
            std_D=arrays[2],
            fit=document["fit"],
            created=int(document["created"]),
            name=folder.name,
            device=device,
            dtype=dtype,
        )
        said = document["tokenizer_id"]
        found = tokenizer.tokenizer_id
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise CorruptArtefactError(
            f"{folder}: cannot be read as a speech tokenizer ({type(error).__name__}: {error}); "
            "restore it, or remove the folder and run: cslm-data quantize"
        ) from None
    if said != found:
        raise CorruptArtefactError(
            f"{folder}: says {said}, but holds {found}; restore it, or remove the folder "
            "and run: cslm-data quantize"
        )
    return tokenizer


def list_tokenizers(
    workspace: Workspace, *, device: str = "auto", dtype: str = "float32"
) -> list[SpeechTokenizer]:
    """The tokenizers of a workspace in the order in which they were made."""
    folders = sorted(path.parent for path in workspace.tokenizers.glob("*/tokenizer.json"))
    found = [load(folder, device=device, dtype=dtype) for folder in folders]
    return sorted(found, key=lambda tokenizer: (tokenizer.created, tokenizer.name))


def find_tokenizer(
    workspace: Workspace,
    name_or_id: str | None,
    *,
    device: str = "auto",
    dtype: str = "float32",
) -> SpeechTokenizer:
    """The tokenizer of that name or id; without one, the only one there is.

    Raises MissingArtefactError for none, UsageError that lists them where there are several.
    """
    found = list_tokenizers(workspace, device=device, dtype=dtype)
    if name_or_id is not None:
        named = [t for t in found if name_or_id in (t.name, t.tokenizer_id)]
        if named:
            return named[0]
        there = f"there are {describe(found)}" if found else "there are none yet"
        raise MissingArtefactError(
            f"{workspace.tokenizers}: no speech tokenizer {name_or_id!r}; {there}; make one with: "
            "cslm-data quantize"
        )
    if not found:
        raise MissingArtefactError(
            f"{workspace.tokenizers}: no speech tokenizer yet; run: cslm-data quantize"
        )
    return only_one(found)


def only_one(found: list[SpeechTokenizer]) -> SpeechTokenizer:
    """The single element; UsageError that lists them where there are more."""
    if len(found) > 1:
        raise UsageError(
            f"several speech tokenizers would do: {describe(found)}; choose one with "
            f"--tokenizer, e.g. --tokenizer {found[-1].name}"
        )
    return found[0]


def describe(found: list[SpeechTokenizer]) -> str:
    """Names and ids for a message, oldest first."""
    return ", ".join(f"{t.name} ({t.tokenizer_id})" for t in found)


def add_to_workspace(workspace: Workspace, tokenizer: SpeechTokenizer) -> SpeechTokenizer:
    """Save under the default name, e.g. `mfcc-500` (`mfcc-500-2` if taken). Hold the lock.

    A tokenizer that is already there under some name is not saved twice.
    """
    there = list_tokenizers(workspace)
    for other in there:
        if other.tokenizer_id == tokenizer.tokenizer_id:
            return replace(other, device=tokenizer.device, dtype=tokenizer.dtype)
    plain = f"{readable_name(tokenizer.extractor, tokenizer.layer)}-{tokenizer.num_units}"
    taken = {path.name for path in workspace.tokenizers.glob("*")}
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    named = replace(tokenizer, name=name, created=1 + max((t.created for t in there), default=0))
    save(named, workspace.tokenizers / name)
    log.info("speech tokenizer %s saved as %s", named.tokenizer_id, workspace.tokenizers / name)
    return named


def _arrays(tokenizer: SpeechTokenizer) -> tuple[Floats, Floats, Floats]:
    return tokenizer.centroids_KD, tokenizer.mean_D, tokenizer.std_D


def _array_id(array: Floats) -> str:
    """BLAKE2b-128 of shape and little-endian float32 values."""
    digest = hashlib.blake2b(str(list(array.shape)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()
