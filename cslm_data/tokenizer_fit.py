"""Catalog → a new speech tokenizer. Reads a sample of the audio, writes tokenizers/.

The sample is bounded by a number of frames, shared among the languages with a temperature, and
drawn by keyed hashes: the same catalog and seed give the same tokenizer, byte for byte.
"""

# N frames, D features

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cslm_data import speech_tokenizer, tokenizer_folders
from cslm_data.catalog import open_catalog, read_sql
from cslm_data.engines import RunParts, Worker
from cslm_data.errors import NoDataError, UsageError
from cslm_data.features import load_extractor
from cslm_data.keys import key64
from cslm_data.kmeans import Backend, FrameReservoir, language_quotas
from cslm_data.progress import progress
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.stretches import Stretch, cut_by_seconds, make_sampler
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_MAX_FRAMES = 400_000

_REACH = 2.0
"""Utterances are read until they hold this many times the frames wanted: frames of more speakers,
without decoding the whole corpus."""

_CHUNK_S = 60.0
_NO_LIMIT_S = 1e18


def fit_tokenizer(
    workspace: Workspace,
    *,
    extractor: str,
    layer: int | None,
    num_units: int,
    seed: int,
    run_parts: RunParts,
    num_workers: int | None,
    max_frames: int = DEFAULT_MAX_FRAMES,
    temperature: float = 2.0,
    max_speaker_s: float | None = None,
    backend: Backend = "faiss",
    device: str = "auto",
    dtype: str = "float32",
) -> SpeechTokenizer:
    """Sample frames of the catalog's speech, fit, save into the workspace.

    `temperature` evens out the languages (1: as they are), `max_speaker_s` caps the speech sampled
    of one speaker. Raises NoDataError, UsageError, LockedError.
    """
    if max_frames < 2:
        raise UsageError(f"--max-frames {max_frames}: must be 2 or more")
    with workspace.lock("tokenizers", "fitting a speech tokenizer"):
        features = load_extractor(extractor, layer=layer, device=device, dtype=dtype)
        rate_hz = features.frame_rate_hz
        sample, quotas = _choose_sample(
            workspace, rate_hz, max_frames, temperature, max_speaker_s, seed
        )
        make_worker = functools.partial(make_sampler, extractor, layer, device=device, dtype=dtype)
        frames, failed = _read_frames(sample, quotas, seed, make_worker, run_parts, num_workers)
        made = speech_tokenizer.fit(
            _shuffled(frames),
            extractor=extractor,
            layer=layer,
            features=features,
            num_units=num_units,
            seed=seed,
            backend=backend,
            provenance={
                "max_frames": max_frames,
                "temperature": temperature,
                "max_speaker_s": max_speaker_s,
                "frames_per_language": {name: len(pair[1]) for name, pair in frames.items()},
                "num_utterances": len(sample) - failed,
                "num_unreadable": failed,
            },
        )
        return tokenizer_folders.add_to_workspace(workspace, made)


_Sample = tuple[NDArray[np.uint64], NDArray[np.float32]]
"""Priorities (N,) and frames (N, D)."""


def _choose_sample(
    workspace: Workspace,
    rate_hz: float,
    max_frames: int,
    temperature: float,
    max_speaker_s: float | None,
    seed: int,
) -> tuple[list[Stretch], dict[str, int]]:
    """The utterances to read, in keyed order, and the frames to keep per language."""
    with open_catalog(workspace, doing="quantize") as connection:
        speech = connection.execute(read_sql("quantize_speech")).fetchall()
        quotas = language_quotas(
            {language: seconds * rate_hz for language, _, seconds in speech},
            max_frames=max_frames,
            temperature=temperature,
        )
        seconds = [number / rate_hz for number in quotas.values()]
        connection.register("quotas", pa.table({"language": list(quotas), "seconds": seconds}))
        parameters = {
            "mask": key64("sample", str(seed)),
            "reach": _REACH,
            "speaker_seconds": max_speaker_s or _NO_LIMIT_S,
        }
        rows = connection.execute(read_sql("quantize_sample"), parameters).fetchall()
    return [Stretch(*row) for row in rows], quotas


def _read_frames(
    sample: list[Stretch],
    quotas: dict[str, int],
    seed: int,
    make_worker: Callable[[], Worker],
    run_parts: RunParts,
    num_workers: int | None,
) -> tuple[dict[str, _Sample], int]:
    """The frames kept of each language that has any, and how many utterances could not be read."""
    reservoirs = {name: FrameReservoir(quota, seed=seed) for name, quota in quotas.items()}
    failed: list[str] = []
    with progress("sample", total=len(sample), unit="utt") as bar:
        for part, results in run_parts(cut_by_seconds(sample, _CHUNK_S), make_worker, num_workers):
            for stretch, frames in zip(part, results, strict=True):
                if isinstance(frames, str):
                    failed.append(f"{stretch.utt_id}: {frames}")
                else:
                    reservoirs[stretch.language].add(stretch.utt_id, frames)
            bar.advance(len(part))
    example = min(failed, default="")
    kept = {name: reservoir.result() for name, reservoir in sorted(reservoirs.items())}
    kept = {name: pair for name, pair in kept.items() if len(pair[1])}
    if not kept:
        raise NoDataError(
            f"{_how_much(sample)} to fit a speech tokenizer on"
            + (f", e.g. {example}; mend the audio and ingest it again" if failed else "")
            + ": cslm-data ingest FOLDER"
        )
    if failed:
        log.warning(
            "%d of %d utterances could not be read for the fit, e.g. %s",
            len(failed),
            len(sample),
            example,
        )
    return kept, len(failed)


def _how_much(sample: list[Stretch]) -> str:
    """How much there was to read, for the message that it was not enough."""
    return f"none of {len(sample)} utterances can be read" if sample else "there is no speech"


def _shuffled(frames: dict[str, _Sample]) -> NDArray[np.float32]:
    """All languages in one keyed order: float32 (N, D)."""
    priorities_N = np.concatenate([pair[0] for pair in frames.values()])
    frames_ND = np.concatenate([pair[1] for pair in frames.values()])
    return frames_ND[np.argsort(priorities_N, kind="stable")]
