"""A workspace of real recordings with a bit of everything, and audits of it, for the page."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from small_files import write_tone

from cslm_data.audio import audio_version
from cslm_data.auditing.results import AuditResult
from cslm_data.catalog import open_catalog
from cslm_data.keys import key64

TOKENIZER = "mfcc-12-0123456789ab"
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & \"q\" '"
)
ARABIC = "صباح الخير يا عالم"
CHINESE = "第二只猫在花园里睡觉。"
SECONDS = {"en": 0.8, "zh": 1.5, "ar": 7.25}
NUM = {"en": 12, "zh": 8, "ar": 4}
TEXTS = {"en": HOSTILE, "zh": CHINESE, "ar": ARABIC}


def utterances():
    """Every utterance that is told to the catalog: facts that expected values are made from."""
    for language, count in NUM.items():
        for i in range(count):
            yield {
                "utt_id": f"{language}-{i}",
                "corpus": "<b>corpus</b>" if language == "en" else f"corpus {language}",
                "language": language,
                "duration_s": SECONDS[language] + 0.1 * i,
                "speaker": f"speaker {i % 3}",
                "text": None if language == "ar" and i == 3 else TEXTS[language],
                "split": ("train", "test")[i % 2] if language == "zh" else None,
                "license": None if language == "ar" else "CC0",
            }


def units_of(utterance):
    """Units of an utterance; unit 11 is dead, English uses no unit over 5."""
    rng = np.random.default_rng(key64(utterance["utt_id"]) % 2**32)
    top = 6 if utterance["language"] == "en" else 11
    return rng.integers(0, top, 5 + len(utterance["utt_id"])).astype(np.uint16)


def measures_of(utterance):
    seed = key64("measure", utterance["utt_id"]) % 1000
    return -40 + seed / 50, float("inf") if seed % 7 == 0 else seed / 20, 3500.0 + seed


def make(workspace, *, with_units=True, with_measures=True):
    rows = list(utterances())
    folder = workspace.root.parent / "recordings"
    with open_catalog(workspace, write=True, doing="test") as db:
        for place, row in enumerate(rows):
            path = write_tone(folder / f"{place}.wav", seconds=row["duration_s"], seed=place)
            row["audio_version"] = audio_version(str(path))
            db.execute(
                "insert into all_utterances by name select ? as utt_id, ? as corpus, ? as audio, "
                "0 as offset_s, ? as duration_s, 16000 as sample_rate_hz, 1 as num_channels, "
                "? as language, ? as speaker, ? as text, ? as text_norm, ?::ubigint as text_key, "
                "'human' as kind, ? as license, ? as split, ? as audio_version, "
                "?::ubigint as key_hash, 'm.jsonl' as source_uri, 'm.jsonl:1' as place, "
                "0 as row_hash",
                [
                    row["utt_id"],
                    row["corpus"],
                    str(path),
                    row["duration_s"],
                    row["language"],
                    row["speaker"],
                    row["text"],
                    row["text"],
                    None if row["text"] is None else key64(row["text"]),
                    row["license"],
                    row["split"],
                    row["audio_version"],
                    key64("test", row["utt_id"]),
                ],
            )
        for i in range(9):
            db.execute(
                "insert into all_bitext values (?, 'pairs', 'en', 'zh', ?, ?, ?, ?, 'CC0', null, ?,"
                " 'src', 'src:1', 1)",
                [f"p-{i}", "a" * 10, "b" * 4, 7, i, key64(f"p-{i}")],
            )
        turn = {"role": "user", "language": "en", "text": "hi", "text_key": 3, "audio": None}
        turn |= {"offset_s": 0.0, "speaker": None, "utt_id": None}
        spoken = {**turn, "audio": "/a.wav"}
        for i in range(3):
            db.execute(
                "insert into all_dialogues values (?, 'talk', null, 'en', ?, null, null, ?, 'src',"
                " 'src:1', 1)",
                [f"d-{i}", [turn, spoken] if i else [turn], key64(f"d-{i}")],
            )
        db.execute(
            "insert into ingest_rejects select 'ingest', 'corpus zh', 'm.jsonl:' || i, 'no_audio', "
            "'give it', 'm.jsonl' from range(5) as t(i)"
        )
        db.execute(
            "insert into curations values "
            "(1, 'filter', 'utterances', 'duration_s > 9', 'too <i>long</i>', 2, false), "
            "(2, 'dedup', 'utterances', 'text', 'same', 1, true)"
        )
        db.execute(
            "insert into exclusions values (1, 'utterances', 'en-0', null), "
            "(1, 'utterances', 'en-1', null), (2, 'utterances', 'en-2', 'en-3')"
        )
    if with_units:
        _write_units(workspace, rows)
    if with_measures:
        _write_measures(workspace, rows)
    return workspace


def kept():
    """The utterances that count: two are moved out."""
    return [row for row in utterances() if row["utt_id"] not in ("en-0", "en-1")]


def _write_units(workspace, rows):
    folder = workspace.tokenizers / "mfcc"
    folder.mkdir(parents=True)
    document = {"tokenizer_id": TOKENIZER, "extractor": "mfcc", "num_units": 12}
    (folder / "tokenizer.json").write_text(json.dumps({**document, "frame_rate_hz": 50.0}))
    folder = workspace.units / TOKENIZER
    folder.mkdir(parents=True)
    lists = pa.list_(pa.uint16())
    units = [units_of(row) for row in rows]
    table = {
        "utt_id": [row["utt_id"] for row in rows],
        "units": pa.array(units, lists),
        "durations": pa.array([np.ones_like(each) for each in units], lists),
        "num_frames": pa.array([len(each) for each in units], pa.uint32()),
        "audio_version": [row["audio_version"] for row in rows],
        "reject_reason": pa.nulls(len(rows), pa.string()),
        "reject_detail": pa.nulls(len(rows), pa.string()),
    }
    pq.write_table(pa.table(table), folder / "part-0-0.parquet")


def _write_measures(workspace, rows):
    workspace.measures.mkdir()
    measured = [measures_of(row) for row in rows]
    table = {
        "utt_id": [row["utt_id"] for row in rows],
        "audio_version": [row["audio_version"] for row in rows],
        "rms_db": [rms for rms, _, _ in measured],
        "snr_db": [snr for _, snr, _ in measured],
        "bandwidth_hz": [bandwidth for _, _, bandwidth in measured],
    }
    pq.write_table(pa.table(table), workspace.measures / "part-0.parquet")


def audit(name, *, severity="warning", columns=(), examples=(), **fields):
    return AuditResult(
        name=name,
        severity=severity,
        title=fields.pop("title", f"Title of {name}"),
        why=fields.pop("why", "Because."),
        fix=fields.pop("fix", "Move them out: cslm-data filter 'duration_s > 9' --reason long"),
        columns=tuple(columns),
        examples=list(examples),
        count=fields.pop("count", len(examples)),
        hours=fields.pop("hours", None),
        **fields,
    )


def audits():
    """One of each kind."""
    return [
        audit("clean", severity="error"),
        audit(
            "long",
            columns=("utt_id", "duration_s", "text"),
            examples=[(f"ar-{i}", 7.25 + 0.1 * i, ARABIC) for i in range(4)],
            hours=0.0083,
            count=1234,
        ),
        audit(
            "same_text",
            severity="error",
            columns=("text", "utt_ids", "times"),
            examples=[(HOSTILE, ["en-2", "en-3"], 2), (CHINESE, ["zh-0", "zh-1"], 10)],
            title=f"Same {HOSTILE}",
            why=HOSTILE,
            fix=f"Run `cslm-data dedup {HOSTILE}`, then look.",
        ),
        audit("languages", severity="info", columns=("language",), examples=[("en",), ("zh",)]),
        audit(
            "benchmark",
            severity="error",
            skipped="no benchmark; name it: cslm-data audit --against x",
        ),
        audit(
            "broken", severity="info", skipped=f"broken.sql: Parser Error {HOSTILE}", failed=True
        ),
    ]
