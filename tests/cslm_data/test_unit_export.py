from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
from speech_catalog import add, add_many, run, units, write_speech

from cslm_data.catalog import open_catalog
from cslm_data.errors import AlreadyExistsError, MissingArtefactError, NoDataError, UsageError
from cslm_data.speech_tokenizer import expand
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.units.exporting import export_units
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Eight whole recordings, four of them of the split `dev`, in units."""
    folder = tmp_path_factory.mktemp("recorded")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 8)
    with open_catalog(workspace, write=True, doing="test") as connection:
        connection.execute("update all_utterances set split = 'dev' where utt_id >= 'utt-4'")
    run(workspace)
    return workspace


@pytest.fixture
def spoken(recorded, tmp_path):
    """A copy to work on; the recordings are shared."""
    shutil.copytree(recorded.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def audio(recorded):
    return recorded.root.parent / "audio"


def frames_of(workspace):
    """utt_id → its units, one a frame, from the table."""
    rows = {row[1]: row for row in units(workspace)}
    return {
        utt_id: expand(np.array(row[2]), np.array(row[3])).tolist() for utt_id, row in rows.items()
    }


def rejects(workspace):
    with open_catalog(workspace, doing="test") as connection:
        query = "select key, reason from rejects where stage = 'export-units' order by all"
        return connection.execute(query).fetchall()


def read_as_fairseq_does(folder, split, num_shards):
    """What its HubertDataset makes of the files: path, samples and labels of each recording."""
    labels = []
    for rank in range(num_shards):
        labels += (folder / f"{split}_{rank}_{num_shards}.km").read_text().splitlines()
    root, *lines = (folder / f"{split}.tsv").read_text().splitlines()
    assert len(lines) == len(labels)
    found = {}
    for line, label in zip(lines, labels, strict=True):
        name, size = line.split("\t")
        found[f"{root}/{name}"] = (int(size), [int(unit) for unit in label.split(" ")])
    return found


def test_fairseq_finds_the_recordings_and_a_label_for_every_frame(spoken, audio, tmp_path):
    summary = export_units(spoken, tmp_path / "out", format="fairseq", num_shards=3)
    assert (summary.num_in, summary.num_out, summary.num_rejected) == (8, 8, 0)
    assert summary.splits == {"all": 4, "dev": 4}
    frames = frames_of(spoken)
    wanted = {str(audio / f"{i}.wav"): (16_000, frames[f"utt-{i}"]) for i in range(8)}
    found = read_as_fairseq_does(tmp_path / "out", "dev", 3)
    assert found == {path: wanted[path] for path in list(wanted)[4:]}
    assert found | read_as_fairseq_does(tmp_path / "out", "all", 3) == wanted
    # fairseq numbers units by their line; each count is how often the unit is written.
    dictionary = (tmp_path / "out" / "dict.km.txt").read_text().splitlines()
    every = [unit for frames_N in frames.values() for unit in frames_N]
    assert dictionary == [f"{unit} {every.count(unit)}" for unit in range(8)]


def test_shards_of_labels_are_cut_where_fairseq_cuts_them(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="fairseq", num_shards=3, split="dev")
    lengths = [
        len((tmp_path / "out" / f"dev_{rank}_3.km").read_text().splitlines()) for rank in range(3)
    ]
    # feature_utils.get_shard_range(4, 3, rank): round(4 / 3 * rank) to round(4 / 3 * (rank + 1)).
    assert lengths == [1, 2, 1]


def test_slamkit_gets_runs_with_durations_and_the_string_it_trains_on(spoken, audio, tmp_path):
    out = tmp_path / "out"
    export_units(spoken, out, format="slamkit", languages=["zh"])
    rows = {row[1]: row for row in units(spoken)}
    for split, utt_id in (("all", "utt-0"), ("dev", "utt-4")):
        path = str(audio / f"{utt_id[-1]}.wav")
        (line,) = (out / f"{split}.features.jsonl").read_text().splitlines()
        _, _, runs, durations, *_ = rows[utt_id]
        assert json.loads(line) == {"units": runs, "duration": durations, "file_name": path}
        (line,) = (out / f"{split}.tokens.jsonl").read_text().splitlines()
        string = "".join(f"<Un{unit}>" for unit in runs)
        assert line == f'{{"file_name": "{path}", "audio_repr": "{string}"}}'


def test_textless_lines_have_a_name_a_tab_and_numbers(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="textless", where="utt_id = 'utt-5'")
    _, _, runs, durations, *_ = next(row for row in units(spoken) if row[1] == "utt-5")
    wanted = {"units": runs, "durations": durations}
    for suffix, numbers in wanted.items():
        text = (tmp_path / "out" / f"dev.{suffix}").read_text()
        assert text == "utt-5\t" + " ".join(map(str, numbers)) + "\n"


@pytest.mark.parametrize("format", ["fairseq", "slamkit", "textless"])
@pytest.mark.parametrize("dedup", [True, False])
def test_runs_or_frames_as_asked(spoken, tmp_path, format, dedup):
    summary = export_units(spoken, tmp_path / "out", format=format, dedup=dedup, split="dev")
    chosen = [row for row in units(spoken) if row[1] >= "utt-4"]
    wanted = sum(len(row[2]) if dedup else sum(row[3]) for row in chosen)
    assert summary.num_units == wanted
    if format == "textless":
        lines = (tmp_path / "out" / "dev.units").read_text().splitlines()
        assert sum(len(line.split("\t")[1].split()) for line in lines) == wanted


def test_what_a_path_cannot_name_is_refused_or_cut_out(workspace, tmp_path):
    long = write_speech(tmp_path / "long.wav", 1, duration_s=3)
    add(workspace, long, "start", duration_s=1.0)
    add(workspace, long, "speaker/middle", offset_s=1.0, duration_s=1.5)
    add(workspace, write_speech(tmp_path / "whole.wav", 2), "whole")
    add(workspace, write_speech(tmp_path / "cd.wav", 3, rate_hz=44_100), "cd")
    add(workspace, write_speech(tmp_path / "a\ttab.wav", 4), "tab")
    run(workspace, num_units=4)
    (tmp_path / "gone.wav").write_bytes((tmp_path / "whole.wav").read_bytes())
    add(workspace, tmp_path / "gone.wav", "gone")
    run(workspace, num_units=4)
    (tmp_path / "gone.wav").unlink()
    add(workspace, write_speech(tmp_path / "new.wav", 5), "new")
    summary = export_units(workspace, tmp_path / "plain", format="fairseq")
    refused = {
        ("cd", "sample_rate"),
        ("gone", "missing"),
        ("new", "no_units"),
        ("speaker/middle", "segment"),
        ("start", "segment"),
        ("tab", "bad_name"),
    }
    assert set(rejects(workspace)) == refused
    assert (summary.num_in, summary.num_out, summary.num_rejected) == (7, 1, 6)
    assert (tmp_path / "plain" / "all.ids").read_text() == "whole\n"
    summary = export_units(workspace, tmp_path / "cut", format="fairseq", cut=True)
    assert (summary.num_out, summary.num_cut) == (5, 4)
    found = read_as_fairseq_does(tmp_path / "cut", "all", 1)
    piece = tmp_path / "cut" / "audio" / "speaker" / "middle.flac"
    frames = frames_of(workspace)
    assert found[str(piece)] == (24_000, frames["speaker/middle"])
    assert found[str(tmp_path / "whole.wav")] == (16_000, frames["whole"])
    samples_T, rate_hz = soundfile.read(piece)
    assert rate_hz == 16_000
    assert np.allclose(samples_T, soundfile.read(long)[0][16_000:40_000], atol=1e-4)
    # SlamKit resamples by itself, and an id can name anything.
    by_path = export_units(workspace, tmp_path / "slam", format="slamkit")
    assert by_path.reject_reasons == {"missing": 1, "no_units": 1, "segment": 2}
    by_id = export_units(workspace, tmp_path / "ids", format="slamkit", name_by="id")
    assert by_id.reject_reasons == {"no_units": 1}


def test_an_export_says_whose_units_it_holds(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="textless", dedup=False)
    said = json.loads((tmp_path / "out" / "export.json").read_text())
    assert said["tokenizer_id"] == find_tokenizer(spoken, None).tokenizer_id
    assert (said["format"], said["dedup"], said["splits"]) == (
        "textless",
        False,
        {"all": 4, "dev": 4},
    )


def test_what_is_in_the_way_stays_unless_it_is_an_export_to_replace(spoken, tmp_path):
    out = tmp_path / "out"
    export_units(spoken, out, format="textless")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(AlreadyExistsError, match="replace it with --overwrite"):
        export_units(spoken, out, format="fairseq")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    export_units(spoken, out, format="fairseq", overwrite=True)
    assert not (out / "dev.units").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(AlreadyExistsError, match="name an empty or a new folder"):
        export_units(spoken, tmp_path / "home", format="fairseq", overwrite=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_a_stopped_export_leaves_nothing_and_the_next_one_is_whole(spoken, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("cslm_data.units.exporting.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_units(spoken, out, format="textless")
    monkeypatch.undo()
    assert not out.exists()
    assert list(tmp_path.glob(".*")) == []
    assert export_units(spoken, out, format="textless").num_out == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"format": "kaldi"}, UsageError, "choose one of fairseq, slamkit, textless"),
        ({"name_by": "id"}, UsageError, "fairseq can do path only"),
        ({"where": "speakr = 'x'"}, UsageError, "speakr"),
        ({"where": "1 = 1); drop table utterances; --"}, UsageError, "--where"),
        ({"split": "test"}, NoDataError, "no utterance of the catalog"),
        ({"languages": ["fr"]}, NoDataError, "no utterance of the catalog"),
        ({"tokenizer": "hubert"}, MissingArtefactError, "hubert"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_written(
    spoken, tmp_path, options, error, message
):
    with pytest.raises(error, match=message):
        export_units(spoken, tmp_path / "out", **{"format": "fairseq", **options})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "where",
    [
        "true) union all select 'x', 1 from read_text('/etc/passwd') where (true",
        "true; drop table utterances",
        "utt_id in (select content from read_text('/etc/passwd'))",
        "utt_id in (with a as (copy (select 1) to 'stolen.csv') select 'a' from a)",
    ],
)
def test_where_is_one_expression_that_reads_no_file(spoken, tmp_path, where):
    with pytest.raises(UsageError, match=r"^--where"):
        export_units(spoken, tmp_path / "out", format="slamkit", where=where)
    assert not (tmp_path / "out").exists()
