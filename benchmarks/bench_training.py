"""Training: useful tokens a second, ours packed against the usual loop, padded batches of two.

The other side is what the paper's published scripts do: transformers' Trainer over a LLaMA of the
same sizes, the same samples in the same order, AdamW, per-device batch 2, padded. A token is useful
when it belongs to a sample: padding is not counted on either side. The two sides run in turn in one
process; the mix is that of the demo corpus.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from paired import report

from cslm_data.demo import lay_out
from cslm_data.framing import PAD, frame
from cslm_data.ingest import ingest
from cslm_data.mix import build_mix
from cslm_data.quantize import quantize
from cslm_data.shards import MixInfo, iter_samples
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.config_files import load_config
from cslm_train.train import run_training
from cslm_train.vocabulary import JointVocabulary

BATCH = 2


def prepare(folder: Path) -> Workspace:
    """The demo corpus as a pretrain mix."""
    workspace = Workspace(folder / "workspace")
    lay_out(folder / "corpus")
    ingest(workspace, [folder / "corpus"])
    quantize(workspace)
    build_mix(workspace, languages=["en", "zh"], stage="pretrain")
    return workspace


def ours(workspace: Workspace, config: TrainConfig, folder: Path) -> float:
    """Useful tokens a second of a fresh run."""
    summary = run_training(workspace, stage="pretrain", config=config, output_dir=folder)
    return summary.tokens_per_second


def theirs(samples: list[dict[str, list[int]]], config: TrainConfig, vocab: int, pad: int) -> float:
    """Useful tokens a second of transformers' Trainer, from the first step to the last."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    shape = config.model
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab,
            hidden_size=shape.model_dim,
            intermediate_size=shape.ffn_inner_dim,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            max_position_embeddings=shape.max_seq_len,
            tie_word_embeddings=shape.tied_embeddings,
            attention_dropout=0.0,
        )
    )

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            self.start = getattr(self, "start", None) or time.perf_counter()

        def on_train_end(self, *_: object, **__: object) -> None:
            self.seconds = time.perf_counter() - self.start

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["ids"]) for row in rows)
        ids = torch.full((len(rows), width), pad)
        labels = torch.full((len(rows), width), -100)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["ids"])
            ids[index, :length] = torch.tensor(row["ids"])
            labels[index, :length] = torch.tensor(row["labels"])
            mask[index, :length] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=config.optimizer.lr,
            max_grad_norm=config.trainer.max_grad_norm,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
            bf16=config.trainer.precision == "bf16",
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=samples,
            data_collator=collate,
            callbacks=[clock],
        ).train()
    return sum(len(row["ids"]) for row in samples) / clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of ours in a round")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    overrides = [
        f"trainer.num_steps={options.steps}",
        f"validation.every_n_steps={options.steps}",
        f"checkpoint.every_n_steps={options.steps}",
        "metrics.tensorboard=false",
    ]
    config = load_config("smoke", overrides)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace = prepare(root)
        mix = MixInfo.load(workspace.mixes / "pretrain")
        text = load_text_tokenizer(mix.text_tokenizer_path())
        vocabulary = JointVocabulary(text, mix.num_units)
        budget = options.steps * config.data.pack_length
        samples: list[dict[str, list[int]]] = []
        for sample in iter_samples(mix.folder, "train"):
            ids, trained = vocabulary.encode(frame(sample.segments, vocabulary.framing))
            if budget < len(ids):
                break
            budget -= len(ids)
            labels = [int(i) if t else -100 for i, t in zip(ids, trained, strict=True)]
            samples.append({"ids": ids.tolist(), "labels": labels})
        for precision, bar in (("fp32", 1.5), ("bf16", 2.0)):
            trainer = dataclasses.replace(config.trainer, precision=precision)
            mine = dataclasses.replace(config, trainer=trainer)
            ratios = []
            for number in range(options.rounds):
                us = ours(workspace, mine, root / f"run-{precision}-{number}")
                them = theirs(samples, config, vocabulary.size, vocabulary.control_id(PAD))
                print(f"{precision}: ours {us:.0f}, padded fp32 {them:.0f} useful tokens/s")
                ratios.append(us / them)
            report(f"useful tokens/s, {precision} packed", statistics.median(ratios), bar)


if __name__ == "__main__":
    main()
