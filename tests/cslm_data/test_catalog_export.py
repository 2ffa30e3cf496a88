"""Export as our own manifests and NeMo's, and what holds for every format."""

from __future__ import annotations

import json
import shutil

import pytest
from awkward_corpus import contents, make_catalog, rows_of
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.errors import AlreadyExistsError, NoDataError, UsageError
from cslm_data.exporting import WRITERS
from cslm_data.exporting.catalog_export import TableCounts, export_catalog
from cslm_data.exporting.folders import flat_stem
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("awkward"))


@pytest.fixture
def catalog(made, tmp_path):
    """A copy to work on; the recordings are shared."""
    shutil.copytree(made.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def audio(made):
    return made.root.parent / "corpus"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def move_out(workspace, utt_id):
    """What a filter does."""
    with open_catalog(workspace, write=True, doing="test") as connection:
        connection.execute(
            "insert into curations values (1, 'filter', 'utterances', '', '', 1, false)"
        )
        connection.execute("insert into exclusions values (1, 'utterances', ?, null)", [utt_id])


def copy_through(workspace, out, **options):
    """A fresh workspace with what an export of another one holds."""
    export_catalog(workspace, out, format="manifest", **options)
    copy = Workspace(out.parent / "copy")
    return copy, ingest(copy, [out])


# ----------------------------------------------------------------------------- manifest
@pytest.mark.parametrize("relative", [False, True])
def test_a_manifest_goes_back_in_as_an_equal_catalog(catalog, tmp_path, relative):
    summary = export_catalog(catalog, tmp_path / "out", format="manifest", relative=relative)
    # Six utterances: one of them is said by a turn of the dialogue alone.
    assert summary.tables == {
        "utterances": TableCounts(num_in=6, num_out=6, num_rejected=0),
        "alignments": TableCounts(num_in=3, num_out=3, num_rejected=0),
        "bitext": TableCounts(num_in=2, num_out=2, num_rejected=0),
        "dialogues": TableCounts(num_in=2, num_out=2, num_rejected=0),
    }
    copy = Workspace(tmp_path / "copy")
    read = ingest(copy, [tmp_path / "out"])
    assert read.num_rejected == 0
    assert contents(copy) == contents(catalog)


def test_the_lines_of_a_manifest_say_what_the_catalog_knows(catalog, audio, tmp_path):
    export_catalog(catalog, tmp_path / "out", format="manifest")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    other = flat_stem("other/name")
    assert names == {
        *("export.json", "speech.jsonl", "speech.align.jsonl", "mt.bitext.jsonl"),
        *("instructions.dialogues.jsonl", "talk.dialogues.jsonl", f"{other}.bitext.jsonl"),
    }
    assert "/" not in other
    assert [line["id"] for line in lines(tmp_path / "out" / "speech.jsonl")] == [
        *("nobody", "r/ü 1", "second", "silent", "spk-a-1"),
    ]
    assert lines(tmp_path / "out" / "speech.jsonl")[4] == {
        "id": "spk-a-1",
        "audio": str(audio / "long.wav"),
        "offset": 0.5,
        "duration": 1.0,
        "sampling_rate": 16000,
        "num_channels": 1,
        "text": "two  blanks\tand a tab",
        "language": "en",
        "speaker": "spk-a",
        "corpus": "speech",
        "license": "CC0",
        "split": "train",
        "kind": "human",
    }
    assert lines(tmp_path / "out" / "speech.align.jsonl")[1:] == [
        {"id": "second", "corpus": "speech", "words": [[0.05, 0.4, "line"], [0.4, 1.1, "end"]]},
        {
            "id": "spk-a-1",
            "corpus": "speech",
            "words": [
                {"word": "two", "start": 0.1, "end": 0.3, "score": 0.25},
                {"word": "blanks", "start": 0.3, "end": 0.7, "score": 0.5},
            ],
            "phones": [[0.0, 0.1, "sil"], [0.1, 0.2, "T"], [0.2, 0.3, "UW1"]],
        },
    ]


def test_relative_paths_move_with_the_folder_and_its_audio(tmp_path):
    write_tone(tmp_path / "disk" / "corpus" / "a.wav")
    row = {"id": "a", "audio": "a.wav", "language": "en"}
    write_rows(tmp_path / "disk" / "corpus" / "speech.jsonl", [row])
    workspace = Workspace(tmp_path / "workspace")
    ingest(workspace, [tmp_path / "disk" / "corpus"])
    export_catalog(workspace, tmp_path / "disk" / "out", format="manifest", relative=True)
    (line,) = lines(tmp_path / "disk" / "out" / "speech.jsonl")
    assert line["audio"] == "../corpus/a.wav"
    (tmp_path / "disk").rename(tmp_path / "other")
    moved = Workspace(tmp_path / "moved")
    ingest(moved, [tmp_path / "other" / "out"])
    found = rows_of(moved, "select audio from utterances")
    assert found == [(str(tmp_path / "other" / "corpus" / "a.wav"),)]


def test_a_dialogue_that_is_not_exported_leaves_its_utterance_to_the_manifest(catalog, tmp_path):
    # The dialogue is in two languages, so English alone does not have it.
    copy, read = copy_through(catalog, tmp_path / "out", languages=["en"])
    assert read.num_rejected == 0
    query = "select utt_id, kind, text from utterances order by utt_id"
    english = rows_of(catalog, query.replace("order", "where language = 'en' order"))
    assert rows_of(copy, query) == english
    assert ("d1/1", "synthetic", "asked") in english
    assert rows_of(copy, "select corpus from dialogues") == [("instructions",)]
    assert rows_of(copy, "select count(*) from bitext") == [(0,)]


def test_a_dialogue_whose_turn_was_moved_out_is_refused_not_brought_back(catalog, tmp_path):
    move_out(catalog, "d1/1")
    summary = export_catalog(catalog, tmp_path / "out", format="manifest")
    assert summary.tables["utterances"] == TableCounts(num_in=5, num_out=5, num_rejected=0)
    assert summary.tables["dialogues"] == TableCounts(num_in=2, num_out=1, num_rejected=1)
    refused = rows_of(catalog, "select key, reason, detail from rejects where stage = 'export'")
    assert [row[:2] for row in refused] == [("d1", "excluded_turn")]
    assert "turn 2" in str(refused[0][2])
    assert not (tmp_path / "out" / "talk.dialogues.jsonl").exists()


def test_what_was_moved_out_stays_out(catalog, tmp_path):
    move_out(catalog, "second")
    for format in WRITERS:
        summary = export_catalog(catalog, tmp_path / format, format=format)
        assert summary.tables["utterances"].num_in == 5
    ids = [line["id"] for line in lines(tmp_path / "manifest" / "speech.align.jsonl")]
    assert ids == ["r/ü 1", "spk-a-1"]


def test_imported_words_go_before_computed_ones(catalog, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    computed = [
        {"utt_id": key, "words": [{"word": "w", "start_s": 0.0, "end_s": 0.5, "score": 0.9}]}
        for key in ("nobody", "second")
    ]
    (catalog.alignments / "ctc").mkdir()
    word = pa.struct(
        [("word", pa.string()), *((n, pa.float64()) for n in ("start_s", "end_s", "score"))]
    )
    schema = pa.schema([("utt_id", pa.string()), ("words", pa.list_(word))])
    table = pa.Table.from_pylist(computed, schema)
    pq.write_table(table, catalog.alignments / "ctc" / "part-0.parquet")
    summary = export_catalog(catalog, tmp_path / "out", format="manifest")
    assert summary.tables["alignments"].num_out == 4
    found = {
        line["id"]: line.get("words") for line in lines(tmp_path / "out" / "speech.align.jsonl")
    }
    assert found["second"] == [[0.05, 0.4, "line"], [0.4, 1.1, "end"]]
    assert found["nobody"] == [{"word": "w", "start": 0.0, "end": 0.5, "score": 0.9}]


def test_the_real_corpora_go_out_and_in_again_equal(workspace, shared_data, tmp_path):
    names = ("an4.jsonl", "aishell_sample.jsonl", "aishell_sample.align.jsonl")
    sources = [
        *(shared_data / "real" / name for name in (*names, "mt_ntrex_en_zh.jsonl")),
        *(shared_data / "real" / name for name in ("instr_belle_zh_seed.jsonl",)),
        *(
            shared_data / "synthetic" / name
            for name in ("espeak_qa.jsonl", "espeak_qa.align.jsonl")
        ),
        shared_data / "synthetic" / "spoken_qa_pairs.jsonl",
    ]
    ingest(workspace, sources)
    copy, read = copy_through(workspace, tmp_path / "out")
    assert read.num_rejected == 0
    assert contents(copy) == contents(workspace)


# ----------------------------------------------------------------------------- NeMo
def test_nemo_gets_a_manifest_for_each_split(catalog, audio, tmp_path):
    summary = export_catalog(catalog, tmp_path / "out", format="nemo")
    assert summary.files == {"all.jsonl": 2, "dev.jsonl": 2, "train.jsonl": 2}
    assert summary.left_out == {"alignments": 3, "bitext": 2, "dialogues": 2}
    assert lines(tmp_path / "out" / "train.jsonl") == [
        {
            "audio_filepath": str(audio / "long.wav"),
            "duration": 1.1,
            "offset": 1.7,
            "text": "line\nend'; drop table all_utterances; --",
            "lang": "en",
            "speaker": "spk",
            "sample_rate": 16000,
            "id": "second",
            "corpus": "speech",
            "split": "train",
        },
        {
            "audio_filepath": str(audio / "long.wav"),
            "duration": 1.0,
            "offset": 0.5,
            "text": "two  blanks\tand a tab",
            "lang": "en",
            "speaker": "spk-a",
            "sample_rate": 16000,
            "id": "spk-a-1",
            "corpus": "speech",
            "license": "CC0",
            "split": "train",
        },
    ]
    (silent,) = (line for line in lines(tmp_path / "out" / "all.jsonl") if line["id"] == "silent")
    assert silent["text"] == ""


# ----------------------------------------------------------------------------- every format
def test_audio_elsewhere_or_inside_of_files_is_refused_but_for_our_own(catalog, tmp_path):
    with open_catalog(catalog, write=True, doing="test") as connection:
        for key, address in (("second", "s3://bucket/a.wav"), ("silent", "/x/y.pack#bytes=5-99")):
            query = "update all_utterances set audio = ? where utt_id = ?"
            connection.execute(query, [address, key])
    wanted = {
        "manifest": {},
        "nemo": {"packed": 1, "remote": 1},
        "kaldi": {"packed": 1, "remote": 1},
    }
    for format, reasons in wanted.items():
        summary = export_catalog(catalog, tmp_path / format, format=format)
        assert summary.reject_reasons == reasons
        assert summary.tables["utterances"].num_out == 6 - len(reasons)
    packed = rows_of(catalog, "select distinct detail from rejects where reason = 'packed'")
    assert packed == [
        (
            "packed: its audio lies inside of /x/y.pack; write such utterances as recordings of "
            "their own with --cut",
        )
    ]
    (line,) = (
        row for row in lines(tmp_path / "manifest" / "speech.jsonl") if row["id"] == "silent"
    )
    assert line["audio"] == "/x/y.pack#bytes=5-99"


@pytest.mark.parametrize("format", list(WRITERS))
def test_the_same_catalog_gives_the_same_bytes(catalog, tmp_path, format):
    found = []
    for name in ("one", "two"):
        export_catalog(catalog, tmp_path / name, format=format)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert found[0] == found[1]


@pytest.mark.parametrize("format", list(WRITERS))
def test_a_stopped_export_leaves_nothing_and_the_next_one_is_whole(
    catalog, tmp_path, monkeypatch, format
):
    monkeypatch.setattr("cslm_data.exporting.catalog_export.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_catalog(catalog, tmp_path / "out", format=format)
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]
    assert export_catalog(catalog, tmp_path / "out", format=format).num_in >= 6


def test_what_is_in_the_way_stays_unless_it_is_an_export_to_replace(catalog, tmp_path):
    out = tmp_path / "out"
    export_catalog(catalog, out, format="nemo")
    with pytest.raises(AlreadyExistsError, match="replace it with --overwrite"):
        export_catalog(catalog, out, format="manifest")
    export_catalog(catalog, out, format="manifest", overwrite=True)
    assert not (out / "all.jsonl").exists()
    assert json.loads((out / "export.json").read_text())["format"] == "manifest"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(AlreadyExistsError, match="name an empty or a new folder"):
        export_catalog(catalog, tmp_path / "home", format="nemo", overwrite=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"format": "csv"}, UsageError, "choose one of manifest, nemo, lhotse, kaldi"),
        ({"where": "speakr = 'x'"}, UsageError, "speakr"),
        ({"where": "1 = 1); drop table all_utterances; --"}, UsageError, "--where"),
        (
            {"where": "utt_id in (select content from read_text('/etc/passwd'))"},
            UsageError,
            "--where",
        ),
        ({"split": "nope"}, NoDataError, "nothing of the catalog"),
        ({"corpus": "nope"}, NoDataError, "nothing of the catalog"),
        ({"languages": ["fr"]}, NoDataError, "nothing of the catalog"),
        ({"where": "duration_s > 100"}, NoDataError, "nothing of the catalog"),
        ({"format": "kaldi", "relative": True}, UsageError, "--relative"),
        ({"format": "nemo", "pipes": True}, UsageError, "--pipes"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_written(
    catalog, tmp_path, options, error, message
):
    with pytest.raises(error, match=message):
        export_catalog(catalog, tmp_path / "out", **{"format": "manifest", **options})
    assert not (tmp_path / "out").exists()
    assert len(rows_of(catalog, "from utterances")) == 6


def test_a_predicate_may_end_in_a_comment_and_chooses_utterances_alone(catalog, tmp_path):
    where = "duration_s > 0.6 -- the long ones"
    summary = export_catalog(catalog, tmp_path / "out", format="manifest", where=where)
    assert summary.files == {"speech.align.jsonl": 2, "speech.jsonl": 2, "talk.jsonl": 1}
    assert {line["id"] for line in lines(tmp_path / "out" / "talk.jsonl")} == {"d1/1"}


def test_names_of_files_never_meet():
    names = ["a/b", "a_b", "a b", "a.align", "A", "..", "a/../b"]
    stems = [flat_stem(name, reserved=(".align",)) for name in names]
    assert len(set(stems)) == len(names)
    assert not any("/" in stem or stem.startswith(".") or stem.endswith(".align") for stem in stems)
