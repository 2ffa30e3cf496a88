"""A run learns, records what it did, refuses what does not belong together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import duckdb
import pytest
import torch
from base_models import save_base
from fairseq2.nn import BatchLayout
from torch.nn.functional import cross_entropy

from cslm_data.errors import (
    AlreadyExistsError,
    MissingArtefactError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.framing import frame
from cslm_data.shards import iter_samples
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.config_files import load_config, named_configs
from cslm_train.models.family import create_model
from cslm_train.models.loading import load_run
from cslm_train.train import run_training
from cslm_train.training.metrics import TrainSummary

TINY = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "model.dropout=0", "data.pack_length=128"),
    *("trainer.num_steps=12", "validation.every_n_steps=4", "checkpoint.every_n_steps=4"),
    *("optimizer.lr=0.01", "metrics.tensorboard=false"),
]


@pytest.fixture
def config() -> TrainConfig:
    return load_config("smoke", TINY)


def train(workspace: Workspace, config: TrainConfig, **options) -> TrainSummary:
    return run_training(workspace, **{"stage": "pretrain", "config": config, **options})


def rows(run_dir: Path, category: str) -> list[dict]:
    path = run_dir / "metrics" / f"{category}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_learns_and_says_what_it_did(workspace, build_mix, config) -> None:
    build_mix()
    summary = train(workspace, config)
    assert summary.finished
    assert (summary.steps, summary.num_steps) == (12, 12)
    assert summary.last_train_loss < 0.9 * summary.first_train_loss
    assert summary.last_valid_loss < 0.9 * summary.first_valid_loss
    assert [step for step, _ in summary.train_curve] == list(range(1, 13))
    assert [step for step, _ in summary.valid_curve] == [0, 4, 8, 12]
    assert set(summary.group_losses) == {
        *("asr/en", "asr/zh", "mt/en-zh", "mt/zh-en", "tts/en", "tts/zh")
    }
    assert summary.tokens > summary.trained_tokens > 0
    assert summary.tokens_per_second > 0
    assert 0 < summary.pack_fill <= 1
    model = load_run(workspace.runs / "pretrain").model
    assert summary.num_parameters == sum(p.numel() for p in model.parameters())


def test_the_files_of_a_run_say_what_it_saw(workspace, build_mix, config) -> None:
    build_mix()
    summary = train(workspace, dataclasses.replace(config, metrics=load_config("smoke").metrics))
    run_dir = workspace.runs / "pretrain"
    for row in rows(run_dir, "train"):
        keys = duckdb.sql(
            f"select key from '{run_dir}/batches-*.parquet' where step = {row['Step']}"
        ).fetchall()
        assert row["num_examples"] == len(keys)
    groups = [name for name in rows(run_dir, "valid")[0] if name.startswith("nll/")]
    assert len(groups) == 6
    assert list((run_dir / "tb" / "train").glob("events.*"))
    identity = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    assert identity["tokenizer_id"] == "mfcc-20-0123456789ab"
    assert identity["num_steps"] == summary.steps


def test_group_losses_average_to_the_whole(workspace, build_mix, config) -> None:
    build_mix()
    train(workspace, config)
    for row in rows(workspace.runs / "pretrain", "valid"):
        groups = [value for name, value in row.items() if name.startswith("nll/")]
        assert min(groups) <= row["nll"] <= max(groups)


def test_without_a_valid_split_there_is_no_validation(workspace, build_mix, config, caplog) -> None:
    build_mix(valid=[])
    summary = train(workspace, config)
    assert summary.finished
    assert summary.last_valid_loss is None
    assert summary.group_losses == {}
    assert "nothing to validate on" in caplog.text


def test_a_step_is_the_mean_over_all_trained_tokens_of_its_packs(workspace, build_mix) -> None:
    mix = build_mix()
    settings = [*TINY, "data.pack_length=64", "trainer.grad_accumulation=3", "trainer.num_steps=1"]
    config = load_config("smoke", settings)
    train(workspace, config)
    run_dir = workspace.runs / "pretrain"
    keys = duckdb.sql(f"select key from '{run_dir}/batches-*.parquet' order by all").fetchall()
    samples = {sample.key: sample for sample in iter_samples(mix, "train")}
    vocabulary = load_run(run_dir).vocabulary
    torch.manual_seed(config.trainer.seed)
    model = create_model(config.model, vocabulary)
    total, count = torch.zeros(()), 0
    for (key,) in keys:
        ids, trained = vocabulary.encode(frame(samples[key].segments))
        tokens = torch.from_numpy(ids).long()
        logits = model(tokens[None, :-1], BatchLayout.of(tokens[None, :-1]))[0]
        mask = torch.from_numpy(trained[1:])
        total = total + cross_entropy(logits[mask], tokens[1:][mask], reduction="sum")
        count += int(mask.sum())
    (total / count).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    (row,) = rows(run_dir, "train")
    assert row["num_targets"] == count
    assert row["nll"] == pytest.approx(total.item() / count, rel=1e-5)
    assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_epochs_make_the_number_of_steps(workspace, build_mix) -> None:
    build_mix()
    epochs = ["trainer.num_steps=null", "trainer.num_epochs=1.5", "data.pack_length=64"]
    summary = train(workspace, load_config("smoke", [*TINY, *epochs]))
    assert summary.steps == -(-3 * summary.num_packs // 2)


def test_sft_begins_with_the_weights_of_pretraining(workspace, build_mix, config) -> None:
    build_mix("pretrain")
    build_mix("sft")
    first = train(workspace, config)
    wider = load_config("smoke", [*TINY, "model.model_dim=64", "model.max_seq_len=256"])
    second = train(workspace, wider, stage="sft")
    assert second.first_valid_loss == pytest.approx(first.last_valid_loss, abs=1e-6)
    info = load_run(workspace.runs / "sft").info
    assert (info.init_from.run, info.init_from.step) == ("pretrain", 12)
    assert (info.config.model.model_dim, info.config.model.max_seq_len) == (32, 256)


def test_sft_goes_on_when_its_beginning_is_gone(workspace, build_mix, config) -> None:
    build_mix("pretrain")
    build_mix("sft")
    train(workspace, config)
    first = train(workspace, config, stage="sft")
    (workspace.runs / "pretrain").rename(workspace.runs / "elsewhere")
    assert train(workspace, config, stage="sft") == first


def test_sft_without_pretraining_says_what_to_run(workspace, build_mix, config) -> None:
    build_mix("sft")
    with pytest.raises(MissingArtefactError, match="cslm-train run --stage pretrain"):
        train(workspace, config, stage="sft")


def test_units_of_another_tokenizer_are_refused(workspace, build_mix, config) -> None:
    build_mix("pretrain")
    train(workspace, config)
    build_mix("sft", tokenizer_id="hubert-20-ba9876543210")
    with pytest.raises(TokenizerMismatchError, match=r"hubert-20-ba98.* mfcc-20-0123.*build-mix"):
        train(workspace, config, stage="sft")


def test_shards_that_are_not_of_their_mix_are_refused(workspace, build_mix, config) -> None:
    mix = build_mix()
    for index in (mix / "shards").glob("train-*.idx.parquet"):
        content = index.read_bytes()
        index.write_bytes(content.replace(b"mfcc-20-0123456789ab", b"mfcc-20-anotherone00"))
    with pytest.raises(
        TokenizerMismatchError, match="units of mfcc-20-anotherone00, but mix.json says"
    ):
        train(workspace, config)


def test_another_text_tokenizer_than_the_mix_counted_with_is_refused(
    workspace, build_mix, config
) -> None:
    build_mix()
    file = workspace.text_tokenizers / "bpe" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(TokenizerMismatchError, match="text tokenizer"):
        train(workspace, config)


def test_a_folder_with_another_run_is_refused_and_says_how_it_differs(
    workspace, build_mix, config
) -> None:
    build_mix()
    train(workspace, config)
    other = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=0.5))
    with pytest.raises(AlreadyExistsError, match=r"config.optimizer.lr: 0.01 here, 0.5 asked for"):
        train(workspace, other)
    build_mix(train=None, valid=[])
    with pytest.raises(AlreadyExistsError, match="mix_id.*--output-dir"):
        train(workspace, config)
    assert train(workspace, other, overwrite=True).finished


def test_a_missing_mix_and_one_of_another_stage_are_named(workspace, build_mix, config) -> None:
    with pytest.raises(MissingArtefactError, match="cslm-data build-mix --stage pretrain"):
        train(workspace, config)
    build_mix("sft")
    with pytest.raises(UsageError, match="a mix of stage sft"):
        train(workspace, config, mix="sft")


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "constant"])
def test_learning_rates_warm_up_and_then_follow_their_name(workspace, build_mix, name: str) -> None:
    build_mix()
    settings = ["trainer.num_steps=20", f"lr_scheduler.name={name}", "optimizer.lr=0.001"]
    more = ["lr_scheduler.warmup_ratio=0.2", "lr_scheduler.decay_ratio=0.25"]
    train(workspace, load_config("smoke", [*TINY, *settings, *more]))
    rates = [row["lr"] for row in rows(workspace.runs / "pretrain", "train")]
    assert 0 < rates[0] < rates[1] < rates[2] < rates[3] < rates[4] == pytest.approx(0.001)
    if name == "constant":
        assert rates[4:] == pytest.approx([0.001] * 16)
    elif name == "wsd":
        assert rates[4:16] == pytest.approx([0.001] * 12)
        assert rates[19] < 2e-4
    else:
        assert rates[4:] == sorted(rates[4:], reverse=True)
        assert rates[19] < 2e-4


@pytest.mark.parametrize("name", named_configs())
def test_every_configuration_runs_in_both_stages(
    workspace, build_mix, tmp_path, tokenizer_folder, name: str
) -> None:
    build_mix("pretrain")
    build_mix("sft")
    vocab_size = load_text_tokenizer(tokenizer_folder).vocab_size
    save_base(tmp_path, "llama", vocab_size=vocab_size, tokenizer_folder=tokenizer_folder)
    small = [*TINY[:5], *([f"model.base={tmp_path}"] if name == "paper" else [])]
    small += ["model.max_seq_len=128", "data.pack_length=128", "trainer.num_steps=2"]
    small += ["trainer.packs_per_step=2", "metrics.every_n_steps=1"]
    small += ["validation.every_n_steps=1", "checkpoint.every_n_steps=1"]
    for stage in ("pretrain", "sft"):
        summary = train(workspace, load_config(name, small, stage=stage), stage=stage)
        assert summary.finished
        assert summary.tokens > 0
