"""A run folder with random weights, as training leaves one: made by the real model code."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from cslm_data.framing import TEMPLATE_VERSION
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import ModelConfig, TrainConfig
from cslm_train.model import create_model
from cslm_train.run_folder import RunInfo, model_file, text_tokenizer_folder
from cslm_train.vocabulary import JointVocabulary


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
) -> Path:
    """Write `run_dir` with one checkpoint."""
    shutil.copytree(tokenizer_folder, text_tokenizer_folder(run_dir))
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), num_units)
    config = ModelConfig(
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
        template_version=TEMPLATE_VERSION,
        num_processes=1,
        num_steps=step,
        init_from=None,
        config=TrainConfig(model=config),
    )
    info.save(run_dir)
    torch.manual_seed(5)
    model = create_model(config, vocabulary)
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from uniform, so that greedy answers do not hang on the last bit of a logit.
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    path = model_file(run_dir, step)
    path.parent.mkdir(parents=True)
    torch.save(model.state_dict(), path)
    return run_dir
