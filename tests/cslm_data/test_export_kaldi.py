"""Kaldi data directories, held against the rules of Kaldi's own validation script."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess

import pytest
import soundfile
from awkward_corpus import make_catalog, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kaldi_rules import check_data_dir
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.exporting.catalog_export import export_catalog
from cslm_data.exporting.sorted_lines import SortedLines
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("kaldi"))


@pytest.fixture
def audio(made):
    return made.root.parent / "corpus"


def take_in(workspace, folder, rows):
    """Rows with a recording each, unless they name one."""
    for index, row in enumerate(rows):
        row.setdefault("audio", f"{index}.wav")
        row.setdefault("language", "en")
        row.setdefault("text", "said")
        if not (folder / str(row["audio"])).exists():
            write_tone(folder / str(row["audio"]), seconds=0.1, seed=index)
    ingest(workspace, [write_rows(folder / "m.jsonl", rows)])


def identities(folder):
    lines = (folder / "ids.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["utt"]: row for row in map(json.loads, lines)}


def refused(workspace):
    query = "select key, reason from rejects where stage = 'export' order by key"
    return rows_of(workspace, query)


def test_each_split_is_a_folder_that_kaldi_would_accept(made, tmp_path):
    summary = export_catalog(made, tmp_path / "out", format="kaldi")
    assert summary.files == {"all": 1, "all_untranscribed": 1, "dev": 2, "train": 2}
    for name in ("all", "dev", "train"):
        check_data_dir(tmp_path / "out" / name, with_text=True)
    check_data_dir(tmp_path / "out" / "all_untranscribed", with_text=False)


def test_the_lines_of_a_data_directory(made, audio, tmp_path):
    export_catalog(made, tmp_path / "out", format="kaldi")
    train = check_data_dir(tmp_path / "out" / "train", with_text=True)
    # `spk` begins `spk-a`, and a hyphen follows: the longer name is written without it.
    assert train["utt2spk"] == {"spk-second": "spk", "spk=2Da-spk-a-1": "spk=2Da"}
    assert train["text"] == {
        "spk-second": "line end'; drop table all_utterances; --",
        "spk=2Da-spk-a-1": "two blanks and a tab",
    }
    assert train["utt2lang"] == {"spk-second": "en", "spk=2Da-spk-a-1": "en"}
    (recording,) = train["wav.scp"]
    assert train["wav.scp"] == {recording: str(audio / "long.wav")}
    assert train["segments"] == {
        "spk-second": f"{recording} 1.700000 2.800000",
        "spk=2Da-spk-a-1": f"{recording} 0.500000 1.500000",
    }
    dev = check_data_dir(tmp_path / "out" / "dev", with_text=True)
    assert dev["utt2spk"] == {"q-d1/1": "q", "spk=2Bm3-r/ü=201": "spk=2Bm3"}
    assert str(audio / "ümläut" / "ein ton.wav") in dev["wav.scp"].values()
    nobody = check_data_dir(tmp_path / "out" / "all", with_text=True)
    assert nobody["utt2spk"] == {"nobody": "nobody"}
    assert identities(tmp_path / "out" / "dev")["spk=2Bm3-r/ü=201"] == {
        "utt": "spk=2Bm3-r/ü=201",
        "id": "r/ü 1",
        "spk": "spk=2Bm3",
        "speaker": "spk+m3",
        "corpus": "speech",
    }


def test_ids_that_begin_with_their_speaker_stay_as_they_are(workspace, tmp_path):
    rows = [
        {"id": "1272-128104-0000", "speaker": "1272"},
        {"id": "1272-128104-0001", "speaker": "1272"},
        {"id": "84-121123-0000", "speaker": "84"},
        {"id": "8-x", "speaker": "84"},
    ]
    take_in(workspace, tmp_path / "in", rows)
    export_catalog(workspace, tmp_path / "out", format="kaldi")
    tables = check_data_dir(tmp_path / "out" / "all", with_text=True)
    assert tables["utt2spk"] == {
        "1272-128104-0000": "1272",
        "1272-128104-0001": "1272",
        "84-121123-0000": "84",
        "84-8-x": "84",
    }


name = st.text(st.sampled_from("ab-+=. _'ü~\u00a0"), min_size=1, max_size=4).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(name, st.none() | name, min_size=1, max_size=12))
def test_whatever_ids_and_speakers_are_called_kaldi_accepts_it(names_seen, speakers):
    """utt_id → speaker: all are written but those whose two names say the same together."""
    folder, workspace, template = names_seen
    with open_catalog(workspace, write=True, doing="test") as connection:
        connection.execute("delete from all_utterances")
        for utt_id, speaker in speakers.items():
            connection.execute(
                f"insert into all_utterances by name select {template}, ? as utt_id, ? as speaker",
                [utt_id, speaker],
            )
    summary = export_catalog(workspace, folder / "out", format="kaldi", overwrite=True)
    tables = check_data_dir(folder / "out" / "all", with_text=True)
    assert summary.tables["utterances"].num_out == len(tables["utt2spk"])
    assert set(summary.reject_reasons) <= {"duplicate_name"}
    said = {row["id"]: row["speaker"] for row in identities(folder / "out" / "all").values()}
    assert said.items() <= speakers.items()
    by_name = {row["spk"]: row["speaker"] for row in identities(folder / "out" / "all").values()}
    spoken = {speaker for speaker in said.values() if speaker is not None}
    assert {speaker for speaker in by_name.values() if speaker is not None} == spoken


@pytest.fixture(scope="module")
def names_seen(tmp_path_factory):
    """A catalog whose one recording stands for all: what is there matters, what it is called."""
    folder = tmp_path_factory.mktemp("names")
    workspace = Workspace(folder / "workspace")
    take_in(workspace, folder / "in", [{"id": "a"}])
    template = (
        f"'m' as corpus, '{folder}/in/0.wav' as audio, 0.0 as offset_s, 0.1 as duration_s, "
        "16000 as sample_rate_hz, 1 as num_channels, 'en' as language, 'said' as text, "
        "'human' as kind, 'v' as audio_version, 0 as key_hash, 'm' as source_uri, 'm:1' as place, "
        "0 as row_hash"
    )
    return folder, workspace, template


def test_two_utterances_of_one_name_are_not_both_written(workspace, tmp_path):
    rows = [{"id": "b", "speaker": "a"}, {"id": "a-b", "speaker": "a"}]
    take_in(workspace, tmp_path / "in", rows)
    summary = export_catalog(workspace, tmp_path / "out", format="kaldi")
    tables = check_data_dir(tmp_path / "out" / "all", with_text=True)
    assert list(tables["utt2spk"]) == ["a-b"]
    assert identities(tmp_path / "out" / "all")["a-b"]["id"] == "a-b"
    assert (summary.num_in, summary.num_rejected) == (2, 1)
    assert refused(workspace) == [("b", "duplicate_name")]


def test_what_kaldi_cannot_say_is_refused_with_its_reason(workspace, tmp_path):
    write_tone(tmp_path / "in" / "stereo.wav", channels=2)
    rows = [
        {"id": "fine", "text": "a#01 <sosp> \u00a0wide\u3000blanks\u2028here"},
        {"id": "symbol", "text": "and <s> here"},
        {"id": "control", "text": "a\u0007bell"},
        {"id": "pipe", "audio": "x.wav|"},
        {"id": "place", "audio": "x.wav:12"},
        {"id": "range", "audio": "x.wav[1]"},
        {"id": "two", "audio": "stereo.wav"},
    ]
    for row in rows[3:6]:
        write_tone(tmp_path / "in" / "x.wav").rename(tmp_path / "in" / str(row["audio"]))
    take_in(workspace, tmp_path / "in", rows)
    summary = export_catalog(workspace, tmp_path / "out", format="kaldi")
    tables = check_data_dir(tmp_path / "out" / "all", with_text=True)
    assert tables["text"] == {"fine": "a#01 <sosp> wide blanks here"}
    assert refused(workspace) == [
        ("control", "bad_text"),
        ("pipe", "bad_path"),
        ("place", "bad_path"),
        ("range", "bad_path"),
        ("symbol", "illegal_symbol"),
        ("two", "channels"),
    ]
    assert (summary.num_in, summary.num_rejected) == (7, 6)
    summary = export_catalog(workspace, tmp_path / "cut", format="kaldi", cut=True)
    assert (summary.num_cut, summary.reject_reasons) == (4, {"bad_text": 1, "illegal_symbol": 1})
    tables = check_data_dir(tmp_path / "cut" / "all", with_text=True)
    assert tables["wav.scp"]["two"] == str(tmp_path / "cut" / "audio" / "two.wav")
    assert tables["segments"]["two"] == "two 0.000000 0.500000"
    assert soundfile.info(tables["wav.scp"]["two"]).format == "WAV"


def test_pipes_are_written_only_when_asked_for_and_run_nothing_but_the_decoder(workspace, tmp_path):
    evil = "a$(touch evil);`touch evil`'.flac"
    (tmp_path / "in").mkdir()
    tone, rate_hz = soundfile.read(write_tone(tmp_path / "tone.wav"))
    soundfile.write(tmp_path / "in" / evil, tone, rate_hz)
    soundfile.write(tmp_path / "in" / "b.ogg", tone, rate_hz)
    rows = [{"id": "a", "audio": evil}, {"id": "b", "audio": "b.ogg"}, {"id": "c"}]
    take_in(workspace, tmp_path / "in", rows)
    export_catalog(workspace, tmp_path / "plain", format="kaldi")
    plain = check_data_dir(tmp_path / "plain" / "all", with_text=True)
    assert not any("|" in where for where in plain["wav.scp"].values())
    export_catalog(workspace, tmp_path / "piped", format="kaldi", pipes=True)
    piped = check_data_dir(tmp_path / "piped" / "all", with_text=True)
    commands = {key: piped["wav.scp"][value.split()[0]] for key, value in piped["segments"].items()}
    flac = shlex.split(commands["a"].removesuffix("|"))
    assert flac == ["flac", "-c", "-d", "-s", str(tmp_path / "in" / evil)]
    said = subprocess.run(
        ["sh", "-c", commands["a"].removesuffix("|").replace("flac -c -d -s", "printf %s")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert said.stdout == str(tmp_path / "in" / evil)
    assert not list(tmp_path.rglob("evil"))
    assert commands["b"].startswith("ffmpeg ")
    assert commands["c"] == str(tmp_path / "in" / "2.wav")


def test_recordings_of_several_rates_are_told(workspace, tmp_path, caplog):
    write_tone(tmp_path / "in" / "8k.wav", rate=8000)
    take_in(workspace, tmp_path / "in", [{"id": "a"}, {"id": "b", "audio": "8k.wav"}, {"id": "c"}])
    export_catalog(workspace, tmp_path / "one", format="kaldi", where="sample_rate_hz = 16000")
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        export_catalog(workspace, tmp_path / "both", format="kaldi")
    assert "all: recordings of several rates (1 at 8000 Hz, 2 at 16000 Hz)" in caplog.text


def test_real_speakers_of_clashing_names_are_accepted(workspace, shared_data, tmp_path, caplog):
    sources = [shared_data / "synthetic" / f"espeak_{lang}.jsonl" for lang in ("en", "zh", "qa")]
    ingest(workspace, [*sources, shared_data / "real" / "fsdd.jsonl"])
    summary = export_catalog(workspace, tmp_path / "out", format="kaldi")
    assert (summary.num_in, summary.num_rejected) == (2552, 0)
    tables = check_data_dir(tmp_path / "out" / "all", with_text=True)
    speakers = {row["spk"]: row["speaker"] for row in identities(tmp_path / "out" / "all").values()}
    assert speakers["en-us"] == "en-us"
    assert speakers["en=2Dus=2Bm3"] == "en-us+m3"
    assert len(tables["wav.scp"]) == 2552
    assert "2000 at 8000 Hz, 552 at 16000 Hz" in caplog.text


def test_lines_come_back_in_the_order_of_bytes_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr("cslm_data.exporting.sorted_lines._ROWS", 3)
    keys = ["b", "é", "a-b", "Z", "a", "a-b", "~", "B", "b"]
    with SortedLines(tmp_path / "lines") as lines:
        for key in keys:
            lines.add(key, key.upper())
        found = list(lines.in_order())
    assert found == [(key, key.upper()) for key in ("B", "Z", "a", "a-b", "b", "~", "é")]
    assert list(tmp_path.iterdir()) == []
