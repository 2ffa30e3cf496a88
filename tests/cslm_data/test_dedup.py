"""One of the rows that say or sound the same."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cslm_data.catalog import open_catalog
from cslm_data.curating.curation import undo
from cslm_data.curating.dedup import dedup
from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.query import run_query

TEXT_KEYS = {"yes": 11, "no": 12}


def add(workspace, rows):
    """Utterances (id, text, speaker, corpus, language, audio_version, offset_s, duration_s)."""
    with open_catalog(workspace, write=True, doing="test") as connection:
        for number, (utt_id, text, speaker, corpus, language, version, start, length) in enumerate(
            rows
        ):
            connection.execute(
                "insert into all_utterances by name select ? as utt_id, ? as text, "
                "? as text_norm, ?::ubigint as text_key, ? as speaker, ? as corpus, "
                "? as language, ? as audio_version, ? as offset_s, ? as duration_s, "
                "16000 as sample_rate_hz, 1 as num_channels, 'human' as kind, '/a.wav' as audio, "
                "?::ubigint as key_hash, 's' as source_uri, 's:1' as place, 0 as row_hash",
                [utt_id, text, text, TEXT_KEYS.get(text), speaker, corpus, language]
                + [version, start, length, 1000 - number],
            )


def left(workspace, table="utterances", column="utt_id"):
    rows = run_query(workspace, f"select {column} from {table} order by {column}").rows
    return [row[0] for row in rows]


def duplicates(workspace):
    return dict(run_query(workspace, "select id, duplicate_of from excluded").rows)


@pytest.fixture
def spoken(workspace):
    """Key hashes fall from 1000 on: among the same rows the last one added is the first."""
    rows = [
        ("a", "yes", "s1", "c", "en", "v1", 0.0, 1.0),
        ("b", "yes", "s1", "c", "en", "v2", 0.0, 3.0),
        ("c", "yes", "s1", "c", "en", "v3", 0.0, 2.0),
        ("d", "yes", "s2", "c", "en", "v1", 0.0, 1.0),
        ("e", "yes", "s1", "other", "en", "v5", 0.0, 1.0),
        ("f", "yes", "s1", "c", "de", "v6", 0.0, 1.0),
        ("g", "yes", None, "c", "en", "v1", 1.0, 1.0),
        ("h", "", "s1", "c", "en", "v8", 0.0, 1.0),
        ("i", "", "s1", "c", "en", "v9", 0.0, 1.0),
        ("j", None, "s1", "c", "en", "v10", 0.0, 1.0),
        ("k", "no", "s1", "c", "en", "v11", 0.0, 1.0),
    ]
    add(workspace, rows)
    return workspace


def test_a_speaker_keeps_one_recording_of_a_sentence_and_other_speakers_theirs(spoken):
    done = dedup(spoken)
    assert (done.kind, done.num_rows, done.curation_id) == ("dedup", 2, 1)
    assert duplicates(spoken) == {"a": "c", "b": "c"}
    assert left(spoken) == ["c", "d", "e", "f", "g", "h", "i", "j", "k"]
    refused = run_query(spoken, "select stage, reason, detail from rejects where key = 'a'").rows
    assert refused == [
        ("dedup", "duplicate_text", "duplicate of c; undo with: cslm-data filter --undo 1")
    ]
    assert dedup(spoken).num_rows == 0
    undo(spoken, "last")
    assert len(left(spoken)) == 11


@pytest.mark.parametrize(
    ("within", "gone"),
    [
        ("speaker", {"a": "c", "b": "c"}),
        ("corpus", {"a": "g", "b": "g", "c": "g", "d": "g"}),
        ("language", {"a": "g", "b": "g", "c": "g", "d": "g", "e": "g"}),
        ("all", {"a": "g", "b": "g", "c": "g", "d": "g", "e": "g", "f": "g"}),
    ],
)
def test_rows_are_compared_within_what_is_said(spoken, within, gone):
    dedup(spoken, within=within)
    assert duplicates(spoken) == gone


def test_what_is_kept_is_the_longest_the_cleanest_or_several(spoken):
    dedup(spoken, keep="longest")
    assert duplicates(spoken) == {"a": "b", "c": "b"}
    undo(spoken, "last")
    dedup(spoken, keep="longest", keep_max=2)
    assert duplicates(spoken) == {"a": "b"}
    undo(spoken, "last")
    with pytest.raises(MissingArtefactError, match="cslm-data measure"):
        dedup(spoken, keep="best-snr")
    measure(spoken, {"a": ("v1", 20.0, "x"), "b": ("older", 90.0, "y"), "c": ("v3", 10.0, "z")})
    dedup(spoken, keep="best-snr")
    assert duplicates(spoken) == {"b": "a", "c": "a"}


def measure(workspace, values):
    workspace.measures.mkdir(exist_ok=True)
    table = pa.table(
        {
            "utt_id": list(values),
            "audio_version": [version for version, _, _ in values.values()],
            "snr_db": [snr for _, snr, _ in values.values()],
            "samples_hash": [found for _, _, found in values.values()],
        }
    )
    pq.write_table(table, workspace.measures / "part-0.parquet")


def test_the_same_stretch_of_the_same_recording_is_a_duplicate_another_stretch_is_not(spoken):
    done = dedup(spoken, by="audio")
    assert duplicates(spoken) == {"a": "d"}, "g begins elsewhere in the recording"
    assert done.reason == "duplicate_audio"


def test_measured_samples_decide_over_files(spoken):
    # The files of b and c differ, their samples do not (a wav and its flac, say); a was measured, d
    # of the same file was not; k sounds as h, but was measured when the file was another.
    hashes = {"a": ("v1", 0.0, "x"), "b": ("v2", 0.0, "x"), "c": ("v3", 0.0, "other")}
    measure(spoken, {**hashes, "h": ("v8", 0.0, "w"), "k": ("older", 0.0, "w")})
    dedup(spoken, by="audio")
    assert duplicates(spoken) == {"a": "d", "b": "d"}


def test_the_order_of_reading_decides_nothing(workspace, tmp_path):
    from small_files import write_rows

    from cslm_data.ingest import ingest
    from cslm_data.workspace import Workspace

    kept = []
    pairs = [
        {"id": f"p{i}", "src_lang": "en", "tgt_lang": "zh", "src": "Hi!", "tgt": "嗨。"}
        for i in range(5)
    ]
    for number, rows in enumerate((pairs, pairs[::-1])):
        path = write_rows(tmp_path / str(number) / "pairs.jsonl", rows)
        other = Workspace(tmp_path / f"w{number}")
        ingest(other, [path])
        assert dedup(other, table="bitext").num_rows == 4
        kept += left(other, "bitext", "pair_id")
    assert kept[0] == kept[1]


def test_pairs_are_the_same_either_way_round_and_dialogues_turn_by_turn(workspace, tmp_path):
    from small_files import write_rows

    from cslm_data.ingest import ingest

    pairs = [
        {"id": "p1", "src_lang": "en", "tgt_lang": "de", "src": "Hi!", "tgt": "Hallo."},
        {"id": "p2", "src_lang": "de", "tgt_lang": "en", "src": "hallo", "tgt": "Hi"},
        {"id": "p3", "src_lang": "en", "tgt_lang": "de", "src": "Hi!", "tgt": "Servus."},
    ]
    write_rows(tmp_path / "c" / "pairs.jsonl", pairs)

    def chat(name, *said):
        roles = ("user", "assistant") * 2
        turns = [
            {"role": role, "text": text, "language": "en"}
            for role, text in zip(roles, said, strict=False)
        ]
        return {"id": name, "turns": turns}

    chats = [
        chat("d1", "Why?", "So."),
        chat("d2", "why", "So!"),
        chat("d3", "Why?", "So.", "And?", "Nothing."),
    ]
    write_rows(tmp_path / "c" / "chats.jsonl", chats)
    ingest(workspace, [tmp_path / "c"])
    assert dedup(workspace, table="bitext").num_rows == 1
    assert dedup(workspace, table="dialogues").num_rows == 1
    assert "p3" in left(workspace, "bitext", "pair_id")
    assert "d3" in left(workspace, "dialogues", "dialogue_id")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "bitext", "by": "audio"}, "no audio of their own"),
        ({"table": "bitext", "within": "speaker"}, "have no speaker"),
        ({"table": "dialogues", "keep": "longest"}, "neither length nor SNR"),
        ({"by": "near-text"}, "--by near-text: there are text, audio"),
        ({"keep_max": 0}, "use filter"),
    ],
)
def test_what_makes_no_sense_is_said(spoken, options, message):
    with pytest.raises(UsageError, match=message):
        dedup(spoken, **options)
