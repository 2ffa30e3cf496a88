"""Units in an object store: the same bytes, the same rules."""

from __future__ import annotations

import shutil

import pytest
from mix_workspace import TOKENIZER, fill, shard_bytes_of
from object_store import BUCKET, allow, deny, object_store, remote_files
from speech_catalog import add, add_many, adds_up, files, run, units, write_speech

from cslm_data.errors import StorageError
from cslm_data.mix import build_mix
from cslm_data.query import run_query
from cslm_data.storage import place_units
from cslm_data.workspace import Workspace

pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def store():
    with object_store() as address:
        yield address


@pytest.fixture(scope="module")
def local(tmp_path_factory, store):
    """Eight recordings here, four in the object store and one nowhere, with units on this disk."""
    import s3fs

    folder = tmp_path_factory.mktemp("speech")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 8)
    for index in range(4):
        path = write_speech(folder / f"far-{index}.flac", 50 + index)
        s3fs.S3FileSystem().put_file(str(path), f"{BUCKET}/audio/{path.name}")
        add(workspace, f"s3://{BUCKET}/audio/{path.name}", f"far-{index}")
    add(workspace, f"s3://{BUCKET}/audio/nowhere.flac", "nowhere")
    run(workspace, part_seconds=2.0)
    return workspace


@pytest.fixture
def workspace(local, tmp_path):
    """The same speech, without units."""
    copy = Workspace(tmp_path / "workspace")
    copy.root.mkdir()
    copy.catalog.write_bytes(local.catalog.read_bytes())
    return copy


@pytest.mark.parametrize("num_workers", [1, 2])
def test_units_in_an_object_store_are_those_of_this_disk(workspace, local, num_workers):
    place = f"lab/{num_workers}"
    summary = run(
        workspace, units_at=f"s3://{BUCKET}/{place}/", part_seconds=2.0, num_workers=num_workers
    )
    assert adds_up(summary)
    assert (summary.num_in, summary.num_out, summary.num_rejected) == (13, 12, 1)
    assert remote_files(place) == files(local)
    assert len(files(local)) == 1 + 7
    assert [path.name for path in workspace.units.iterdir()] == ["location.json"]
    assert units(workspace) == units(local)
    sql = "select stage, \"key\", reason from rejects where stage = 'quantize'"
    assert run_query(workspace, sql).rows == [("quantize", "nowhere", "missing")]


def test_lost_parts_new_speech_and_second_tries_go_the_same_way(workspace, local, tmp_path):
    import s3fs

    store = s3fs.S3FileSystem()
    first = run(workspace, units_at=f"s3://{BUCKET}/again", part_seconds=2.0)
    before = remote_files("again")
    for number in (1, 3):
        store.rm_file(f"{BUCKET}/again/{first.tokenizer_id}/part-0000-0000{number}.parquet")
    resumed = run(workspace)
    assert remote_files("again") == before == files(local)
    assert adds_up(resumed)
    assert resumed.num_out + resumed.num_already == 12
    assert 2 <= resumed.num_out <= 4
    add(workspace, write_speech(tmp_path / "new.wav", 99), "utt-new")
    assert run(workspace).num_out == 1
    assert len(remote_files("again")) == len(before) + 2
    path = write_speech(tmp_path / "late.flac", 60)
    store.put_file(str(path), f"{BUCKET}/audio/nowhere.flac")
    try:
        assert run(workspace).num_rejected == 1, "without being asked it stays as it is"
        again = run(workspace, retry_rejected=True)
    finally:
        store.rm_file(f"{BUCKET}/audio/nowhere.flac")
    assert adds_up(again)
    assert (again.num_rejected, again.num_out + again.num_already) == (0, 14)


def test_a_mix_is_the_same_wherever_its_units_lie(store, tmp_path):
    import s3fs

    workspace = fill(Workspace(tmp_path / "workspace"))
    build_mix(workspace, languages=["en", "zh"], stage="pretrain", name="near")
    folder = workspace.units / TOKENIZER
    s3fs.S3FileSystem().put(str(folder), f"{BUCKET}/mixed/{TOKENIZER}", recursive=True)
    shutil.rmtree(folder)
    place_units(workspace, f"s3://{BUCKET}/mixed")
    build_mix(workspace, languages=["en", "zh"], stage="pretrain", name="far")
    near, far = workspace.mixes / "near", workspace.mixes / "far"
    assert shard_bytes_of(far) == shard_bytes_of(near)
    assert (far / "mix.parquet").read_bytes() == (near / "mix.parquet").read_bytes()


def test_what_bars_the_way_is_said_in_one_message(workspace, store, monkeypatch):
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/u/.*bucket does not exist"):
        run(workspace, units_at="s3://no-such-bucket/u")
    assert not (workspace.units / "location.json").exists(), "nothing is remembered"
    run(workspace, units_at=f"s3://{BUCKET}/barred")
    deny(store)
    try:
        with pytest.raises(StorageError, match=r"barred: cannot be .*PermissionError.*AWS_"):
            run_query(workspace, "select count(*) from units")
        with pytest.raises(StorageError, match=r"barred: cannot be"):
            run(workspace)
    finally:
        allow(store)
    assert run(workspace).num_already == 12
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"barred: cannot be listed .*127\.0\.0\.1:1.*network"):
        run(workspace)
    s3fs.S3FileSystem.clear_instance_cache()
