from __future__ import annotations

import pickle
import shutil
import time

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from speech_catalog import add_many, copy_catalog, files, run, units

from cslm_data.catalog import open_catalog
from cslm_data.engines import ENGINES
from cslm_data.errors import AlreadyExistsError, StorageError, UsageError
from cslm_data.query import run_query
from cslm_data.sql_files import register_files
from cslm_data.storage import (
    LocalFolder,
    RemoteFolder,
    place_units,
    require_units_folder,
    units_folder,
)
from cslm_data.workspace import Workspace


class Attic(LocalFileSystem):
    """Another machine where a file grows as it is put."""

    protocol = "attic"


@pytest.fixture(params=["local", "memory", "attic"])
def folder(request, tmp_path):
    if request.param == "local":
        return LocalFolder(tmp_path / "units").child("tok")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return RemoteFolder("memory://units").child("tok")
    fsspec.register_implementation("attic", Attic, clobber=True)
    return RemoteFolder(f"attic://{tmp_path}/units").child("tok")


def put(folder, name, content):
    with folder.writing(name) as path:
        path.write_bytes(content)


def test_a_folder_is_the_same_wherever_it_is(folder):
    assert folder.names("*") == []
    folder.prepare()
    put(folder, "part-1", b"one")
    put(folder, "part-0", b"zero")
    put(folder, "plan-0", b"plan")
    put(folder, "part-1", b"another")
    assert folder.names("part-*") == ["part-0", "part-1"]
    assert folder.names(".*") == []
    there = pickle.loads(pickle.dumps(folder))
    with there.reading("part-1") as stream:
        stream.seek(2)
        assert stream.read() == b"other"
    there.remove("part-0")
    assert folder.names("*") == ["part-1", "plan-0"]
    assert folder.child("x").names("*") == []
    assert folder.child("x").address == f"{folder.address}/x"


def test_what_is_not_written_to_the_end_is_not_there(folder):
    folder.prepare()
    with pytest.raises(ZeroDivisionError), folder.writing("part-0") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError
    assert folder.names("*") == folder.names(".*") == []


@pytest.mark.parametrize("folder", ["local", "attic"], indirect=True)
def test_what_killed_processes_left_is_cleared_away(folder):
    folder.prepare()
    put(folder, ".part-0.12345678.tmp", b"half")
    put(folder, "part-1", b"one")
    folder.prepare()
    assert folder.names("*") == ["part-1"]


def test_a_put_that_breaks_off_leaves_no_file(tmp_path, monkeypatch):
    fsspec.register_implementation("attic", Attic, clobber=True)
    folder = RemoteFolder(f"attic://{tmp_path}/units")
    folder.prepare()

    def breaking(self, local, remote, **_):
        (tmp_path / "units" / remote.rsplit("/", 1)[-1]).write_bytes(b"half")
        raise ConnectionResetError("the cable")

    monkeypatch.setattr(Attic, "put_file", breaking)
    with pytest.raises(StorageError, match="part-0: cannot be written .*the cable"):
        put(folder, "part-0", b"whole")
    assert folder.names("part-*") == []
    folder.prepare()
    assert list((tmp_path / "units").iterdir()) == []


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 6)
    return workspace


@pytest.fixture
def workspace(speech, tmp_path):
    return copy_catalog(speech, tmp_path / "workspace")


def test_units_on_another_disk_are_found_by_every_command(workspace, speech, tmp_path):
    disk = tmp_path / "a disk" / "features"
    first = run(workspace, units_at=f"file://{disk}", part_seconds=2.0)
    assert [path.name for path in workspace.units.iterdir()] == ["location.json"]
    assert len(list(disk.glob(f"{first.tokenizer_id}/part-*.parquet"))) == 3
    assert run(workspace).num_already == 6
    assert run(workspace, units_at=str(disk)).num_already == 6
    sql = "select count(*), min(tokenizer_id) from units"
    assert run_query(workspace, sql).rows == [(6, first.tokenizer_id)]
    (disk.parent / "private.txt").write_text("secret")
    with pytest.raises(UsageError, match="Cannot access|disabled"):
        run_query(workspace, f"select * from read_text('{disk.parent}/private.txt')")
    shutil.move(disk, tmp_path / "away")
    with pytest.raises(StorageError, match=r"features: .*mount or restore"):
        run_query(workspace, sql)


def test_sql_sees_of_the_other_machine_the_units_alone(workspace):
    store = fsspec.filesystem("memory")
    store.store.clear()
    summary = run(workspace, units_at="memory://lab/units")
    store.pipe_file("/lab/secret.txt", b"secret")
    assert run_query(workspace, "select count(*) from units").rows == [(6,)]
    file = run_query(workspace, "select file from glob('cslm://units/*/part-*')").rows[0][0]
    assert file == f"cslm://units/{summary.tokenizer_id}/part-0000-00000.parquet"
    for wanted in ("cslm://units/../secret.txt", "cslm://secret.txt", "memory://lab/secret.txt"):
        for function in ("read_text", "glob"):
            try:
                rows = run_query(workspace, f"select * from {function}('{wanted}')").rows
            except UsageError:
                rows = []
            assert rows == []
    with open_catalog(workspace, doing="test") as outer, open_catalog(workspace, doing="test"):
        assert outer.execute("select count(*) from units").fetchone() == (6,)
        with pytest.raises(Exception, match="only read"):
            outer.execute("copy (select 1) to 'cslm://units/new.csv'")


def test_units_do_not_change_their_place_unnoticed(workspace, speech, tmp_path):
    for address in ("s3://", "s3:bucket/units", "s3:/bucket/units"):
        with pytest.raises(UsageError, match="--units-at"):
            place_units(workspace, address)
    with pytest.raises(UsageError, match="nowhere://x: .*nowhere"):
        place_units(workspace, "nowhere://x")
    place_units(workspace, str(workspace.units))
    assert units_folder(workspace) == LocalFolder(workspace.units)
    assert not workspace.units.exists()
    first = run(workspace)
    there, disk = files(workspace), tmp_path / "disk"
    with pytest.raises(AlreadyExistsError, match=f"holds units already .*{first.tokenizer_id}"):
        run(workspace, units_at=str(disk))
    # As the message says.
    shutil.copytree(workspace.units, disk)
    shutil.rmtree(workspace.units)
    assert run(workspace, units_at=str(disk)).num_already == 6
    assert files(workspace) == {}
    assert {p.relative_to(disk).as_posix(): p.read_bytes() for p in disk.glob("*/*")} == there
    with pytest.raises(AlreadyExistsError, match=f"lie at {disk}; to move them"):
        run(workspace, units_at=str(tmp_path / "elsewhere"))
    shutil.copytree(disk, tmp_path / "elsewhere")
    assert run(workspace, units_at=str(tmp_path / "elsewhere")).num_already == 6
    shutil.rmtree(disk)
    assert len(units(workspace)) == 6


def test_two_workspaces_do_not_share_a_place(workspace, speech, tmp_path):
    place_units(workspace, str(tmp_path / "disk"))
    place_units(workspace, str(tmp_path / "disk"))
    (workspace.units / "location.json").unlink()
    place_units(workspace, str(tmp_path / "disk"))
    other = Workspace(tmp_path / "other")
    with pytest.raises(AlreadyExistsError, match=f"another workspace .*{workspace.root}"):
        place_units(other, str(tmp_path / "disk"))
    # A copy of the workspace on another machine is the same one; one that took the place over is
    # not.
    shutil.copytree(workspace.units, other.units)
    assert require_units_folder(other) == LocalFolder(tmp_path / "disk")
    (tmp_path / "disk" / "cslm-units.json").unlink()
    shutil.rmtree(other.units)
    place_units(other, str(tmp_path / "disk"))
    with pytest.raises(StorageError, match="of this workspace"):
        require_units_folder(workspace)


def test_a_cluster_that_does_not_share_the_folder_is_told(workspace, tmp_path, monkeypatch):
    def elsewhere(parts, make_worker, num_workers=None, *, gpu_per_worker=False):
        for part in parts:
            yield part, []

    run(workspace, measure=False)
    for path in workspace.units.glob("*/part-*"):
        path.unlink()
    monkeypatch.setitem(ENGINES, "local", lambda: elsewhere)
    with pytest.raises(StorageError, match=r"6 of 6 utterances .* --units-at"):
        run(workspace, measure=False)
    assert units(workspace) == []


@pytest.mark.parametrize("word", ["v", "v" * 60_000], ids=["small", "large"])
def test_many_threads_of_a_query_read_one_remote_file(word, tmp_path, monkeypatch):
    # DuckDB seeks, then reads; several threads do so at one open file, as here at its row groups.
    def fetch(self, path, start=None, end=None, **_):
        time.sleep(0.001)
        return (tmp_path / "units" / path.rsplit("/", 1)[-1]).read_bytes()[start:end]

    monkeypatch.setattr(Attic, "cat_file", fetch)
    fsspec.register_implementation("attic", Attic, clobber=True)
    folder = RemoteFolder(f"attic://{tmp_path}/units")
    folder.prepare()
    words = [f"{i}{word}" for i in range(64)]
    with folder.writing("part-0.parquet") as path:
        table = pa.table({"i": range(64), "word": words})
        pq.write_table(table, path, row_group_size=4, use_dictionary=False, compression="none")
        assert (path.stat().st_size > 1 << 20) == (len(word) > 1)
    with duckdb.connect() as connection:
        register_files(connection, folder)
        for _ in range(10):
            sql = "select i, word from read_parquet('cslm://units/part-*.parquet') order by i"
            assert connection.execute(sql).fetchall() == list(enumerate(words))
