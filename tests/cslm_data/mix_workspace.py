"""A small catalog with units and alignments, and what the tests of mixes share."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from cslm_data.catalog import open_catalog
from cslm_data.keys import key64, md5_key

TOKENIZER = "mfcc-50-0123456789ab"
RATE = 50.0
N = 80


def norm_key(text):
    return key64("".join(c for c in text.casefold() if c.isalnum() or c == " "))


def sentence(language, i):
    if language == "zh":
        return f"第{i}只猫在花园里睡觉。"
    return f"Cat number {i} sleeps in the green garden, and dog {i} runs home."


def speak(text, seed):
    """Units and durations as a tokenizer would give them, without equal neighbours."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 50, len(text) + 2)
    units = np.cumsum(steps) % 50
    return units.astype(np.uint16), rng.integers(1, 6, len(units)).astype(np.uint16)


def word_times(text, durations):
    words = (
        text.replace("。", "").replace("？", "").split()
        if " " in text
        else [c for c in text if c.isalnum()]
    )
    step = float(durations.sum()) / RATE / len(words)
    return [
        {"word": w.strip(",.?!"), "start_s": i * step, "end_s": (i + 1) * step, "score": None}
        for i, w in enumerate(words)
    ]


def fill(workspace, *, languages=("en", "zh"), splits=False):
    """A catalog of transcribed speech, translations, instructions and spoken dialogues."""
    units, alignments = [], []
    with open_catalog(workspace, write=True, doing="test") as db:

        def utterance(utt_id, language, text, split=None):
            db.execute(
                "insert into all_utterances values "
                "(?,'corpus',?,0,1,16000,1,?,'s',?,?,?,'human',null,?,'v1',?,'src','src:1',1)",
                [
                    utt_id,
                    f"/audio/{utt_id}.wav",
                    language,
                    text,
                    text,
                    None if text is None else norm_key(text),
                    split,
                    md5_key(utt_id),
                ],
            )
            if text is None:
                return
            runs, durations = speak(text, key64(utt_id) % 2**32)
            units.append((utt_id, runs, durations))
            alignments.append((utt_id, word_times(text, durations)))

        def turn(role, language, text, utt_id=None):
            return {
                "role": role,
                "language": language,
                "text": text,
                "text_key": norm_key(text),
                "audio": utt_id and f"/audio/{utt_id}.wav",
                "offset_s": 0.0,
                "speaker": None,
                "utt_id": None,
            }

        def dialogue(dialogue_id, language, turns, parallel_id=None):
            db.execute(
                "insert into all_dialogues values (?,'talk',?,?,?,null,null,?,'src','src:1',1)",
                [dialogue_id, parallel_id, language, turns, md5_key(dialogue_id)],
            )

        for language in languages:
            for i in range(N):
                split = ("test" if i < 8 else "train") if splits else None
                utterance(f"{language}-{i}", language, sentence(language, i), split)
            utterance(f"{language}-untranscribed", language, None)
            for i in range(N):
                dialogue(
                    f"ins-{language}-{i}",
                    language,
                    [
                        turn("user", language, f"{language} say <sosp> {i}"),
                        turn("assistant", language, f"{i} <|eot_id|>"),
                    ],
                )
            for i in range(30):
                question = {"en": f"Where is cat {i}?", "zh": f"第{i}只猫在哪里？"}[language]
                answer = sentence(language, 1000 + i)
                utterance(f"q-{language}-{i}", language, question)
                utterance(f"a-{language}-{i}", language, answer)
                dialogue(
                    f"qa-{language}-{i}",
                    language,
                    [
                        turn("user", language, question, f"q-{language}-{i}"),
                        turn("assistant", language, answer, f"a-{language}-{i}"),
                    ],
                    f"qa-{i}",
                )
        if len(languages) > 1:
            for i in range(N):
                src, tgt = sentence("en", i), sentence("zh", i)
                db.execute(
                    "insert into all_bitext values "
                    "(?,'mt','en','zh',?,?,?,?,null,null,?,'src','src:1',1)",
                    [f"p-{i}", src, tgt, norm_key(src), norm_key(tgt), md5_key(f"p-{i}")],
                )
    write_units(workspace, units)
    folder = workspace.alignments / "exact"
    folder.mkdir(parents=True)
    word = pa.struct(
        [
            ("word", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("score", pa.float64()),
        ]
    )
    schema = pa.schema([("utt_id", pa.string()), ("words", pa.list_(word))])
    rows = [{"utt_id": u, "words": w} for u, w in alignments]
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part-0.parquet")
    return workspace


def write_units(workspace, units):
    folder = workspace.tokenizers / "mfcc"
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "tokenizer_id": TOKENIZER,
        "extractor": "mfcc",
        "num_units": 50,
        "frame_rate_hz": RATE,
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    folder = workspace.units / TOKENIZER
    folder.mkdir(parents=True)
    lists = pa.list_(pa.uint16())
    table = pa.table(
        {
            "utt_id": [u for u, _, _ in units],
            "units": pa.array([r for _, r, _ in units], lists),
            "durations": pa.array([d for _, _, d in units], lists),
            "num_frames": pa.array([int(d.sum()) for _, _, d in units], pa.uint32()),
            "audio_version": ["v1"] * len(units),
            "reject_reason": pa.nulls(len(units), pa.string()),
            "reject_detail": pa.nulls(len(units), pa.string()),
        }
    )
    pq.write_table(table, folder / "part-0-0.parquet")


def recipe_file(tmp_path, **fields):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def shard_bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "shards").iterdir())}


def rows_of(workspace, name):
    return pq.read_table(workspace.mixes / name / "mix.parquet").to_pylist()
