"""Tiny artefacts for the trainer: a text tokenizer of a few words, mixes of real shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from spoken_corpus import make_corpus
from tiny_run import make_run

from cslm_data.keys import content_id, keyed_rng
from cslm_data.records import Sample, Segment
from cslm_data.shards import write_shard
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.text_tokenizer import load_text_tokenizer, train_text_tokenizer
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace, write_json
from cslm_train.models.loading import LoadedRun, load_run

NUM_UNITS = 20
WORDS = {
    "en": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "zh": ["一", "二", "三", "四", "五", "六", "七", "八", "九", "十"],
}

BuildMix = Callable[..., Path]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text_tokenizers") / "bpe"
    words = [" ".join(row) for row in WORDS.values()] * 4
    train_text_tokenizer(words, folder=folder, vocab_size=300)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, tokenizer_folder: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(tokenizer_folder, workspace.text_tokenizers / "bpe")
    return workspace


def speech(
    language: str, units: Sequence[int], *, role: str, trained: bool, part: str = ""
) -> Segment:
    return Segment(
        modality="speech",
        language=language,
        role=role,  # type: ignore[arg-type]
        trained=trained,
        part=part,  # type: ignore[arg-type]
        units=np.array(units, np.uint16),
    )


def text(language: str, words: str, *, role: str, trained: bool, part: str = "") -> Segment:
    return Segment(
        modality="text",
        language=language,
        role=role,  # type: ignore[arg-type]
        trained=trained,
        part=part,  # type: ignore[arg-type]
        text=words,
    )


def make_samples(split: str, count: int) -> list[Sample]:
    """ASR, TTS and MT of numbers; a word's units are twice its number and the next one."""
    samples = []
    for index in range(count):
        rng = keyed_rng(1, split, str(index))
        numbers = rng.integers(0, 10, size=rng.integers(1, 6)).tolist()
        language = "zh" if index % 2 else "en"
        words = " ".join(WORDS[language][n] for n in numbers)
        units = [unit for n in numbers for unit in (2 * n, 2 * n + 1)]
        task = ("asr", "tts", "mt")[index % 3]
        if task == "asr":
            ask = speech(language, units, role="user", trained=False)
            answer = text(language, words, role="assistant", trained=True)
        elif task == "tts":
            ask = text(language, words, role="user", trained=False)
            answer = speech(language, units, role="assistant", trained=True)
        else:
            other = "en" if language == "zh" else "zh"
            ask = text(language, words, role="user", trained=False)
            translated = " ".join(WORDS[other][n] for n in numbers)
            answer = text(other, translated, role="assistant", trained=True)
            language = f"{language}-{other}"
        key = f"{task}-{split}-{index:04d}"
        samples.append(Sample(key=key, task=task, languages=language, segments=(ask, answer)))
    return samples


@pytest.fixture
def build_mix(workspace: Workspace) -> BuildMix:
    """Write `mixes/<name>` of ready samples, two shards of train and one of valid."""

    def build(
        name: str = "pretrain",
        *,
        train: Sequence[Sample] | None = None,
        valid: Sequence[Sample] | None = None,
        tokenizer_id: str = "mfcc-20-0123456789ab",
    ) -> Path:
        train = make_samples("train", 40) if train is None else train
        valid = make_samples("valid", 6) if valid is None else valid
        folder = workspace.mixes / name
        tokenizer = load_text_tokenizer(workspace.text_tokenizers / "bpe")
        half = (len(train) + 1) // 2
        parts = [("train", 0, train[:half]), ("train", 1, train[half:]), ("valid", 0, valid)]
        entries = []
        for split, number, samples in parts:
            if samples:
                path = folder / "shards" / f"{split}-{number:06d}.tar"
                path.parent.mkdir(parents=True, exist_ok=True)
                entry = write_shard(
                    path,
                    samples,
                    split=split,  # type: ignore[arg-type]
                    tokenizer_id=tokenizer_id,
                    num_units=NUM_UNITS,
                    text_tokenizer_id=tokenizer.text_tokenizer_id,
                    template_version=tokenizer.framing.template_version,
                )
                entries.append(vars(entry))
        row = {
            "name": name,
            "stage": "sft" if name == "sft" else "pretrain",
            "languages": ["en", "zh"],
            "seed": 1,
            "recipe": {},
            "tokenizer_id": tokenizer_id,
            "num_units": NUM_UNITS,
            "frame_rate_hz": 50.0,
            "text_tokenizer_id": tokenizer.text_tokenizer_id,
            "text_tokenizer": "text_tokenizers/bpe",
            "template_version": tokenizer.framing.template_version,
            "splits": {},
            "realised": [],
            "shards": entries,
            "counts": {},
        }
        mix_id = content_id(json.loads(json.dumps(row)))
        write_json(folder / "mix.json", {"mix_id": mix_id, **row})
        return folder

    return build


# --- speech -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of four utterances with units, and one that came after quantize."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def spoken(corpus: Path, tmp_path: Path) -> Workspace:
    """A copy of that workspace."""
    shutil.copytree(corpus, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def tokenizer(spoken: Workspace) -> SpeechTokenizer:
    return tokenizer_folders.find_tokenizer(spoken, None)


@pytest.fixture
def run(
    spoken: Workspace,
    tokenizer_folder: Path,
    tokenizer: SpeechTokenizer,
) -> LoadedRun:
    made = make_run(
        spoken.runs / "sft",
        tokenizer_folder,
        stage="sft",
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        max_seq_len=512,
    )
    return load_run(made)
