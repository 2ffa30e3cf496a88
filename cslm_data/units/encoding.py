"""A part's stretches → units, and what is measured of them beside. Writes units/<tokenizer_id>/.

The work that quantize hands to workers. Units are written by the worker, where it is; measures go
back with its answer, so that they reach the workspace from every machine.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cslm_data.engines import Worker
from cslm_data.errors import AudioError, StorageError
from cslm_data.measuring.hearing import Hearing, MeasureRow, measure_row
from cslm_data.speech_tokenizer import Encoded, SpeechTokenizer
from cslm_data.storage import Folder
from cslm_data.units.agreement import Agreement, Probe, measure_agreement
from cslm_data.units.extraction import encode_stretches
from cslm_data.units.parts import Part, list_plans, write_part
from cslm_data.units.stretches import Stretch

UNIT_COLUMNS = pa.schema(
    [
        ("utt_id", pa.string()),
        ("units", pa.list_(pa.uint16())),
        ("durations", pa.list_(pa.uint16())),
        ("num_frames", pa.uint32()),
        ("audio_version", pa.string()),
        ("reject_reason", pa.string()),
        ("reject_detail", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A part of units to write, a part of measures to take, or both from one decode."""

    units: Part | None
    measures: Part | None
    """Of stretches of `units`, where that is there."""

    @property
    def num_units(self) -> int:
        """Utterances to encode."""
        return len(self.units.stretches) if self.units else 0

    def __str__(self) -> str:
        return str(self.units or self.measures)


def make_encoder(
    tokenizer: SpeechTokenizer, folder: Folder, batch_s: float | None = None
) -> Worker:
    """A worker that does a Job: writes its units to `folder` and returns the rows of its measures.

    Given a Probe instead, it returns the Agreement measured on it. The tokenizer comes with it, so
    that the machine it works on need not see the workspace. Raises StorageError where the folder
    cannot be seen.
    """
    if not list_plans(folder):
        raise StorageError(
            f"{folder.address}: machine {platform.node()} does not see the plan that lies there; "
            "mount the workspace on every machine under this path, or put the units into an "
            "object store with --units-at"
        )
    # Now, not with the first utterance: the engine limits the threads of what is loaded by then.
    _ = tokenizer.features

    def work(job: Job | Probe) -> list[MeasureRow] | Agreement:
        if isinstance(job, Probe):
            return measure_agreement(tokenizer, job, batch_s=batch_s)
        measured = job.measures.stretches if job.measures else ()
        heard = {stretch.utt_id: Hearing() for stretch in measured}
        if job.units:
            stretches = [s._replace(listener=heard.get(s.utt_id)) for s in job.units.stretches]
            encoded = encode_stretches(tokenizer, stretches, batch_s=batch_s)
            rows = []
            for stretch, units in zip(stretches, encoded, strict=True):
                rows.append(_row(stretch, units))
                if stretch.utt_id in heard:
                    # Now, so that what is kept of it goes.
                    _ = heard[stretch.utt_id].result
            write_part(folder, job.units.name, rows, UNIT_COLUMNS)
        return [measure_row(stretch, heard[stretch.utt_id]) for stretch in measured]

    return work


def _row(stretch: Stretch, encoded: Encoded | AudioError) -> tuple[Any, ...]:
    """A row of a part: units, or why there are none."""
    if isinstance(encoded, AudioError):
        return stretch.utt_id, [], [], 0, stretch.audio_version, encoded.reason, encoded.detail
    return stretch.utt_id, *encoded, stretch.audio_version, None, None
