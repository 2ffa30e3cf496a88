"""Shards from afar are fetched once, checked, and no more of them is kept than there is room."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from conftest import NUM_UNITS, make_samples
from fsspec.implementations.local import LocalFileSystem

from cslm_data.errors import CorruptArtefactError, StorageError, UsageError
from cslm_data.shards import MixInfo
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config_files import load_config
from cslm_train.packing import shard_store
from cslm_train.packing.plan import load_or_make_plan
from cslm_train.packing.reader import ShardReader
from cslm_train.packing.shard_store import CachedShards, LocalShards, open_store
from cslm_train.training.prepare import Prepared, prepare_run, read_prepared
from cslm_train.vocabulary import JointVocabulary


class Island(LocalFileSystem):
    """Another machine, whose cable breaks as often as it is told to."""

    protocol = "island"
    breaks = 0
    fetched: list[str] = []

    def _open(self, path, mode="rb", **options):
        if Island.breaks:
            Island.breaks -= 1
            raise ConnectionResetError("the cable")
        Island.fetched.append(Path(path).name)
        return super()._open(path, mode, **options)


@pytest.fixture
def mix(build_mix, tmp_path, monkeypatch) -> MixInfo:
    """A mix of which the indexes are here, and the shards on the island."""
    fsspec.register_implementation("island", Island, clobber=True)
    monkeypatch.setattr(shard_store, "_FIRST_WAIT_S", 0.01)
    Island.breaks, Island.fetched = 0, []
    folder = build_mix(train=make_samples("train", 120), valid=())
    (tmp_path / "island").mkdir()
    for shard in (folder / "shards").glob("*.tar"):
        shard.rename(tmp_path / "island" / shard.name)
    return MixInfo.load(folder)


def store_of(mix: MixInfo, tmp_path: Path, *, room: int = 1 << 30) -> CachedShards:
    store = open_store(
        mix,
        shards=f"island://{tmp_path}/island",
        cache_dir=str(tmp_path / "cache"),
        cache_gb=room / 1e9,
    )
    assert isinstance(store, CachedShards)
    return store


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name.split("-", 1)[1] for path in (tmp_path / "cache").glob("*.tar"))


def test_batches_are_those_of_local_shards(mix, tmp_path, tokenizer_folder) -> None:
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), NUM_UNITS)
    steps = []
    for name, store in (
        ("far", store_of(mix, tmp_path)),
        ("near", open_store(mix, shards=str(tmp_path / "island"))),
    ):
        plan = load_or_make_plan(
            tmp_path / name / "packs-train.parquet",
            mix,
            vocabulary,
            split="train",
            pack_length=64,
            window=8,
            store=store,
        )
        reader = ShardReader(plan, store, vocabulary, groups=plan.groups, seed=1)
        steps.append([(b.keys, b.inputs_S.tolist()) for _ in range(20) for b in next(reader)])
        reader.close()
    assert steps[0] == steps[1]
    assert sorted(Island.fetched) == ["train-000000.tar", "train-000001.tar"]
    assert isinstance(store, LocalShards)


def test_what_was_not_read_for_longest_makes_room(mix, tmp_path) -> None:
    names = [entry.shard for entry in mix.entries]
    room = max(entry.num_bytes for entry in mix.entries)
    store = store_of(mix, tmp_path, room=room + 1000)
    first = store.open(names[0])
    sample = first.key(512)
    store.open(names[1])
    assert cached(tmp_path) == [names[1]]
    assert first.key(512) == sample, "what is open stays readable"
    store.open(names[1])
    store.open(names[0])
    assert Island.fetched == [names[0], names[1], names[0]]
    store_of(mix, tmp_path).open(names[1])
    assert cached(tmp_path) == names


def test_shards_are_fetched_ahead_up_to_half_the_room(mix, tmp_path) -> None:
    names = [entry.shard for entry in mix.entries]
    store = store_of(mix, tmp_path)
    store.fetch_ahead([*names, *names])
    store._threads.shutdown(wait=True)
    assert cached(tmp_path) == names
    assert sorted(Island.fetched) == names
    little = store_of(mix, tmp_path / "x", room=mix.entries[0].num_bytes * 2 - 1)
    little.fetch_ahead(names)
    assert little._threads is None
    store.close()


def test_a_broken_cable_is_tried_again_but_not_for_ever(mix, tmp_path) -> None:
    store = store_of(mix, tmp_path)
    Island.breaks = 3
    store.open("train-000000.tar")
    assert Island.fetched == ["train-000000.tar"]
    Island.breaks = 4
    with pytest.raises(StorageError, match=r"train-000001.tar: cannot be read .*the cable"):
        store.open("train-000001.tar")
    assert cached(tmp_path) == ["train-000000.tar"]
    assert not list((tmp_path / "cache").glob(".*.tmp"))


def test_other_bytes_than_the_mix_has_are_refused(mix, tmp_path) -> None:
    shard = tmp_path / "island" / "train-000000.tar"
    content = shard.read_bytes()
    for wrong in (content[:-512], bytes([content[0] ^ 1]) + content[1:]):
        shard.write_bytes(wrong)
        with pytest.raises(CorruptArtefactError, match="but mix.json says .* upload the shards"):
            store_of(mix, tmp_path).open("train-000000.tar")
    assert cached(tmp_path) == []
    shard.write_bytes(content)
    store_of(mix, tmp_path).open("train-000000.tar")


def test_what_a_killed_process_was_fetching_is_cleared_away(mix, tmp_path) -> None:
    (tmp_path / "cache").mkdir()
    left = tmp_path / "cache" / ".0123456789abcdef-train-000000.tar.1.tmp"
    left.write_bytes(b"half")
    store_of(mix, tmp_path).open("train-000000.tar")
    assert not left.exists()


def test_many_share_a_cache_that_is_too_small_for_all(mix, tmp_path) -> None:
    # The locks are on open files, so threads with stores of their own are like processes.
    names = [entry.shard for entry in mix.entries]
    room = max(entry.num_bytes for entry in mix.entries)
    store = store_of(mix, tmp_path, room=room + 1000)

    def read(number: int) -> set[str]:
        own = pickle.loads(pickle.dumps(store))
        order = names[:: 1 if number % 2 else -1]
        return {own.open(name).key(512) for _ in range(5) for name in order}

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(read, range(4)))
    assert found == [found[0]] * 4 and len(found[0]) == 2
    assert len(cached(tmp_path)) == 1
    assert not list((tmp_path / "cache").glob(".*.tmp"))


def test_a_run_may_go_on_with_a_cache_elsewhere(mix, workspace, tmp_path) -> None:
    fields = ["model.max_seq_len=64", "data.pack_length=64"]
    fields.append(f"data.shards=island://{tmp_path}/island")

    def prepare(cache: str) -> Prepared:
        config = load_config("smoke", [*fields, f"data.cache_dir={tmp_path / cache}"])
        prepare_run(
            workspace,
            workspace.runs / "pretrain",
            stage="pretrain",
            config=config,
            mix="pretrain",
            init_from=None,
            overwrite=False,
            num_processes=1,
        )
        return read_prepared(workspace, workspace.runs / "pretrain", None)

    first, again = prepare("cache"), prepare("other")
    assert isinstance(first.shards, CachedShards) and isinstance(again.shards, CachedShards)
    assert again.shards.cache_dir == tmp_path / "other"
    assert again.info.run_id == first.info.run_id
    again.shards.open("train-000000.tar")
    assert len(list((tmp_path / "other").glob("*.tar"))) == 1


def test_a_cache_too_small_for_all_shards_is_said(mix, tmp_path, caplog) -> None:
    store_of(mix, tmp_path, room=max(entry.num_bytes for entry in mix.entries))
    assert "fetched again and again" in caplog.text


def test_a_cache_too_small_for_a_shard_is_an_error_that_says_how_much(mix, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"data.cache_gb is 1e-06, but train-00000\d.tar .* alone"):
        store_of(mix, tmp_path, room=1000)
    with pytest.raises(UsageError, match="data.shards s3:/x: neither a folder nor a URL"):
        open_store(mix, shards="s3:/x")
