"""What every test may ask for: a workspace, the shared data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cslm_data.workspace import Workspace

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real speech, where the machine has it."""
    folder = os.environ.get("CSLM_SHARED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CSLM_SHARED_DATA does not point at the shared data")
    return Path(folder)
