"""Formats that are read in columns: manifests, NeMo, Common Voice, bitext, Moses, instructions."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import fsspec
import pytest
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.corpora import Defaults, guess_format
from cslm_data.corpora.lines import read_lines
from cslm_data.corpora.source import find_source
from cslm_data.ingest import IngestSummary, ingest
from cslm_data.workspace import Workspace


def query(workspace: Workspace, sql: str) -> list[tuple[Any, ...]]:
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute(sql).fetchall()


def reasons(workspace: Workspace) -> dict[str, str]:
    return dict(query(workspace, "select key, reason from rejects"))


def formats(summary: IngestSummary) -> list[str]:
    return [source.format for source in summary.sources]


# ------------------------------------------------------------------------------------------- NeMo
def test_a_nemo_manifest_gives_whole_recordings_and_stretches(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_tone(tmp_path / "audio" / "ünï code.wav", seconds=3.0, rate=8000)
    rows: list[dict[str, object]] = [
        {"audio_filepath": "audio/ünï code.wav", "duration": 3.0, "text": "all", "lang": "en"},
        {
            "audio_filepath": "audio/ünï code.wav",
            "offset": 0.5,
            "duration": 1.0,
            "text": "part",
            "lang": "en",
            "speaker": 7,
        },
        {"audio_filepath": "audio/ünï code.wav", "offset": 2.5, "duration": 1.0, "lang": "en"},
        {"audio_filepath": "audio/gone.wav", "duration": 1.0, "text": "x", "lang": "en"},
        {"audio_filepath": "audio/ünï code.wav", "offset": -1, "duration": 1.0, "lang": "en"},
        {"audio_filepath": "audio/ünï code.wav", "offset": "x", "duration": 1.0, "lang": "en"},
        {"duration": 1.0, "text": "x", "lang": "en"},
    ]
    write_rows(tmp_path / "train.json", rows)
    (tmp_path / "train.json").rename(tmp_path / "train_manifest.jsonl")
    summary = ingest(workspace, [tmp_path])
    assert formats(summary) == ["nemo"]
    got = query(
        workspace,
        "select utt_id, offset_s, duration_s, sample_rate_hz, text, speaker from utterances "
        "order by offset_s",
    )
    assert got == [
        ("train_manifest/ünï code", 0.0, 3.0, 8000, "all", None),
        ("train_manifest/ünï code-0.500", 0.5, 1.0, 8000, "part", "7"),
    ]
    refused = query(workspace, "select reason from rejects order by reason")
    assert [reason for (reason,) in refused] == [
        "bad_number",
        "beyond_end",
        "missing",
        "negative_time",
        "no_audio",
    ]


# ----------------------------------------------------------------------------------- Common Voice
def common_voice(folder: Path) -> Path:
    header = "client_id\tpath\tsentence\tup_votes\tlocale\n"
    for name in ("a", "b", "c"):
        write_tone(folder / "clips" / f"{name}.wav")
    (folder / "train.tsv").write_text(
        header + 's1\ta.wav\tSie sagte "Hallo.\t2\tde\n\ns1\tb.wav\tZwei\t2\tde\textra\n',
        encoding="utf-8-sig",
        newline="\r\n",
    )
    (folder / "test.tsv").write_text(header + "s2\tc.wav\tDrei.\t2\tzh-CN\n", encoding="utf-8")
    (folder / "validated.tsv").write_text(header + "s1\ta.wav\tx\t2\tde\n", encoding="utf-8")
    return folder


def test_common_voice_is_read_as_a_folder_with_its_splits(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = common_voice(tmp_path / "de")
    summary = ingest(workspace, [folder], defaults=Defaults(corpus="cv"))
    assert formats(summary) == ["common_voice"]
    got = query(
        workspace,
        "select utt_id, text, language, speaker, split, license, place from utterances "
        "order by utt_id",
    )
    assert got == [
        ("cv/a", 'Sie sagte "Hallo.', "de", "s1", "train", "CC0-1.0", "train.tsv:2"),
        ("cv/c", "Drei.", "zh", "s2", "test", "CC0-1.0", "test.tsv:2"),
    ]
    assert reasons(workspace) == {"train.tsv:4": "bad_row"}


def test_one_table_of_common_voice_is_read_as_a_file(workspace: Workspace, tmp_path: Path) -> None:
    folder = common_voice(tmp_path / "de")
    summary = ingest(workspace, [folder / "test.tsv"])
    assert formats(summary) == ["common_voice_table"]
    assert query(workspace, "select utt_id, split from utterances") == [("test/c", "test")]


# ------------------------------------------------------------------------------------------ Moses
def test_moses_files_are_read_line_by_line_beside_each_other(
    workspace: Workspace, tmp_path: Path
) -> None:
    english = b"\xef\xbb\xbfHi.\r\n\r\nBye.\nCaf\xe9\nlast\nmore\n"
    (tmp_path / "News.en-zh.en").write_bytes(english)
    (tmp_path / "News.en-zh.zh").write_text("嗨。\n空\n再见。\n咖啡\n最后", encoding="utf-8")
    summary = ingest(workspace, [tmp_path], defaults=Defaults(license="CC0", corpus="news"))
    assert formats(summary) == ["moses"]
    got = query(workspace, "select src_lang, tgt_lang, src, tgt, place from bitext order by place")
    assert got == [
        ("en", "zh", "Hi.", "嗨。", "News.en-zh.en:1"),
        ("en", "zh", "Bye.", "再见。", "News.en-zh.en:3"),
        ("en", "zh", "last", "最后", "News.en-zh.en:5"),
    ]
    assert sorted(reasons(workspace).values()) == ["empty_text", "not_aligned", "not_utf8"]
    assert (summary.num_rows, summary.num_rejected) == (6, 3)


# ------------------------------------------------------------------------------------ awkward rows
def test_a_scalar_that_is_a_list_or_an_object_is_no_value_but_text_in_brackets_is(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_tone(tmp_path / "a.wav")
    rows: list[dict[str, object]] = [
        {"id": "list", "audio": "a.wav", "language": "en", "text": ["a"]},
        {"id": "brackets", "audio": "a.wav", "language": "en", "text": '["a"]'},
        {"id": "braces", "audio": "a.wav", "language": "en", "text": "{laughs} yes"},
        {"id": "number", "audio": "a.wav", "language": "en", "text": 12},
        {"id": "blank", "audio": "a.wav", "language": "en", "text": " \u3000\u00a0"},
    ]
    write_rows(tmp_path / "m.jsonl", rows)
    ingest(workspace, [tmp_path / "m.jsonl"])
    assert dict(query(workspace, "select utt_id, text from utterances")) == {
        "list": None,
        "brackets": '["a"]',
        "braces": "{laughs} yes",
        "number": "12",
        "blank": None,
    }


@pytest.mark.parametrize("said", ["1e999", "nan", "-inf", "", "0x10", "1;drop table sources"])
def test_an_offset_that_is_no_finite_number_is_refused(
    workspace: Workspace, tmp_path: Path, said: str
) -> None:
    write_tone(tmp_path / "a.wav")
    row: dict[str, object] = {"id": "u", "audio": "a.wav", "language": "en", "duration": "0.2"}
    write_rows(tmp_path / "m.jsonl", [{**row, "offset": said}])
    ingest(workspace, [tmp_path / "m.jsonl"])
    wanted = {} if said == "" else {"u": "bad_number"}
    assert reasons(workspace) == wanted


def test_dots_and_home_in_paths_lead_to_the_same_recording(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_tone(tmp_path / "audio" / "a.wav")
    (tmp_path / "m").mkdir()
    paths = ["../audio/a.wav", "./../audio/./a.wav", "x/../../audio/y/z/../../a.wav"]
    rows: list[dict[str, object]] = [
        {"id": str(i), "audio": path, "language": "en"} for i, path in enumerate(paths)
    ]
    write_rows(tmp_path / "m" / "m.jsonl", rows)
    ingest(workspace, [tmp_path / "m"])
    audio = str((tmp_path / "audio" / "a.wav").resolve())
    assert query(workspace, "select distinct audio from utterances") == [(audio,)]


def test_quotes_in_names_of_files_and_ids_are_no_sql(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "it's {raw} $corpus"
    write_tone(folder / "a'; drop table sources; --.wav")
    row: dict[str, object] = {"audio": "a'; drop table sources; --.wav", "language": "en"}
    write_rows(folder / "m'{table}.jsonl", [row, {**row, "id": "x'); delete from sources; --"}])
    write_rows(folder / "p'.en-zh.jsonl", [{"src": "a'b", "tgt": "'; --"}])
    for _ in range(2):
        ingest(workspace, [folder])
    assert query(workspace, "select count(*) from sources") == [(2,)]
    assert query(workspace, "select utt_id from utterances order by 1") == [
        ("m'{table}/a'; drop table sources; --",),
        ("x'); delete from sources; --",),
    ]


def test_the_first_of_rows_with_one_id_wins_in_a_long_file(
    workspace: Workspace, tmp_path: Path
) -> None:
    ids = [f"id-{number}" for number in range(30_000)] * 2
    random.Random(1).shuffle(ids)
    rows: list[dict[str, object]] = [
        {"id": key, "src_lang": "en", "tgt_lang": "de", "src": str(place), "tgt": "x"}
        for place, key in enumerate(ids)
    ]
    write_rows(tmp_path / "pairs.jsonl", rows)
    summary = ingest(workspace, [tmp_path / "pairs.jsonl"])
    first: dict[str, str] = {}
    for place, key in enumerate(ids):
        first.setdefault(key, str(place))
    assert (summary.sources[0].added, summary.num_rejected) == (30_000, 30_000)
    assert dict(query(workspace, "select pair_id, src from bitext")) == first


def test_rows_that_only_moved_keep_their_content_and_say_their_new_place(
    workspace: Workspace, tmp_path: Path
) -> None:
    pair: dict[str, object] = {"src_lang": "en", "tgt_lang": "de", "src": "a", "tgt": "b"}
    write_rows(tmp_path / "p.jsonl", [{**pair, "id": "1"}, {**pair, "id": "2"}])
    ingest(workspace, [tmp_path / "p.jsonl"])
    write_rows(tmp_path / "p.jsonl", [{**pair, "id": "2"}])
    [source] = ingest(workspace, [tmp_path / "p.jsonl"]).sources
    assert (source.unchanged, source.removed, source.changed) == (1, 1, 0)
    assert query(workspace, "select pair_id, place from bitext") == [("2", "p.jsonl:1")]


def test_a_compressed_manifest_is_read_as_it_is(workspace: Workspace, tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav")
    row = {"id": "u", "audio": "a.wav", "language": "en", "text": "hi"}
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    assert formats(ingest(workspace, [tmp_path])) == ["manifest"]
    assert query(workspace, "select utt_id, corpus from utterances") == [("u", "m")]


def test_a_manifest_at_another_address_names_audio_beside_it(workspace: Workspace) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    local = workspace.root.parent / "a.wav"
    write_tone(local)
    memory.pipe("/corpus/audio/a.wav", local.read_bytes())
    row = {"audio": "audio/a.wav", "language": "en", "text": "hi"}
    memory.pipe("/corpus/m.jsonl", json.dumps(row).encode())
    ingest(workspace, ["memory://corpus"])
    assert query(workspace, "select audio, duration_s from utterances") == [
        ("memory://corpus/audio/a.wav", 0.5)
    ]


# ------------------------------------------------------------------------------------ trusted rows
def test_a_trusted_manifest_is_believed_and_no_recording_is_opened(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_tone(tmp_path / "here.wav", seconds=0.5)
    rows: list[dict[str, object]] = [
        {"id": "far", "audio": "far.wav", "language": "en", "duration": 3, "sampling_rate": 8000},
        {"id": "here", "audio": "here.wav", "language": "en"},
        {"id": "bad", "audio": "far.wav", "language": "en", "duration": -3, "sampling_rate": 8000},
        {"id": "gone", "audio": "gone.wav", "language": "en", "duration": 3},
    ]
    write_rows(tmp_path / "m.jsonl", rows)
    ingest(workspace, [tmp_path / "m.jsonl"], trust_manifest=True)
    got = query(workspace, "select utt_id, duration_s, sample_rate_hz from utterances order by 1")
    assert got == [("far", 3.0, 8000), ("here", 0.5, 16000)]
    assert reasons(workspace) == {"bad": "negative_time", "gone": "missing"}
    ingest(workspace, [tmp_path / "m.jsonl"])
    assert reasons(workspace)["far"] == "missing"


# ------------------------------------------------------------------------------------------- lines
def test_lines_are_cut_the_same_wherever_blocks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["", "é" * 5, "x" * 40, "嗨", "", "end"]
    (tmp_path / "f.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for block in (1, 2, 3, 7, 64, 4096):
        monkeypatch.setattr("cslm_data.corpora.lines._BLOCK_BYTES", block)
        batches = list(read_lines(find_source(tmp_path / "f.jsonl")))
        got = [str(line).rstrip("\n") for batch in batches for line in batch["line"].to_pylist()]
        numbers = [number for batch in batches for number in batch["number"].to_pylist()]
        assert got == lines
        assert numbers == list(range(1, len(lines) + 1))


def test_an_overlong_line_is_refused_and_the_next_ones_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cslm_data.corpora.lines.MAX_LINE_BYTES", 50)
    (tmp_path / "f.jsonl").write_text("a\n" + "x" * 500 + "\nb\n" + "y" * 51 + "\nc\n")
    for block in (16, 4096):
        monkeypatch.setattr("cslm_data.corpora.lines._BLOCK_BYTES", block)
        batches = list(read_lines(find_source(tmp_path / "f.jsonl")))
        got = [
            (number, reason or str(line).strip())
            for batch in batches
            for number, line, reason in zip(
                *(batch[name].to_pylist() for name in ("number", "line", "reason")), strict=True
            )
        ]
        assert got == [(1, "a"), (2, "line_too_long"), (3, "b"), (4, "line_too_long"), (5, "c")]


def test_no_manifest_is_mistaken_for_another(tmp_path: Path) -> None:
    files = {
        "manifest": '{"audio": "a.wav", "text": "x", "language": "en"}',
        "nemo": '{"audio_filepath": "a.wav", "duration": 1, "text": "x"}',
        "bitext": '{"src_lang": "en", "tgt_lang": "zh", "src": "a", "tgt": "b"}',
        "instructions": '{"prompt": "a", "response": "b", "language": "en"}',
        "dialogues": '{"turns": [{"role": "user", "text": "a", "audio": "a.wav"}]}',
        "alignments": '{"id": "u", "audio": "a.wav", "words": [[0, 1, "a"]]}',
    }
    for name, line in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(line + "\n", encoding="utf-8")
        assert guess_format(find_source(path)) == name
