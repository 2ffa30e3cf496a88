from __future__ import annotations

from pathlib import Path

import pytest
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.errors import NoDataError, UsageError
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


def test_a_key_finds_its_row_in_whichever_table_it_is(filled: Workspace) -> None:
    assert find_row(filled, "u")["text"] == "It's <sosp>!"
    assert find_row(filled, "p")["tgt"] == "嗨。"
    with pytest.raises(NoDataError, match="nobody"):
        find_row(filled, "nobody")
