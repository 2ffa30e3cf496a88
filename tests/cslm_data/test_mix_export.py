"""A mix as other toolkits' lines: every answer, every unit, nothing that changes its meaning."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from shard_mix import SHARDS, TOKENIZER, make_mix, make_sample

from cslm_data.errors import AlreadyExistsError, MissingArtefactError, NoDataError, UsageError
from cslm_data.exporting.catalog_export import TableCounts, export_catalog
from cslm_data.exporting.mix_export import export_mix
from cslm_data.exporting.mix_formats import answers
from cslm_data.records import Sample, Segment


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_papers_lines_have_prompt_and_response_and_refuse_what_spells_speech(
    workspace, tmp_path
):
    make_mix(workspace)
    out = tmp_path / "out"
    summary = export_mix(workspace, "m", out, format="cslm")
    # Both kinds of text samples of this mix spell a token, in a prompt or in an answer.
    assert summary.tables == {"samples": TableCounts(num_in=6, num_out=2, num_rejected=4)}
    assert summary.reject_reasons == {"spells_speech": 4}
    said = {
        "prompt": "<sosp><Un2><Un7><Un49><eosp>",
        "response": "where?\n这里<sosp><Un49><Un7><Un2><eosp>",
    }
    assert lines(out / "train.jsonl") == [said]
    assert lines(out / "test.jsonl") == [
        {name: text.replace("<Un2>", "<Un5>") for name, text in said.items()}
    ]
    assert not (out / "valid.jsonl").exists()
    described = json.loads((out / "export.json").read_text())
    assert described["tokenizer_id"] == TOKENIZER and described["files"] == summary.files
    refused = pq.read_table(next(workspace.rejects.glob("export-*.parquet"))).to_pylist()
    assert {row["key"] for row in refused} == {"asr-0", "asr-3", "mt-1", "mt-4"}


def test_several_turns_are_a_line_for_each_trained_answer():
    def say(role, text, trained=True):
        return Segment(modality="text", language="en", role=role, trained=trained, text=text)

    sample = Sample(
        key="chat",
        task="instruct",
        languages="en",
        segments=(
            say("system", "Be brief.", False),
            say("user", "Hi", False),
            say("assistant", "Hello"),
            say("user", "Who", False),
            say("user", "?", False),
            say("assistant", "I", False),
            say("user", "And?", False),
            say("assistant", "me."),
        ),
    )
    assert list(answers(sample)) == [
        ("Be brief.\nHi", "Hello"),
        ("Be brief.\nHi\nHello\nWho?\nI\nAnd?", "me."),
    ]


def test_slamkits_lines_are_the_speech_alone(workspace, tmp_path):
    make_mix(workspace)
    summary = export_mix(workspace, "m", tmp_path / "out", format="slamkit", split="train")
    assert summary.tables == {"samples": TableCounts(num_in=3, num_out=3, num_rejected=0)}
    assert summary.left_out == {"samples without speech": 2}
    assert lines(tmp_path / "out" / "train.jsonl") == [
        {"file_name": "asr-0", "audio_repr": "<Un0><Un7><Un49>"},
        {"file_name": "s2s-2.0", "audio_repr": "<Un2><Un7><Un49>"},
        {"file_name": "s2s-2.1", "audio_repr": "<Un49><Un7><Un2>"},
        {"file_name": "asr-3", "audio_repr": "<Un3><Un7><Un49>"},
    ]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"train.jsonl", "export.json"}


def test_parquet_holds_every_segment_of_every_sample(workspace, tmp_path):
    make_mix(workspace)
    out = tmp_path / "out"
    summary = export_mix(workspace, "m", out, format="hf-parquet")
    assert summary.files == {
        "data/train-00000-of-00002.parquet": 3,
        "data/train-00001-of-00002.parquet": 2,
        "data/test-00000-of-00001.parquet": 1,
    }
    rows = pq.read_table(out / "data" / "train-00000-of-00002.parquet").to_pylist()
    assert [row["key"] for row in rows] == SHARDS["train-000000.tar"]
    for row in rows:
        sample = make_sample(row["key"])
        assert (row["task"], row["languages"], row["num_tokens"]) == (
            sample.task,
            sample.languages,
            10,
        )
        assert row["segments"] == [
            {**vars(segment), "units": segment.units.tolist()} for segment in sample.segments
        ]
    assert [row["response"] for row in rows] == [
        None,
        None,
        "where?\n这里<sosp><Un49><Un7><Un2><eosp>",
    ]
    again = tmp_path / "again"
    export_mix(workspace, "m", again, format="hf-parquet")
    for path in summary.files:
        assert (again / path).read_bytes() == (out / path).read_bytes()


def test_hugging_face_datasets_loads_it(workspace, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    make_mix(workspace)
    export_mix(workspace, "m", tmp_path / "out", format="hf-parquet")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: rows["key"][:] for name, rows in loaded.items()} == {
        "train": ["asr-0", "mt-1", "s2s-2", "asr-3", "mt-4"],
        "test": ["s2s-5"],
    }


def test_what_cannot_be_exported_is_said(workspace, tmp_path):
    make_mix(workspace)
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="choose one of cslm, slamkit, hf-parquet, energon"):
        export_mix(workspace, "m", out, format="kaldi")
    with pytest.raises(UsageError, match="name the mix with --mix"):
        export_catalog(workspace, out, format="cslm")
    with pytest.raises(UsageError, match="splits of a mix are train, valid, test"):
        export_mix(workspace, "m", out, format="cslm", split="dev")
    with pytest.raises(NoDataError, match="no samples in valid"):
        export_mix(workspace, "m", out, format="cslm", split="valid")
    with pytest.raises(MissingArtefactError, match="no finished mix"):
        export_mix(workspace, "other", out, format="cslm")
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(AlreadyExistsError, match="something else"):
        export_mix(workspace, "m", out, format="slamkit", overwrite=True)
