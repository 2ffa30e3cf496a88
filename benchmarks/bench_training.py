"""Training: useful tokens a second, ours packed against the usual loop, padded batches of two.

The other side is what the paper's published scripts do: transformers' Trainer over a LLaMA of the
same sizes, the same samples in the same order, AdamW, per-device batch 2, padded. Both sides take
as many optimizer steps: the other accumulates as many batches of two as fill a pack. A token is
useful when it belongs to a sample: padding is not counted on either side. The sides run in turn in
one process, with one number type and, as the paper's scripts on a CPU would, in fp32 against bf16.
Both are measured from the beginning of their second step to that of their last, in CPU seconds of
one thread, so that neither set-up nor neighbours count. The mix is that of the demo corpus, or
`--mix` of a `--workspace`.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

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
from cslm_train.models.weights import num_parameters
from cslm_train.train import run_training
from cslm_train.training.stopping import Stop
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


class Clock:
    """CPU time at the beginning of each step."""

    def __init__(self) -> None:
        self.begins: list[float] = []

    def tick(self) -> None:
        self.begins.append(time.process_time())

    @property
    def step_s(self) -> float:
        """Mean of a step, without the first and the last."""
        return (self.begins[-1] - self.begins[1]) / (len(self.begins) - 2)


def ours(workspace: Workspace, mix: str, config: TrainConfig, folder: Path) -> Clock:
    """A fresh run."""
    clock = Clock()
    check = Stop.check

    def tick(self: Stop, step: int) -> None:
        clock.tick()
        check(self, step)

    with patch.object(Stop, "check", tick):
        run_training(workspace, stage="pretrain", config=config, mix=mix, output_dir=folder)
    return clock


def theirs(
    samples: list[dict[str, list[int]]],
    config: TrainConfig,
    vocab: int,
    pad: int,
    *,
    accumulation: int,
) -> Clock:
    """transformers' Trainer."""
    from accelerate.state import AcceleratorState
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    # The number type of an earlier trainer would stay, whatever this one is told.
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
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

    clock = Clock()

    class Ticks(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            clock.tick()

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

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=accumulation,
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
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=samples,
            data_collator=collate,
            callbacks=[Ticks()],
        )
        mixed = trainer.accelerator.mixed_precision
        assert (mixed == "bf16") == arguments.bf16, f"the trainer computes in {mixed}"
        trainer.train()
    return clock


def read_samples(
    workspace: Workspace, mix: MixInfo, vocabulary: JointVocabulary, budget: int
) -> list[dict[str, list[int]]]:
    """The first samples of the mix that hold so many tokens together."""
    samples: list[dict[str, list[int]]] = []
    for sample in iter_samples(mix.folder, "train"):
        ids, trained = vocabulary.encode(frame(sample.segments, vocabulary.framing))
        if budget < len(ids):
            break
        budget -= len(ids)
        labels = [int(i) if t else -100 for i, t in zip(ids, trained, strict=True)]
        samples.append({"ids": ids.tolist(), "labels": labels})
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16, help="steps of a round")
    parser.add_argument("--pack-length", type=int, default=1024)
    parser.add_argument("--workspace", type=Path, help="default: one of the demo corpus")
    parser.add_argument("--mix", default="pretrain")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    overrides = [
        *("model.model_dim=384", "model.num_layers=6", "model.num_heads=6", "model.num_kv_heads=2"),
        *("model.ffn_inner_dim=1024", "model.dropout=0", "trainer.num_threads=1"),
        f"model.max_seq_len={options.pack_length}",
        f"data.pack_length={options.pack_length}",
        f"trainer.num_steps={options.steps}",
        f"validation.every_n_steps={options.steps}",
        f"checkpoint.every_n_steps={options.steps}",
        "metrics.tensorboard=false",
    ]
    config = load_config("smoke", overrides)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        workspace = Workspace(options.workspace) if options.workspace else prepare(root)
        mix = MixInfo.load(workspace.mixes / options.mix)
        text = load_text_tokenizer(mix.text_tokenizer_path())
        vocabulary = JointVocabulary(text, mix.num_units)
        samples = read_samples(workspace, mix, vocabulary, options.steps * options.pack_length)
        tokens = sum(len(sample["ids"]) for sample in samples)
        accumulation = max(1, round(len(samples) / BATCH / options.steps))
        print(
            f"{num_parameters(config.model, vocabulary.size):,} weights, {len(samples)} samples of "
            f"{tokens / len(samples):.0f} tokens on average, {tokens / options.steps:.0f} a step: "
            f"{options.steps} packs of {options.pack_length}, or {accumulation} batches of {BATCH}"
        )
        rates: dict[str, list[float]] = {name: [] for name in _SIDES}
        for number in range(options.rounds):
            for name in _SIDES:
                side, precision = name.split()
                trainer = dataclasses.replace(config.trainer, precision=precision)
                mine = dataclasses.replace(config, trainer=trainer)
                if side == "packed":
                    folder = root / f"run-{precision}-{number}"
                    clock = ours(workspace, options.mix, mine, folder)
                else:
                    pad = vocabulary.control_id(PAD)
                    clock = theirs(samples, mine, vocabulary.size, pad, accumulation=accumulation)
                rates[name].append(tokens / options.steps / clock.step_s)
            print(
                {name: round(found[-1]) for name, found in rates.items()}, "useful tokens per CPU-s"
            )
        for us, them, bar in _COMPARED:
            ratios = [a / b for a, b in zip(rates[us], rates[them], strict=True)]
            report(f"useful tokens/s, {us} against {them}", statistics.median(ratios), bar)


_SIDES = ("packed fp32", "padded fp32", "packed bf16", "padded bf16")
_COMPARED = (
    ("packed fp32", "padded fp32", 1.5),
    ("packed bf16", "padded bf16", 1.5),
    ("packed bf16", "padded fp32", 2.0),
)


if __name__ == "__main__":
    main()
