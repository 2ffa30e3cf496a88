from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_files import write_rows, write_tone
from test_data_cli import cslm_data


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with units of four recordings and of two halves of another."""
    folder = tmp_path_factory.mktemp("corpus")
    rows: list[dict[str, object]] = []
    for index in range(4):
        write_tone(folder / f"{index}.wav", seconds=2, hz=200 + 100 * index, seed=index)
        rows.append({"id": f"u{index}", "audio": f"{index}.wav", "text": "a", "language": "en"})
    write_tone(folder / "long.wav", seconds=2, seed=9)
    for index in range(2):
        half = {"audio": "long.wav", "offset": float(index), "duration": 1.0, "language": "en"}
        rows.append({"id": f"half{index}", **half})
    write_rows(folder / "speech.jsonl", rows)
    workspace = folder / "ws"
    for words in (("ingest", folder), ("quantize", "--num-units", 8, "--num-workers", 1)):
        done = cslm_data(*words, workspace=workspace)
        assert done.returncode == 0, done.stderr
    return workspace


def test_listen_prints_what_it_wrote_and_takes_units_alone(spoken: Path) -> None:
    done = cslm_data("listen", "u1", workspace=spoken)
    assert done.returncode == 0, done.stderr
    assert "u1.units.wav" in done.stdout
    page = spoken / "listen" / "mfcc-8" / "listen.html"
    assert f"open {page}" in done.stdout
    assert (page.parent / "u1.original.wav").exists()
    units = cslm_data(
        "listen", "--units", "3, 1 4", "--durations", "5 5 5", "--json", workspace=spoken
    )
    assert json.loads(units.stdout)["heard"][0]["duration_s"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["listen", "nobody"], "nobody: no utterance has this id"),
        (["listen", "u1", "--units", "1"], "give either units or ids"),
        (["listen", "--units", "1 x"], "--units: 'x' is no whole number"),
        (["listen", "--durations", "1"], "goes with --units only"),
        (["export-units", "out", "--format", "fairseq", "--split", "x"], "no utterance"),
        (["import-units", "nowhere", "--format", "textless"], "nowhere: no such file or folder"),
    ],
)
def test_a_mistake_is_one_message(spoken: Path, words: list[str], message: str) -> None:
    done = cslm_data(*words, workspace=spoken)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_units_travel_to_another_toolkit_and_back(spoken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cslm_data("export-units", out, "--format", "fairseq", workspace=spoken)
    assert done.returncode == 2
    assert "2 of 6 rows were rejected" in done.stderr
    assert "4 written + 2 rejected {'segment': 2}" in done.stdout
    done = cslm_data(
        "export-units", out, "--format", "fairseq", "--cut", "--overwrite", workspace=spoken
    )
    assert done.returncode == 0, done.stderr
    assert "2 cut out" in done.stdout
    back = cslm_data("import-units", out, "--format", "fairseq", workspace=spoken)
    assert back.returncode == 0, back.stderr
    assert "all.tsv: 6 lines = 0 taken" in back.stdout
    assert "6 already there + 0 rejected" in back.stdout
