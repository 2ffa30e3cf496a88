from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small_files import write_rows, write_tone

from cslm_data.auditing import runner
from cslm_data.auditing.files import find_files, parse_audit, read_audit
from cslm_data.auditing.runner import run_audits
from cslm_data.catalog import open_catalog
from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

HEADER = "-- title: A title\n-- severity: warning\n-- why: It matters.\n-- fix: Mend it.\n"


@pytest.fixture
def filled(workspace: Workspace, tmp_path: Path) -> Workspace:
    rows = []
    for index, text in enumerate(["one two three", "eins zwei drei", "It's <sosp>!"]):
        write_tone(tmp_path / "corpus" / f"{index}.wav", seconds=0.5 + index, hz=300 + 90 * index)
        row = {"id": f"u{index}", "audio": f"{index}.wav", "text": text, "language": "en"}
        rows.append(row | {"corpus": "c", "license": "CC0"})
    write_rows(tmp_path / "corpus" / "speech.jsonl", rows)
    turns = [
        {"role": "user", "text": "what is it", "audio": "0.wav"},
        {"role": "assistant", "text": "it is this", "audio": "1.wav"},
    ]
    dialogue = {"id": "d", "language": "en", "turns": turns, "corpus": "c", "license": "CC0"}
    write_rows(tmp_path / "corpus" / "talk.jsonl", [dialogue])
    ingest(workspace, [tmp_path / "corpus"])
    return workspace


def own(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")
    return folder


def run_own(workspace: Workspace, folder: Path, **files: str):
    return run_audits(workspace, folder=own(folder, **files), only=True, limit=3)


def test_every_shipped_audit_is_read_and_says_what_why_and_what_to_do() -> None:
    files = find_files(None)
    assert len(files) > 40
    for name, file in files.items():
        audit = read_audit(name, file)
        assert audit.title
        assert not audit.title.endswith(".")
        assert len(audit.why) > 20
        assert audit.fix


def test_every_shipped_audit_runs_on_a_catalog_of_nothing(workspace: Workspace) -> None:
    with open_catalog(workspace, write=True, doing="test"):
        pass
    results = run_audits(workspace, languages=["en", "zh"], use="commercial")
    assert {result.name: result.skipped for result in results if result.failed} == {}
    assert {r.name for r in results if r.count} == {"too_little_data"}


def test_a_header_may_go_on_in_lines_that_begin_with_two_spaces() -> None:
    audit = parse_audit(
        "mine",
        "-- title: Some:thing\r\n-- severity: info\r\n"
        "-- why: It\r\n--   goes on.\r\n--    And on.\r\n-- fix: Do.\r\n"
        "-- needs: units, mix\r\n\r\n-- A comment.\r\nselect 1\r\n",
        where="mine.sql",
    )
    assert (audit.title, audit.severity) == ("Some:thing", "info")
    assert audit.why == "It goes on. And on."
    assert audit.needs == ("units", "mix")
    assert audit.sql.splitlines() == [""] * 8 + ["-- A comment.", "select 1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select 1", r"mine\.sql:1: the header has no title"),
        (HEADER.replace("-- why: It matters.\n", ""), r"mine\.sql:1: the header has no why"),
        (HEADER.replace("It matters.", " "), r"mine\.sql:1: the header has no why"),
        (HEADER.replace("-- why", "-- wy"), r"mine\.sql:3: unknown field 'wy'"),
        (HEADER + "-- fix: Again.", r"mine\.sql:5: fix is there twice"),
        (HEADER + "-- and more", r"mine\.sql:5: neither"),
        ("--   lost\n" + HEADER, r"mine\.sql:1: neither"),
        ("--title: x\n" + HEADER, r"mine\.sql:1: neither"),
        (HEADER.replace("warning", "grave"), r"severity: 'grave' is not one of error, warning"),
        (HEADER + "-- needs: luck\nselect 1", r"needs: 'luck' is not one of measures, units"),
    ],
)
def test_a_wrong_header_is_an_error_that_names_file_and_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_audit("mine", text, where="mine.sql")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("selec 1", "syntax error"),
        ("select nothing from utterances", "nothing"),
        ("select 1; select 2", "one query that reads"),
        ("drop table all_utterances", "one query that reads"),
        ("", "nothing"),
        ("select * from read_text('/etc/passwd')", "Permission"),
        ("from '/etc/passwd'", "etc/passwd"),
        ("with a as (copy (select 1) to 'stolen.csv') from a", "COPY is refused"),
        ("from query('select 1')", "query is refused"),
        ("select $secret", r"unknown parameter \$secret"),
    ],
)
def test_a_broken_audit_is_named_and_hides_no_other(
    filled: Workspace, tmp_path: Path, body: str, message: str
) -> None:
    broken, good = run_own(
        filled,
        tmp_path / "mine",
        broken=HEADER + body,
        good=HEADER + "select utt_id from utterances",
    )
    assert broken.failed
    assert str(tmp_path / "mine" / "broken.sql") in (broken.skipped or "")
    assert re.search(message, broken.skipped or "")
    assert (good.failed, good.skipped, good.count) == (False, None, 3)


def test_a_file_without_a_header_is_a_failed_audit_too(filled: Workspace, tmp_path: Path) -> None:
    broken, good = run_own(filled, tmp_path / "a", b="select 1", c=HEADER + "select 1 as x")
    assert broken.failed
    assert "b.sql:1: the header has no title" in (broken.skipped or "")
    assert good.count == 1


def test_the_line_of_an_error_is_the_line_of_the_file(filled: Workspace, tmp_path: Path) -> None:
    body = "\n-- Rows.\nselect\n    nobody,\nfrom utterances"
    [broken] = run_own(filled, tmp_path / "a", broken=HEADER + body)
    assert "LINE 8:" in (broken.skipped or "")


def test_count_and_hours_are_of_all_findings_and_examples_are_the_first(
    filled: Workspace, tmp_path: Path
) -> None:
    many = "select i, 'u0' as utt_id from range(100000) as r (i) order by i desc"
    lists = "select ['u0', 'u2'] as utt_ids union all select ['u2', 'nobody'] as utt_ids"
    wide = "select list(i) as numbers from range(1000) as r (i)"
    dialogues = "select dialogue_id from dialogues"
    pairs = "select pair_id from bitext"
    corpora = "select corpus, sum(duration_s) / 3600 as hours from utterances group by corpus"
    results = run_own(
        filled,
        tmp_path / "mine",
        a_many=HEADER + many,
        b_lists=HEADER + lists,
        c_wide=HEADER + wide,
        d_dialogues=HEADER + dialogues,
        e_pairs=HEADER + pairs,
        f_corpora=HEADER + corpora + ";",
    )
    hours = [None if r.hours is None else round(r.hours * 3600, 6) for r in results]
    assert [r.count for r in results] == [100_000, 2, 1, 1, 0, 1]
    assert hours == [0.5, 3.0, None, 2.0, None, 4.5]
    assert results[0].records() == [{"i": 99_999 - k, "utt_id": "u0"} for k in range(3)]
    [numbers] = results[2].examples[0]
    assert numbers == list(range(20))


def test_examples_are_json_whatever_is_in_them(filled: Workspace, tmp_path: Path) -> None:
    [result] = run_own(
        filled, tmp_path / "a", x=HEADER + "select '-inf'::double as a, 'nan'::double as b, 1 as c"
    )
    assert result.examples == [(None, None, 1)]
    json.dumps(result.examples, allow_nan=False)


def test_own_audits_join_the_shipped_ones_and_win_by_name(
    filled: Workspace, tmp_path: Path
) -> None:
    folder = own(
        tmp_path / "mine",
        hours=HEADER + "select 1 as mine",
        zz_new=HEADER + "select 2 as new",
    )
    results = {result.name: result for result in run_audits(filled, folder=folder)}
    assert results.keys() == find_files(None).keys() | {"zz_new"}
    assert results["hours"].columns == ("mine",)
    assert [r.name for r in run_audits(filled, folder=folder, only=True)] == ["hours", "zz_new"]
    picked = run_audits(filled, folder=folder, names=["zz_new", "control_tokens", "zz_new"])
    assert [r.name for r in picked] == ["zz_new", "control_tokens"]


def test_what_is_not_there_is_said(filled: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingArtefactError, match=r"no audit ours; there are: .*hours"):
        run_audits(filled, names=["ours"])
    for folder in (tmp_path / "nowhere", own(tmp_path / "empty")):
        with pytest.raises(MissingArtefactError, match=r"no \.sql file here"):
            run_audits(filled, folder=folder)
    with pytest.raises(UsageError, match="--only"):
        run_audits(filled, only=True)
    with pytest.raises(UsageError, match="klingon"):
        run_audits(filled, languages=["klingon"])
    with pytest.raises(UsageError, match="--use fun"):
        run_audits(filled, use="fun")


def test_an_audit_that_cannot_be_asked_yet_says_what_to_run_first(filled: Workspace) -> None:
    names = [
        "clipped_audio",
        "constant_units",
        "mix_keys",
        "licences_forbid_use",
        "too_little_data",
    ]
    results = run_audits(filled, names=names)
    assert [r.count for r in results] == [0] * 5
    assert not any(result.failed for result in results)
    advice = ["cslm-data measure", "cslm-data quantize", "cslm-data build-mix", "--use", "--langs"]
    for result, words in zip(results, advice, strict=True):
        assert words in (result.skipped or "")


def test_findings_larger_than_memory_go_to_disk_and_leave_nothing(
    filled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_MEMORY_BYTES", 64 << 20)
    body = (
        "select md5(i::varchar) as text, 'u1' as utt_id from range(3000000) as r (i) order by text"
    )
    before = sorted(path.name for path in filled.root.iterdir())
    [result] = run_own(filled, tmp_path / "a", big=HEADER + body)
    assert (result.skipped, result.count) == (None, 3_000_000)
    assert result.hours == pytest.approx(1.5 / 3600)
    assert sorted(path.name for path in filled.root.iterdir()) == before


def test_a_transcript_with_sql_in_it_is_a_transcript(workspace: Workspace, tmp_path: Path) -> None:
    text = "'; drop table all_utterances; -- <b>"
    write_tone(tmp_path / "corpus" / "a.wav", seconds=2.0)
    row = {"id": "u'; --", "audio": "a.wav", "text": text, "language": "en"}
    write_rows(tmp_path / "corpus" / "s.jsonl", [row])
    ingest(workspace, [tmp_path / "corpus"])
    [result] = run_audits(workspace, names=["markup"], against=str(tmp_path / "corpus" / "s.jsonl"))
    assert [(r["utt_id"], r["found"]) for r in result.records()] == [("u'; --", "<b>")]
    [hours] = run_audits(workspace, names=["hours"])
    assert hours.count == 1


def test_a_benchmark_may_be_lines_questions_with_choices_or_a_chat(
    filled: Workspace, tmp_path: Path
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\nOne, two: THREE!\n", encoding="utf-8")
    questions = tmp_path / "questions.jsonl"
    write_rows(questions, [{"question": "x", "choices": ["no", "eins zwei drei"], "n": 3}])
    chat = tmp_path / "chat.jsonl"
    write_rows(chat, [{"id": "chat-7", "messages": [{"role": "user", "content": "what is it?"}]}])
    expected = {
        lines: [("u0", None, "lines.txt:2")],
        questions: [("u1", None, "questions.jsonl:1")],
        chat: [(None, "d", "chat-7")],
    }
    for file, rows in expected.items():
        [result] = run_audits(filled, names=["contaminated_text"], against=str(file))
        found = [(r["utt_id"], r["dialogue_id"], r["benchmark_id"]) for r in result.records()]
        assert found == rows


def test_a_benchmark_that_cannot_be_used_is_an_error(filled: Workspace, tmp_path: Path) -> None:
    empty = tmp_path / "numbers.jsonl"
    write_rows(empty, [{"score": 3}])
    with pytest.raises(NoDataError, match="found score"):
        run_audits(filled, against=str(empty))
    with pytest.raises(UsageError, match="no such file, and no corpus"):
        run_audits(filled, against="nothing")
    with pytest.raises(UsageError, match="ingest it as a corpus"):
        run_audits(filled, against=str(tmp_path / "corpus"))


def test_a_corpus_of_the_catalog_may_be_the_benchmark(filled: Workspace, tmp_path: Path) -> None:
    write_tone(tmp_path / "more" / "m.wav", seconds=0.6, hz=900)
    row = {"id": "m", "audio": "m.wav", "text": "ONE two three", "language": "en", "corpus": "more"}
    write_rows(tmp_path / "more" / "more.jsonl", [row])
    ingest(filled, [tmp_path / "more"])
    [result] = run_audits(filled, names=["contaminated_text"], against="more")
    assert [(r["utt_id"], r["benchmark_id"]) for r in result.records()] == [("u0", "m")]
