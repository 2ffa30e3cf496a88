"""shared data pack → manifests with splits for the experiments. Reads real/ and synthetic/.

English, Mandarin and German: speech, translations and instructions of `real/`, and the sentences
of `synthetic/` that espeak reads in English and Mandarin, the only parallel speech there is. Spoken
digits are split by take (0-4 test, 5 valid); everything else by the sentence, with whatever a
translation links to it on the same side, so that no text is trained on in one task and tested in
another. Left out: Mandarin syllables with pinyin for a transcript, and recordings without one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cslm_data.keys import key64, mix64
from cslm_data.mixing.splits import TEST, split_sentences
from cslm_data.records import SPLITS
from cslm_data.text import text_key
from cslm_data.workspace import atomic_path

LANGUAGES = ("en", "zh", "de")
DIGITS = "fsdd"
DIGIT_TEST_TAKES, DIGIT_VALID_TAKES = range(5), range(5, 6)
NUMBER_WORDS = "number_words"
"""Ten translations that the pack lacks, those of the spoken digits: their bridge of text."""
_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMBERS = dict(zip(_ENGLISH, "零一二三四五六七八九", strict=True))
_LEFT_OUT = ("audio_cmn_syllables",)
_SPOKEN_PAIRS = ("espeak_en", "espeak_zh")
_SPOKEN_PAIRS_TEST = 0.15
_VALID, _TEST, _SEED = 0.02, 0.04, 0

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_manifests(data: Path, folder: Path) -> list[Path]:
    """A manifest for each corpus, with absolute paths and a split in every row."""
    corpora = {path.stem: rows for path, rows in _sources(data) if rows}
    corpora[NUMBER_WORDS] = [
        {"id": f"{NUMBER_WORDS}/{en}", "src_lang": "en", "tgt_lang": "zh", "src": en, "tgt": zh}
        | {"license": "CC0-1.0"}
        for en, zh in NUMBERS.items()
    ]
    splits = sentence_splits(corpora)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in corpora.items():
        paths.append(folder / f"{name}.jsonl")
        lines = [
            json.dumps({**row, "corpus": name, "split": _split(name, row, splits)}) + "\n"
            for row in rows
        ]
        with atomic_path(paths[-1]) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    return paths


def _sources(data: Path) -> Iterator[tuple[Path, list[Row]]]:
    """The manifests of the pack and the rows of ours in each."""
    for path in sorted((data / "real").glob("*.jsonl")):
        if path.name.endswith(".align.jsonl") or path.stem in _LEFT_OUT:
            continue
        yield path, [_absolute(row, path.parent) for row in read_rows(path) if _is_ours(row)]
    for name in _SPOKEN_PAIRS:
        path = data / "synthetic" / f"{name}.jsonl"
        yield path, [_absolute(row, path.parent) for row in read_rows(path)]


def _is_ours(row: Row) -> bool:
    if "src_lang" in row:
        return {row["src_lang"], row["tgt_lang"]} <= set(LANGUAGES)
    return row["language"] in LANGUAGES and ("audio" not in row or bool(row["text"]))


def _absolute(row: Row, folder: Path) -> Row:
    return {**row, "audio": str((folder / row["audio"]).resolve())} if "audio" in row else row


# --- splits ----------------------------------------------------------------------------------


def sentences(row: Row) -> list[int]:
    """Keys of what a row says: both sides of a translation, a transcript, an instruction."""
    if "src_lang" in row:
        return [text_key(row["src"], row["src_lang"]), text_key(row["tgt"], row["tgt_lang"])]
    return [text_key(row["prompt"] if "prompt" in row else row["text"], row["language"])]


def sentence_splits(corpora: dict[str, list[Row]]) -> dict[int, str]:
    """The split of each sentence; digits and their names have none, for takes divide them."""
    links, spoken = [], []
    for name, rows in corpora.items():
        if name in (DIGITS, NUMBER_WORDS):
            continue
        for row in rows:
            keys = sentences(row)
            links.append((keys[0], keys[-1]))
            if name in _SPOKEN_PAIRS:
                spoken.append(keys[0])
    tested = np.array(spoken, np.uint64)
    tested = tested[mix64(tested, _SEED) < np.uint64(_SPOKEN_PAIRS_TEST * 2**64)]
    keys_S, splits_S = split_sentences(
        np.array(links, np.uint64).reshape(-1, 2),
        valid=_VALID,
        test=_TEST,
        seed=_SEED,
        held_out=(tested, np.full(len(tested), TEST, np.uint8)),
    )
    names = [SPLITS[split] for split in splits_S.tolist()]
    return dict(zip(keys_S.tolist(), names, strict=True))


def _split(corpus: str, row: Row, splits: dict[int, str]) -> str:
    if corpus == DIGITS:
        take = int(row["take"])
        return (
            "test"
            if take in DIGIT_TEST_TAKES
            else "valid"
            if take in DIGIT_VALID_TAKES
            else "train"
        )
    if corpus == NUMBER_WORDS:
        return "train"
    return splits[sentences(row)[0]]


def repeated_takes(rows: Sequence[Row]) -> list[list[str]]:
    """Ids of digits whose samples are the same, to the last bit."""
    found: dict[bytes, list[str]] = {}
    for row in rows:
        samples, _ = soundfile.read(row["audio"], dtype="int16")
        found.setdefault(hashlib.sha256(samples.tobytes()).digest(), []).append(row["id"])
    return [ids for ids in found.values() if len(ids) > 1]


# --- text of the base model ------------------------------------------------------------------


def documents(folder: Path, split: str) -> list[str | tuple[str, str]]:
    """Texts of a split in a keyed order, each once: sentences, and instructions with answers.

    A sentence is a document of its own, not beside its translation.
    """
    found: dict[str | tuple[str, str], None] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(path):
            if row["split"] != split or path.stem in (DIGITS, NUMBER_WORDS):
                continue
            if "src_lang" in row:
                found[row["src"]] = found[row["tgt"]] = None
            elif "prompt" in row:
                found[row["prompt"], row["response"]] = None
            else:
                found[row["text"]] = None
    return sorted(found, key=lambda text: key64(*((text,) if isinstance(text, str) else text)))


def test_pairs(folder: Path, most: int) -> list[tuple[str, str]]:
    """English sentences of the test split with one Mandarin translation, no sentence twice."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for row in read_rows(folder / "mt_tatoeba_en_zh.jsonl"):
        if row["split"] == "test" and row["src"] not in found and row["tgt"] not in seen:
            found[row["src"]] = row["tgt"]
            seen.add(row["tgt"])
    return list(found.items())[:most]
