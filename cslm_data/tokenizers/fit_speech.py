"""Catalog → the speech that a tokenizer is fitted on: a sample of its frames, or all of it."""

# N frames, D features

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cslm_data.catalog import open_catalog, read_sql
from cslm_data.engines import RunParts, Worker
from cslm_data.errors import NoDataError
from cslm_data.features import LONG_S, FeatureExtractor
from cslm_data.keys import key64
from cslm_data.progress import progress
from cslm_data.tokenizers.sampling import (
    FrameReservoir,
    language_quotas,
    make_frame_sampler,
    share_bound,
)
from cslm_data.tokenizers.tokenizer_folders import TEMPORARY
from cslm_data.units.stretches import Stretch, cut_by_seconds
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_REACH = 2.0
"""Speech is read until it holds this many times the frames wanted: frames of more speakers, without
decoding the whole corpus."""
_SPARE = 1.2
"""Workers send on this many times the frames wanted, so that some unreadable speech costs none."""
_CHUNK_S = 60.0
_NO_LIMIT_S = 1e18
_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechSample:
    """Frames of many recordings."""

    frames_ND: Floats
    """In keyed order."""
    frames_per_language: dict[str, int]
    num_utterances: int
    """Utterances that could be read."""
    num_unreadable: int
    """Utterances of which a part could not."""


def sample_speech(
    workspace: Workspace,
    load: Callable[[], FeatureExtractor],
    *,
    rate_hz: float,
    max_frames: int,
    temperature: float,
    max_speaker_s: float | None,
    seed: int,
    run_parts: RunParts,
    num_workers: int | None,
) -> SpeechSample:
    """At most `max_frames` frames of the catalog's speech, `rate_hz` of them a second.

    `load` makes the extractor in a worker, `temperature` evens out the languages (1: as they are),
    `max_speaker_s` caps the speech of one speaker. Raises NoDataError.
    """
    sample, quotas = _choose(workspace, rate_hz, max_frames, temperature, max_speaker_s, seed)
    make_worker = functools.partial(
        make_frame_sampler, load, bounds=_bounds(sample, quotas, rate_hz), seed=seed
    )
    reservoir = FrameReservoir(quotas)
    failed = _fill(reservoir, sample, make_worker, run_parts, num_workers)
    frames_ND, counts = reservoir.result()
    return SpeechSample(
        frames_ND=frames_ND,
        frames_per_language={language: count for language, count in counts.items() if count},
        num_utterances=len({stretch.utt_id for stretch in sample} - failed.keys()),
        num_unreadable=len(failed),
    )


def _choose(
    workspace: Workspace,
    rate_hz: float,
    max_frames: int,
    temperature: float,
    max_speaker_s: float | None,
    seed: int,
) -> tuple[list[Stretch], dict[str, int]]:
    """The pieces of speech to read, in keyed order, and the frames to keep per language."""
    with open_catalog(workspace, doing="fitting a speech tokenizer") as connection:
        speech = connection.execute(read_sql("quantize_speech")).fetchall()
        quotas = language_quotas(
            {language: seconds * rate_hz for language, _, seconds in speech},
            max_frames=max_frames,
            temperature=temperature,
        )
        seconds = [number / rate_hz for number in quotas.values()]
        connection.register("quotas", pa.table({"language": list(quotas), "seconds": seconds}))
        connection.execute(read_sql("fit_pieces"))
        parameters = {
            "longest_s": LONG_S,
            "mask": key64("sample", str(seed)),
            "reach": _REACH,
            "speaker_seconds": max_speaker_s or _NO_LIMIT_S,
        }
        rows = connection.execute(read_sql("fit_sample"), parameters).fetchall()
    sample = [Stretch(*row) for row in rows]
    log.info(
        "sample: %d pieces of speech, %.2f hours, to keep %d frames: %s",
        len(sample),
        sum(stretch.duration_s for stretch in sample) / 3600,
        sum(quotas.values()),
        ", ".join(f"{language} {quota}" for language, quota in quotas.items()),
    )
    return sample, quotas


def _bounds(sample: list[Stretch], quotas: dict[str, int], rate_hz: float) -> dict[str, int]:
    """Priorities above which a frame of a language will hardly stay."""
    frames: dict[str, float] = dict.fromkeys(quotas, 0.0)
    for stretch in sample:
        frames[stretch.language] += stretch.duration_s * rate_hz
    return {
        language: share_bound(_SPARE * quota / max(frames[language], 1.0))
        for language, quota in quotas.items()
    }


def _fill(
    reservoir: FrameReservoir,
    sample: list[Stretch],
    make_worker: Callable[[], Worker],
    run_parts: RunParts,
    num_workers: int | None,
) -> dict[str, str]:
    """Read the sample into the reservoir; returns utterances that could not be read, and why."""
    failed: dict[str, str] = {}
    with progress("sample", total=len(sample), unit="pieces") as bar:
        parts = cut_by_seconds(sample, _CHUNK_S)
        for part, results in run_parts(parts, make_worker, num_workers):
            for stretch, found in zip(part, results, strict=True):
                if isinstance(found, str):
                    failed[stretch.utt_id] = found
                else:
                    reservoir.add(stretch.language, *found)
            bar.advance(len(part))
    asked = {stretch.utt_id for stretch in sample}
    example = min((f"{utt_id}: {reason}" for utt_id, reason in failed.items()), default="")
    if len(failed) == len(asked):
        there = f"none of {len(asked)} utterances can be read" if asked else "there is no speech"
        mend = f", e.g. {example}; mend the audio and ingest it again" if failed else ""
        raise NoDataError(f"{there} to fit a speech tokenizer on{mend}: cslm-data ingest FOLDER")
    if failed:
        log.warning(
            "%d of %d utterances could not be read for the fit, e.g. %s",
            len(failed),
            len(asked),
            example,
        )
    return failed


class AllSpeech(NamedTuple):
    """Every piece of speech of the catalog, in a file."""

    path: Path
    part_s: float
    total_s: float

    def parts(self) -> Iterator[tuple[Stretch, ...]]:
        """Runs of neighbours, as many as fill a part."""
        with pq.ParquetFile(self.path) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            yield from cut_by_seconds((Stretch(**row) for row in rows), self.part_s)


@contextlib.contextmanager
def all_speech(workspace: Workspace, part_s: float) -> Iterator[AllSpeech]:
    """Written down, so that the catalog is free while it is worked through. Hold the lock."""
    path = workspace.tokenizers / TEMPORARY / "full-pass.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    total_s = 0.0
    try:
        with open_catalog(workspace, doing="fitting a speech tokenizer") as connection:
            connection.execute(read_sql("fit_pieces"))
            result: Any = connection.sql(read_sql("fit_all"), params={"longest_s": LONG_S})
            with (
                result.to_arrow_reader(_ROWS) as reader,
                pq.ParquetWriter(path, reader.schema) as writer,
            ):
                for batch in reader:
                    writer.write_batch(batch)
                    total_s += float(pc.sum(batch["duration_s"]).as_py() or 0)
        yield AllSpeech(path, part_s, total_s)
    finally:
        path.unlink(missing_ok=True)
