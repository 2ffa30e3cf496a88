"""Utterances → units. Reads the catalog and its audio, writes tokenizers/, units/ and measures/.

Step 1  choose the speech tokenizer, or fit one on a bounded, language-balanced sample of frames
Step 2  plan the utterances that no plan holds: cut into parts by seconds of audio, written first
Step 3  encode the parts that are missing, of this plan and of earlier ones: each a Parquet file
        under a temporary name, renamed when whole; where the way of computing is a fast one, a
        sample is compared with the reference beside it; what has no measures is measured in passing
Step 4  count: in = out + rejected + already

The catalog is open for steps 1, 2 and 4 only, so that other commands can go on meanwhile.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from cslm_data.catalog import open_catalog, read_sql, run_over_files, scalar
from cslm_data.engines.placement import place_workers
from cslm_data.errors import StorageError
from cslm_data.features import choose_device, is_network, normalise_spec
from cslm_data.measuring.alongside import jobs, measures_folder, prepare_alongside
from cslm_data.measuring.hearing import MEASURE_COLUMNS
from cslm_data.progress import progress
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.storage import Folder, place_units, require_units_folder
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.tokenizers.tokenizer_fit import DEFAULT_EXTRACTOR, FitOptions, fit_tokenizer
from cslm_data.units.agreement import Agreement, Probe
from cslm_data.units.encoding import Job, make_encoder
from cslm_data.units.parts import count_unfinished, forget_rejected, list_parts, write_part
from cslm_data.units.planning import check_work, plan_new, require_speech
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

_PROBE_SHARE = 0.02
_PROBE_S = (5.0, 30.0)
"""Speech on which a fast way of computing is compared with the reference: a share of it all, no
less and no more than so many seconds."""
_EXPECTED_SHARE = 0.995


@dataclass(frozen=True, kw_only=True)
class LanguageUnits:
    """The units of one language."""

    language: str
    num_utterances: int
    hours: float
    num_frames: int
    num_units: int
    units_per_s: float


@dataclass(frozen=True, kw_only=True)
class QuantizeSummary:
    """What the workspace now holds for a tokenizer. in = out + rejected + already."""

    tokenizer_id: str
    name: str
    fitted: bool
    """True if this run made the tokenizer."""
    num_in: int
    """Utterances of the catalog."""
    num_out: int
    """Encoded by this run."""
    num_rejected: int
    """Refused with their audio as it is, by this run or an earlier one."""
    num_already: int
    """Encoded by an earlier run."""
    reject_reasons: dict[str, int]
    num_frames: int
    num_units_total: int
    hours: float
    dedup_ratio: float
    """Frames per unit."""
    languages: tuple[LanguageUnits, ...]
    elapsed_s: float
    num_measured: int = 0
    """Measured by this run while they were decoded, or refused in that."""
    agreement: Agreement | None = None
    """Units of a sample that are equal to those of the reference (float32, one utterance at a
    time); None where this run computed as the reference does, or nothing."""


def quantize(
    workspace: Workspace,
    *,
    tokenizer: str | None = None,
    extractor: str | None = None,
    layer: int | None = None,
    num_units: int | None = None,
    max_frames: int = FitOptions.max_frames,
    temperature: float = 2.0,
    max_speaker_s: float | None = None,
    seed: int = 0,
    backend: str = "auto",
    num_workers: int | None = None,
    part_seconds: float | None = None,
    device: str = "auto",
    dtype: str = "float32",
    engine: str = "local",
    units_at: str | None = None,
    batch_s: float | None = None,
    retry_rejected: bool = False,
    measure: bool = True,
) -> QuantizeSummary:
    """Turn every utterance of the catalog that has no units yet into units.

    With `tokenizer` (name or id), by that one; else by the only one that fits `extractor`, `layer`
    and `num_units` as far as they are given; where there is none, one is fitted: `max_frames` to
    `backend` say how. `units_at`, once said, is where the units of this workspace lie from then on:
    a folder or any URL of fsspec. `batch_s`: seconds of audio in a batch of a network, 0 for none,
    None to batch on GPUs only. What was refused is tried again only with `retry_rejected` (a disk
    that was away, say). With `measure`, what is decoded and has no measures yet is measured in the
    same pass; the units are the same without. Raises MissingArtefactError, NoDataError,
    UsageError, LockedError, StorageError.
    """
    start = time.monotonic()
    check_work(part_seconds, num_workers)
    require_speech(workspace, "quantize")
    if units_at is not None:
        place_units(workspace, units_at)
    chosen = _choose(workspace, tokenizer, extractor, layer, num_units)
    spec = chosen.extractor if chosen else normalise_spec(extractor or DEFAULT_EXTRACTOR)
    run_parts, workers = place_workers(
        engine, extractor=spec, device=device, num_workers=num_workers
    )
    options = FitOptions(
        extractor=spec,
        layer=layer,
        num_units=num_units,
        max_frames=max_frames,
        temperature=temperature,
        max_speaker_s=max_speaker_s,
        seed=seed,
        backend=backend,
    )
    used = chosen or fit_tokenizer(
        workspace,
        options=options,
        run_parts=run_parts,
        num_workers=workers,
        device=device,
        dtype=dtype,
    )
    folder = require_units_folder(workspace).child(used.tokenizer_id)
    with (
        workspace.lock(f"units-{used.tokenizer_id}", "quantize"),
        measures_folder(workspace, wanted=measure) as measures,
    ):
        folder.prepare()
        if retry_rejected:
            log.info("%d parts with refused utterances are done again", forget_rejected(folder))
        earlier = list_parts(folder)
        encoding = replace(used, device=device, dtype=dtype)
        make_worker = functools.partial(make_encoder, encoding, folder, batch_s)
        plan_new(workspace, folder, part_seconds, doing="quantize")
        if measures is not None:
            prepare_alongside(workspace, folder, measures, used.tokenizer_id, retry=retry_rejected)
        probe = _choose_probe(workspace) if _approximates(encoding, batch_s, engine) else None
        run = functools.partial(run_parts, make_worker=make_worker, num_workers=workers)
        agreement, num_measured = _do_jobs(folder, measures, used.tokenizer_id, run, probe)
        folder.remove_leftovers()
        return _summarise(
            workspace,
            used,
            folder,
            earlier,
            fitted=chosen is None,
            agreement=agreement,
            num_measured=num_measured,
            elapsed_s=time.monotonic() - start,
        )


def _choose(
    workspace: Workspace,
    tokenizer: str | None,
    extractor: str | None,
    layer: int | None,
    num_units: int | None,
) -> SpeechTokenizer | None:
    """The tokenizer to use, None where one is to be fitted."""
    if tokenizer is not None:
        return tokenizer_folders.find_tokenizer(workspace, tokenizer)
    fitting = [
        t
        for t in tokenizer_folders.list_tokenizers(workspace)
        if (extractor is None or t.extractor == normalise_spec(extractor))
        and (layer is None or t.layer == layer)
        and (num_units is None or num_units in (t.num_units, t.fit.get("asked_num_units")))
    ]
    return tokenizer_folders.only_one(fitting) if fitting else None


def _do_jobs(
    folder: Folder,
    measures: Folder | None,
    tokenizer_id: str,
    run: Callable[[Iterable[Job | Probe]], Iterator[tuple[Any, Any]]],
    probe: Probe | None,
) -> tuple[Agreement | None, int]:
    """Write every planned part that has no file yet, of this run's plan or an earlier one's.

    Returns how the units of the probe agree, and how many utterances were measured.
    """
    waiting = count_unfinished(folder)
    agreement: Agreement | None = None
    num_measured = 0
    work: Iterable[Job | Probe] = itertools.chain(
        [probe] if probe and waiting else [], jobs(folder, measures, tokenizer_id)
    )
    with progress("quantize", total=waiting, unit="utt") as bar:
        for job, result in run(work):
            if isinstance(result, Agreement):
                agreement = result
                _warn_of_flips(agreement)
                continue
            if measures is not None and job.measures is not None:
                write_part(measures, job.measures.name, result, MEASURE_COLUMNS)
                num_measured += len(result)
            bar.advance(job.num_units)
    left = count_unfinished(folder)
    if left:
        raise StorageError(
            f"{folder.address}: {left} of {waiting} utterances were encoded, but their parts are "
            "not here: the machines of the cluster do not share this folder; mount it on all of "
            "them, or put the units into an object store with --units-at"
        )
    return agreement, num_measured


def _approximates(tokenizer: SpeechTokenizer, batch_s: float | None, engine: str) -> bool:
    """True where units may have been computed otherwise than by the reference."""
    if not is_network(tokenizer.extractor):
        return False
    if tokenizer.dtype != "float32" or batch_s is not None:
        return tokenizer.dtype != "float32" or bool(batch_s)
    # Without a word about batches, GPUs make them; those of a cluster are not seen from here.
    device = choose_device(tokenizer.device) if engine == "local" else tokenizer.device
    return device != "cpu"


def _choose_probe(workspace: Workspace) -> Probe:
    """A sample of the speech, as much as costs little beside all of it."""
    with open_catalog(workspace, doing="quantize") as connection:
        total_s = scalar(connection, "select sum(duration_s) from utterances")
        seconds = min(max(_PROBE_SHARE * total_s, _PROBE_S[0]), _PROBE_S[1])
        rows = connection.execute(read_sql("quantize_probe"), {"seconds": seconds}).fetchall()
    return Probe(tuple(Stretch(*row) for row in rows))


def _warn_of_flips(agreement: Agreement) -> None:
    if agreement.share < _EXPECTED_SHARE:
        log.warning(
            "%.2f %% of the units of a sample are not those of float32, one utterance at a time; "
            "up to %.1f %% is usual. Look at --dtype and --batch-seconds",
            100 * (1 - agreement.share),
            100 * (1 - _EXPECTED_SHARE),
        )


def _summarise(
    workspace: Workspace,
    tokenizer: SpeechTokenizer,
    folder: Folder,
    earlier: list[str],
    *,
    fitted: bool,
    agreement: Agreement | None,
    num_measured: int,
    elapsed_s: float,
) -> QuantizeSummary:
    with open_catalog(workspace, doing="quantize") as connection:
        run_over_files(connection, "quantize_parts", f"{folder.sql_address}/part-*.parquet")
        connection.register("earlier", pa.table({"part": pa.array(earlier, pa.string())}))
        rows = connection.execute(read_sql("quantize_summary")).fetchall()
    num_in = num_rejected = num_already = 0
    reasons: dict[str, int] = {}
    sums: dict[str, tuple[int, int, int]] = {}
    for language, reason, is_earlier, num_utterances, num_frames, num_units in rows:
        num_in += num_utterances
        if reason:
            num_rejected += num_utterances
            reasons[reason] = reasons.get(reason, 0) + num_utterances
            continue
        num_already += num_utterances if is_earlier else 0
        before = sums.get(language, (0, 0, 0))
        sums[language] = (before[0] + num_utterances, before[1] + num_frames, before[2] + num_units)
    languages = tuple(
        LanguageUnits(
            language=language,
            num_utterances=utterances,
            hours=frames / tokenizer.frame_rate_hz / 3600,
            num_frames=frames,
            num_units=units,
            units_per_s=units / (frames / tokenizer.frame_rate_hz),
        )
        for language, (utterances, frames, units) in sorted(sums.items())
    )
    num_frames = sum(row.num_frames for row in languages)
    num_units = sum(row.num_units for row in languages)
    return QuantizeSummary(
        tokenizer_id=tokenizer.tokenizer_id,
        name=tokenizer.name,
        fitted=fitted,
        num_in=num_in,
        num_out=num_in - num_rejected - num_already,
        num_rejected=num_rejected,
        num_already=num_already,
        reject_reasons=dict(sorted(reasons.items())),
        num_frames=num_frames,
        num_units_total=num_units,
        hours=num_frames / tokenizer.frame_rate_hz / 3600,
        dedup_ratio=num_frames / num_units if num_units else 0.0,
        languages=languages,
        elapsed_s=elapsed_s,
        num_measured=num_measured,
        agreement=agreement,
    )
