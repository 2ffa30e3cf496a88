"""A finished mix of two train shards and one of test, written without a catalog."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.framing import TEMPLATE_VERSION
from cslm_data.records import Sample, Segment
from cslm_data.shards import write_shard
from cslm_data.text_tokenizer import train_text_tokenizer

TOKENIZER = "mfcc-50-0123456789ab"
NUM_UNITS = 50
SHARDS = {
    "train-000000.tar": ["asr-0", "mt-1", "s2s-2"],
    "train-000001.tar": ["asr-3", "mt-4"],
    "test-000000.tar": ["s2s-5"],
}


def make_sample(key, top=NUM_UNITS - 1):
    task, number = key.split("-")
    user = {"language": "en", "role": "user", "trained": False}
    answer = {"language": "zh", "role": "assistant", "trained": True}
    units = np.array([int(number), 7, top], np.uint16)
    segments = {
        "asr": (
            Segment(modality="text", text=f"Write down {number}:\n", **user),
            Segment(modality="speech", units=units, **user),
            Segment(modality="text", text="花园 <sosp>", **answer),
        ),
        "mt": (
            Segment(modality="text", text=f"Translate {number}: <Un1> & cats", **user),
            Segment(modality="text", text="猫", **answer),
        ),
        "s2s": (
            Segment(modality="speech", units=units, **user),
            Segment(modality="text", text="where?", part="tq", **answer),
            Segment(modality="text", text="这里", part="ta", **answer),
            Segment(modality="speech", units=units[::-1].copy(), part="sa", **answer),
        ),
    }[task]
    return Sample(
        key=key, task=task, languages="en" if task == "asr" else "en-zh", segments=segments
    )


def make_mix(workspace, *, shards=SHARDS, make=make_sample, name="m"):
    """The mix's folder; 10 tokens a sample."""
    texts = ["Write down 0123456789: Translate where? cats & <Un1> <sosp> 花园猫这里"]
    if not (workspace.text_tokenizers / "bpe").exists():
        train_text_tokenizer(texts, folder=workspace.text_tokenizers / "bpe", vocab_size=300)
    text = json.loads((workspace.text_tokenizers / "bpe" / "meta.json").read_text())
    folder = workspace.mixes / name
    entries, rows, splits = [], [], {}
    for shard, keys in shards.items():
        split = shard.split("-")[0]
        samples = [make(key) for key in keys]
        entries.append(
            write_shard(
                folder / "shards" / shard,
                samples,
                split=split,
                tokenizer_id=TOKENIZER,
                num_units=2**16,
                text_tokenizer_id=text["text_tokenizer_id"],
            )
        )
        counts = splits.setdefault(split, {"num_samples": 0, "num_tokens": 0})
        for sample in samples:
            rows.append(
                {
                    "split": split,
                    "position": counts["num_samples"],
                    "key": sample.key,
                    "task": sample.task,
                    "languages": sample.languages,
                    "source_ids": [f"row-{sample.key}"],
                    "epoch": 0,
                    "num_tokens": 10,
                    "num_units": sum(len(s.units) for s in sample.segments),
                    "shard": shard,
                }
            )
            counts["num_samples"] += 1
            counts["num_tokens"] += 10
    unsigned = {"position": pa.uint64()} | dict.fromkeys(
        ("epoch", "num_tokens", "num_units"), pa.uint32()
    )
    table = pa.Table.from_pylist(rows)
    schema = pa.schema([(f.name, unsigned.get(f.name, f.type)) for f in table.schema])
    pq.write_table(table.cast(schema), folder / "mix.parquet")
    document = {
        "mix_id": "abc",
        "name": name,
        "stage": "pretrain",
        "languages": ["en", "zh"],
        "seed": 1,
        "recipe": {"splits": {"by": "content"}},
        "tokenizer_id": TOKENIZER,
        "num_units": 2**16,
        "frame_rate_hz": 50.0,
        "text_tokenizer_id": text["text_tokenizer_id"],
        "text_tokenizer": "text_tokenizers/bpe",
        "template_version": TEMPLATE_VERSION,
        "realised": [],
        "counts": {},
        "splits": splits,
        "shards": [dataclasses.asdict(entry) for entry in entries],
    }
    (folder / "mix.json").write_text(json.dumps(document))
    return folder
