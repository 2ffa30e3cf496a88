"""A small corpus with all that a catalog can hold and other formats trip over, for export tests."""

from __future__ import annotations

from pathlib import Path

from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

TABLES = {
    "utterances": "select * exclude (source_uri, place, row_hash) from utterances order by utt_id",
    "bitext": "select * exclude (source_uri, place, row_hash) from bitext order by pair_id",
    "dialogues": "select * exclude (source_uri, place, row_hash) from dialogues order by all",
    "alignments": "select utt_id, words, phones from alignments order by utt_id",
}
"""What two catalogs of the same data have in common: all but where it was read."""

UTTERANCES: list[dict[str, object]] = [
    {
        "id": "spk-a-1",
        "audio": "long.wav",
        "offset": 0.5,
        "duration": 1.0,
        "text": "two  blanks\tand a tab",
        "language": "en",
        "speaker": "spk-a",
        "split": "train",
        "license": "CC0",
    },
    {
        "id": "second",
        "audio": "long.wav",
        "offset": 1.7,
        "duration": 1.1,
        "text": "line\nend'; drop table all_utterances; --",
        "language": "en",
        "speaker": "spk",
        "split": "train",
    },
    {
        "id": "r/ü 1",
        "audio": "ümläut/ein ton.wav",
        "text": "她住在一栋大房子里。",
        "language": "zh",
        "speaker": "spk+m3",
        "split": "dev",
        "kind": "tts",
    },
    {"id": "silent", "audio": "8k.wav", "text": None, "language": "zh", "speaker": "spk"},
    {"id": "nobody", "audio": "8k-two.wav", "text": "nobody says <sosp>", "language": "en"},
]
"""Their recordings: long.wav lasts 3 s at 16 kHz, the others half a second, two at 8 kHz."""


def write_corpus(folder: Path) -> Path:
    """Manifests, recordings, words and phones, translations, instructions, spoken dialogues."""
    write_tone(folder / "long.wav", seconds=3, seed=1)
    write_tone(folder / "ümläut" / "ein ton.wav", seed=2)
    write_tone(folder / "8k.wav", rate=8000, seed=3)
    write_tone(folder / "8k-two.wav", rate=8000, seed=4)
    write_tone(folder / "born.wav", seconds=0.7, seed=5)
    write_rows(folder / "speech.jsonl", UTTERANCES)
    write_rows(
        folder / "times.align.jsonl",
        [
            {
                "id": "spk-a-1",
                "words": [
                    {"word": "two", "start": 0.1, "end": 0.3, "score": 0.25},
                    {"word": "blanks", "start": 0.3, "end": 0.7, "score": 0.5},
                ],
                "phones": [[0.0, 0.1, "sil"], [0.1, 0.2, "T"], [0.2, 0.3, "UW1"]],
            },
            {"id": "second", "words": [[0.05, 0.4, "line"], [0.4, 1.1, "end"]]},
            {"id": "r/ü 1", "phones": [[0.0, 0.2, "tʰ"], [0.2, 0.5, "ɑ"]]},
        ],
    )
    write_rows(
        folder / "mt.jsonl",
        [
            {"id": "p1", "src_lang": "en", "tgt_lang": "zh", "src": 'Say "hi".', "tgt": "嗨。"},
            {
                "src_lang": "de",
                "tgt_lang": "en",
                "src": "Grüße",
                "tgt": "greetings",
                "license": "CC BY",
                "split": "test",
                "corpus": "other/name",
            },
        ],
    )
    write_rows(
        folder / "instructions.jsonl",
        [{"language": "en", "prompt": ["one", "two", "three"], "response": "four\n\nfive"}],
    )
    turns = [
        {"role": "system", "language": "en", "text": "be kind"},
        {"role": "user", "language": "en", "audio": "born.wav", "text": "asked", "speaker": "q"},
        {"role": "assistant", "language": "zh", "audio": "long.wav", "offset": 0.5, "text": "答"},
    ]
    write_rows(
        folder / "talk.jsonl",
        [{"id": "d1", "turns": turns, "parallel_id": "same", "kind": "synthetic", "split": "dev"}],
    )
    return folder


def make_catalog(folder: Path) -> Workspace:
    """A workspace that holds the corpus."""
    workspace = Workspace(folder / "workspace")
    summary = ingest(workspace, [write_corpus(folder / "corpus")])
    assert (summary.num_rejected, summary.unrecognised) == (0, ())
    return workspace


def rows_of(workspace: Workspace, query: str) -> list[tuple[object, ...]]:
    """Rows of a query."""
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute(query).fetchall()


def contents(workspace: Workspace) -> dict[str, list[tuple[object, ...]]]:
    """Every table of TABLES."""
    return {name: rows_of(workspace, query) for name, query in TABLES.items()}
