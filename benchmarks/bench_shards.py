"""Shards: ours against the plain webdataset library, writing, reading, size; the same samples.

Each sample has about 490 units and a transcript. Reading ends with every unit in a NumPy array and
the JSON parsed on both sides; the arrays are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import webdataset
from paired import median_ratio, report

from cslm_data.records import Sample, Segment
from cslm_data.shards import ShardFile, encode_sample, write_shard

NUM_UNITS = 500


def make_samples(count: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    samples = []
    for index in range(count):
        units = rng.integers(0, NUM_UNITS, rng.integers(300, 680)).astype(np.uint16)
        user = {"language": "en", "role": "user", "trained": False}
        segments = (
            Segment(modality="text", text="Write down what you hear:\n", **user),
            Segment(modality="speech", units=units, **user),
            Segment(
                modality="text",
                language="en",
                role="assistant",
                trained=True,
                text="she had your dark suit in greasy wash water all year " * 2,
            ),
        )
        key = f"asr-en-{index:08d}"
        samples.append(Sample(key=key, task="asr", languages="en", segments=segments))
    return samples


def write_ours(path: Path, samples: list[Sample]) -> None:
    identity = {"tokenizer_id": "bench-500", "num_units": NUM_UNITS, "text_tokenizer_id": "bench"}
    write_shard(path, samples, split="train", **identity)


def write_theirs(path: Path, samples: list[Sample]) -> None:
    with webdataset.TarWriter(str(path)) as tar:
        for sample in samples:
            document, units = encode_sample(sample)
            tar.write({"__key__": sample.key, "json": json.loads(document), "units.npy": units})


def read_ours(path: Path) -> list[np.ndarray]:
    return [
        segment.units
        for sample in ShardFile(path).samples()
        for segment in sample.segments
        if segment.modality == "speech"
    ]


def read_theirs(path: Path) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode()
        return [sample["units.npy"] for sample in dataset if sample["json"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4000)
    count = parser.parse_args().samples
    samples = make_samples(count)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.tar", Path(folder) / "theirs.tar"
        write_ours(ours, samples)
        write_theirs(theirs, samples)
        for path in (ours, theirs):
            for mine, other in zip(read_ours(ours), read_theirs(path), strict=True):
                assert np.array_equal(mine, other), "the two sides do not hold the same units"
        report(
            "write, against webdataset.TarWriter",
            median_ratio(lambda: write_ours(ours, samples), lambda: write_theirs(theirs, samples)),
            8,
        )
        report(
            "read every segment, against webdataset .decode()",
            median_ratio(lambda: read_ours(ours), lambda: read_theirs(theirs)),
            30,
        )
        report("size", theirs.stat().st_size / ours.stat().st_size, 1.6)


if __name__ == "__main__":
    main()
