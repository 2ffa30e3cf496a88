"""The Ray engine, on a cluster of two machines that are processes of this one."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from object_store import BUCKET, object_store, remote_files
from speech_catalog import add, add_rows, add_said, adds_up, copy_catalog, files, run, write_speech
from tiny_ctc import save_wav2vec2

from cslm_data.alignment import align
from cslm_data.engines import load_engine
from cslm_data.engines.ray import _Pool
from cslm_data.errors import CslmError, MissingArtefactError, UsageError
from cslm_data.measure import measure
from cslm_data.query import run_query
from cslm_data.workspace import Workspace

pytestmark = pytest.mark.ray
pytest.importorskip("ray")

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def store():
    with object_store():
        yield


@pytest.fixture(scope="module")
def cluster(store):
    """Two machines that find the object store as a lab's would: by their own environment."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Workers find the functions of this file; nobody is killed for others' use of memory.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


def run_parts(*arguments, **options):
    return load_engine("ray")(*arguments, **options)


def square_maker(base):
    def work(part):
        from threadpoolctl import threadpool_info

        threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        time.sleep(0.05)
        return base + part * part, os.getpid(), threads

    import numpy as np

    np.ones((4, 4)) @ np.ones((4, 4))
    return work


def faulty(fault):
    def work(part):
        if part == 3:
            if fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MissingArtefactError("gone") if fault == "ours" else ZeroDivisionError("three")
        return part

    return work


def impossible():
    raise MissingArtefactError("the weights are not there; fetch them")


def test_every_part_runs_once_on_every_core_of_the_cluster(cluster):
    asked = []

    def parts():
        for number in range(40):
            asked.append(number)
            yield number

    running = run_parts(parts(), functools.partial(square_maker, 7))
    results = dict([next(running)])
    assert len(asked) < 10, "parts are asked for as they are needed"
    results.update(running)
    assert {n: value for n, (value, _, _) in results.items()} == {n: 7 + n * n for n in range(40)}
    assert len({pid for _, pid, _ in results.values()} - {os.getpid()}) == 2
    assert {threads for _, _, threads in results.values()} == {1}


def test_faults_are_raised_as_they_are(cluster):
    with pytest.raises(MissingArtefactError, match=r"^gone$"):
        list(run_parts(range(9), functools.partial(faulty, "ours"), 1))
    with pytest.raises(ZeroDivisionError, match="three") as caught:
        list(run_parts(range(9), functools.partial(faulty, "theirs"), 1))
    assert caught.value.__notes__ == ["raised by part 3"]
    with pytest.raises(MissingArtefactError, match="fetch them"):
        list(run_parts(range(9), impossible, 2))


def test_a_part_that_kills_its_workers_is_named(cluster, monkeypatch):
    monkeypatch.setattr("cslm_data.engines.ray._ATTEMPTS", 2)
    with pytest.raises(CslmError, match="part 3 lost its worker 2 times"):
        list(run_parts(range(9), functools.partial(faulty, "dies"), 1))


def test_nothing_to_do_connects_to_nothing():
    assert list(run_parts([], impossible, 2)) == []


def test_gpus_that_are_not_there_are_missed(cluster):
    with pytest.raises(UsageError, match="no GPU"):
        list(run_parts([1], impossible, gpu_per_worker=True))


def test_a_node_that_is_killed_in_the_middle_changes_no_byte(
    cluster, tmp_path, caplog, capfd, monkeypatch
):
    num_parts = 400
    lost, whole = Workspace(tmp_path / "lost"), Workspace(tmp_path / "whole")
    path = write_speech(tmp_path / "speech.wav", 0, duration_s=60)
    stretches = [{"offset_s": i * 0.1, "duration_s": 0.5} for i in range(num_parts)]
    add_rows(lost, [(path, f"utt-{i}", stretch) for i, stretch in enumerate(stretches)])
    whole.root.mkdir()
    whole.catalog.write_bytes(lost.catalog.read_bytes())
    expected = run(whole, part_seconds=0.1)
    shutil.copytree(whole.tokenizers, lost.tokenizers)

    begun, begin = [], _Pool._begun
    monkeypatch.setattr(_Pool, "_begun", lambda *given: begun.append(begin(*given)))
    done_at_kill = []

    def kill():
        deadline = time.monotonic() + 60
        goal = num_parts
        while time.monotonic() < deadline:
            done = len(list(lost.units.glob("*/part-*.parquet")))
            if done >= goal:
                break
            if len(begun) == 2 and goal == num_parts:
                goal = done + 20
            time.sleep(0.005)
        done_at_kill.append(done)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level(logging.WARNING):
        summary = run(lost, part_seconds=0.1, engine="ray", num_workers=2)
    killer.join()
    assert 20 <= done_at_kill[0] < num_parts - 20, "killed in the middle"
    assert "a worker was lost, its parts are done again" in caplog.text
    assert files(lost) == files(whole)
    assert len(files(lost)) == 1 + num_parts
    assert adds_up(summary)
    assert (summary.num_out, summary.tokenizer_id) == (num_parts, expected.tokenizer_id)
    assert not list(lost.units.glob("*/.*.tmp"))
    assert "Raylet" not in capfd.readouterr().out, "Ray keeps off the output of our commands"


def test_audio_and_units_of_a_cluster_may_lie_in_an_object_store(cluster, tmp_path):
    import s3fs

    far, near = Workspace(tmp_path / "far"), Workspace(tmp_path / "near")
    for index in range(6):
        path = write_speech(tmp_path / f"{index}.flac", index)
        s3fs.S3FileSystem().put_file(str(path), f"{BUCKET}/audio/{path.name}")
        add(far, f"s3://{BUCKET}/audio/{path.name}", f"utt-{index}")
    near.root.mkdir()
    near.catalog.write_bytes(far.catalog.read_bytes())
    run(near, part_seconds=1.0)
    place = f"s3://{BUCKET}/cluster"
    summary = run(far, part_seconds=1.0, engine="ray", num_workers=None, units_at=place)
    assert (summary.num_out, summary.num_rejected) == (6, 0)
    assert remote_files("cluster") == files(near)


def test_measures_come_back_from_a_cluster_to_the_workspace(cluster, tmp_path):
    import s3fs

    far, near = Workspace(tmp_path / "far"), Workspace(tmp_path / "near")
    for index in range(4):
        path = write_speech(tmp_path / f"{index}.flac", index)
        s3fs.S3FileSystem().put_file(str(path), f"{BUCKET}/measured/{path.name}")
        add(far, f"s3://{BUCKET}/measured/{path.name}", f"utt-{index}")
    near.root.mkdir()
    near.catalog.write_bytes(far.catalog.read_bytes())
    place = f"s3://{BUCKET}/units-of-measured"
    beside = run(far, part_seconds=1.0, engine="ray", num_workers=None, units_at=place)
    assert beside.num_measured == 4
    alone = measure(near, part_seconds=1.0, engine="ray")
    assert (alone.num_out, alone.num_rejected) == (4, 0)
    sql = "select * from measures order by utt_id"
    assert run_query(far, sql).rows == run_query(near, sql).rows
    assert len(list(far.measures.glob("part-*.parquet"))) == 4


def test_a_cluster_that_is_not_there_is_missed(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:1: no cluster .*ray start --head"):
        list(run_parts([1], impossible))


def test_machines_of_a_cluster_align_to_the_bytes_of_this_one(cluster, tmp_path):
    near, far = Workspace(tmp_path / "near"), tmp_path / "far"
    for index in range(4):
        path = write_speech(tmp_path / f"{index}.wav", index)
        add_said(near, path, f"utt-{index}", "a bee")
    copied = copy_catalog(near, far)
    save_wav2vec2(tmp_path / "tiny")
    options = {"aligner": str(tmp_path / "tiny"), "min_score": 0.0, "part_seconds": 1.0}
    align(near, num_workers=1, **options)
    summary = align(copied, engine="ray", num_workers=1, **options)
    assert (summary.num_out, summary.num_rejected) == (4, 0)
    made = [path.name for path in (near.alignments / "tiny").iterdir()]
    assert len(made) == 6
    for name in made:
        ours, theirs = (w.alignments / "tiny" / name for w in (near, copied))
        assert ours.read_bytes() == theirs.read_bytes()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'cslm\[ray\]'"):
        list(run_parts([1], impossible))
