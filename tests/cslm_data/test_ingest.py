from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.corpora import Defaults
from cslm_data.errors import NoDataError, UsageError
from cslm_data.ingest import IngestSummary, ingest
from cslm_data.workspace import Workspace


def query(workspace: Workspace, sql: str) -> list[tuple[Any, ...]]:
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute(sql).fetchall()


def reasons(workspace: Workspace) -> dict[str, str]:
    return dict(query(workspace, "select key, reason from rejects"))


def counts(summary: IngestSummary) -> tuple[int, int, int, int]:
    source = summary.sources[0]
    return source.added, source.changed, source.unchanged, source.removed


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    for name in ("a", "b", "c"):
        write_tone(folder / "audio" / f"{name}.wav", seconds=0.5)
    rows: list[dict[str, object]] = [
        {"id": f"x/{name}", "audio": f"audio/{name}.wav", "text": f"Word {name}.", "language": "en"}
        for name in ("a", "b", "c")
    ]
    write_rows(folder / "speech.jsonl", rows)
    return folder


def test_a_manifest_becomes_utterances_with_what_the_headers_say(
    workspace: Workspace, corpus: Path
) -> None:
    ingest(workspace, [corpus])
    rows = query(
        workspace,
        "select utt_id, corpus, audio, offset_s, duration_s, sample_rate_hz, num_channels, text, "
        "text_norm from utterances order by utt_id limit 1",
    )
    audio = str((corpus / "audio" / "a.wav").resolve())
    assert rows == [("x/a", "speech", audio, 0.0, 0.5, 16000, 1, "Word a.", "word a")]


def test_reading_the_same_source_again_changes_nothing(workspace: Workspace, corpus: Path) -> None:
    first = ingest(workspace, [corpus])
    before = query(workspace, "from utterances order by utt_id")
    assert counts(first) == (3, 0, 0, 0)
    assert counts(ingest(workspace, [corpus])) == (0, 0, 3, 0)
    assert query(workspace, "from utterances order by utt_id") == before


def test_a_changed_source_updates_its_rows_and_says_so(workspace: Workspace, corpus: Path) -> None:
    ingest(workspace, [corpus])
    write_tone(corpus / "audio" / "d.wav")
    changed: list[dict[str, object]] = [
        {"id": "x/a", "audio": "audio/a.wav", "text": "Word a.", "language": "en"},
        {"id": "x/b", "audio": "audio/b.wav", "text": "Another word.", "language": "en"},
        {"id": "x/d", "audio": "audio/d.wav", "text": "Word d.", "language": "en"},
    ]
    write_rows(corpus / "speech.jsonl", changed)
    assert counts(ingest(workspace, [corpus])) == (1, 1, 1, 1)
    assert query(workspace, "select utt_id, text from utterances order by utt_id") == [
        ("x/a", "Word a."),
        ("x/b", "Another word."),
        ("x/d", "Word d."),
    ]


def test_audio_that_changed_behind_an_unchanged_manifest_is_noticed(
    workspace: Workspace, corpus: Path
) -> None:
    ingest(workspace, [corpus])
    write_tone(corpus / "audio" / "a.wav", hz=880)
    assert counts(ingest(workspace, [corpus])) == (0, 1, 2, 0)


def test_bad_audio_is_rejected_row_by_row_and_the_rest_goes_in(
    workspace: Workspace, corpus: Path, tmp_path: Path
) -> None:
    (corpus / "audio" / "zero.wav").write_bytes(b"")
    (corpus / "audio" / "noise.wav").write_bytes(b"not audio at all" * 100)
    write_tone(corpus / "audio" / "header.wav", seconds=0.0)
    write_tone(corpus / "audio" / "blink.wav", seconds=0.01)
    write_tone(corpus / "audio" / "hour.flac", seconds=5.0)
    write_tone(corpus / "audio" / "wide.wav", rate=96000, channels=8)
    names = [
        "missing.wav",
        "zero.wav",
        "noise.wav",
        "header.wav",
        "blink.wav",
        "hour.flac",
        "wide.wav",
    ]
    rows: list[dict[str, object]] = [
        {"id": name, "audio": f"audio/{name}", "text": "x", "language": "en"} for name in names
    ]
    write_rows(corpus / "bad.jsonl", rows)
    summary = ingest(workspace, [corpus / "bad.jsonl"], max_duration_s=4.0)
    assert summary.num_rows == 7
    assert summary.num_rejected == 6
    found = reasons(workspace)
    assert found["missing.wav"] == "missing"
    assert found["zero.wav"] == "empty"
    assert found["noise.wav"] == "unreadable"
    assert found["header.wav"] == "empty"
    assert found["blink.wav"] == "too_short"
    assert found["hour.flac"] == "too_long"
    assert query(workspace, "select utt_id, sample_rate_hz, num_channels from utterances") == [
        ("wide.wav", 96000, 8)
    ]


def test_bad_lines_are_rejected_with_their_place(workspace: Workspace, corpus: Path) -> None:
    good = b'{"id": "ok", "audio": "audio/a.wav", "language": "en", "text": "h\xc3\xa9"}'
    lines = [
        b"\xef\xbb\xbf" + good + b"\r",
        b"",
        b'{"id": "latin1", "audio": "audio/b.wav", "text": "h\xe9", "language": "en"}',
        b'{"id": "broken", "audio": ',
        b'["a", "list"]',
        b'{"id": "lang", "audio": "audio/c.wav", "language": "klingon"}',
        b'{"id": "nolang", "audio": "audio/c.wav"}',
        b'{"id": "back", "audio": "audio/c.wav", "language": "en", "offset": -1, "duration": 1}',
        b'{"id": "far", "audio": "audio/c.wav", "language": "en", "offset": 0.4, "duration": 1}',
        good,
    ]
    (corpus / "bad.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    summary = ingest(workspace, [corpus / "bad.jsonl"])
    assert (summary.num_rows, summary.sources[0].added, summary.num_rejected) == (9, 1, 8)
    assert reasons(workspace) == {
        "bad.jsonl:3": "not_utf8",
        "bad.jsonl:4": "bad_json",
        "bad.jsonl:5": "bad_json",
        "lang": "unknown_language",
        "nolang": "no_language",
        "back": "negative_time",
        "far": "beyond_end",
        "ok": "duplicate_id",
    }


def test_an_id_belongs_to_the_first_source_that_has_it(workspace: Workspace, corpus: Path) -> None:
    ingest(workspace, [corpus])
    (corpus / "again.jsonl").write_bytes((corpus / "speech.jsonl").read_bytes())
    summary = ingest(workspace, [corpus / "again.jsonl"])
    assert summary.num_rejected == 3
    assert set(reasons(workspace).values()) == {"duplicate_id"}
    details = query(workspace, "select distinct detail from rejects")
    assert "speech.jsonl" in details[0][0]


def test_a_segment_of_a_long_recording_is_offset_and_duration(
    workspace: Workspace, corpus: Path
) -> None:
    write_tone(corpus / "audio" / "long.wav", seconds=3.0)
    row = {
        "id": "seg",
        "audio": "audio/long.wav",
        "offset": 1.0,
        "duration": 0.75,
        "language": "en",
    }
    write_rows(corpus / "segments.jsonl", [row])
    ingest(workspace, [corpus / "segments.jsonl"], max_duration_s=2.0)
    assert query(workspace, "select utt_id, offset_s, duration_s from utterances") == [
        ("seg", 1.0, 0.75)
    ]


def test_csv_and_tsv_say_the_same_as_jsonl(workspace: Workspace, corpus: Path) -> None:
    csv = 'id,audio,text,language\nc1,audio/a.wav,"Yes, ""sir""",en\n\nc2,audio/b.wav,no,en,extra\n'
    (corpus / "one.csv").write_text(csv, encoding="utf-8")
    tsv = 'id\taudio\ttext\tlanguage\r\nt1\taudio/a.wav\tSay "hi\tzh\r\n'
    (corpus / "two.tsv").write_text(tsv, encoding="utf-8")
    ingest(workspace, [corpus / "one.csv", corpus / "two.tsv"])
    assert query(workspace, "select utt_id, text, language from utterances order by utt_id") == [
        ("c1", 'Yes, "sir"', "en"),
        ("t1", 'Say "hi', "zh"),
    ]
    assert reasons(workspace) == {"one.csv:4": "bad_row"}


def test_bitext_comes_from_jsonl_and_from_a_bare_tsv_named_after_its_languages(
    workspace: Workspace, tmp_path: Path
) -> None:
    row = {"id": "p", "src_lang": "en", "tgt_lang": "zh", "src": "Hi.", "tgt": "嗨。"}
    empty = {"id": "e", "src_lang": "en", "tgt_lang": "zh", "src": "Hi.", "tgt": " "}
    write_rows(tmp_path / "pairs.jsonl", [row, empty])
    (tmp_path / "news.en-de.tsv").write_text("Good day.\tGuten Tag.\n", encoding="utf-8")
    ingest(workspace, [tmp_path / "pairs.jsonl", tmp_path / "news.en-de.tsv"])
    rows = query(workspace, "select src_lang, tgt_lang, src, tgt from bitext order by tgt_lang")
    assert rows == [("en", "de", "Good day.", "Guten Tag."), ("en", "zh", "Hi.", "嗨。")]
    assert reasons(workspace) == {"e": "empty_text"}


def test_instructions_come_as_pairs_as_turns_and_as_alpaca(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_rows(
        tmp_path / "i.jsonl",
        [
            {"id": "pair", "language": "en", "prompt": "Q", "response": "A"},
            {"id": "turns", "language": "en", "prompt": ["Q1", "A1", "Q2"], "response": "A2"},
            {"id": "odd", "language": "en", "prompt": ["Q1", "A1"], "response": "A2"},
        ],
    )
    alpaca = [{"instruction": "Add.", "input": "1 2", "output": "3"}]
    (tmp_path / "alpaca.json").write_text(json.dumps(alpaca), encoding="utf-8")
    defaults = Defaults(language="en")
    ingest(workspace, [tmp_path / "i.jsonl", tmp_path / "alpaca.json"], defaults=defaults)
    rows = query(
        workspace,
        "select [t.role || ':' || t.text for t in turns] from dialogues "
        "order by corpus, dialogue_id",
    )
    assert [row[0] for row in rows] == [
        ["user:Add.\n1 2", "assistant:3"],
        ["user:Q", "assistant:A"],
        ["user:Q1", "assistant:A1", "user:Q2", "assistant:A2"],
    ]
    assert reasons(workspace) == {"odd": "bad_turns"}


@pytest.mark.parametrize("order", [("speech.jsonl", "talk.jsonl"), ("talk.jsonl", "speech.jsonl")])
def test_spoken_turns_link_to_utterances_whichever_manifest_is_read_first(
    workspace: Workspace, corpus: Path, order: tuple[str, str]
) -> None:
    turns = [
        {"role": "user", "language": "en", "text": "Word a.", "audio": "audio/a.wav"},
        {"role": "assistant", "language": "en", "text": "Word q.", "audio": "audio/q.wav"},
    ]
    write_tone(corpus / "audio" / "q.wav", hz=300)
    write_rows(corpus / "talk.jsonl", [{"id": "talk", "turns": turns, "parallel_id": "p"}])
    for name in order:
        ingest(workspace, [corpus / name])
    assert query(workspace, "select utt_id from utterances order by utt_id") == [
        ("talk/1",),
        ("x/a",),
        ("x/b",),
        ("x/c",),
    ]
    assert query(workspace, "select role, utt_id from dialogue_turns order by turn") == [
        ("user", "x/a"),
        ("assistant", "talk/1"),
    ]


def test_word_times_are_imported_without_silence_and_bad_ones_are_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_rows(
        tmp_path / "x.align.jsonl",
        [
            {"id": "u1", "words": [[0.0, 0.1, "sil"], [0.1, 0.4, "hello"], [0.4, 0.9, "you"]]},
            {"id": "u2", "words": [[0.5, 0.6, "b"], [0.1, 0.2, "a"]]},
            {"id": "u3", "words": [["x", 0.2, "a"]]},
            {"id": "u4", "words": [[0.0, 0.1, "sil"]]},
        ],
    )
    first = ingest(workspace, [tmp_path])
    again = ingest(workspace, [tmp_path])
    assert counts(first) == (1, 0, 0, 0)
    assert counts(again) == (0, 0, 1, 0)
    assert query(
        workspace, "select aligner_id, utt_id, [w.word for w in words] from alignments"
    ) == [("imported", "u1", ["hello", "you"])]
    assert reasons(workspace) == {"u2": "bad_times", "u3": "bad_words", "u4": "no_words"}


def test_phones_are_imported_with_words_or_alone_and_bad_ones_are_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_rows(
        tmp_path / "x.align.jsonl",
        [
            {"id": "p", "audio": "p.wav", "phones": [[0.0, 0.1, "sil"], [0.1, 0.2, "AH0"]]},
            {
                "id": "w+p",
                "words": [[0.1, 0.2, "a"]],
                "phones": [{"phone": "ˈa", "start": 0.1, "end": 0.2}],
            },
            {"id": "w", "words": [[0.1, 0.2, "a"]]},
            {
                "id": "late",
                "words": [[0.1, 0.2, "a"]],
                "phones": [[0.3, 0.4, "a"], [0.1, 0.2, "b"]],
            },
            {"id": "short", "phones": [[0.1, "a"]]},
        ],
    )
    first = ingest(workspace, [tmp_path])
    again = ingest(workspace, [tmp_path])
    assert counts(first) == (3, 0, 0, 0)
    assert counts(again) == (0, 0, 3, 0)
    assert query(
        workspace,
        "select utt_id, [w.word for w in words], [(p.phone, p.start_s) for p in phones] "
        "from alignments order by utt_id",
    ) == [
        ("p", None, [("sil", 0.0), ("AH0", 0.1)]),
        ("w", ["a"], None),
        ("w+p", ["a"], [("ˈa", 0.1)]),
    ]
    assert reasons(workspace) == {"late": "bad_times", "short": "bad_phones"}


def test_alignments_written_before_there_were_phones_are_still_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_rows(tmp_path / "x.align.jsonl", [{"id": "u1", "words": [[0.1, 0.4, "hello"]]}])
    ingest(workspace, [tmp_path])
    [part] = workspace.alignments.rglob("part-*.parquet")
    pq.write_table(pq.read_table(part).drop_columns("phones"), part)
    read = "select utt_id, words[1].word, phones from alignments order by utt_id"
    assert query(workspace, read) == [("u1", "hello", None)]
    write_rows(tmp_path / "y.align.jsonl", [{"id": "u2", "phones": [[0.1, 0.4, "a"]]}])
    ingest(workspace, [tmp_path / "y.align.jsonl"])
    assert query(workspace, read) == [
        ("u1", "hello", None),
        ("u2", None, [{"phone": "a", "start_s": 0.1, "end_s": 0.4}]),
    ]


def test_an_empty_corpus_a_missing_folder_and_an_unknown_language_are_clear_errors(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoDataError, match="no manifest"):
        ingest(workspace, [tmp_path / "empty"])
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(NoDataError, match="no row that we recognise"):
        ingest(workspace, [tmp_path / "empty.jsonl"])
    with pytest.raises(UsageError, match="no such file"):
        ingest(workspace, [tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="xx"):
        ingest(workspace, [tmp_path / "empty.jsonl"], defaults=Defaults(language="xx"))
    with pytest.raises(UsageError, match="there are: .*alignments"):
        ingest(workspace, [tmp_path / "empty.jsonl"], format="word")


def test_a_kill_in_mid_ingest_loses_and_repeats_nothing(workspace: Workspace, corpus: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "id": f"many/{i}",
            "audio": "audio/a.wav",
            "offset": 0.0,
            "duration": 0.1 + i * 1e-5,
            "language": "en",
            "text": f"row {i}",
        }
        for i in range(4000)
    ]
    write_rows(corpus / "many.jsonl", rows)
    command = [sys.executable, "-m", "cslm_cli.data", "ingest", str(corpus)]
    command += ["--workspace", str(workspace.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not workspace.catalog.exists():
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    other = Workspace(workspace.root.with_name("uninterrupted"))
    ingest(other, [corpus])
    everything = "from utterances order by utt_id"
    assert query(workspace, everything) == query(other, everything)
    assert query(workspace, "select count(*), count(distinct utt_id) from utterances") == [
        (4003, 4003)
    ]
