"""A run's rows are complete and true wherever they are recorded; what is forgotten is seen."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_resume import Crash
from tiny_run import speech, text

from cslm_data.errors import MissingArtefactError, NoDataError, TokenizerMismatchError, UsageError
from cslm_data.records import Sample
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.evaluate import evaluate
from cslm_train.models.loading import load_run
from cslm_train.run_choice import choose_checkpoint
from cslm_train.run_folder import RunInfo, checkpoint_steps
from cslm_train.train import run_training
from cslm_train.training import progress, stopping
from cslm_train.training.metrics import TrainSummary, best_step, cut_metrics

TINY = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "model.dropout=0", "data.pack_length=128"),
    *("trainer.num_steps=6", "trainer.grad_accumulation=2", "validation.every_n_steps=2"),
    *("checkpoint.every_n_steps=2", "optimizer.lr=0.02", "metrics.tensorboard=false"),
]


def train(workspace: Workspace, *settings: str, **options: Any) -> TrainSummary:
    config = load_config("smoke", [*TINY, *settings])
    return run_training(workspace, **{"stage": "pretrain", "config": config, **options})


def rows(run_dir: Path, category: str) -> list[dict[str, Any]]:
    path = run_dir / "metrics" / f"{category}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(split: str, count: int, *, task: str = "instruct") -> list[Sample]:
    """Answers to what was typed: in writing, or spoken for `tts`."""
    samples = []
    for index in range(count):
        language, words = ("en", "one two") if index % 2 else ("zh", "三 四")
        ask = dataclasses.replace(text(language, words), role="user", trained=False)
        answer = text(language, f"{words} {words}")
        if task == "tts":
            answer = speech(language, [(7 * index + n) % 20 for n in range(3 + index % 4)])
        key = f"{task}-{split}-{index:04d}"
        samples.append(Sample(key=key, task=task, languages=language, segments=(ask, answer)))
    return samples


# --- rows ---------------------------------------------------------------------------------------


def test_shares_and_speeds_follow_from_what_the_batches_hold(workspace, build_mix) -> None:
    build_mix()
    peak_tflops = 0.001
    run_dir = train(workspace, f"metrics.peak_tflops={peak_tflops}").run_dir
    info = RunInfo.load(run_dir)
    plan = pq.read_table(run_dir / "packs-train.parquet")
    tokens_of = dict(zip(plan["key"].to_pylist(), plan["num_tokens"].to_pylist(), strict=True))
    batches = pq.read_table(run_dir / "batches-000000.parquet").to_pylist()
    matrices = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    for row in rows(run_dir, "train")[:2]:  # of the first epoch
        lengths = [tokens_of[b["key"]] - 1 for b in batches if b["step"] == row["Step"]]
        assert row["num_elements"] == sum(lengths)
        assert row["padding_share"] == pytest.approx(1 - sum(lengths) / 256)
        assert row["trained_share"] == pytest.approx(row["num_targets"] / sum(lengths))
        seconds = row["data_time"] + row["compute_time"]
        assert row["tokens_per_second"] == pytest.approx(sum(lengths) / seconds)
        assert row["data_share_of_time"] == pytest.approx(row["data_time"] / seconds)
        products = matrices * sum(lengths) + 32 * info.vocab_size * row["num_targets"]
        pairs = sum(int(np.tril(np.ones((n, n))).sum()) for n in lengths)
        flops = 6 * products + 3 * 2 * 2 * 2 * 32 * pairs
        assert row["mfu"] == pytest.approx(flops / seconds / (peak_tflops * 1e12), rel=1e-9)
        assert not {"data_epoch", "elements_per_second", "num_attended"} & row.keys()


def test_without_a_known_device_there_is_no_utilisation(workspace, build_mix) -> None:
    build_mix()
    summary = train(workspace)
    assert summary.mfu is None
    assert not any("mfu" in row for row in rows(summary.run_dir, "train"))
    assert 0 <= summary.data_share_of_time < 1


# --- progress -----------------------------------------------------------------------------------

ROW = {
    "nll": 2.3141,
    "tokens_per_second": 12345.6,
    "padding_share": 0.0123,
    "mfu": 0.412,
    "lr": [6e-5, 3e-5],
    "num_skipped_steps": 2,
    "nll/mt/en-zh": 3.25,
    "nll/asr/en": 1.0,
}
FACTS = "loss 2.314, 12,346 tokens/s, padding 1.2%, MFU 41.2%, lr 6e-05, 2 skipped"
LOSSES = "asr/en 1.000, mt/en-zh 3.250"


def test_the_log_says_once_a_minute_how_far_how_well_and_how_fast(monkeypatch, caplog) -> None:
    clock = {"now": 100.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    caplog.set_level(logging.INFO)
    reporter = progress.StepProgress("train sft", 100)
    task = reporter.create_task("train", None, completed=40)
    reporter.show("train", ROW)
    reporter.show("valid", {"nll": 9.0, "nll/asr/en": 9.5})
    for _ in range(10):
        clock["now"] += 10
        task.step()
    # The step begun at 60 s is the sixth of this start: 6 in 60 s, 54 are left.
    assert caplog.messages == [
        "train sft: after step 40, valid loss 9.000; asr/en 9.500",
        f"train sft: 46 of 100 steps, 540 s left, {FACTS}; {LOSSES}",
    ]


def test_a_terminal_shows_a_bar_with_the_same(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with progress.StepProgress("train sft", 100) as reporter:
        reporter.create_task("train", None, completed=40).step()
        reporter.show("valid", {"nll": 9.0, "nll/asr/en": 9.5})
        reporter.show("train", ROW)
    shown = terminal.getvalue()
    for part in ("41/100", FACTS, LOSSES, "valid loss 9.000; asr/en 9.500"):
        assert part in shown


def test_one_process_alone_shows_progress(caplog) -> None:
    reporter = progress.StepProgress("train sft", 100, shown=False)
    task = reporter.create_task("train", None)
    task.step()
    reporter.show("train", ROW)
    assert caplog.messages == []


# --- Weights & Biases ---------------------------------------------------------------------------


def test_wandb_gets_every_row_and_goes_on_as_the_same_run(
    workspace, build_mix, monkeypatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    build_mix()
    settings = ["metrics.wandb_project=speech", "metrics.wandb_mode=offline"]
    check = stopping.Stop.check

    def crash(self: stopping.Stop, step: int) -> None:
        if step == 4:
            raise Crash
        check(self, step)

    monkeypatch.setattr(stopping.Stop, "check", crash)
    with pytest.raises(Crash):
        train(workspace, *settings)
    monkeypatch.setattr(stopping.Stop, "check", check)
    run_dir = train(workspace, *settings).run_dir
    files = sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"))
    names = {file.stem.removeprefix("run-") for file in files}
    assert len(files) == 2
    assert names == {(run_dir / "wandb.txt").read_text(encoding="utf-8").strip()}
    logged = [_logged(file) for file in files]
    assert set(logged[0]) == {0, 1, 2, 3}
    assert set(logged[1]) == {3, 4, 5, 6}  # from the checkpoint of step 2 on
    for row in rows(run_dir, "train"):
        step = row["Step"]
        assert logged[step > 2][step]["train/nll"] == row["nll"]
    assert logged[1][6]["valid/nll"] == rows(run_dir, "valid")[-1]["nll"]


def _logged(file: Path) -> dict[int, dict[str, Any]]:
    """The rows of a W&B file by their step, once its writer in the background has ended it."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for _ in range(100):
        records = [
            wandb_internal_pb2.Record.FromString(data) for data in _log_records(file.read_bytes())
        ]
        if records and records[-1].WhichOneof("record_type") == "exit":
            break
        time.sleep(0.1)
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found[row["_step"]] = row
    return found


def _log_records(content: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format after W&B's 7 bytes: checksum, length, kind, part of one."""
    place, parts = 7, b""
    while place < len(content):
        if 32_768 - place % 32_768 < 7:  # a block's end that no header fits into
            place += 32_768 - place % 32_768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_that_is_not_installed_is_said(workspace, build_mix, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    build_mix()
    with pytest.raises(MissingArtefactError, match=r"pip install 'cslm\[wandb\]'"):
        train(workspace, "metrics.wandb_project=speech")


# --- forgetting ---------------------------------------------------------------------------------


def test_what_is_forgotten_of_text_is_measured_from_before_the_first_step(
    workspace, build_mix
) -> None:
    """With instructions in the mix: the perplexity is that of `evaluate` on the same split."""
    build_mix(
        train=[*written("train", 20, task="tts"), *written("train", 10)],
        valid=[*written("valid", 6, task="tts"), *written("valid", 4)],
    )
    summary = train(workspace, "checkpoint.keep_last=9", "checkpoint.keep_best=9")
    valid = rows(summary.run_dir, "valid")
    assert [row["Step"] for row in valid] == [0, 2, 4, 6]
    assert set(summary.text_perplexity) == {"en", "zh"}
    evaluation = evaluate(
        workspace, load_run(summary.run_dir), summary.run_dir, split="valid", max_samples=0
    )
    losses = {g.languages: g.loss for g in evaluation.groups if g.task == "instruct"}
    for language, (first, last) in summary.text_perplexity.items():
        assert first == valid[0][f"ppl/instruct/{language}"]
        assert last == pytest.approx(math.exp(losses[language]), rel=1e-5)
        assert last < first


def test_a_mix_without_replay_is_measured_on_the_text_of_another(
    workspace, build_mix, caplog
) -> None:
    """The other split has speech tasks as well: they count for nothing, and for no checkpoint."""
    build_mix("replay", valid=[*written("valid", 6, task="tts"), *written("valid", 4)])
    build_mix("pretrain", train=written("train", 40, task="tts"))
    alone = train(workspace, output_dir=workspace.runs / "alone")
    forgets = ["validation.text_mix=replay", "validation.max_forgetting=1.0", "optimizer.lr=0.1"]
    summary = train(workspace, *forgets)
    measured = rows(summary.run_dir, "valid/text")
    assert [row["Step"] for row in measured] == [0, 2, 4, 6]
    names = {name for row in measured for name in row if name.startswith(("nll", "ppl"))}
    assert names == {f"{what}/instruct/{lang}" for what in ("nll", "ppl") for lang in ("en", "zh")}
    assert alone.text_perplexity == {}
    assert set(summary.text_perplexity) == {"en", "zh"}
    first, last = summary.text_perplexity["zh"]
    assert last > first
    assert f"(zh) is {last:.4g}, {last / first:.2f} times" in caplog.text
    assert not list(summary.run_dir.glob("rejects-text*"))
    cut_metrics(summary.run_dir, 2)
    kept = {
        category: [row["Step"] for row in rows(summary.run_dir, category)]
        for category in ("train", "valid", "valid/text")
    }
    assert kept == {"train": [1, 2], "valid": [0, 2], "valid/text": [0, 2]}


def test_the_text_mix_has_to_be_there_with_instructions_and_the_same_vocabulary(
    workspace, build_mix
) -> None:
    build_mix()
    build_mix("speech")
    build_mix("other", valid=written("valid", 4), tokenizer_id="hubert-20-ba9876543210")
    for name, error, message in (
        ("none", MissingArtefactError, "text_mix: .*none: no such mix"),
        ("speech", NoDataError, "mixes/speech: its valid split has no sample of task instruct"),
        ("other", TokenizerMismatchError, "hubert-20-ba9876543210"),
    ):
        with pytest.raises(error, match=message):
            train(workspace, f"validation.text_mix={name}", overwrite=True)


# --- the best checkpoint ------------------------------------------------------------------------


def test_the_best_checkpoint_is_kept_and_can_be_asked_for(workspace, build_mix) -> None:
    """Too high a rate: the loss on what is held out rises again while the run goes on."""
    build_mix(train=written("train", 3, task="tts"))
    settings = ["trainer.num_steps=40", "lr_scheduler.name=constant", "optimizer.lr=0.03"]
    summary = train(workspace, *settings)
    losses = {row["Step"]: row["nll"] for row in rows(summary.run_dir, "valid") if row["Step"]}
    lowest = min(losses, key=lambda step: losses[step])
    assert lowest < 40
    assert checkpoint_steps(summary.run_dir) == [lowest, 40]
    assert best_step(summary.run_dir) == lowest
    assert choose_checkpoint(summary.run_dir) == 40
    assert choose_checkpoint(summary.run_dir, "best") == lowest
    assert choose_checkpoint(summary.run_dir, str(lowest)) == lowest
    with pytest.raises(MissingArtefactError, match=rf"no checkpoint '7'; there are {lowest}, 40"):
        choose_checkpoint(summary.run_dir, "7")
    with pytest.raises(UsageError, match="give last, best or a step"):
        choose_checkpoint(summary.run_dir, "newest")
    step = load_run(summary.run_dir, step=lowest)
    evaluation = evaluate(workspace, step, summary.run_dir, split="valid", max_samples=0)
    total = sum(group.loss * group.num_targets for group in evaluation.groups)
    count = sum(group.num_targets for group in evaluation.groups)
    assert total / count == pytest.approx(losses[lowest], rel=1e-5)
    build_mix("sft")
    second = train(workspace, "trainer.num_steps=2", stage="sft", init_checkpoint="best")
    assert RunInfo.load(second.run_dir).init_from.step == lowest
    assert second.first_valid_loss == pytest.approx(losses[lowest], rel=1e-5)
