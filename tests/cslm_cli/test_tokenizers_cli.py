from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cslm_cli import data, tokenizers, units
from small_files import write_rows, write_tone
from typer.testing import CliRunner, Result

from cslm_data.clustering.kmeans import BACKENDS, INITS
from cslm_data.errors import AlreadyExistsError, UsageError
from cslm_data.tokenizers.tokenizer_fit import FitOptions
from cslm_data.tokenizers.tokenizer_folders import load


def cslm_data(*arguments: object) -> Result:
    return CliRunner().invoke(data.app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    rows: list[dict[str, object]] = []
    for index in range(3):
        write_tone(tmp_path / f"{index}.wav", seconds=1.0, hz=200 + 100 * index, seed=index)
        rows.append({"id": f"u{index}", "audio": f"{index}.wav", "text": "a", "language": "en"})
    write_rows(tmp_path / "speech.jsonl", rows)
    where = tmp_path / "ws"
    cslm_data("ingest", tmp_path / "speech.jsonl", "-w", where)
    return where


def test_a_tokenizer_is_fitted_exported_and_imported(workspace: Path, tmp_path: Path) -> None:
    common = ["-w", workspace, "--num-workers", 1]
    options = ["--num-units", 5, "--normalisation", "pca:10", "--restarts", 2, "--full-passes", 1]
    shown = cslm_data("fit-tokenizer", "--name", "mine", *options, "--iterations", 3, *common)
    tokenizer = load(workspace / "tokenizers" / "mine")
    assert tokenizer.tokenizer_id in shown.stdout
    for words in ("en 147", "kmeans++", "in 3 steps", "over all speech", "pca"):
        assert words in shown.stdout
    file = tmp_path / "km.bin"
    done = cslm_data("export-tokenizer", "mine", file, "-w", workspace)
    assert f"{file}: 5 centroids of 39 numbers, for mfcc" in done.stdout
    done = cslm_data(
        *("import-tokenizer", file, "--extractor", "mfcc", "--name", "back", "--unsafe-pickle"),
        *("--json", "-w", workspace),
    )
    said = json.loads(done.stdout)
    assert (said["name"], said["num_units"], said["dim"]) == ("back", 5, 39)
    assert said["fit"]["file"] == "km.bin"
    done = cslm_data("quantize", "--tokenizer", "back", "--json", *common)
    assert json.loads(done.stdout)["tokenizer_id"] == said["tokenizer_id"]


def test_mistakes_are_one_message(workspace: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", np.zeros((3, 5)))
    for arguments, error, message in (
        (["fit-tokenizer", "--num-units", 5_000], UsageError, "only 147 frames"),
        (["fit-tokenizer", "--name", "../x"], UsageError, "--name"),
        (["fit-tokenizer", "--engine", "x"], UsageError, "--engine x"),
        (["import-tokenizer", tmp_path / "km.npy", "--extractor", "mfcc"], UsageError, "gives 39"),
    ):
        with pytest.raises(error, match=message):
            cslm_data(*arguments, "-w", workspace)
    cslm_data("fit-tokenizer", "--num-units", 3, "--name", "a", "-w", workspace)
    cslm_data("quantize", "-w", workspace)
    with pytest.raises(AlreadyExistsError, match="another --name"):
        cslm_data("fit-tokenizer", "--num-units", 4, "--name", "a", "-w", workspace)


def defaults(command: Any) -> dict[str, Any]:
    found = inspect.signature(command).parameters.values()
    return {parameter.name: parameter.default for parameter in found}


@pytest.mark.parametrize("command", [tokenizers.fit_tokenizer, units.quantize])
def test_the_command_line_has_the_defaults_of_the_fit(command: Any) -> None:
    said = defaults(command)
    shared = [field for field in dataclasses.fields(FitOptions) if field.name in said]
    assert {"extractor", "num_units", "max_frames", "seed", "backend"} <= {f.name for f in shared}
    for field in shared:
        if field.name != "extractor":
            assert said[field.name] == field.default, field.name


def test_every_setting_of_the_fit_is_an_option() -> None:
    names = {field.name for field in dataclasses.fields(FitOptions)}
    assert names <= set(defaults(tokenizers.fit_tokenizer))
    assert {backend.value for backend in tokenizers.Backend} == set(BACKENDS)
    assert {init.value for init in tokenizers.Init} == set(INITS)
