from __future__ import annotations

from pathlib import Path

import pytest
from small_files import write_rows, write_tone

from cslm_data.audit import run_audits
from cslm_data.catalog import open_catalog
from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.ingest import ingest
from cslm_data.lookup import find_row
from cslm_data.query import run_query
from cslm_data.workspace import Workspace

NAMES = [
    "corpora",
    "utterances",
    "bitext",
    "dialogues",
    "dialogue_turns",
    "tokenizers",
    "units",
    "alignments",
    "mixes",
    "mix_samples",
    "shards",
    "rejects",
    "batches",
]


@pytest.fixture
def filled(workspace: Workspace, tmp_path: Path) -> Workspace:
    write_tone(tmp_path / "corpus" / "a.wav", seconds=0.5)
    row = {"id": "u", "audio": "a.wav", "text": "It's <sosp>!", "language": "en", "corpus": "c"}
    write_rows(tmp_path / "corpus" / "speech.jsonl", [row])
    pair = {
        "id": "p",
        "src_lang": "en",
        "tgt_lang": "zh",
        "src": "Hi.",
        "tgt": "嗨。",
        "corpus": "c",
    }
    write_rows(tmp_path / "corpus" / "pairs.jsonl", [pair])
    ingest(workspace, [tmp_path / "corpus"])
    return workspace


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_design_can_be_asked_even_when_empty(
    workspace: Workspace, name: str
) -> None:
    with open_catalog(workspace, write=True, doing="test"):
        pass
    answer = run_query(workspace, f"select count(*) as n from {name}")
    assert (answer.columns, answer.rows) == (("n",), [(0,)])


def test_a_corpus_counts_its_speech_pairs_and_languages(filled: Workspace) -> None:
    sql = "select corpus, languages, num_utterances, hours, num_bitext_pairs from corpora"
    assert run_query(filled, sql).rows == [("c", ["en", "zh"], 1, 0.5 / 3600, 1)]


@pytest.mark.parametrize(
    "sql",
    [
        "drop table utterances",
        "insert into sources values ('a', 'b', 'c', 1, 0)",
        "create table mine as select 1",
        "attach '/tmp/other.duckdb'",
        "copy (select 1) to 'out.csv'",
        "install httpfs",
        "set lock_configuration = false",
        "pragma database_list",
        "select * from read_text('/etc/passwd')",
        "from '/etc/passwd'",
        "select 1; drop table utterances",
        "selec 1",
        "",
    ],
)
def test_what_does_not_read_the_workspace_is_refused(filled: Workspace, sql: str) -> None:
    with pytest.raises(UsageError):
        run_query(filled, sql)
    assert run_query(filled, "select count(*) from utterances").rows == [(1,)]


def test_sql_in_a_value_is_a_value(filled: Workspace) -> None:
    key = "'; drop table utterances; --"
    answer = run_query(filled, "from utterances where utt_id = $key", parameters={"key": key})
    assert answer.rows == []


def test_every_shipped_audit_runs_and_says_what_it_asks(filled: Workspace) -> None:
    results = run_audits(filled)
    assert [r.name for r in results if r.failed] == []
    assert all(result.title and result.advice for result in results)
    found = {result.name: result.answer.rows for result in results}
    assert found["hours"] == [("c", "en", 1, 0, 1, round(0.5 / 3600, 4))]
    assert found["warn_control_text"] == [("u", "c", "It's <sosp>!")]


def test_a_check_of_ones_own_fails_when_it_returns_a_row(filled: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "audits"
    folder.mkdir()
    (folder / "check_none.sql").write_text(
        "-- Nothing. One row per x.\n-- Do.\nselect 1 where false"
    )
    (folder / "check_some.sql").write_text("-- Something.\nselect 1 as one")
    (folder / "info.sql").write_text("select 2 as two")
    results = run_audits(filled, folder=folder)
    assert [(r.name, r.severity, r.title, r.failed) for r in results] == [
        ("check_none", "check", "Nothing", False),
        ("check_some", "check", "Something", True),
        ("info", "info", "info", False),
    ]
    with pytest.raises(MissingArtefactError, match="check_none, check_some, info"):
        run_audits(filled, folder=folder, names=["check_other"])


def test_a_key_finds_its_row_in_whichever_table_it_is(filled: Workspace) -> None:
    assert find_row(filled, "u")["text"] == "It's <sosp>!"
    assert find_row(filled, "p")["tgt"] == "嗨。"
    with pytest.raises(NoDataError, match="nobody"):
        find_row(filled, "nobody")
