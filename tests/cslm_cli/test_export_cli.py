from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_files import write_rows, write_tone
from test_data_cli import cslm_data


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_tone(folder / "stereo.wav", channels=2)
    rows: list[dict[str, object]] = []
    for index in range(3):
        write_tone(folder / f"{index}.wav", seconds=0.3, seed=index)
        language = "zh" if index else "en"
        rows.append({"id": f"u{index}", "audio": f"{index}.wav", "language": language, "text": "a"})
    rows.append({"id": "two", "audio": "stereo.wav", "language": "en", "text": "b"})
    write_rows(folder / "speech.jsonl", rows)
    done = cslm_data("ingest", folder, workspace=folder / "ws")
    assert done.returncode == 0, done.stderr
    return folder / "ws"


def test_export_writes_our_own_format_and_says_what_it_wrote(
    workspace: Path, tmp_path: Path
) -> None:
    done = cslm_data("export", tmp_path / "out", workspace=workspace)
    assert done.returncode == 0, done.stderr
    assert "4 utterances = 4 written + 0 rejected" in done.stdout
    again = cslm_data("ingest", tmp_path / "out", workspace=tmp_path / "copy")
    assert again.returncode == 0, again.stderr
    done = cslm_data("export", tmp_path / "out", workspace=workspace)
    assert done.returncode == 2
    assert "replace it with --overwrite" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_prints_json_and_takes_its_choices(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("export", out, "--format", "nemo", "--langs", "zh", "--where", "utt_id > 'u1'")
    done = cslm_data(*words, "--corpus", "speech", "--relative", "--json", workspace=workspace)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["files"] == {"all.jsonl": 1}
    assert said["tables"] == {"utterances": {"num_in": 1, "num_out": 1, "num_rejected": 0}}
    (line,) = (out / "all.jsonl").read_text(encoding="utf-8").splitlines()
    assert not json.loads(line)["audio_filepath"].startswith("/")


def test_too_many_refusals_are_an_error_and_cut_mends_them(workspace: Path, tmp_path: Path) -> None:
    words = ("export", tmp_path / "out", "--format", "kaldi")
    done = cslm_data(*words, workspace=workspace)
    assert done.returncode == 2
    assert "1 of 4 rows were rejected" in done.stderr
    assert "{'channels': 1}" in done.stdout
    done = cslm_data(*words, "--cut", "--overwrite", workspace=workspace)
    assert done.returncode == 0, done.stderr
    assert "1 cut out" in done.stdout


def test_a_wrong_choice_is_one_message(workspace: Path, tmp_path: Path) -> None:
    done = cslm_data("export", tmp_path / "out", "--where", "nonsense(", workspace=workspace)
    assert done.returncode == 2
    assert "--where" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
