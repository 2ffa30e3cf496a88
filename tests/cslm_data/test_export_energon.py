"""Megatron-Energon's files beside the shards of a mix."""

from __future__ import annotations

import json
import tarfile
import warnings

import numpy as np
import pytest
import yaml
from shard_mix import SHARDS, make_mix, make_sample

from cslm_data.exporting.energon import write_energon_meta
from cslm_data.exporting.mix_export import export_mix


def test_the_files_say_shards_splits_and_where_each_sample_begins(workspace):
    mix = make_mix(workspace)
    before = {path: path.read_bytes() for path in (mix / "shards").iterdir()}
    written = write_energon_meta(mix)
    contents = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_energon_meta(mix)] == contents
    assert all(path.read_bytes() == content for path, content in before.items())
    meta = mix / ".nv-meta"
    assert json.loads((meta / ".info.json").read_text()) == {
        "shard_counts": {f"shards/{shard}": len(keys) for shard, keys in SHARDS.items()}
    }
    assert yaml.safe_load((meta / "split.yaml").read_text()) == {
        "split_parts": {
            "train": ["shards/train-000000.tar", "shards/train-000001.tar"],
            "val": [],
            "test": ["shards/test-000000.tar"],
        },
        "exclude": [],
    }
    for shard in SHARDS:
        with tarfile.open(mix / "shards" / shard) as tar:
            members = tar.getmembers()
            starts = [m.offset for m in members if m.name.endswith(".json")]
            starts.append(tar.offset)
        assert np.fromfile(mix / "shards" / f"{shard}.idx", "<u8").tolist() == starts
    assert sorted(path.name for path in (mix / "shards").glob("*.tar")) == sorted(SHARDS)


def test_an_export_is_a_folder_of_its_own_and_leaves_the_mix_alone(workspace, tmp_path):
    mix = make_mix(workspace)
    before = {path: path.read_bytes() for path in mix.rglob("*") if path.is_file()}
    summary = export_mix(workspace, "m", tmp_path / "out", format="energon", split="train")
    assert summary.tables["samples"].num_out == 5
    assert {path: path.read_bytes() for path in mix.rglob("*") if path.is_file()} == before
    assert {path.name for path in (tmp_path / "out" / "shards").iterdir()} == {
        f"train-00000{number}.tar{suffix}" for number in (0, 1) for suffix in ("", ".idx")
    }
    out, inside = tmp_path / "out", mix / "shards" / "train-000001.tar"
    assert (out / "shards" / "train-000001.tar").read_bytes() == inside.read_bytes()
    assert json.loads((out / ".nv-meta" / ".info.json").read_text()) == {
        "shard_counts": {"shards/train-000000.tar": 3, "shards/train-000001.tar": 2}
    }


@pytest.mark.parametrize("exported", [False, True])
def test_energon_itself_reads_the_mix(workspace, tmp_path, exported):
    energon = pytest.importorskip("megatron.energon", reason="megatron-energon is not installed")
    mix = make_mix(workspace)
    if exported:
        mix = export_mix(workspace, "m", tmp_path / "out", format="energon").folder
    else:
        write_energon_meta(mix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)

        @energon.stateless
        def cook(sample):
            return dict(sample)

        class Encoder(energon.DefaultTaskEncoder):
            cookers = (energon.Cooker(cook),)

            def batch(self, samples):
                return samples

        read = []
        for split in ("train", "test"):
            dataset = energon.get_val_dataset(
                str(mix),
                split_part=split,
                worker_config=config,
                batch_size=1,
                task_encoder=Encoder(),
            )
            for (row,) in energon.get_loader(dataset):
                read.append(row)
    assert {row["__key__"].split("/")[-1] for row in read} == {
        key for keys in SHARDS.values() for key in keys
    }
    for row in read:
        sample = make_sample(row["__key__"].split("/")[-1])
        document = row["json"]
        assert document["task"] == sample.task
        spoken = [s.units for s in sample.segments if len(s.units)]
        assert ("units.npy" in row) == bool(spoken)
        if spoken:
            assert np.array_equal(row["units.npy"], np.concatenate(spoken))
