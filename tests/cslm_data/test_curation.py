"""Rows moved out by a predicate, and back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mix_workspace import TOKENIZER, fill
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.curating.curation import filter_rows, list_curations, undo
from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.ingest import ingest
from cslm_data.lookup import find_row
from cslm_data.query import run_query
from cslm_data.workspace import Workspace


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six utterances: a0 … a5, of 0.2 to 0.7 s; two pairs; a dialogue of text."""
    folder = tmp_path / "corpus"
    rows: list[dict[str, object]] = []
    for index in range(6):
        write_tone(folder / f"{index}.wav", seconds=0.2 + index / 10, seed=index)
        row: dict[str, object] = {
            "id": f"a{index}",
            "audio": f"{index}.wav",
            "text": f"say {index}",
        }
        rows.append({**row, "language": "en" if index < 4 else "de", "corpus": "c"})
    write_rows(folder / "speech.jsonl", rows)
    pair = {"src_lang": "en", "tgt_lang": "zh", "src": "Hi.", "tgt": "嗨。", "corpus": "c"}
    write_rows(folder / "pairs.jsonl", [{"id": "p", **pair}, {"id": "q", **pair, "src": "Hello."}])
    chat = {"id": "d", "prompt": "Why?", "response": "So.", "language": "en", "corpus": "c"}
    write_rows(folder / "chat.jsonl", [chat])
    return folder


@pytest.fixture
def filled(workspace: Workspace, corpus: Path) -> Workspace:
    ingest(workspace, [corpus])
    return workspace


def ids(workspace: Workspace, table: str = "utterances", column: str = "utt_id") -> list[str]:
    rows = run_query(workspace, f"select {column} from {table} order by {column}").rows
    return [row[0] for row in rows]


def test_rows_go_with_their_reason_and_come_back(filled: Workspace) -> None:
    done = filter_rows(filled, "duration_s < 0.35 or language = 'de'", reason="too short; foreign")
    assert (done.curation_id, done.num_rows) == (1, 4)
    moved = [(m.corpus, m.language, m.num_rows, m.num_before) for m in done.moved]
    assert moved == [("c", "de", 2, 2), ("c", "en", 2, 4)]
    assert done.hours == pytest.approx((0.2 + 0.3 + 0.6 + 0.7) / 3600)
    assert ids(filled) == ["a2", "a3"]
    assert ids(filled, "all_utterances") == [f"a{index}" for index in range(6)]
    refused = run_query(
        filled, "select stage, corpus, key, reason, detail from rejects order by key"
    )
    back = "undo with: cslm-data filter --undo 1"
    assert refused.rows == [
        ("filter", "c", key, "too short; foreign", back) for key in ("a0", "a1", "a4", "a5")
    ]
    assert find_row(filled, "a0")["moved out"] == "filter 1: too short; foreign"
    (noted,) = list_curations(filled)
    assert (noted.kind, noted.predicate, noted.num_rows, noted.undone) == (
        *("filter", "duration_s < 0.35 or language = 'de'", 4),
        False,
    )
    assert undo(filled, "last").curation_id == 1
    assert ids(filled) == [f"a{index}" for index in range(6)]
    assert run_query(filled, "from rejects").rows == []
    assert [c.undone for c in list_curations(filled)] == [True]


def test_asking_moves_nothing_and_nothing_matched_is_no_curation(filled: Workspace) -> None:
    asked = filter_rows(filled, "true", reason="all", dry_run=True)
    assert (asked.num_rows, asked.curation_id) == (6, None)
    none = filter_rows(filled, "duration_s > 60", reason="long")
    assert (none.num_rows, none.curation_id, none.moved) == (0, None, ())
    assert list_curations(filled) == []
    assert len(ids(filled)) == 6


def test_reading_the_source_again_brings_nothing_back(filled: Workspace, corpus: Path) -> None:
    filter_rows(filled, "utt_id = 'a1'", reason="noise")
    lines = (corpus / "speech.jsonl").read_text().replace("say 1", "say something else")
    (corpus / "speech.jsonl").write_text(lines)
    ingest(filled, [corpus])
    assert "a1" not in ids(filled)
    undo(filled, "1")
    texts = run_query(filled, "select text from utterances where utt_id = 'a1'").rows
    assert texts == [("say something else",)]


def test_curations_stack_and_are_undone_one_by_one(filled: Workspace) -> None:
    filter_rows(filled, "language = 'de'", reason="foreign")
    second = filter_rows(filled, "duration_s > 0.55", reason="long")
    assert second.num_rows == 0, "what is out cannot go again"
    third = filter_rows(filled, "utt_id in ('a0', 'a5')", reason="hand-picked")
    assert (third.curation_id, third.num_rows) == (2, 1)
    undo(filled, "1")
    assert ids(filled) == ["a1", "a2", "a3", "a4", "a5"]
    with pytest.raises(UsageError, match="undone already"):
        undo(filled, "1")
    with pytest.raises(UsageError, match="there are: 2"):
        undo(filled, "7")
    undo(filled, "last")
    with pytest.raises(NoDataError, match="nothing is moved out"):
        undo(filled, "last")


def test_pairs_and_dialogues_are_filtered_by_their_own_columns(filled: Workspace) -> None:
    assert filter_rows(filled, "src_characters > 4", reason="r", table="bitext").num_rows == 1
    assert ids(filled, "bitext", "pair_id") == ["p"]
    said = filter_rows(filled, "num_turns = 2 and num_spoken = 0", reason="r", table="dialogues")
    assert said.num_rows == 1
    assert ids(filled, "dialogues", "dialogue_id") == []
    assert len(ids(filled)) == 6


def test_measures_of_this_very_recording_and_languages_can_be_asked_for(filled: Workspace) -> None:
    with pytest.raises(MissingArtefactError, match="snr_db was not computed.*cslm-data measure"):
        filter_rows(filled, "snr_db < 5", reason="noise")
    with pytest.raises(MissingArtefactError, match="detected_language was not computed"):
        filter_rows(filled, "detected_language <> language", reason="foreign")
    versions = dict(run_query(filled, "select utt_id, audio_version from utterances").rows)
    filled.measures.mkdir()
    table = pa.table(
        {
            "utt_id": ["a0", "a1", "a2"],
            "audio_version": [versions["a0"], "of an older recording", versions["a2"]],
            "snr_db": [3.0, 1.0, 30.0],
        }
    )
    pq.write_table(table, filled.measures / "part-0.parquet")
    assert filter_rows(filled, "snr_db < 5", reason="noise").num_rows == 1
    assert "a0" not in ids(filled) and "a1" in ids(filled)
    key = run_query(filled, "select md5_number_lower(text) from utterances where utt_id = 'a3'")
    filled.text_languages.mkdir()
    hashes = pa.array([key.rows[0][0]], pa.uint64())
    found = {"text_hash": hashes, "language": ["en"], "detected": ["nl"]}
    table = pa.table({**found, "confidence": [0.9]})
    pq.write_table(table, filled.text_languages / "part-0.parquet")
    assert filter_rows(filled, "detected_language <> language", reason="foreign").num_rows == 1
    assert "a3" not in ids(filled)


def test_units_can_be_asked_for_once_there_are_some(filled: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingArtefactError, match="cslm-data quantize"):
        filter_rows(filled, "units_per_s > 3", reason="fast")
    spoken = fill(Workspace(tmp_path / "spoken"), languages=("en",))
    wanted = f"select utt_id from units where tokenizer_id = '{TOKENIZER}' and len(units) > 60"
    expected = {row[0] for row in run_query(spoken, wanted).rows}
    assert 0 < len(expected) < 141
    done = filter_rows(spoken, "num_units > 60 and units_per_s = num_units / 1.0", reason="long")
    assert done.num_rows == len(expected)
    assert not expected & set(ids(spoken))
    with pytest.raises(UsageError, match="no such tokenizer: other; .* there are: mfcc"):
        filter_rows(spoken, "true", reason="r", tokenizer="other")


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("durations_s < 3", 'Referenced column "durations_s" not found'),
        ("duration_s <", "one SQL expression is expected"),
        ("text", "Conversion Error|Could not convert|convert"),
        ("sum(duration_s) > 3", "aggregates"),
        ("true); delete from all_utterances; select (true", "one SQL expression is expected"),
        ("text in (select content from read_text('/etc/passwd'))", "may not read with read_text"),
        ("text in (select * from '/etc/passwd')", "Permission|disabled|does not exist"),
        ("true) or exists (select 1", "one SQL expression is expected"),
    ],
)
def test_what_is_no_predicate_is_one_clear_error_and_changes_nothing(
    filled: Workspace, predicate: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        filter_rows(filled, predicate, reason="r")
    assert "LINE" not in str(caught.value)
    assert len(ids(filled, "all_utterances")) == 6
    assert list_curations(filled) == []


def test_a_reason_must_be_given_and_a_catalog_be_there(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="--reason"):
        filter_rows(workspace, "true", reason="  ")
    for dry_run in (True, False):
        with pytest.raises(MissingArtefactError, match="no catalog here"):
            filter_rows(workspace, "true", reason="r", dry_run=dry_run)
    assert not workspace.root.exists()


def test_sql_in_reasons_and_ids_is_text(workspace: Workspace, tmp_path: Path) -> None:
    bad = "'; drop table all_utterances; --"
    write_tone(tmp_path / "c" / "a.wav")
    row: dict[str, object] = {"id": bad, "audio": "a.wav", "text": bad, "language": "en"}
    write_rows(tmp_path / "c" / "speech.jsonl", [row])
    ingest(workspace, [tmp_path / "c"])
    filter_rows(workspace, "text like '%drop table%'", reason=bad)
    with open_catalog(workspace, doing="test") as connection:
        assert connection.execute("select id from excluded").fetchall() == [(bad,)]
        assert connection.execute("select reason from curations").fetchall() == [(bad,)]
    undo(workspace, "1")
    assert ids(workspace) == [bad]
