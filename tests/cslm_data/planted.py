"""A small corpus without a fault, and the same one with every fault that an audit looks for."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from cslm_data.catalog import open_catalog
from cslm_data.ingest import ingest
from cslm_data.mix import build_mix
from cslm_data.workspace import Workspace

TOKENIZER = "mfcc-100-0123456789ab"
NUM_UNITS = 100
FRAME_RATE_HZ = 50
UNITS_PER_S = 25
_WORDS = """
    acorn basket candle dolphin engine feather garden harbour island jacket kettle lantern meadow
    needle orchard pepper quarry river saddle temple umbrella valley window yellow zebra bottle
    copper desert eleven forest guitar hammer insect jungle kitten ladder magnet narrow oyster
    pocket ribbon silver tunnel useful velvet walnut anchor butter cotton dragon emerald falcon
    glacier honest idle jester kernel lemon mirror nectar olive parrot quilt rocket spider thunder
    urchin violin whisper yonder zigzag amber breeze cactus dagger ember fossil gentle hollow
"""
WORDS = _WORDS.split()
CHARACTERS = (
    "天地人日月山水火木金石田土雨风云电雪花草树林鸟鱼虫马牛羊狗猫米面茶酒饭菜肉果刀车船门窗"
    "床灯书笔纸画歌舞红黄蓝白黑大小多少高低长短新旧好坏冷热快慢前后左右上下东西南北春夏秋冬"
)


def words(rng, count):
    return " ".join(rng.choice(WORDS, count, replace=False))


def characters(rng, count):
    return "".join(rng.choice(list(CHARACTERS), count, replace=False))


@dataclass
class Corpus:
    """Rows to ingest, and what is to be said of them in measures, units and detected languages."""

    folder: Path
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    rows: dict[str, list[dict[str, object]]] = field(default_factory=lambda: defaultdict(list))
    measured: dict[str, dict[str, object] | None] = field(default_factory=dict)
    """Differences from a faultless measure; None: not measured."""
    units: dict[str, object] = field(default_factory=dict)
    """Units, durations and version of the audio instead of good ones; None: no units."""
    detected: dict[str, str] = field(default_factory=dict)
    """Language of a text, where it is another than its corpus says."""

    def sound(self, name, seconds, *, rate=16_000, channels=1):
        """Noise of changing loudness, another one for each file."""
        path = self.folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = self.rng.normal(0, 0.05, (round(seconds * rate), channels))
        soundfile.write(path, samples.astype(np.float32), rate, subtype="PCM_16")
        return path.name

    def speak(self, utt_id, text, *, file="corpus", language="en", seconds=None, audio=None, **row):
        """One utterance of the usual speed, or of `seconds`, or of a recording that is there."""
        rate = row.pop("rate", 16_000)
        channels = row.pop("channels", 1)
        if seconds is None:
            seconds = max(0.6, len(text or "xxxxxxxxxxxxxxxxxx") / (15 if language == "en" else 4))
        if audio is None:
            audio = self.sound(utt_id, seconds, rate=rate, channels=channels)
        self.rows[file].append(
            {
                "id": utt_id,
                "audio": audio,
                "text": text,
                "language": language,
                "corpus": file,
                "speaker": f"{file}-speaker",
                "license": "CC0 1.0",
                "split": "train",
                **row,
            }
        )

    def translate(self, pair_id, src, tgt, **row):
        pair = {"id": pair_id, "src_lang": "en", "tgt_lang": "zh", "src": src, "tgt": tgt}
        extra = {"corpus": "bitext", "license": "CC0 1.0", "split": "train"}
        self.rows["pairs"].append(pair | extra | row)

    def instruct(self, dialogue_id, prompt, response):
        row = {"id": dialogue_id, "language": "en", "prompt": prompt, "response": response}
        extra = {"corpus": "instructions", "license": "CC0 1.0", "split": "train"}
        self.rows["instructions"].append(row | extra)


def add_clean(corpus):
    """English and Mandarin speech, translations and instructions without a fault."""
    rng = corpus.rng
    for index in range(60):
        split = "test" if index % 10 == 0 else "train"
        corpus.speak(f"en-{index}", words(rng, 5), speaker=f"{split}-{index % 3}", split=split)
    for index in range(30):
        corpus.speak(
            f"zh-{index}", characters(rng, 10), language="zh", speaker=f"train-zh-{index % 3}"
        )
    for index in range(30):
        corpus.translate(f"pair-{index}", words(rng, 6), characters(rng, 11))
        corpus.instruct(f"ins-{index}", words(rng, 7), words(rng, 9))


def build(workspace: Workspace, corpus: Corpus) -> Workspace:
    """Ingest, then write measures, units, detected languages and a mix."""
    for name, rows in corpus.rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (corpus.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    summary = ingest(workspace, [corpus.folder])
    assert summary.num_rejected == 0
    assert summary.num_rows == sum(map(len, corpus.rows.values()))
    query = (
        "select utt_id, audio_version, audio, offset_s, duration_s, sample_rate_hz, num_channels "
        "from utterances order by utt_id"
    )
    with open_catalog(workspace, doing="test") as db:
        spoken = db.execute(query).fetchall()
        texts = db.execute("select distinct text, language from texts order by all").fetchall()
    _write_measures(workspace, corpus, spoken)
    _write_units(workspace, corpus, spoken)
    _write_languages(workspace, corpus, texts)
    recipe = corpus.folder / "recipe.yaml"
    source = "{task: asr, weight: 1, where: \"utt_id like 'en-%'\"}"
    recipe.write_text(f"stage: pretrain\nsources: [{source}]\n")
    build_mix(workspace, languages=["en"], recipe=recipe, name="mix")
    return workspace


def _write_measures(workspace, corpus, spoken):
    rows = []
    for utt_id, version, audio, offset_s, duration_s, rate, channels in spoken:
        special = corpus.measured.get(utt_id, {})
        if special is None:
            continue
        samples, _ = soundfile.read(
            audio, start=round(offset_s * rate), frames=round(duration_s * rate)
        )
        rows.append(
            {
                "utt_id": utt_id,
                "audio_version": version,
                "sample_rate_hz": rate,
                "num_channels": channels,
                "num_samples": len(samples),
                "decoded_s": len(samples) / rate,
                "rms_db": -26.0,
                "peak": 0.3,
                "clipped_share": 0.0,
                "dc_offset": 0.0001,
                "leading_silence_s": 0.2,
                "trailing_silence_s": 0.2,
                "silence_share": 0.2,
                "snr_db": 30.0,
                "bandwidth_hz": rate * 0.49,
                "samples_hash": samples.tobytes().hex()[:4000],
                **special,
            }
        )
    workspace.measures.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), workspace.measures / "part-0.parquet")


def runs(rng, count):
    """Units that never follow themselves, of two frames each: 25 a second."""
    steps = rng.integers(1, NUM_UNITS, count)
    return np.cumsum(steps) % NUM_UNITS, np.full(count, FRAME_RATE_HZ // UNITS_PER_S)


def _write_units(workspace, corpus, spoken):
    rng = np.random.default_rng(11)
    rows = []
    for utt_id, version, _, _, duration_s, _, _ in spoken:
        units, durations = runs(rng, max(1, round(duration_s * UNITS_PER_S)))
        if utt_id in corpus.units:
            special = corpus.units[utt_id]
            if special is None:
                continue
            units, durations, version = special(units, durations, version)
        rows.append((utt_id, list(units), list(durations), int(np.sum(durations)), version))
    rows = corpus.units.get("", lambda rows: rows)(rows)
    lists = pa.list_(pa.uint16())
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            "utt_id": columns[0],
            "units": pa.array(columns[1], lists),
            "durations": pa.array(columns[2], lists),
            "num_frames": pa.array(columns[3], pa.uint32()),
            "audio_version": columns[4],
            "reject_reason": pa.nulls(len(rows), pa.string()),
            "reject_detail": pa.nulls(len(rows), pa.string()),
        }
    )
    folder = workspace.units / TOKENIZER
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0-0.parquet")
    folder = workspace.tokenizers / "mfcc"
    folder.mkdir(parents=True)
    document = {
        "tokenizer_id": TOKENIZER,
        "extractor": "mfcc",
        "num_units": NUM_UNITS,
        "frame_rate_hz": float(FRAME_RATE_HZ),
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))


def _write_languages(workspace, corpus, texts):
    rows = [(text, language, corpus.detected.get(text, language), 0.99) for text, language in texts]
    workspace.text_languages.mkdir()
    path = workspace.text_languages / "part-0.parquet"
    with duckdb.connect() as db:
        db.execute("create table t (text varchar, language varchar, detected varchar, c double)")
        db.executemany("insert into t values (?, ?, ?, ?)", rows)
        db.execute(
            "copy (select md5_number_lower(text) as text_hash, language, detected, c as confidence "
            f"from t) to '{path}' (format parquet)"
        )


def copy_sound(corpus, original, name):
    """The same bytes under another name."""
    shutil.copy(corpus.folder / original, corpus.folder / f"{name}.wav")
    return f"{name}.wav"
