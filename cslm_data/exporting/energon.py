"""mixes/<name> → what Megatron-Energon needs beside the shards to read them as they are.

    .nv-meta/.info.json     samples of each shard
    .nv-meta/split.yaml     shards of train, val and test
    .nv-meta/dataset.yaml   samples as they lie in the tar: their JSON, and their units where they
                            have speech; a cooker of the user's makes of them what a model takes
    shards/<shard>.idx      where each sample begins: uint64, and the end

Source: Energon 7, flavors/webdataset: `config.py`, `structs.py`, `itar.py`. Its index.sqlite is for
joined and auxiliary data alone; `energon prepare` makes one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cslm_data.shards import MixInfo, ShardEntry, read_index
from cslm_data.workspace import atomic_path, write_json

if TYPE_CHECKING:
    from cslm_data.exporting.mix_export import MixJob

ENERGON_FOLDER = ".nv-meta"

_SPLITS = {"train": "train", "val": "valid", "test": "test"}
_HEADER, _END = 512, 1024
_SAMPLE_TYPE = {
    "__module__": "megatron.energon",
    "__class__": "CrudeWebdataset",
    "subflavors": {"source": "cslm"},
}


def energon_index_name(shard: str) -> str:
    """Name of the file that says where the samples of a shard begin."""
    return f"{shard}.idx"


def write_energon_meta(mix_folder: Path) -> list[Path]:
    """Write Energon's files into a finished mix; what was written. The shards stay as they are.

    The same mix gives the same bytes. Raises MissingArtefactError, CorruptArtefactError.
    """
    entries = MixInfo.load(mix_folder).entries
    return _write(entries, mix_folder / "shards", mix_folder)


def write_energon(job: MixJob) -> None:
    """A folder that Energon reads: the shards (links to them, where that can be) and its files."""
    source, target = job.info.folder / "shards", job.temporary / "shards"
    target.mkdir()
    entries = [entry for entry in job.info.entries if entry.split in job.splits]
    for entry in entries:
        try:
            (target / entry.shard).hardlink_to(source / entry.shard)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source / entry.shard, target / entry.shard)
        job.files[f"shards/{entry.shard}"] += entry.num_samples
        job.num_written += entry.num_samples
        job.bar.advance(entry.num_samples)
    _write(entries, source, job.temporary)


def _write(entries: Sequence[ShardEntry], shards: Path, target: Path) -> list[Path]:
    """Energon's files of some shards, into a folder that has them in `shards/`."""
    import yaml

    full = [entry for entry in entries if entry.num_samples]
    written = [_write_index(shards / entry.shard, target / "shards") for entry in full]
    meta = target / ENERGON_FOLDER
    meta.mkdir(exist_ok=True)
    parts = {
        name: [f"shards/{entry.shard}" for entry in full if entry.split == split]
        for name, split in _SPLITS.items()
    }
    for name, value in (
        ("split.yaml", {"split_parts": parts, "exclude": []}),
        ("dataset.yaml", _SAMPLE_TYPE),
    ):
        with atomic_path(meta / name) as temporary:
            temporary.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
        written.append(meta / name)
    # Last: Energon takes a folder for a dataset where this file is.
    counts = {f"shards/{entry.shard}": entry.num_samples for entry in full}
    write_json(meta / ".info.json", {"shard_counts": counts})
    return [*written, meta / ".info.json"]


def _write_index(shard: Path, folder: Path) -> Path:
    """The offset of the first header of each sample, and of the end of the last one."""
    index = read_index(shard)
    starts = index.json_offset_N - _HEADER
    end = shard.stat().st_size - _END
    path = folder / energon_index_name(shard.name)
    with atomic_path(path) as temporary:
        temporary.write_bytes(np.append(starts, end).astype("<u8").tobytes())
    return path
