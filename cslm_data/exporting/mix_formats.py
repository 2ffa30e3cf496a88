"""Samples of a mix as lines of other toolkits.

    cslm        <split>.jsonl   {"prompt", "response"}          what the paper's scripts train on
    slamkit     <split>.jsonl   {"file_name", "audio_repr"}     its speech, for a speech-only model
    hf-parquet  data/<split>-00000-of-00003.parquet             for `datasets.load_dataset(folder)`

Speech in a string is `<sosp><Un3><Un49><eosp>`: units are spelled as SlamKit does, and a tokenizer
needs these as added tokens. A text that spells one of them would become speech there.

Sources: CSLM, arXiv:2604.11096, training scripts; SlamKit, cli/prepare_tokens.py.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson

from cslm_data.exporting.mix_export import MixJob
from cslm_data.records import Sample, Segment, Units

_SPELLS_SPEECH = re.compile(r"<(?:sosp|eosp|Un[0-9]+)>")
_HF_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_ROWS = 1000
_PARQUET: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "store_schema": False,
}


def spell_units(units_N: Units) -> str:
    """`<Un3><Un49>` of units: uint16 (N,)."""
    return "".join([f"<Un{unit}>" for unit in units_N.tolist()])


def spell(segments: Sequence[Segment]) -> str:
    """Segments as one string; the text question stands on a line of its own."""
    return "".join(
        f"<sosp>{spell_units(segment.units)}<eosp>"
        if segment.modality == "speech"
        else segment.text + ("\n" if segment.part == "tq" else "")
        for segment in segments
    )


def answers(sample: Sample) -> Iterator[tuple[str, str]]:
    """Prompt and response of each trained answer; turns before it are lines of its prompt."""
    turns: list[list[Segment]] = []
    for segment in sample.segments:
        if turns and turns[-1][0].role == segment.role:
            turns[-1].append(segment)
        else:
            turns.append([segment])
    for number, turn in enumerate(turns):
        if turn[0].role == "assistant" and any(segment.trained for segment in turn):
            yield "\n".join(map(spell, turns[:number])), spell(turn)


def spells_speech(sample: Sample) -> str:
    """The first text of a sample that looks like speech in a string, or nothing."""
    found = (_SPELLS_SPEECH.search(segment.text) for segment in sample.segments)
    return next((match[0] for match in found if match), "")


def write_cslm(job: MixJob) -> None:
    """A line for each answer of each sample."""
    for split, stream in _files(job):
        for sample, _ in _samples(job, split):
            pairs = list(answers(sample))
            if not pairs:
                job.refuse(sample, "nothing_trained", "no answer of it is trained")
            elif spelled := spells_speech(sample):
                detail = f"its text has {spelled}, which is speech there; export as hf-parquet"
                job.refuse(sample, "spells_speech", detail)
            else:
                for prompt, response in pairs:
                    stream.write(_line({"prompt": prompt, "response": response}))
                    job.files[f"{split}.jsonl"] += 1
                job.num_written += 1


def write_slamkit(job: MixJob) -> None:
    """A line for each stretch of speech; samples without speech are left out."""
    for split, stream in _files(job):
        for sample, _ in _samples(job, split):
            spoken = [s.units for s in sample.segments if s.modality == "speech"]
            if not spoken:
                job.left_out["samples without speech"] += 1
                continue
            for number, units_N in enumerate(spoken):
                name = sample.key if len(spoken) == 1 else f"{sample.key}.{number}"
                stream.write(_line({"file_name": name, "audio_repr": spell_units(units_N)}))
                job.files[f"{split}.jsonl"] += 1
            job.num_written += 1


def write_hf_parquet(job: MixJob) -> None:
    """A file for each shard; `segments` has everything.

    Prompt and response are of the last answer, null where a text of the sample spells speech.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _hf_schema()
    (job.temporary / "data").mkdir()
    for split in job.splits:
        shards = job.info.shards(split)
        for number, shard in enumerate(shards):
            name = f"data/{_HF_SPLITS[split]}-{number:05d}-of-{len(shards):05d}.parquet"
            with pq.ParquetWriter(job.temporary / name, schema, **_PARQUET) as writer:
                rows = map(_hf_row, job.samples(shard))
                while batch := list(itertools.islice(rows, _ROWS)):
                    writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                    job.num_written += len(batch)
                    job.files[name] += len(batch)


def _hf_row(of: tuple[Sample, int]) -> dict[str, Any]:
    sample, num_tokens = of
    pairs = [] if spells_speech(sample) else list(answers(sample))
    prompt, response = pairs[-1] if pairs else (None, None)
    return {
        "key": sample.key,
        "task": sample.task,
        "languages": sample.languages,
        "num_tokens": num_tokens,
        "prompt": prompt,
        "response": response,
        "segments": [vars(segment) for segment in sample.segments],
    }


def _hf_schema() -> Any:
    import pyarrow as pa

    segment = pa.struct(
        [
            ("modality", pa.string()),
            ("language", pa.string()),
            ("role", pa.string()),
            ("trained", pa.bool_()),
            ("part", pa.string()),
            ("text", pa.string()),
            ("units", pa.list_(pa.uint16())),
        ]
    )
    return pa.schema(
        [
            ("key", pa.string()),
            ("task", pa.string()),
            ("languages", pa.string()),
            ("num_tokens", pa.uint32()),
            ("prompt", pa.string()),
            ("response", pa.string()),
            ("segments", pa.list_(segment)),
        ]
    )


def _files(job: MixJob) -> Iterator[tuple[str, BinaryIO]]:
    """Each split that has samples, and its file."""
    for split in job.splits:
        if job.info.shards(split):
            with (job.temporary / f"{split}.jsonl").open("wb") as stream:
                yield split, stream


def _samples(job: MixJob, split: str) -> Iterator[tuple[Sample, int]]:
    return itertools.chain.from_iterable(map(job.samples, job.info.shards(split)))


def _line(fields: dict[str, str]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
