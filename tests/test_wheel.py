from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WHERE = "import cslm_data, cslm_cli, cslm_manifests; print(cslm_data.__file__)"


@pytest.mark.slow
def test_the_built_wheel_works_from_another_folder_with_all_its_data(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    source = tmp_path / "source"
    aside = shutil.ignore_patterns(".*", "build", "workspace", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=aside)
    command = [*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source]
    built = subprocess.run(command, capture_output=True, text=True)
    if "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("building a wheel fetches setuptools, and there is no network")
    assert built.returncode == 0, built.stderr
    [wheel] = wheels.glob("cslm-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("CSLM_WORKSPACE", None)

    def python(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert python("-c", WHERE).startswith(str(site))
    data = ("-m", "cslm_cli.data")
    python(*data, "demo", "corpus")
    python(*data, "ingest", "corpus")
    python(*data, "quantize", "--num-units", "20", "--num-workers", "1")
    python(*data, "build-mix", "--langs", "en,zh")
    python(*data, "audit")
    assert (tmp_path / "workspace" / "mixes" / "pretrain" / "mix.json").exists()
    assert "smoke" in python(
        "-c", "from cslm_train.config_files import named_configs; print(named_configs())"
    )
