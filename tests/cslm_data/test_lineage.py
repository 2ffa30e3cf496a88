"""One row's story, from source line to shard."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mix_workspace import TOKENIZER, fill, recipe_file, rows_of
from small_files import write_rows, write_tone

from cslm_data.curating.curation import filter_rows, undo
from cslm_data.errors import MissingArtefactError, NoDataError
from cslm_data.ingest import ingest
from cslm_data.lineage.source_lines import read_place
from cslm_data.lineage.story_of_id import tell
from cslm_data.mix import build_mix
from cslm_data.workspace import Workspace, write_json


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill(Workspace(tmp_path_factory.mktemp("w")))


@pytest.fixture
def mixed(filled, tmp_path):
    for name in ("units", "alignments", "tokenizers"):
        (tmp_path / name).symlink_to(filled.root / name)
    shutil.copy(filled.catalog, tmp_path / "catalog.duckdb")
    return Workspace(tmp_path)


def chapters(workspace, key):
    return {chapter.name: chapter for chapter in tell(workspace, key).chapters}


def test_a_row_is_followed_from_its_line_to_its_measures(workspace, tmp_path):
    folder = tmp_path / "corpus"
    rows = []
    for index in range(3):
        write_tone(folder / f"{index}.wav", seconds=0.5, seed=min(index, 1))
        row = {"id": f"u{index}", "audio": f"{index}.wav", "text": "Good day!", "language": "en"}
        rows.append(row)
    path = write_rows(folder / "speech.jsonl", [*rows, {**rows[0], "id": "bad", "audio": "x.wav"}])
    ingest(workspace, [folder])
    told = chapters(workspace, "u1")
    (source,) = told["source"].records
    assert (source["source_uri"], source["place"]) == (str(path), "speech.jsonl:2")
    assert json.loads(source["line"]) == rows[1]
    assert (source["format"], source["num_rows"], source["num_rejected"]) == ("manifest", 4, 1)
    assert told["row"].records[0]["text"] == "Good day!"
    same = [(row["same"], row["utt_id"]) for row in told["duplicates"].records]
    assert same == [("audio", "u2"), ("text", "u0"), ("text", "u2")]
    assert told["measures"].title == "not measured (run: cslm-data measure)"
    assert told["samples"].title == "in no mix"
    version = told["row"].records[0]["audio_version"]
    workspace.measures.mkdir()
    columns = {"utt_id": ["u1", "u1"], "audio_version": ["older", version], "snr_db": [1.0, 23.5]}
    pq.write_table(pa.table(columns), workspace.measures / "part-0.parquet")
    measured = chapters(workspace, "u1")["measures"].records
    assert {row["snr_db"]: row["is_current"] for row in measured} == {1.0: False, 23.5: True}
    refused = tell(workspace, "bad")
    assert refused.kind == "rejects"
    assert [row["reason"] for row in refused.chapters[0].records] == ["missing"]
    with pytest.raises(NoDataError, match="nobody: no sample"):
        tell(workspace, "nobody")


def test_its_samples_are_where_the_story_says_to_the_byte(mixed):
    build_mix(mixed, languages=["en", "zh"], stage="pretrain")
    build_mix(mixed, languages=["en", "zh"], stage="sft")
    told = chapters(mixed, "a-en-1")
    assert [row["dialogue_id"] for row in told["dialogues"].records] == ["qa-en-1"]
    (units,) = told["units"].records
    assert (units["tokenizer_id"], units["is_current"]) == (TOKENIZER, True)
    assert told["alignments"].records[0]["num_words"] > 3
    expected = {
        (mix, row["split"], row["position"], row["key"], row["num_tokens"], row["shard"])
        for mix in ("pretrain", "sft")
        for row in rows_of(mixed, mix)
        if {"a-en-1", "qa-en-1"} & set(row["source_ids"])
    }
    records = told["samples"].records
    found = {
        (r["mix"], r["split"], r["position"], r["key"], r["num_tokens"], r["shard"])
        for r in records
    }
    assert found == expected and {row["task"] for row in records} >= {"asr", "tts", "s2s"}
    for row in records[:3]:
        place = row["place"]
        content = (mixed.mixes / row["mix"] / "shards" / row["shard"]).read_bytes()
        members = content[place["offset"] : place["end"]]
        assert place["length"] == place["end"] - place["offset"]
        document, _ = json.JSONDecoder().raw_decode(members.decode("utf-8", "replace"))
        assert document["task"] == row["task"]
        assert f"{row['key']}.units.npy".encode() in members
    story = tell(mixed, records[0]["key"])
    assert story.kind == "samples"
    assert story.chapters[0].records[0]["id"] in ("a-en-1", "qa-en-1")
    assert json.loads(json.dumps(story.as_dict(), default=str))["key"] == records[0]["key"]


def test_steps_of_the_runs_of_that_very_mix_are_told_as_read_or_to_come(mixed):
    build_mix(mixed, languages=["en"], stage="pretrain")
    key = next(r["key"] for r in rows_of(mixed, "pretrain") if r["source_ids"] == ["en-3"])
    for run, mix in (("mine", "pretrain"), ("other", "another")):
        folder = mixed.runs / run
        (folder / "checkpoints" / "step_4").mkdir(parents=True)
        write_json(folder / "run.json", {"mix": mix})
        columns = {
            "step": np.array([3, 9], np.uint64),
            "rank": np.array([0, 1], np.uint32),
            "micro_batch": np.array([0, 0], np.uint32),
            "pack_id": np.array([5, 5], np.uint32),
            "key": [key, key],
        }
        pq.write_table(pa.table(columns), folder / "batches-0.parquet")
    steps = chapters(mixed, "en-3")["batches"]
    read = [(r["run"], r["step"], r["rank"], r["is_done"]) for r in steps.records]
    assert read == [("mine", 3, 0, True), ("mine", 9, 1, False)]
    assert "step 3, rank 0, micro-batch 0 read " in steps.lines[0]
    assert "step 9, rank 1, micro-batch 0 will read " in steps.lines[1]


def test_why_a_mix_is_without_a_row_is_said(mixed, tmp_path):
    asr = {"task": "asr", "weight": 1, "where": "utt_id not like 'en-4%'"}
    path = recipe_file(
        tmp_path,
        stage="pretrain",
        total_tokens=500,
        splits={"valid": 0.0, "test": 0.0},
        sources=[asr],
    )
    build_mix(mixed, languages=["en"], recipe=path, name="small")

    def why(key):
        (record,) = chapters(mixed, key)["absent"].records
        return record["why"]

    assert why("zh-3") == "it is in zh, the mix in en"
    assert why("en-untranscribed") == "it has no transcript, which asr and tts need"
    assert why("en-44") == "its recipe leaves it out by where: utt_id not like 'en-4%'"
    assert why("ins-en-3") == "its recipe has no task of dialogues (instruct, s2s, t2s, s2t)"
    used = {source for row in rows_of(mixed, "small") for source in row["source_ids"]}
    unused = min({f"en-{i}" for i in range(40)} - used - {"en-4"})
    assert why(unused).startswith("it was not selected")
    in_it = min(used)
    assert chapters(mixed, in_it)["absent"].records == []
    filter_rows(mixed, f"utt_id = '{unused}'", reason="noise")
    assert why(unused) == "it is moved out"
    curated = chapters(mixed, unused)["curations"]
    assert curated.title == "moved out by filter or dedup"
    undo(mixed, "last")
    again = chapters(mixed, unused)["curations"]
    assert (again.title, [row["undone"] for row in again.records]) == ("not moved out", [True])


def test_a_candidate_that_was_refused_says_why(mixed):
    filter_rows(mixed, "utt_id = 'a-en-2'", reason="noise")
    build_mix(mixed, languages=["en"], stage="sft", name="chat")
    (record,) = chapters(mixed, "qa-en-2")["absent"].records
    assert "refused: excluded: s2s en: the speech of the assistant was moved out" in record["why"]


def test_a_workspace_without_catalog_is_said(workspace):
    with pytest.raises(MissingArtefactError, match="no catalog here"):
        tell(workspace, "u")


# -------------------------------------------------------------------------------- lines
def test_the_line_of_every_kind_of_source_is_read_again(tmp_path):
    plain = tmp_path / "a.tsv"
    plain.write_bytes("audio\ttext\r\nx.wav\tÄ\r\n".encode())
    assert read_place(str(plain), "a.tsv:2") == ("x.wav\tÄ", "")
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    assert read_place(str(packed), "b.jsonl.gz:2") == ('{"a": 2}', "")
    listed = tmp_path / "c.json"
    listed.write_text('[{"a": 1}, {"a": 2}]')
    assert read_place(str(listed), "c.json[1]") == ('{"a": 2}', "")
    (tmp_path / "kaldi").mkdir()
    (tmp_path / "kaldi" / "wav.scp").write_text("a a.wav\nb b.wav\n")
    assert read_place(str(tmp_path / "kaldi"), "wav.scp:2") == ("b b.wav", "")


def test_a_line_that_cannot_be_read_says_why(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("x" * 3_000_000 + "\nsecond\n")
    text, _ = read_place(str(path), "a.jsonl:1")
    assert text == "x" * 2000 + " …"
    assert read_place(str(path), "a.jsonl:2") == ("second", "")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(path)
    (tmp_path / "folder" / "loop").symlink_to("loop")
    (tmp_path / "c.json").write_text("[" * 100_000)
    for uri, place, why in (
        ("s3://bucket/a.jsonl", "a.jsonl:1", "another machine"),
        (str(path), "a.jsonl:9", "no such line"),
        (str(path), "", "names no line"),
        (str(tmp_path / "gone.jsonl"), "gone.jsonl:1", "is no file"),
        (str(tmp_path / "folder"), "../a.jsonl:1", "out of its source"),
        (str(tmp_path / "folder"), "/etc/passwd:1", "out of its source"),
        (str(tmp_path / "folder"), "link:1", "out of its source"),
        (str(tmp_path / "c.json"), "c.json[0]", "not read"),
        (str(tmp_path / "folder"), "a\0b:1", "not read"),
        (str(tmp_path / "folder"), "loop:1", "not read"),
        ("/dev/zero", "zero:1", "is no file"),
    ):
        text, said = read_place(uri, place)
        assert text is None and why in said, (uri, place, said)
