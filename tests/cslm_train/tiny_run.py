"""A run folder with random weights, as training leaves one: made by the real model code."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cslm_data.framing import frame
from cslm_data.records import Segment
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import ModelConfig, TrainConfig
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.packing.reader import PackedBatch
from cslm_train.run_folder import RunInfo, model_file, text_tokenizer_folder
from cslm_train.training.loss import token_nll
from cslm_train.vocabulary import JointVocabulary


def text(language: str, words: str, part: str = "") -> Segment:
    """Text of an answer."""
    return Segment(
        modality="text",
        language=language,
        role="assistant",
        trained=True,
        part=part,  # type: ignore[arg-type]
        text=words,
    )


def speech(language: str, units: Sequence[int], part: str = "") -> Segment:
    """Speech of an answer."""
    return Segment(
        modality="speech",
        language=language,
        role="assistant",
        trained=True,
        part=part,  # type: ignore[arg-type]
        units=np.array(units, np.uint16),
    )


def make_run(
    run_dir: Path,
    tokenizer_folder: Path,
    *,
    stage: str = "pretrain",
    mix_id: str = "0123456789abcdef",
    tokenizer_id: str = "mfcc-20-0123456789ab",
    num_units: int = 20,
    max_seq_len: int = 128,
    step: int = 3,
    model: ModelConfig | None = None,
    lessons: Sequence[Sequence[Segment]] = (),
) -> Path:
    """Write `run_dir` with one checkpoint, of a model that knows the lessons by heart."""
    shutil.copytree(tokenizer_folder, text_tokenizer_folder(run_dir))
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), num_units)
    config = model or ModelConfig(
        model_dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        ffn_inner_dim=48,
        max_seq_len=max_seq_len,
    )
    info = RunInfo(
        run=run_dir.name,
        stage=stage,
        mix=stage,
        mix_id=mix_id,
        languages=("en", "zh"),
        tokenizer_id=tokenizer_id,
        num_units=num_units,
        frame_rate_hz=50.0,
        text_tokenizer_id=vocabulary.text_tokenizer.text_tokenizer_id,
        num_text=vocabulary.num_text,
        vocabulary_id=vocabulary.identity,
        vocab_size=vocabulary.size,
        template_version=vocabulary.framing.template_version,
        num_processes=1,
        num_steps=step,
        init_from=None,
        config=TrainConfig(model=config),
    )
    info.save(run_dir)
    torch.manual_seed(5)
    made = create_model(config, vocabulary)
    if lessons:
        teach(made, vocabulary, lessons)
    with torch.no_grad():
        for parameter in made.parameters():
            # Far from uniform, so that greedy answers do not hang on the last bit of a logit.
            parameter.mul_(3.0 if parameter.ndim > 1 and not lessons else 1.0)
    path = model_file(run_dir, step)
    path.parent.mkdir(parents=True)
    torch.save(made.state_dict(), path)
    return run_dir


def teach(
    model: SpeechLM, vocabulary: JointVocabulary, lessons: Sequence[Sequence[Segment]]
) -> None:
    """Repeat all lessons in one pack until each token of them is likely."""
    encoded = vocabulary.encode_batch([frame(segments, vocabulary.framing) for segments in lessons])
    positions = np.flatnonzero(np.concatenate([trained[1:] for _, trained in encoded]))
    targets = np.concatenate([ids[1:] for ids, _ in encoded])[positions]
    batch = PackedBatch(
        inputs_S=torch.from_numpy(np.concatenate([ids[:-1] for ids, _ in encoded])).long(),
        lengths=[len(ids) - 1 for ids, _ in encoded],
        positions_K=torch.from_numpy(positions),
        targets_K=torch.from_numpy(targets).long(),
        groups_K=torch.zeros(len(targets), dtype=torch.int64),
        pack_id=0,
        keys=(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        nll_K = token_nll(model, batch)
        if nll_K.max() < 0.05:
            return
        optimizer.zero_grad()
        nll_K.mean().backward()
        optimizer.step()
    raise AssertionError("the lessons were not learnt")
