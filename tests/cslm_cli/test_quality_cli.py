from __future__ import annotations

import json
from pathlib import Path

import pytest
from cslm_cli.data import app
from small_files import write_rows, write_tone
from typer.testing import CliRunner

from cslm_data.ingest import ingest
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tones, the low ones `o`, the high ones `i`, in units of two tokenizers."""
    folder = tmp_path_factory.mktemp("tones")
    rows: list[dict[str, object]] = []
    times: list[dict[str, object]] = []
    for index in range(6):
        write_tone(folder / f"{index}.wav", seconds=1.0, hz=300 + 400 * (index % 2), seed=index)
        audio = {"audio": f"{index}.wav", "language": "en", "speaker": f"s{index % 3}"}
        rows.append({"id": f"u{index}", **audio})
        times.append({"id": f"u{index}", "phones": [[0.0, 1.0, "oi"[index % 2]]]})
    write_rows(folder / "tones.jsonl", rows)
    write_rows(folder / "tones.align.jsonl", times)
    where = Workspace(folder / "workspace")
    ingest(where, [folder])
    for num_units in (4, 6):
        quantize(where, num_units=num_units, extractor="mfcc", num_workers=1)
    return where.root


def test_two_tokenizers_stand_side_by_side_in_the_table_the_page_and_the_json(
    workspace: Path, tmp_path: Path
) -> None:
    page, figures = tmp_path / "units.html", tmp_path / "units.json"
    shown = run(
        *("unit-report", "--compare", "mfcc-4", "mfcc-6", "--workspace", workspace),
        *("--html", page, "--out", figures, "--robustness-utterances", 1, "--abx-cells", 5),
    )
    for text in ("PNMI", "mfcc-4", "mfcc-6", "unit edit distance", f"written: {page}"):
        assert text in shown
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert [tokenizer["name"] for tokenizer in report["tokenizers"]] == ["mfcc-4", "mfcc-6"]
    assert report["tokenizers"][0]["phones"][0]["all_frames"]["pnmi"] > 0.5
    assert "<!DOCTYPE html>" in page.read_text(encoding="utf-8")


def test_the_figures_of_one_tokenizer_as_json(workspace: Path) -> None:
    quick = ("--abx-cells", 0, "--robustness-utterances", 0)
    where = ("--workspace", workspace, "--langs", "en", "--json")
    report = json.loads(run("unit-report", "mfcc-6", *where, *quick))
    [tokenizer] = report["tokenizers"]
    assert tokenizer["usage"]["en"]["num_utterances"] == 6
    assert (tokenizer["abx"], tokenizer["robustness"]) == ([], [])
