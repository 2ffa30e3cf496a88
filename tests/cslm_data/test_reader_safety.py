from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpus_trees import TREES, aishell, kaldi, mls, query, reasons, textgrids, write_text
from small_files import write_rows

from cslm_data.corpora import Defaults
from cslm_data.errors import CslmError, UsageError
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

ENGLISH = Defaults(language="en")
FOLDERS = ["librispeech", "mls", "aishell", "kaldi", "lhotse", "textgrid"]
NO_PATHS = ["a\0b.wav", "~nobody-of-this-name/a.wav", "x" * 5000, "/" + "y/" * 3000, "../" * 80]


@pytest.mark.parametrize("format", FOLDERS)
def test_a_folder_of_another_layout_read_as_this_one_is_no_traceback(
    workspace: Workspace, tmp_path: Path, format: str
) -> None:
    write_text(tmp_path / "folder" / "other" / "notes.txt", "nothing")
    try:
        summary = ingest(workspace, [tmp_path / "folder"], format=format)
    except UsageError as error:
        assert str(tmp_path / "folder") in str(error)
    else:
        assert format == "librispeech" and summary.num_rows == 0


@pytest.mark.parametrize("format", [*FOLDERS, "hf_parquet", "messages", "ctm"])
def test_a_file_of_another_kind_read_as_this_one_is_no_traceback(
    workspace: Workspace, tmp_path: Path, format: str
) -> None:
    path = tmp_path / "random.bin"
    path.write_bytes(bytes(range(256)) * 100)
    try:
        summary = ingest(workspace, [path], format=format, defaults=ENGLISH)
    except CslmError as error:
        assert "random.bin" in str(error)
    else:
        assert summary.num_rejected == summary.num_rows > 0


@pytest.mark.parametrize("path", NO_PATHS, ids=["nul", "home", "long", "deep", "above"])
def test_paths_that_no_file_can_have_are_missing_audio(
    workspace: Workspace, tmp_path: Path, path: str
) -> None:
    cut = {"id": "cut", "start": 0, "duration": 1, "type": "MonoCut", "channel": 0}
    source = {"type": "file", "channels": [0], "source": path}
    cuts = write_rows(tmp_path / "cuts.jsonl", [{**cut, "recording": {"sources": [source]}}])
    rows = write_rows(tmp_path / "m.jsonl", [{"id": "row", "audio": path, "language": "en"}])
    scp = write_text(tmp_path / "kaldi" / "wav.scp", f"scp {path}\n")
    ingest(workspace, [cuts, rows, scp.parent], defaults=ENGLISH)
    assert reasons(workspace) == {"cut": "missing", "row": "missing", "scp": "missing"}


def test_names_that_are_no_text_are_refused_and_the_rest_is_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    strange = os.fsdecode(b"\xff\xfe")
    corpus = aishell(tmp_path)
    good = corpus / "wav/dev/S0724/BAC009S0724W0122.wav"
    (good.parent / f"{strange}.wav").write_bytes(good.read_bytes())
    polish = mls(tmp_path)
    (polish / "train/audio/8/77").rename(polish / f"train/audio/8/{strange}")
    grids = textgrids(tmp_path)
    (grids / "spk1" / "one.TextGrid").rename(grids / f"{strange}.TextGrid")
    summary = ingest(workspace, [corpus, polish, grids])
    assert sorted(query(workspace, "select key, reason from rejects")) == [
        ("8_77_000000", "missing"),
        ("8_77_000001", "missing"),
        ("\\xff\\xfe.TextGrid", "bad_name"),
        ("train/audio/8/\\xff\\xfe/8_77_000000.flac", "bad_name"),
        ("train/audio/8/\\xff\\xfe/8_77_000001.flac", "bad_name"),
        ("wav/dev/S0724/\\xff\\xfe.wav", "bad_name"),
    ]
    assert summary.num_rows - summary.num_rejected == 3 + 2 + 1


def test_sql_and_tokens_in_transcripts_and_ids_are_text(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = kaldi(tmp_path)
    nasty = "'); drop table all_utterances; -- <sosp> ../../ ${HOME} $(touch x) `x`"
    write_text(folder / "text", f"u1 {nasty}\nu2 two\nu3 three\n")
    write_text(folder / "utt2spk", f"u1 {nasty}\n")
    ingest(workspace, [folder])
    assert query(workspace, "select text, speaker from utterances where utt_id = 'u1'") == [
        (nasty, nasty)
    ]


@pytest.mark.parametrize("value", [None, 3, True, "x", [], [[]], {}, {"a": {"a": []}}, 1e400, "\0"])
def test_fields_of_any_type_are_refused_and_never_a_traceback(
    workspace: Workspace, tmp_path: Path, value: object
) -> None:
    audio = {"sources": [{"type": "file", "channels": [0], "source": "gone.wav"}], "id": "r"}
    said = {"id": "s", "start": 0.0, "duration": 1.0, "channel": 0, "text": "t", "speaker": "s"}
    said["alignment"] = {"word": [["a", 0.0, 0.5, 1.0]]}
    cut = {"id": "c", "start": 0.0, "duration": 1.0, "channel": 0, "type": "MonoCut"}
    cut |= {"supervisions": [said], "recording": audio}
    rows = [cut]
    rows += [{**cut, name: value} for name in cut if name != "type"]
    rows += [{**cut, "supervisions": [{**said, name: value}]} for name in said]
    rows += [{**cut, "recording": {**audio, name: value}} for name in audio]
    rows += [
        {**cut, "recording": {"sources": [{**audio["sources"][0], name: value}]}}
        for name in ("type", "channels", "source")
    ]
    rows += [{**cut, "supervisions": [{**said, "alignment": {"word": value}}]}]
    rows += [{**cut, "supervisions": [{**said, "alignment": {"word": [value]}}]}]
    chats = [{"id": f"x{n}", "messages": [{"role": value, "content": "a"}]} for n in range(2)]
    chats += [{"id": "y", "messages": [{"role": "user", "content": value}, value]}]
    chats += [{"id": "z", "conversations": value, "system": value, "language": value}]
    path = write_rows(tmp_path / "cuts.jsonl", rows)
    ingest(workspace, [path], defaults=ENGLISH)
    chat = {"id": "ok", "messages": [{"role": "user", "content": "q"}]}
    other = write_rows(tmp_path / "chat.jsonl", [chat, *chats])
    ingest(workspace, [other], defaults=ENGLISH)
    assert query(workspace, "select count(*) from utterances") == [(0,)]
    assert query(workspace, "select count(*) from dialogues") == [(0,)]


def test_every_tree_can_be_read_twice_without_a_change(
    workspace: Workspace, tmp_path: Path
) -> None:
    makers = [make for made in TREES.values() for make in made]
    paths = [make(tmp_path / make.__name__) for make in makers]
    first = ingest(workspace, paths, defaults=ENGLISH)
    again = ingest(workspace, paths, defaults=ENGLISH)
    assert first.num_rows == again.num_rows == sum(s.unchanged + s.rejected for s in again.sources)
    assert {(s.added, s.changed, s.removed) for s in again.sources} == {(0, 0, 0)}
