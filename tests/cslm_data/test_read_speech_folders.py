from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from corpus_trees import aishell, librispeech, mls, query, reasons, write_text
from small_files import write_tone

from cslm_data.corpora import Defaults, guess_format
from cslm_data.corpora.aishell import join_segmented
from cslm_data.corpora.source import find_source
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace


def test_librispeech_is_read_with_speakers_and_splits(workspace: Workspace, tmp_path: Path) -> None:
    corpus = librispeech(tmp_path)
    summary = ingest(workspace, [corpus])
    assert (summary.sources[0].format, summary.num_rows, summary.num_rejected) == (
        "librispeech",
        6,
        0,
    )
    rows = query(
        workspace,
        "select utt_id, corpus, language, speaker, split, text, audio, place from utterances "
        "order by utt_id",
    )
    assert rows[0] == (
        "103-1240-0000",
        "librispeech",
        "en",
        "103",
        "train",
        "LINE 0 OF 1240",
        str(corpus / "train-clean-100/103/1240/103-1240-0000.flac"),
        "train-clean-100/103/1240/103-1240.trans.txt:1",
    )
    assert [(row[0], row[4]) for row in rows[4:]] == [
        ("1272-128104-0000", "dev"),
        ("1272-128104-0001", "dev"),
    ]


@pytest.mark.parametrize("part", ["dev-clean", "dev-clean/1272", "dev-clean/1272/128104"])
def test_a_part_of_librispeech_is_still_librispeech(
    workspace: Workspace, tmp_path: Path, part: str
) -> None:
    ingest(workspace, [librispeech(tmp_path) / part])
    assert query(
        workspace, "select distinct corpus, language, split, count(*) over () from utterances"
    ) == [("librispeech", "en", "dev", 2)]


def test_another_corpus_in_this_layout_does_not_say_its_language(
    workspace: Workspace, tmp_path: Path
) -> None:
    corpus = librispeech(tmp_path) / "dev-clean"
    corpus = corpus.rename(tmp_path / "hörbücher 1")
    summary = ingest(workspace, [corpus])
    assert set(reasons(workspace).values()) == {"no_language"}
    assert summary.num_rejected == 2
    ingest(workspace, [corpus], defaults=Defaults(language="de", split="test"))
    assert query(workspace, "select distinct corpus, language, split from utterances") == [
        ("hörbücher 1", "de", "test")
    ]


def test_awkward_librispeech_transcripts(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "mit leerzeichen ü" / "dev-clean" / "7" / "8"
    for number in range(4):
        write_tone(folder / f"7-8-{number:04d}.flac", rate=8000 if number == 1 else 16000)
    (folder / "7-8.trans.txt").write_bytes(
        b"\xef\xbb\xbf7-8-0000 MIT  BOM\r\n"
        b"\r\n"
        b"7-8-0001\tTAB \xc3\x9cBER\r\n"
        b"7-8-0000 ZWEITE ZEILE\r\n"
        b"7-8-0009 OHNE TON\r\n"
        b"7-8-0002\r\n"
        b"7-8-0003 \xff\r\n"
    )
    summary = ingest(workspace, [tmp_path / "mit leerzeichen ü"])
    assert query(
        workspace, "select utt_id, text, sample_rate_hz from utterances order by utt_id"
    ) == [
        ("7-8-0000", "MIT  BOM", 16000),
        ("7-8-0001", "TAB ÜBER", 8000),
        ("7-8-0002", None, 16000),
        ("7-8-0003", None, 16000),
    ]
    place = "dev-clean/7/8/7-8.trans.txt"
    assert reasons(workspace) == {
        "7-8-0000": "duplicate_id",
        "7-8-0009": "missing",
        f"{place}:7": "not_utf8",
    }
    assert summary.num_rows == 7


def test_recordings_without_any_transcripts_beside_them_are_untranscribed(
    workspace: Workspace, tmp_path: Path
) -> None:
    corpus = librispeech(tmp_path)
    (corpus / "train-clean-100/103/1240/103-1240.trans.txt").unlink()
    ingest(workspace, [corpus])
    assert query(
        workspace, "select count(*), count(text) from utterances where speaker = '103'"
    ) == [(4, 2)]


def test_aishell_is_read_with_its_splits_and_its_words_are_joined(
    workspace: Workspace, tmp_path: Path
) -> None:
    corpus = aishell(tmp_path)
    ingest(workspace, [corpus])
    assert query(
        workspace,
        "select utt_id, corpus, language, speaker, split, text, audio from utterances "
        "order by utt_id",
    )[0] == (
        "BAC009S0002W0122",
        "aishell",
        "zh",
        "S0002",
        "train",
        "而对楼市成交",
        str(corpus / "wav/train/S0002/BAC009S0002W0122.wav"),
    )
    assert query(workspace, "select list(split order by utt_id) from utterances") == [
        (["train", "dev", "test"],)
    ]


def test_the_folder_above_aishell_gives_the_same(workspace: Workspace, tmp_path: Path) -> None:
    aishell(tmp_path / "downloads")
    assert guess_format(find_source(tmp_path / "downloads")) == "aishell"
    ingest(workspace, [tmp_path / "downloads"])
    assert query(workspace, "select count(*), count(text) from utterances") == [(3, 3)]


def test_awkward_aishell(workspace: Workspace, tmp_path: Path) -> None:
    corpus = aishell(tmp_path)
    write_tone(corpus / "wav/dev/S0724/BAC009S0724W0001.wav", rate=8000)
    shutil.rmtree(corpus / "wav" / "test")
    write_text(corpus / "wav" / "S0900.tar.gz", "not unpacked")
    write_text(corpus / "wav/dev/S0724/notes.txt", "left alone")
    transcripts = corpus / "transcript" / "aishell_transcript_v0.8.txt"
    lines = transcripts.read_text(encoding="utf-8").splitlines()
    # Not in the order of the recordings, with CRLF, a BOM and blank lines.
    awkward = ["", *reversed(lines), lines[0] + " 又", " ", "BAC009S0999W0001 没 有 声音"]
    transcripts.write_bytes("\ufeff".encode() + "\r\n".join(awkward).encode())
    summary = ingest(workspace, [corpus])
    assert query(workspace, "select utt_id, text from utterances order by utt_id") == [
        ("BAC009S0002W0122", "而对楼市成交"),
        ("BAC009S0724W0001", None),
        ("BAC009S0724W0122", "而对楼市成交"),
    ]
    # The line of S0764 has no recording, that of S0002 is there twice.
    assert reasons(workspace) == {
        "BAC009S0764W0122": "missing",
        "BAC009S0002W0122": "missing",
        "BAC009S0999W0001": "missing",
    }
    assert summary.num_rows == 6


def test_blanks_stay_between_words_of_latin_letters_only() -> None:
    assert join_segmented("我 爱 ok go 吗") == "我爱ok go吗"
    assert join_segmented("一\t二  三") == "一二三"
    assert join_segmented("only  two") == "only  two"


def test_multilingual_librispeech_is_read_with_the_language_of_its_name(
    workspace: Workspace, tmp_path: Path
) -> None:
    corpus = mls(tmp_path)
    summary = ingest(workspace, [corpus])
    assert (summary.sources[0].format, summary.num_rows, summary.num_rejected) == ("mls", 4, 0)
    assert query(
        workspace,
        "select utt_id, corpus, language, speaker, split, text, place from utterances order by 1",
    )[1:3] == [
        ("8_77_000001", "mls_polish_opus", "pl", "8", "train", "zdanie 1")
        + ("train/transcripts.txt:1",),
        ("9_77_000000", "mls_polish_opus", "pl", "9", "test", "zdanie 0")
        + ("test/transcripts.txt:2",),
    ]


def test_one_split_of_it_with_lines_and_recordings_that_have_no_other_half(
    workspace: Workspace, tmp_path: Path
) -> None:
    part = mls(tmp_path) / "test"
    write_tone(part / "audio" / "9" / "78" / "9_78_000000.flac")
    with (part / "transcripts.txt").open("a") as stream:
        stream.write("\r\n9_79_000000\tno audio\r\n9_77_000001\tagain\r\n")
    ingest(workspace, [part])
    assert query(workspace, "select utt_id, language, split, text from utterances order by 1") == [
        ("9_77_000000", "pl", "test", "zdanie 0"),
        ("9_77_000001", "pl", "test", "zdanie 1"),
        ("9_78_000000", "pl", "test", None),
    ]
    assert reasons(workspace) == {"9_79_000000": "missing", "9_77_000001": "missing"}
