"""NeMo manifests: JSONL of `audio_filepath, duration, offset, text, lang, speaker`, a file a split.

Source: NVIDIA NeMo, docs "Preparing Datasets" (ASR); collections/common/parts/preprocessing. NeMo
keeps fields that it does not know: `id`, `corpus` and the like are ours. An untranscribed utterance
has an empty text, which is what NeMo takes a missing one for.
"""

from __future__ import annotations

import itertools
from typing import Any

import orjson

from cslm_data.exporting.folders import flat_stem
from cslm_data.exporting.job import Job, Row, problem_of_address, split_of


def write(job: Job) -> None:
    """`<split>.jsonl` for each split, `all.jsonl` for what has none."""
    rows = job.sayable(
        job.rows("export_utterances"), lambda row: problem_of_address(row, remote=False)
    )
    for split, of_split in itertools.groupby(rows, key=split_of):
        name = f"{flat_stem(split)}.jsonl"
        with (job.temporary / name).open("wb") as stream:
            for row in of_split:
                stream.write(orjson.dumps(_line(job, row), option=orjson.OPT_APPEND_NEWLINE))
                job.wrote("utterances", name)


def _line(job: Job, row: Row) -> dict[str, Any]:
    fields = {
        "audio_filepath": job.place(row.audio),
        "duration": row.duration_s,
        "offset": row.offset_s,
        "text": row.text or "",
        "lang": row.language,
        "speaker": row.speaker,
        "sample_rate": row.sample_rate_hz,
        "id": row.utt_id,
        "corpus": row.corpus,
        "license": row.license,
        "split": row.split,
    }
    return {name: value for name, value in fields.items() if value is not None}
