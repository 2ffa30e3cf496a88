"""`verify`, `export --mix`, and questions about places, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shard_mix import make_mix, make_sample
from small_files import write_rows, write_tone
from test_data_cli import cslm_data

from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write_tone(folder / "0.wav", seconds=0.3)
    write_rows(folder / "speech.jsonl", [{"audio": "0.wav", "language": "en", "text": "a"}])
    done = cslm_data("ingest", folder, workspace=folder / "ws")
    assert done.returncode == 0, done.stderr
    make_mix(Workspace(folder / "ws"))
    return folder / "ws"


def test_verify_says_what_it_looked_at_and_exits_with_1_on_damage(workspace: Path) -> None:
    done = cslm_data("verify", "m", "--num-workers", "1", workspace=workspace)
    assert done.returncode == 0, done.stderr
    assert "6 samples with 18 units in 3 shards: every byte looked at; texts come" in done.stdout
    extra = workspace / "mixes" / "m" / "shards" / "old.tar"
    extra.touch()
    try:
        done = cslm_data("verify", "m", "--fast", "--json", workspace=workspace)
    finally:
        extra.unlink()
    assert done.returncode == 1, done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding == {
        "shard": "",
        "key": "",
        "check": "unknown_file",
        "detail": "mix.json knows no shards/old.tar",
        "fix": "take the file away",
    }
    done = cslm_data("verify", "none", workspace=workspace)
    assert done.returncode == 2 and "no such mix; there is: m" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_of_a_mix_counts_and_refuses_choices_of_the_catalog(
    workspace: Path, tmp_path: Path
) -> None:
    words = ("export", tmp_path / "out", "--mix", "m", "--format")
    done = cslm_data(*words, "slamkit", workspace=workspace)
    assert done.returncode == 0, done.stderr
    assert "4 samples = 4 written + 0 rejected" in done.stdout
    assert "left out: 2 samples without speech" in done.stdout
    done = cslm_data(*words, "hf-parquet", "--cut", workspace=workspace)
    assert done.returncode == 2 and "--cut: chooses of the catalog" in done.stderr
    done = cslm_data(*words, "cslm", "--overwrite", workspace=workspace)
    assert done.returncode == 2 and "4 of 6 rows were rejected" in done.stderr


def test_sql_says_at_which_byte_of_which_shard_a_sample_lies_and_show_reads_it(
    workspace: Path,
) -> None:
    query = "from sample_places where key in ('mt-4', 's2s-5') order by key"
    done = cslm_data("sql", query, "--json", workspace=workspace)
    assert done.returncode == 0, done.stderr
    text, spoken = json.loads(done.stdout)
    assert (text["mix"], text["shard"]) == ("m", "train-000001.tar")
    assert text["units_offset"] is None and text["num_units"] == 0
    shard = (workspace / "mixes" / "m" / "shards" / spoken["shard"]).read_bytes()
    document = shard[spoken["json_offset"] : spoken["json_offset"] + spoken["json_bytes"]]
    assert json.loads(document)["task"] == "s2s" and spoken["num_units"] == 6
    units = shard[spoken["units_offset"] + 128 : spoken["units_offset"] + spoken["units_bytes"]]
    assert units == b"\x05\0\x07\0\x31\0\x31\0\x07\0\x05\0"
    done = cslm_data("show", "s2s-5", "--json", workspace=workspace)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shard"] == "test-000000.tar"
    assert [s["text"] for s in found["sample"]["segments"]] == [
        segment.text for segment in make_sample("s2s-5").segments
    ]
