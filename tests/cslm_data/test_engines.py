from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cslm_data.engines import load_engine
from cslm_data.engines.threads import limit_threads
from cslm_data.errors import CslmError, MissingArtefactError, UsageError

run_parts = load_engine("local")


def square_maker(base):
    def work(part):
        return base + part * part, os.getpid()

    return work


def thread_counter():
    from threadpoolctl import threadpool_info

    np.ones((4, 4)) @ np.ones((4, 4))
    return lambda part: max(pool["num_threads"] for pool in threadpool_info())


def faulty(fault):
    def work(part):
        if part == 3:
            if fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("part three")
        return part

    return work


def gpu_seer(folder, num_workers):
    early = "torch" in sys.modules

    def work(part):
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < num_workers:
            time.sleep(0.01)
        return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], early

    return work


def impossible():
    raise MissingArtefactError("the weights are not there; fetch them")


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_part_runs_once(num_workers):
    results = dict(run_parts(range(40), functools.partial(square_maker, 7), num_workers))
    assert {part: value for part, (value, _) in results.items()} == {
        n: 7 + n * n for n in range(40)
    }
    processes = {pid for _, pid in results.values()}
    assert (os.getpid() in processes) == (num_workers == 1)


def test_parts_are_asked_for_as_they_are_needed():
    asked = []

    def parts():
        for number in range(100):
            asked.append(number)
            yield number

    running = run_parts(parts(), functools.partial(square_maker, 0), 2)
    next(running)
    assert len(asked) < 20
    running.close()
    assert not multiprocessing.active_children()


def test_nothing_to_do_starts_nothing():
    assert list(run_parts([], impossible, 2)) == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_each_worker_computes_with_one_thread(num_workers):
    assert {n for _, n in run_parts(range(4), thread_counter, num_workers)} == {1}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_fault_in_a_part_is_raised_as_it_is(num_workers):
    with pytest.raises(ZeroDivisionError, match="part three"):
        list(run_parts(range(50), functools.partial(faulty, "raises"), num_workers))
    assert not multiprocessing.active_children()


def test_why_a_worker_cannot_start_reaches_the_user():
    for num_workers in (1, 2):
        with pytest.raises(MissingArtefactError, match="fetch them"):
            list(run_parts(range(9), impossible, num_workers))


def test_a_worker_that_is_killed_is_reported():
    with pytest.raises(CslmError, match="run the same command again"):
        list(run_parts(range(50), functools.partial(faulty, "dies"), 2))


@pytest.mark.parametrize(("gpu_per_worker", "num_workers"), [(True, None), (None, None), (True, 4)])
def test_each_worker_sees_one_gpu_of_its_own(monkeypatch, tmp_path, gpu_per_worker, num_workers):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    seer = functools.partial(gpu_seer, tmp_path, num_workers or 2)
    results = list(run_parts(range(9), seer, num_workers, gpu_per_worker=gpu_per_worker))
    seen = {pid: gpu for _, (pid, gpu, _) in results}
    assert sorted(seen.values()) == sorted(["3", "7"] * (len(seen) // 2))
    assert len(seen) == (num_workers or 2)
    assert not any(early for _, (_, _, early) in results), "torch comes after the choice"


def test_gpus_are_asked_for_only_where_they_are(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match="no GPU"):
        list(run_parts(range(4), impossible, gpu_per_worker=True))
    monkeypatch.setattr("cslm_data.engines.local.available_cores", lambda: 1)
    assert dict(run_parts(range(4), functools.partial(square_maker, 0), gpu_per_worker=None))[
        2
    ] == (
        4,
        os.getpid(),
    )


def test_unknown_engines_are_refused():
    with pytest.raises(UsageError, match="there is local, ray"):
        load_engine("slurm")


def test_threads_are_given_back():
    import faiss

    before = faiss.omp_get_max_threads()
    with limit_threads(1):
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == before


_SLEEPERS = """
import os, sys, time
from cslm_data.engines import load_engine
def sleeper():
    def work(part):
        open(sys.argv[1] + f"/{os.getpid()}", "w").close()
        time.sleep(60)
    return work
if __name__ == "__main__":
    list(load_engine("local")(range(9), sleeper, 2))
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, how):
    (tmp_path / "pids").mkdir()
    (tmp_path / "run.py").write_text(_SLEEPERS)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "pids")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while len(workers := [int(p.name) for p in (tmp_path / "pids").iterdir()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.send_signal(how)
    _, errors = parent.communicate(timeout=20)
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if how == signal.SIGINT:
        assert errors.count("Traceback") == 1, "the parent's own, none of the workers'"
