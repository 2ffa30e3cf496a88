"""benchmarks/: parts of the experiments on real data that can go wrong without being noticed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small_files import write_rows, write_tone

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spoken(name: str, text: str, language: str = "en", **more: object) -> dict[str, object]:
    return {"id": name, "audio": f"{name}.flac", "text": text, "language": language, **more}


def pair(number: int, src: str, tgt: str) -> dict[str, object]:
    return {"id": f"p{number}", "src_lang": "en", "tgt_lang": "zh", "src": src, "tgt": tgt}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Data of the shape of the shared pack: translations, digits, parallel and other speech."""
    pairs = [pair(n, f"Sentence number {n}.", f"第{n}句。") for n in range(300)]
    # One English sentence with two translations, and one translation of two English sentences.
    pairs += [pair(300 + n, f"Sentence number {n}.", f"又{n}句。") for n in range(100)]
    pairs += [pair(400 + n, f"Another {n}.", f"第{n}句。") for n in range(100)]
    write_rows(tmp_path / "real" / "mt_tatoeba_en_zh.jsonl", pairs)
    digits = [spoken(f"d{take}", "seven", take=take) for take in range(12)]
    write_rows(tmp_path / "real" / "fsdd.jsonl", digits)
    others = [spoken(f"u{n}", f"SENTENCE NUMBER {n}") for n in range(300)]
    others += [spoken("es", "hola", "es"), spoken("none", "")]
    write_rows(tmp_path / "real" / "others.jsonl", others)
    for language, text in (("en", "Sentence number {}"), ("zh", "第{}句")):
        rows = [spoken(f"{language}{n}", text.format(n), language) for n in range(40)]
        write_rows(tmp_path / "synthetic" / f"espeak_{language}.jsonl", rows)
    return tmp_path


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_no_sentence_of_the_pack_is_on_both_sides_of_a_split_not_even_through_translations(
    pack: Path,
) -> None:
    paths = script("real_pack").write_manifests(pack, pack / "manifests")
    splits: dict[str, set[str]] = {}
    for path in paths:
        for row in rows_of(path):
            for text in (row.get("src"), row.get("tgt"), row.get("text")):
                if text and path.stem not in ("fsdd", "number_words"):
                    splits.setdefault(text.rstrip(".。").casefold(), set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    for n in range(100):  # linked by a translation
        linked = (f"sentence number {n}", f"第{n}句", f"又{n}句", f"another {n}")
        assert len(set.union(*(splits[text] for text in linked))) == 1
    assert {split for found in splits.values() for split in found} == {"train", "valid", "test"}


def test_digits_are_split_by_take_and_rows_of_other_languages_or_without_text_stay_out(
    pack: Path,
) -> None:
    script("real_pack").write_manifests(pack, pack / "manifests")
    digits = rows_of(pack / "manifests" / "fsdd.jsonl")
    expected = ["test"] * 5 + ["valid"] + ["train"] * 6
    assert [row["split"] for row in digits] == expected
    others = rows_of(pack / "manifests" / "others.jsonl")
    assert {row["id"] for row in others} == {f"u{n}" for n in range(300)}


def test_the_base_model_reads_each_training_sentence_once_and_none_that_is_held_out(
    pack: Path,
) -> None:
    real_pack = script("real_pack")
    paths = real_pack.write_manifests(pack, pack / "manifests")
    held_out = {
        row[side]
        for path in paths
        for row in rows_of(path)
        for side in ("src", "tgt", "text")
        if row["split"] != "train" and side in row and path.stem != "fsdd"
    }
    documents = real_pack.documents(pack / "manifests", "train")
    assert documents and len(set(documents)) == len(documents)
    assert held_out and not held_out & set(documents)
    assert "seven" not in documents


def test_takes_that_are_the_same_recording_are_found(tmp_path: Path) -> None:
    files = [write_tone(tmp_path / f"{n}.wav", seconds=0.1, seed=n % 3) for n in range(4)]
    rows = [{"id": f"take{n}", "audio": str(file)} for n, file in enumerate(files)]
    assert script("real_pack").repeated_takes(rows) == [["take0", "take3"]]


def test_likeness_of_pairs_does_not_see_what_a_side_has_in_common() -> None:
    likeness = script("likeness")
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(50, 16))
    one = meaning + 100 * rng.normal(size=16)
    other = 3 * meaning - 100 * rng.normal(size=16)
    same = likeness.pair_likeness(one, other)
    assert same["retrieval"] == 1 and same["cosine"] == pytest.approx(1)
    unrelated = likeness.pair_likeness(one, rng.normal(size=(50, 16)))
    assert unrelated["retrieval"] <= 0.1 and abs(unrelated["cosine"]) < 0.15
    swapped = likeness.pair_likeness(one, other[[1, 0, *range(2, 50)]])
    assert swapped["retrieval"] == pytest.approx(48 / 50)


def test_likeness_of_classes_counts_the_right_ones() -> None:
    likeness = script("likeness")
    corners = np.eye(3)
    takes = np.repeat(corners, 4, axis=0) + 7
    right = [0] * 4 + [1] * 4 + [2] * 4
    assert likeness.class_likeness(takes, corners, right)["retrieval"] == 1
    assert likeness.class_likeness(takes, corners, [0] * 12)["retrieval"] == pytest.approx(1 / 3)
