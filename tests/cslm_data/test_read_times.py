from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpus_trees import (
    LONG_TEXTGRID,
    SHORT_TEXTGRID,
    ctm,
    query,
    reasons,
    textgrid,
    textgrids,
    write_text,
)
from small_files import write_rows, write_tone

from cslm_data.corpora import Defaults
from cslm_data.corpora.praat import decode_text, parse_textgrid
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

WORDS = "select utt_id, [(w.word, w.start_s, w.end_s) for w in words] from alignments order by 1"
NO_SPEECH = ("", "sil", "sp", "[SIL]")
LABELS = [("", 0.0, 0.25), ('say "item [2]"', 0.25, 0.5), ("größer", 0.5, 1.0)]


def test_a_textgrid_gives_words_without_silence_and_phones_with_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    ingest(workspace, [textgrid(tmp_path)])
    assert query(workspace, WORDS) == [("one", LABELS[1:])]
    assert query(
        workspace, "select [(p.phone, p.start_s, p.end_s) for p in phones] from alignments"
    ) == [([("sil", 0.0, 0.25), ("ʃ", 0.25, 1.0)],)]


def test_a_folder_of_textgrids_is_one_source_and_ids_take_the_name_of_the_corpus(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = textgrids(tmp_path)
    summary = ingest(workspace, [folder], defaults=Defaults(corpus="lib"))
    assert [source.format for source in summary.sources] == ["textgrid"]
    two = [("one", 0.0, 0.5), ("two", 0.5, 1.0)]
    assert query(workspace, WORDS) == [("lib/one", LABELS[1:]), ("lib/two", two)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_textgrids_of_every_encoding_say_the_same(encoding: str, ends: str) -> None:
    text = LONG_TEXTGRID.replace("\n", ends)
    if encoding == "utf-16-be-bom":
        data = b"\xfe\xff" + text.encode("utf-16-be")
    else:
        data = text.encode(encoding)
    tiers = parse_textgrid(decode_text(data))
    assert [tier.name for tier in tiers] == ["words", "phone"]
    assert [(label, start, end) for start, end, label in tiers[0].intervals] == LABELS


def test_comments_blank_lines_and_the_values_alone_are_understood() -> None:
    text = 'File type = "ooTextFile"\n! a comment with "quotes" and 3 numbers\n\n'
    text += LONG_TEXTGRID.partition("\n")[2].replace("\n", "\n\n")
    assert [tier.name for tier in parse_textgrid(text)] == ["words", "phone"]
    values = [line.split("=", 1)[1] for line in LONG_TEXTGRID.splitlines() if "=" in line]
    assert parse_textgrid("\n".join([*values[:4], "<exists>", *values[4:]])) == parse_textgrid(
        LONG_TEXTGRID
    )


@pytest.mark.parametrize("text", [LONG_TEXTGRID, SHORT_TEXTGRID], ids=["long", "short"])
def test_a_textgrid_cut_short_anywhere_is_an_error_and_never_a_shorter_one(text: str) -> None:
    whole = parse_textgrid(text)
    for length in range(len(text.rstrip()) - 1):
        try:
            tiers = parse_textgrid(text[:length])
        except ValueError:
            continue
        # Cut inside of its head, before it is said that there are tiers.
        assert tiers == [], text[:length]
    assert parse_textgrid(text.rstrip()) == whole


def test_awkward_textgrids_are_refused_with_their_name(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "grids ü"
    write_text(folder / "fine.TextGrid", SHORT_TEXTGRID)
    write_text(folder / "again" / "fine.TextGrid", SHORT_TEXTGRID)
    write_text(folder / "cut.TextGrid", SHORT_TEXTGRID[:-20])
    write_text(folder / "back.TextGrid", SHORT_TEXTGRID.replace("0.5\n1.0\n", "0.5\n0.2\n"))
    write_text(folder / "early.TextGrid", SHORT_TEXTGRID.replace("0\n0.5\n", "-0.2\n0.5\n"))
    write_text(folder / "other.textgrid", SHORT_TEXTGRID.replace("words", "remarks"))
    write_text(folder / "pitch.TextGrid", SHORT_TEXTGRID.replace("TextGrid", "PitchTier"))
    both = SHORT_TEXTGRID.replace("<exists>\n1", "<exists>\n2")
    tier = both[both.index('"IntervalTier"') :].replace("spk 1", "spk 2")
    write_text(folder / "two.TextGrid", both + tier)
    write_text(folder / "empty.TextGrid", "")
    (folder / "latin.TextGrid").write_bytes(LONG_TEXTGRID.encode("latin-1", "replace"))
    summary = ingest(workspace, [folder])
    assert [row[0] for row in query(workspace, WORDS)] == ["fine"]
    assert reasons(workspace) == {
        "fine": "duplicate_id",
        "cut": "bad_textgrid",
        "back": "bad_times",
        "early": "bad_times",
        "other": "no_words",
        "pitch": "bad_textgrid",
        "two": "bad_textgrid",
        "empty": "bad_textgrid",
        "latin": "not_utf8",
    }
    assert summary.num_rows == 10


@pytest.mark.parametrize("corpus", ["ljspeech", "css10_es", "praatio_examples", "aishell_misc"])
def test_real_textgrids_say_what_their_corpus_says(
    workspace: Workspace, shared_data: Path, corpus: str
) -> None:
    """The manifest of the times was made by another program from the same files."""
    folder = shared_data / "real" / corpus / "alignments"
    ingest(workspace, [folder], defaults=Defaults(corpus=corpus))
    found = {
        key: (words or [], phones or [])
        for key, words, phones in query(
            workspace,
            "select utt_id, [(w.start_s, w.end_s, w.word) for w in words], "
            "[(p.start_s, p.end_s, p.phone) for p in phones] from alignments",
        )
    }
    compared = 0
    for line in (shared_data / "real" / f"{corpus}.align.jsonl").read_text("utf-8").splitlines():
        said = json.loads(line)
        for place, kind in ((0, "words"), (1, "phones")):
            if kind not in said:
                continue
            # `bobby` lies in two files, one for its words and one for its phones.
            stem = said["id"] if said["id"] in found else f"{said['id']}_{kind}"
            ours = [each for each in found[stem][place] if each[2] not in NO_SPEECH]
            theirs = [each for each in said[kind] if each[2] not in NO_SPEECH]
            assert [each[2] for each in ours] == [each[2] for each in theirs], stem
            for one, other in zip(ours, theirs, strict=True):
                assert one[:2] == pytest.approx(other[:2], abs=0.002)
            compared += len(ours)
    assert compared > 10


def test_ctm_lines_become_words_in_order_of_time(workspace: Workspace, tmp_path: Path) -> None:
    ingest(workspace, [ctm(tmp_path)])
    assert query(workspace, WORDS) == [
        ("u1", [("hello", 0.1, 0.3), ("you", 0.35, 0.5)]),
        ("u2", [("yes", 0.0, 0.5)]),
    ]
    assert query(workspace, "select utt_id, words[1].score from alignments order by 1") == [
        ("u1", 0.9),
        ("u2", None),
    ]


def test_awkward_ctm(workspace: Workspace, tmp_path: Path) -> None:
    lines = [
        "\ufeff;; comment",
        "apart 1 0.5 0.1 b",
        "",
        "u1\t1  0.0 0.1   größer 0.5",
        "apart 1 0.1 0.1 a",
        "minus 1 -0.1 0.2 a",
        "nan 1 nan 0.2 a",
        "short 1 0.1 0.2",
        "short 1 0.5 0.2 fine",
        "words 1 zero 0.2 a",
        "alt 1 * * <ALT_BEGIN>",
        "stereo A 0.1 0.1 a",
        "stereo B 0.1 0.1 b",
        "silent 1 0.1 0.5 <eps>",
        "apart 1 0.9 0.1 <eps>",
        "apart 1 0.3 0.1 ab",
    ]
    write_text(tmp_path / "x.ctm", "\r\n".join(lines))
    with (tmp_path / "x.ctm").open("ab") as stream:
        stream.write(b"\r\nu1 1 0.2 0.1 \xff\r\nu1 1 0.4 0.1 after")
    summary = ingest(workspace, [tmp_path / "x.ctm"], defaults=Defaults(corpus="c"))
    assert query(workspace, WORDS) == [
        ("apart", [("a", 0.1, 0.2), ("ab", 0.3, 0.4), ("b", 0.5, 0.6)]),
        ("u1", [("größer", 0.0, 0.1), ("after", 0.4, 0.5)]),
    ]
    assert reasons(workspace) == {
        "minus": "bad_times",
        "nan": "bad_times",
        "short": "bad_words",
        "words": "bad_words",
        "alt": "bad_words",
        "stereo": "channel",
        "silent": "no_words",
        "x.ctm:17": "not_utf8",
    }
    assert summary.num_rows == 10


def test_times_of_utterances_that_are_not_there_are_kept_and_said_aloud(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ingest(workspace, [ctm(tmp_path)])
    assert "2 of 2 alignments belong to no utterance yet, such as 'u1'" in caplog.text
    caplog.clear()
    write_tone(tmp_path / "u1.wav")
    row: dict[str, object] = {"id": "u1", "audio": "u1.wav", "language": "en"}
    ingest(workspace, [write_rows(tmp_path / "m.jsonl", [row])])
    assert "1 of 2 alignments belong to no utterance yet, such as 'u2'" in caplog.text
    assert query(workspace, "select count(*) from alignments") == [(2,)]
    caplog.clear()
    ingest(workspace, [write_rows(tmp_path / "n.jsonl", [{**row, "id": "u2"}])])
    assert caplog.text == ""
