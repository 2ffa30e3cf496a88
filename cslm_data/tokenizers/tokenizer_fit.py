"""Catalog → a new speech tokenizer. Reads a sample of the audio, writes tokenizers/.

Step 1  choose pieces of speech: per language by quota, per speaker no more than a cap
Step 2  workers extract their features; of each language the quota of frames stays, by keyed hash
Step 3  fit the normalisation, then k-means in its space
Step 4  if asked: Lloyd's steps over all the speech there is
Step 5  save, whole or not at all

The same catalog and seed give the same tokenizer, byte for byte, however many workers there were.
Extractors that give codes themselves skip steps 1 to 4.
"""

# N frames, D features, E dimensions after normalisation, K units

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import resampler_identity
from cslm_data.clustering.kmeans import check_choices, feasible_num_units, fit_kmeans
from cslm_data.clustering.normalisation import Normalisation, fit_normalisation, parse_spec
from cslm_data.engines import RunParts
from cslm_data.engines.local import available_cores
from cslm_data.errors import NoDataError, UsageError
from cslm_data.features import (
    CodeExtractor,
    FeatureExtractor,
    load_extractor,
    normalise_spec,
)
from cslm_data.speech_tokenizer import DEFAULT_NORMALISATION, SpeechTokenizer
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.tokenizers.fit_speech import all_speech, sample_speech
from cslm_data.tokenizers.full_passes import make_summer, refine_on_all_speech
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

DEFAULT_EXTRACTOR = "mfcc"
DEFAULT_NUM_UNITS = 500

_PART_S = 600.0
_FRAMES_PER_UNIT = 8
"""Parts of a full pass hold at least so much."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a speech tokenizer is fitted: `cslm-data fit-tokenizer`, and `quantize` without one."""

    extractor: str = DEFAULT_EXTRACTOR
    """Spec of the feature extractor: `mfcc`, `hf:…`, `torchaudio:…`, `s3:…`."""
    layer: int | None = None
    """Hidden layer of a network; None: the last."""
    num_units: int | None = None
    """Units to learn (K). None: 500, or fewer where the frames do not carry so many."""
    normalisation: str = DEFAULT_NORMALISATION
    """Before k-means: none, standardise, pca[:E], whiten[:E] or spherical."""
    max_frames: int = 400_000
    """Frames in the sample; with the dimension of the features it decides the memory used."""
    temperature: float = 2.0
    """Evens out the languages in the sample; 1: as they are."""
    max_speaker_s: float | None = None
    """Seconds of one speaker in the sample; None: no limit."""
    seed: int = 0
    """Of the sample and of k-means."""
    backend: str = "auto"
    """Who runs k-means: lloyd, faiss, sklearn; see kmeans.py."""
    init: str = "auto"
    """Where it begins: random or kmeans++."""
    iterations: int | None = None
    """Steps of k-means; None: as many as the backend needs."""
    restarts: int = 1
    """Starts of k-means, of which the best stays."""
    full_passes: int = 0
    """Further steps over all the speech there is, however much."""


def fit_tokenizer(
    workspace: Workspace,
    *,
    options: FitOptions,
    run_parts: RunParts,
    num_workers: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    name: str | None = None,
) -> SpeechTokenizer:
    """Sample frames of the catalog's speech, fit, save into the workspace as `name`.

    Without a name it gets one of its own, and a tokenizer that is already there is not saved twice.
    Raises NoDataError, UsageError, AlreadyExistsError, LockedError.
    """
    _check(options)
    with workspace.lock("tokenizers", "fitting a speech tokenizer"):
        tokenizer_folders.check_name(workspace, name)
        # Only to know what it is: the frames come from workers, which may be on other machines.
        features = load_extractor(options.extractor, layer=options.layer, device="cpu", dtype=dtype)
        if isinstance(features, CodeExtractor):
            made = tokenizer_of_codes(features, options)
        else:
            made = _fit(workspace, features, options, run_parts, num_workers, device, dtype)
        return tokenizer_folders.add_to_workspace(workspace, made, name=name)


def tokenizer_of_codes(features: CodeExtractor, options: FitOptions) -> SpeechTokenizer:
    """A tokenizer whose units are the codes of its extractor. Raises UsageError for another K."""
    if options.num_units not in (None, features.num_codes):
        raise UsageError(
            f"--num-units {options.num_units}: {options.extractor} has {features.num_codes} codes "
            "of its own; leave --num-units out"
        )
    codes_K1 = np.arange(features.num_codes, dtype=np.float32)[:, None]
    provenance = {
        "asked_num_units": features.num_codes,
        "backend": "codes",
        "num_frames": 0,
        "inertia": [],
    }
    return _tokenizer(features, options, Normalisation(), codes_K1, provenance)


def tokenizer_of_frames(
    frames_ND: Floats,
    features: FeatureExtractor,
    options: FitOptions,
    *,
    device: str = "cpu",
    num_threads: int = 1,
    provenance: dict[str, Any] | None = None,
) -> SpeechTokenizer:
    """A tokenizer from a sample of frames: float32 (N, D), which is overwritten.

    Raises NoDataError, UsageError.
    """
    num_frames, dim = frames_ND.shape
    num_units = options.num_units or feasible_num_units(num_frames, DEFAULT_NUM_UNITS)
    if num_units < (options.num_units or DEFAULT_NUM_UNITS):
        log.warning("%d frames carry only %d units", num_frames, num_units)
    if num_frames < 2:
        raise NoDataError(
            f"{num_frames} frames are too few to fit a speech tokenizer on; ingest more speech: "
            "cslm-data ingest FOLDER"
        )
    normalisation = fit_normalisation(frames_ND, options.normalisation)
    log.info("normalisation %s of %d frames of %d numbers", options.normalisation, num_frames, dim)
    result = fit_kmeans(
        normalisation.apply_in_place(frames_ND),
        num_units=num_units,
        seed=options.seed,
        num_iterations=options.iterations,
        backend=options.backend,
        init=options.init,
        restarts=options.restarts,
        spherical=normalisation.kind == "spherical",
        device=device,
        num_threads=num_threads,
    )
    how: dict[str, Any] = {
        "backend": result.backend,
        "init": result.init,
        "restarts": options.restarts,
        "num_frames": num_frames,
        "inertia": list(result.inertia),
        **(provenance or {}),
    }
    return _tokenizer(features, options, normalisation, result.centroids_KE, how)


def _tokenizer(
    features: FeatureExtractor,
    options: FitOptions,
    normalisation: Normalisation,
    centroids_KE: Floats,
    how: dict[str, Any],
) -> SpeechTokenizer:
    return SpeechTokenizer(
        extractor=normalise_spec(options.extractor),
        extractor_identity=json.loads(json.dumps(features.identity)),
        layer=options.layer,
        frame_rate_hz=features.frame_rate_hz,
        resampler=resampler_identity(),
        normalisation=normalisation,
        centroids_KE=centroids_KE,
        fit={
            "asked_num_units": options.num_units or DEFAULT_NUM_UNITS,
            "seed": options.seed,
            "normalisation": options.normalisation,
            **how,
        },
    )


def _check(options: FitOptions) -> None:
    """Mistakes that would otherwise show after hours."""
    parse_spec(options.normalisation)
    check_choices(
        num_units=options.num_units or DEFAULT_NUM_UNITS,
        num_iterations=options.iterations,
        backend=options.backend,
        init=options.init,
        restarts=options.restarts,
    )
    if options.temperature < 1:
        raise UsageError(f"--temperature {options.temperature}: must be 1 or more")
    if options.max_frames < 2:
        raise UsageError(f"--max-frames {options.max_frames}: must be 2 or more")
    if options.full_passes < 0:
        raise UsageError(f"--full-passes {options.full_passes}: must be 0 or more")


def _fit(
    workspace: Workspace,
    features: FeatureExtractor,
    options: FitOptions,
    run_parts: RunParts,
    num_workers: int | None,
    device: str,
    dtype: str,
) -> SpeechTokenizer:
    load = functools.partial(
        load_extractor, options.extractor, layer=options.layer, device=device, dtype=dtype
    )
    sample = sample_speech(
        workspace,
        load,
        rate_hz=features.frame_rate_hz,
        max_frames=options.max_frames,
        temperature=options.temperature,
        max_speaker_s=options.max_speaker_s,
        seed=options.seed,
        run_parts=run_parts,
        num_workers=num_workers,
    )
    made = tokenizer_of_frames(
        sample.frames_ND,
        features,
        options,
        device=_device_here(device),
        num_threads=min(num_workers or available_cores(), available_cores()),
        provenance={
            "max_frames": options.max_frames,
            "temperature": options.temperature,
            "max_speaker_s": options.max_speaker_s,
            "frames_per_language": sample.frames_per_language,
            "num_utterances": sample.num_utterances,
            "num_unreadable": sample.num_unreadable,
        },
    )
    if not options.full_passes:
        return made
    with all_speech(workspace, _part_s(made)) as speech:
        passes = refine_on_all_speech(
            made.centroids_KE,
            make_summer=functools.partial(make_summer, load, made.normalisation),
            open_parts=speech.parts,
            total_s=speech.total_s,
            num_passes=options.full_passes,
            spherical=made.normalisation.kind == "spherical",
            seed=options.seed,
            run_parts=run_parts,
            num_workers=num_workers,
        )
    how = {
        "full_inertia": list(passes.inertia),
        "full_num_frames": passes.num_frames,
        "full_num_unreadable": passes.num_failed,
    }
    return replace(made, centroids_KE=passes.centroids_KE, fit={**made.fit, **how})


def _device_here(device: str) -> str:
    """Where k-means runs: the GPU that is asked for, if this machine has one."""
    if device == "cpu":
        return device
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return "cuda" if device == "auto" else device


def _part_s(tokenizer: SpeechTokenizer) -> float:
    """Seconds of speech whose frames outweigh the sums that a worker sends back for them."""
    return max(_PART_S, _FRAMES_PER_UNIT * tokenizer.num_units / tokenizer.frame_rate_hz)
