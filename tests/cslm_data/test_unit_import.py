from __future__ import annotations

import json
import shutil

import fsspec
import pytest
from speech_catalog import add, add_many, adds_up, files, forget, run, units, write_speech

from cslm_data.catalog import open_catalog
from cslm_data.errors import (
    CorruptArtefactError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.units import importing as unit_import
from cslm_data.units.exporting import export_units
from cslm_data.units.importing import import_units
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Eight recordings in units."""
    folder = tmp_path_factory.mktemp("recorded")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 8)
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


def rejects(workspace):
    with open_catalog(workspace, doing="test") as connection:
        query = "select key, reason from rejects where stage = 'import-units' order by all"
        return connection.execute(query).fetchall()


def counts(summary):
    assert summary.num_in == summary.num_out + summary.num_already + summary.num_rejected
    return summary.num_out, summary.num_already, summary.num_rejected


# ------------------------------------------------------------------------- round trips
@pytest.mark.parametrize("format", ["fairseq", "slamkit", "textless"])
@pytest.mark.parametrize("dedup", [True, False])
def test_what_was_exported_comes_back_as_it_was(spoken, tmp_path, format, dedup):
    lossy = format == "fairseq" and dedup
    before = units(spoken)
    export_units(spoken, tmp_path / "out", format=format, dedup=dedup, num_shards=2)
    forget(spoken)
    assert units(spoken) == []
    summary = import_units(spoken, tmp_path / "out", format=format, even_durations=lossy)
    assert counts(summary) == (8, 0, 0)
    assert (summary.num_compared, summary.equal_share) == (5, 1.0)
    after = units(spoken)
    if lossy:  # fairseq's files have no durations
        assert [row[:3] for row in after] == [row[:3] for row in before]
        assert all(sum(row[3]) == row[4] for row in after)
    else:
        assert after == before
    again = import_units(spoken, tmp_path / "out", format=format, even_durations=lossy)
    assert counts(again) == (0, 8, 0)
    done = run(spoken)
    assert (done.num_out, done.num_already) == (0, 8)
    assert adds_up(done)


def test_parts_of_recordings_come_back_from_their_cut_recordings_and_from_ids(workspace, tmp_path):
    long = write_speech(tmp_path / "long.wav", 1, duration_s=8)
    for index in range(4):
        add(workspace, long, f"part/{index}", offset_s=2.0 * index, duration_s=1.7)
    run(workspace, num_units=4)
    before = units(workspace)
    export_units(workspace, tmp_path / "cut", format="fairseq", cut=True)
    export_units(workspace, tmp_path / "ids", format="slamkit", name_by="id")
    for out, format in (("cut", "fairseq"), ("ids", "slamkit")):
        forget(workspace)
        assert counts(import_units(workspace, tmp_path / out, format=format)) == (4, 0, 0)
        assert units(workspace) == before


def test_units_are_found_by_path_without_our_file_of_ids(spoken, tmp_path):
    before = units(spoken)
    export_units(spoken, tmp_path / "out", format="fairseq")
    (tmp_path / "out" / "all.ids").unlink()
    (tmp_path / "out" / "export.json").unlink()
    (tmp_path / "out" / "all_0_1.km").rename(tmp_path / "out" / "all.km")
    forget(spoken)
    assert counts(import_units(spoken, tmp_path / "out" / "all.tsv", format="fairseq")) == (8, 0, 0)
    assert units(spoken) == before


def test_the_string_slamkit_trains_on_needs_durations_to_be_spread(spoken, tmp_path):
    before = units(spoken)
    export_units(spoken, tmp_path / "out", format="slamkit")
    forget(spoken)
    tokens = tmp_path / "out" / "all.tokens.jsonl"
    with pytest.raises(UsageError, match="all.tokens.jsonl: holds runs .* --even-durations"):
        import_units(spoken, tokens, format="slamkit")
    import_units(spoken, tokens, format="slamkit", even_durations=True)
    for row, old in zip(units(spoken), before, strict=True):
        assert row[:3] == old[:3]
        # A second at 50 frames a second, as even as whole frames can be.
        assert sum(row[3]) == row[4] == max(50, len(row[2]))
        assert max(row[3]) - min(row[3]) <= 1


# ------------------------------------------------------------------------- what others have written
def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def frames(number, of=49):
    return " ".join(str(number) for _ in range(of))


def test_textless_lines_by_name_and_by_manifest(spoken, audio, tmp_path):
    forget(spoken)
    named = write(tmp_path / "a" / "t.units", f"0\t{frames(1)}\n1\t{frames(2)}\n")
    options = {"format": "textless", "num_checked": 0}
    with pytest.raises(UsageError, match="t.units: has no durations beside it.* --no-dedup or"):
        import_units(spoken, named, **options)
    refused = import_units(spoken, named, dedup=False, **options)
    assert refused.reject_reasons == {"unknown": 2}
    taken = import_units(spoken, named, dedup=False, by_stem=True, **options)
    assert counts(taken) == (2, 0, 0)
    write(tmp_path / "b" / "t.tsv", f"{audio}\n2.wav\t16000\n3.wav\t16000\n")
    bare = write(tmp_path / "b" / "t.units", f"{frames(3)}\n{frames(4)}\n")
    assert counts(import_units(spoken, bare, dedup=False, **options)) == (2, 0, 0)
    assert [(row[1], row[2], row[3], row[4]) for row in units(spoken)] == [
        (f"utt-{i}", [i + 1], [49], 49) for i in range(4)
    ]
    alone = write(tmp_path / "c" / "t.units", f"{frames(3)}\n")
    with pytest.raises(UsageError, match="its lines have no names"):
        import_units(spoken, alone, dedup=False, **options)


def test_each_wrong_line_is_refused_with_its_reason(workspace, tmp_path):
    audio = tmp_path / "audio"
    add_many(workspace, audio, 8)
    long = write_speech(audio / "long.wav", 9, duration_s=2)
    add(workspace, long, "first", duration_s=1.0)
    add(workspace, long, "second", offset_s=1.0, duration_s=1.0)
    add(
        workspace,
        write_speech(audio / "tail.wav", 10, duration_s=2),
        "tail",
        offset_s=1.0,
        duration_s=1.0,
    )
    broken = audio / "broken.wav"
    broken.write_bytes(b"RIFF nothing more")
    add(workspace, broken, "broken")
    run(workspace)
    (kept,) = (row for row in units(workspace) if row[1] == "utt-7")
    whole = {"units": [1, 2], "duration": [20, 29]}
    lines = [
        {"file_name": str(audio / "0.wav"), **whole},  # has other units
        {"file_name": str(audio / "7.wav"), "units": kept[2], "duration": kept[3]},  # has these
        {"file_name": str(audio / "7.wav"), "units": kept[2], "duration": kept[3]},
        {"file_name": str(audio / "long.wav"), **whole},
        {"file_name": str(audio / "tail.wav"), **whole},
        {"file_name": "/elsewhere/x.wav", **whole},
        {"file_name": "broken", **whole},
        {"file_name": "utt-1", "units": [1, 8], "duration": [20, 29]},
        {"file_name": "utt-2", "units": [1, 2], "duration": [20, 60]},
        {"file_name": "utt-3", "units": [1, 2], "duration": [20]},
        {"file_name": "utt-4", "units": [1, 2], "duration": [49, 0]},
        {"file_name": "utt-5", "units": [], "duration": []},
        {"file_name": "utt-6", "units": "1 2", "duration": [20, 29]},
        {"units": [1], "duration": [49]},
    ]
    path = write(tmp_path / "w.jsonl", "\n".join(map(json.dumps, lines)) + "\nno json\n")
    summary = import_units(workspace, path, format="slamkit", num_checked=0)
    assert counts(summary) == (0, 1, 14)
    assert rejects(workspace) == sorted(
        [
            ("utt-0", "differs"),
            ("utt-7", "duplicate"),
            (str(audio / "long.wav"), "segment"),
            ("tail", "segment"),
            ("/elsewhere/x.wav", "unknown"),
            ("broken", "refused"),
            ("utt-1", "unknown_unit"),
            ("utt-2", "frames"),
            ("utt-3", "bad_durations"),
            ("utt-4", "bad_durations"),
            ("utt-5", "empty"),
            ("utt-6", "bad_line"),
            ("w.jsonl:14", "bad_line"),
            ("w.jsonl:15", "bad_json"),
        ]
    )


def test_wrong_lines_of_fairseq_are_refused_and_uneven_files_stop_everything(
    spoken, audio, tmp_path
):
    forget(spoken)
    tsv = write(
        tmp_path / "f" / "x.tsv",
        f"{audio}\n0.wav\t16000\n1.wav\t32000\n2.wav\n3.wav\t16000\n4.wav\t16000\n",
    )
    labels = [frames(1), frames(1), frames(1), "1 two 3", frames(1, of=24)]
    write(tsv.with_suffix(".km"), "\n".join(labels) + "\n")
    summary = import_units(spoken, tsv, format="fairseq", num_checked=0)
    assert counts(summary) == (1, 0, 4)
    assert rejects(spoken) == [
        ("2.wav", "bad_line"),
        ("3.wav", "bad_line"),
        ("utt-1", "other_audio"),
        ("utt-4", "frames"),
    ]
    before = files(spoken)
    write(tsv.with_suffix(".km"), "\n".join(labels[:4]) + "\n")
    with pytest.raises(CorruptArtefactError, match="x.km has not as many lines"):
        import_units(spoken, tsv, format="fairseq", num_checked=0)
    tsv.with_suffix(".km").rename(tmp_path / "f" / "x_1_2.km")
    with pytest.raises(UsageError, match="x_0_2.km is missing"):
        import_units(spoken, tsv, format="fairseq", num_checked=0)
    (tmp_path / "f" / "x_1_2.km").unlink()
    with pytest.raises(UsageError, match="but there is none"):
        import_units(spoken, tsv, format="fairseq", num_checked=0)
    assert files(spoken) == before


def test_frames_told_to_be_runs_are_refused(spoken, tmp_path):
    forget(spoken)
    path = write(tmp_path / "t.units", f"utt-0\t{frames(1)}\n")
    summary = import_units(
        spoken, path, format="textless", dedup=True, even_durations=True, num_checked=0
    )
    assert summary.reject_reasons == {"not_runs": 1}


def test_names_that_several_recordings_have_need_a_corpus(spoken, tmp_path):
    forget(spoken)
    (tmp_path / "other").mkdir()
    add(spoken, write_speech(tmp_path / "other" / "0.wav", 3), "other-0")
    with open_catalog(spoken, write=True, doing="test") as connection:
        connection.execute("update all_utterances set corpus = 'other' where utt_id = 'other-0'")
    path = write(tmp_path / "t.units", f"0\t{frames(1)}\n")
    options = {"format": "textless", "dedup": False, "by_stem": True, "num_checked": 0}
    assert import_units(spoken, path, **options).reject_reasons == {"ambiguous": 1}
    assert counts(import_units(spoken, path, corpus="other", **options)) == (1, 0, 0)
    assert [row[1] for row in units(spoken)] == ["other-0"]


# ------------------------------------------------------------------------- whose units they are
def test_units_of_another_tokenizer_are_told(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="slamkit")
    forget(spoken)
    beside = tmp_path / "out" / "export.json"
    said = json.loads(beside.read_text())
    beside.write_text(json.dumps({**said, "tokenizer_id": "hubert-8-abc"}))
    with pytest.raises(TokenizerMismatchError, match="units of hubert-8-abc"):
        import_units(spoken, tmp_path / "out", format="slamkit")
    beside.unlink()
    features = tmp_path / "out" / "all.features.jsonl"
    lines = [json.loads(line) for line in features.read_text().splitlines()]
    moved = [{**line, "units": [(unit + 1) % 8 for unit in line["units"]]} for line in lines]
    features.write_text("".join(json.dumps(line) + "\n" for line in moved))
    with pytest.raises(TokenizerMismatchError, match="only 0.0% of the units of 5 utterances"):
        import_units(spoken, tmp_path / "out", format="slamkit")
    assert files(spoken) == {}
    taken = import_units(spoken, tmp_path / "out", format="slamkit", num_checked=0)
    assert counts(taken) == (8, 0, 0)


def test_frames_are_spread_as_evenly_as_whole_frames_can_be():
    assert unit_import._spread(3, 10).tolist() == [3, 3, 4]
    assert unit_import._spread(3, 2).tolist() == [1, 1, 1]


def test_units_that_lie_elsewhere_are_exported_imported_and_finished(workspace, tmp_path):
    add_many(workspace, tmp_path / "audio", 8)
    place = "memory://test-unit-import/units"
    run(workspace, units_at=place)
    before = units(workspace)
    export_units(workspace, tmp_path / "out", format="fairseq")
    elsewhere = fsspec.filesystem("memory")
    for path in elsewhere.find("/test-unit-import/units"):
        if path.endswith(".parquet"):
            elsewhere.rm_file(path)
    assert units(workspace) == []
    assert counts(import_units(workspace, tmp_path / "out", format="fairseq")) == (8, 0, 0)
    assert units(workspace) == before
    assert run(workspace).num_already == 8
