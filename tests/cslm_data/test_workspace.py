from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cslm_data.catalog import open_catalog
from cslm_data.errors import LockedError, MissingArtefactError, UsageError
from cslm_data.workspace import Workspace, atomic_path, find_workspace

HOLD = """
import sys, time
from pathlib import Path
from cslm_data.catalog import open_catalog
from cslm_data.workspace import Workspace
with open_catalog(Workspace(Path(sys.argv[1])), write=True, doing="cslm-data ingest"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_option_wins_over_the_variable_and_the_variable_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSLM_WORKSPACE", raising=False)
    assert find_workspace().root == tmp_path / "workspace"
    monkeypatch.setenv("CSLM_WORKSPACE", str(tmp_path / "of-variable"))
    assert find_workspace().root == tmp_path / "of-variable"
    assert find_workspace(tmp_path / "of-option").root == tmp_path / "of-option"


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_second_writer_is_told_who_holds_the_catalog(workspace: Workspace) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"process {holder.pid} .*cslm-data ingest"),
            open_catalog(workspace, write=True, doing="another"),
        ):
            pass
        with (
            pytest.raises(LockedError, match=f"process {holder.pid}"),
            open_catalog(workspace, doing="a reader"),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with open_catalog(workspace, write=True, doing="after the kill"):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_reading_without_a_catalog_says_how_to_begin(workspace: Workspace) -> None:
    with (
        pytest.raises(MissingArtefactError, match="cslm-data ingest"),
        open_catalog(workspace, doing="test"),
    ):
        pass


def test_many_readers_may_read_at_once(workspace: Workspace) -> None:
    with open_catalog(workspace, write=True, doing="test"):
        pass
    with open_catalog(workspace, doing="one"), multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_count_utterances, (workspace,)) == 0


def _count_utterances(workspace: Workspace) -> int:
    with open_catalog(workspace, doing="two") as connection:
        return len(connection.execute("from utterances").fetchall())


@pytest.mark.parametrize("name", ["all*", "what?", "[x]", "{a,b}"])
def test_a_path_that_would_be_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="choose another folder"):
        find_workspace(tmp_path / name)
