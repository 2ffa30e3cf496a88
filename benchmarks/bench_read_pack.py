"""Shards to packs of 2048 ids of units: ours against plain webdataset and lists; the same units.

Theirs is the loop that people write: decode each sample, add its ids to a list, cut the list into
arrays of 2048; samples are cut where a pack ends. Ours takes the lengths from the index, puts whole
samples into packs (`assign_packs`) and reads the units of each from the memory map into its place.
Text is left out on both sides, but theirs parses the JSON that it lies in, for `decode` does; what
a reader of both costs is in bench_shards.py. Asserted beside it: the same ids on both sides. Whole
samples of about 490 ids leave a twentieth of a pack free.

    python benchmarks/bench_read_pack.py [--samples 8000]
"""

# P packs, S positions of a pack, N samples

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import webdataset
from bench_shards import make_samples, write_ours
from paired import cpu_s, median_ratio, report

from cslm_data.shards import ShardFile
from cslm_train.packing.assign import assign_packs

PACK, WINDOW = 2048, 4096
FIRST_UNIT, FREE = 4200, 0
BAR = 30


def pack_lists(path: Path) -> list[np.ndarray]:
    packs, waiting = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode()
        for sample in dataset:
            waiting.extend(FIRST_UNIT + unit for unit in sample["units.npy"].tolist())
            while len(waiting) >= PACK:
                packs.append(np.array(waiting[:PACK], np.int32))
                waiting = waiting[PACK:]
    return [*packs, np.array(waiting, np.int32)]


def pack_ours(path: Path) -> np.ndarray:
    """Ids of whole samples one after the other, FREE where a pack is not full: int32 (P, S)."""
    shard = ShardFile(path)
    packs_N = assign_packs(
        shard.index.num_units_N.astype(np.int64), pack_length=PACK, window=WINDOW
    )
    packs_PS = np.full((int(packs_N.max()) + 1, PACK), FREE, np.int32)
    ends = [0] * len(packs_PS)
    for units_N, pack in zip(shard.units(), packs_N.tolist(), strict=True):
        start = ends[pack]
        ends[pack] = end = start + len(units_N)
        np.add(units_N, FIRST_UNIT, out=packs_PS[pack, start:end], casting="unsafe")
    return packs_PS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=8000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train-000000.tar"
        write_ours(path, make_samples(options.samples))
        mine, lists = pack_ours(path), np.concatenate(pack_lists(path))
        used = mine[mine != FREE]
        assert np.array_equal(np.bincount(used), np.bincount(lists)), "the ids are not the same"
        fill = len(used) / mine.size
        seconds = cpu_s(lambda: pack_ours(path))
        print(f"{len(used) / seconds / 1e6:.1f} M ids/s, {fill:.4f} of the places filled")
        ratio = median_ratio(lambda: pack_ours(path), lambda: pack_lists(path))
        report(f"read + pack to {PACK}, against webdataset and lists", ratio, BAR)


if __name__ == "__main__":
    main()
