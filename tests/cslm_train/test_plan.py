"""The arithmetic of a plan is that of the run it speaks of, and what it cannot plan it says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_run import make_run

from cslm_data.errors import CslmError, MissingArtefactError, NoDataError, UsageError
from cslm_data.framing import CONTROLS, frame
from cslm_data.shards import iter_samples
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config, named_configs
from cslm_train.models.hugging_face import config_json
from cslm_train.plan import plan_run
from cslm_train.planning.devices import find_gpu
from cslm_train.planning.records import Request, RunPlan
from cslm_train.planning.shapes import SHAPES
from cslm_train.train import run_training
from cslm_train.vocabulary import JointVocabulary

GPU = find_gpu("h100", "bf16", memory_gb=None, peak_tflops=None)


@pytest.fixture
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


def plan(workspace: Workspace, config: str, *settings: str, **request) -> RunPlan:
    stage = request.setdefault("stage", "pretrain")
    return plan_run(workspace, load_config(config, settings, stage=stage), Request(**request), GPU)


def describe(mix_dir: Path, lengths: dict[str, list[int]]) -> None:
    """Add to a mix what build-mix says of the samples' tokens, true or not."""
    keys = {split: [s.key for s in iter_samples(mix_dir, split)] for split in ("train", "valid")}
    rows = [
        (split, length, keys.get(split, [])[number : number + 1])
        for split in lengths
        for number, length in enumerate(lengths[split])
    ]
    table = pa.table(
        {
            "split": pa.array([split for split, _, _ in rows]),
            "num_tokens": pa.array([length for _, length, _ in rows], pa.uint32()),
            "key": pa.array([key[0] if key else "" for _, _, key in rows]),
        }
    )
    pq.write_table(table, mix_dir / "mix.parquet")
    path = mix_dir / "mix.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    row["splits"] = {
        split: {"num_samples": len(n), "num_tokens": sum(n)} for split, n in lengths.items()
    }
    row["realised"] = [
        {
            "split": split,
            "task": "asr",
            "languages": "en",
            "num_samples": len(n),
            "realised_tokens": sum(n),
        }
        for split, n in lengths.items()
    ]
    path.write_text(json.dumps(row), encoding="utf-8")


TINY = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "model.dropout=0", "data.pack_length=64"),
    *("trainer.num_steps=null", "trainer.num_epochs=1", "trainer.grad_accumulation=2"),
    *("validation.every_n_steps=4", "checkpoint.every_n_steps=4", "metrics.tensorboard=false"),
]


def test_a_run_is_what_its_plan_said(
    workspace: Workspace, build_mix: Callable[..., Path], vocabulary: JointVocabulary
) -> None:
    folder = build_mix()
    of_splits = {}
    for split in ("train", "valid"):
        framed = [frame(s.segments, vocabulary.framing) for s in iter_samples(folder, split)]
        of_splits[split] = [len(ids) for ids, _ in vocabulary.encode_batch(framed)]
    lengths = of_splits["train"]
    describe(folder, of_splits)
    before = plan(workspace, "smoke", *TINY)
    summary = run_training(
        workspace, stage="pretrain", config=load_config("smoke", TINY, stage="pretrain")
    )
    after = plan(workspace, "smoke", *TINY)
    assert (before.steps, before.parameters) == (after.steps, after.parameters)
    assert before.reading.source.startswith("the lengths of samples in mixes/pretrain")
    assert after.reading.source == "the plan of runs/pretrain"
    assert dataclasses.replace(before.reading, source="") == dataclasses.replace(
        after.reading, source=""
    )
    assert before.steps.num_steps == summary.num_steps
    assert before.reading.num_packs == summary.num_packs
    assert before.reading.fill == pytest.approx(summary.pack_fill)
    assert before.parameters.total == summary.num_parameters
    assert before.reading.num_positions == sum(lengths) - len(lengths)
    run_dir = workspace.runs / "pretrain"
    metrics = (run_dir / "metrics" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rates = {row["Step"]: row["lr"] for row in map(json.loads, metrics)}
    for step, rate in before.steps.learning_rates:
        assert rates[step] == pytest.approx(rate)
    newest = max((run_dir / "checkpoints").glob("step_*"), key=lambda f: int(f.name[5:]))
    size = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
    assert before.disk.checkpoint_bytes < size < before.disk.checkpoint_bytes + 100_000


@pytest.mark.parametrize(
    ("too_long", "positions", "packs"),
    [("skip", 150, 2), ("cut", 250, 3), ("split", 390, 4)],
)
def test_what_is_longer_than_a_pack_is_read_as_the_policy_says(
    too_long: str,
    positions: int,
    packs: int,
    workspace: Workspace,
    build_mix: Callable[..., Path],
) -> None:
    # 100 + 50 positions fill one pack and a half; 240 are left out, 100, or 100 + 100 + 40.
    folder = build_mix()
    describe(folder, {"train": [101, 51, 241], "test": [500]})
    planned = plan(workspace, "smoke", "data.pack_length=100", f"data.too_long={too_long}")
    reading = planned.reading
    assert (reading.num_positions, reading.num_packs) == (positions, packs)
    assert (reading.num_samples, reading.num_tokens, reading.num_too_long) == (3, 393, 1)
    assert any("longer than a pack" in note for note in planned.notes)
    pairs = {"skip": 5050 + 1275, "cut": 2 * 5050 + 1275, "split": 3 * 5050 + 1275 + 820}
    assert reading.mean_context == pytest.approx(pairs[too_long] / positions)


def test_tokens_take_the_place_of_a_mix(workspace: Workspace) -> None:
    planned = plan(
        workspace,
        "paper",
        tokens=8_600_000_000,
        sample_tokens=501,
        shape="llama-3.1-8b",
        num_gpus=24,
    )
    samples = 8_600_000_000 // 501
    packs = -(-(8_600_000_000 - samples) * 100 // (99 * 4096))
    assert planned.reading.num_packs == packs
    assert planned.steps.packs_per_gpu == 3  # 72 packs a step on 24 GPUs
    assert planned.steps.num_steps == -(-packs // 72)
    assert planned.steps.warmup_steps == round(0.03 * planned.steps.num_steps)
    assert dict(planned.steps.learning_rates)[planned.steps.warmup_steps + 1] == 6e-5
    assert planned.architecture.vocab_size == 128_256 + len(CONTROLS) + 4096
    assert planned.parameters.new_rows == 2 * (len(CONTROLS) + 4096) * 4096
    # Six FLOPs for each weight that multiplies a token, and attention over 250 positions.
    matrices = planned.parameters.attention + planned.parameters.feed_forward
    matrices += planned.parameters.output
    flops = 6 * matrices + 6 * 32 * 2 * 4096 * 250.5
    assert planned.cost.flops_per_token == pytest.approx(flops, rel=1e-3)
    seconds = planned.steps.num_tokens * flops / (24 * 0.4 * 989.4e12)
    assert planned.cost.hours == pytest.approx(seconds / 3600, rel=1e-3)
    assert planned.cost.gpu_hours == pytest.approx(24 * seconds / 3600, rel=1e-3)
    assert planned.fits


def test_what_does_not_fit_comes_with_ways_that_do(workspace: Workspace) -> None:
    settings = [
        *("parallel.data_parallel=ddp", "parallel.activation_checkpointing=none"),
        "trainer.packs_per_step=64",
    ]
    planned = plan(
        workspace, "paper", *settings, tokens=10**9, shape="qwen3-8b", num_gpus=8, num_units=500
    )
    assert not planned.fits
    now = [way for way in planned.ways if way.configured]
    assert [(way.total, way.fits, way.settings) for way in now] == [
        (planned.memory.total, False, "")
    ]
    assert any(way.fits for way in planned.ways)
    for way in planned.ways:  # the settings that a way names make what it says
        again = plan(
            workspace,
            "paper",
            *settings,
            *way.settings.split(),
            tokens=10**9,
            shape="qwen3-8b",
            num_gpus=8,
            num_units=500,
        )
        assert (again.memory.total, again.fits) == (way.total, way.fits)


def test_only_rows_that_train_need_gradients(workspace: Workspace) -> None:
    request = {"tokens": 10**6, "shape": "qwen2.5-0.5b"}
    settings = ["model.base=required", "trainer.num_steps=10", "data.pack_length=512"]
    whole = plan(workspace, "smoke", *settings, **request)
    rows = plan(workspace, "smoke", *settings, "freeze.new_rows_only_steps=null", **request)
    some = plan(workspace, "smoke", *settings, "freeze.new_rows_only_steps=9", **request)
    assert whole.memory == some.memory
    assert rows.parameters.trainable == rows.parameters.embedding
    assert rows.memory.optimizer == 8 * rows.parameters.embedding


def test_a_stage_that_begins_with_a_run_has_its_architecture(
    workspace: Workspace, tokenizer_folder: Path
) -> None:
    make_run(workspace.runs / "pretrain", tokenizer_folder)
    other = make_run(workspace.root / "elsewhere" / "other", tokenizer_folder, num_units=50)
    request = {"stage": "sft", "tokens": 10**6}
    own = plan(workspace, "paper", **request)
    assert own.architecture.model.model_dim == 32
    assert own.architecture.model.max_seq_len == 4096
    named = plan(workspace, "paper", **request, init_from=other)
    assert named.architecture.vocab_size == own.architecture.vocab_size + 30
    assert own.parameters.new_rows == 0
    with pytest.raises(MissingArtefactError, match="no training run here"):
        plan(workspace, "paper", **request, init_from=workspace.root)


@pytest.mark.parametrize("name", named_configs())
@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_every_configuration_can_be_planned(name: str, stage: str, workspace: Workspace) -> None:
    planned = plan(workspace, name, stage=stage, tokens=10**7, shape="llama-3.2-1b", num_gpus=8)
    assert planned.steps.num_steps > 0
    assert planned.memory.total > 0


def test_a_config_json_is_enough_of_a_base_model(workspace: Workspace, tmp_path: Path) -> None:
    model = dataclasses.replace(SHAPES["qwen3-0.6b"].model, max_seq_len=4096)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_json(model, vocab_size=151_936)), encoding="utf-8")
    by_name = plan(workspace, "paper", tokens=10**7, shape="Qwen/Qwen3-0.6B")
    for settings, request in (
        ([], {"shape": str(path)}),
        ([], {"shape": str(tmp_path)}),
        ([f"model.base={tmp_path}"], {}),
    ):
        planned = plan(workspace, "paper", *settings, tokens=10**7, **request)
        assert planned.parameters == by_name.parameters
        assert planned.memory == by_name.memory


@pytest.mark.parametrize(
    ("config", "settings", "request_", "message"),
    [
        ("smoke", [], {}, "mixes/pretrain: no finished mix here"),
        ("smoke", [], {"tokens": 1000}, "name a model with --shape"),
        ("paper", [], {"tokens": 1000}, "model.base: this configuration is for a base model"),
        ("paper", [], {"tokens": 1000, "shape": "gpt-9"}, "--shape gpt-9: no such shape"),
        (
            "paper",
            [],
            {"tokens": 1000, "shape": "qwen3-8b", "num_gpus": 5},
            "5 processes cannot share 72 packs equally",
        ),
        (
            "paper",
            ["parallel.shard_group_size=5"],
            {"tokens": 1000, "shape": "qwen3-8b", "num_gpus": 8},
            "parallel.shard_group_size: 8 processes do not make groups of 5",
        ),
        (
            "paper",
            ["model.max_seq_len=50000"],
            {"tokens": 1000, "shape": "qwen2.5-7b"},
            "model.max_seq_len is 50000, but Qwen/Qwen2.5-7B holds 32768 tokens at most",
        ),
    ],
)
def test_what_cannot_be_planned_is_said(
    config: str, settings: list, request_: dict, message: str, workspace: Workspace
) -> None:
    with pytest.raises(CslmError, match=message):
        plan(workspace, config, *settings, **request_)


def test_a_mix_that_fits_nowhere_or_belongs_elsewhere_is_refused(
    workspace: Workspace, build_mix: Callable[..., Path]
) -> None:
    describe(build_mix(), {"train": [200]})
    with pytest.raises(NoDataError, match="no sample of its train split fits into a pack of 100"):
        plan(workspace, "smoke", "data.pack_length=100")
    with pytest.raises(UsageError, match="a mix of stage pretrain; plan it with --stage pretrain"):
        plan(workspace, "smoke", stage="sft", mix="pretrain")


def test_a_gpu_is_known_by_name_or_by_its_numbers() -> None:
    known = find_gpu("A100-40GB", "bf16", memory_gb=None, peak_tflops=None)
    assert known.memory_bytes == 39 * 1024**3
    assert known.peak_flops == 312e12
    given = find_gpu("mine", "fp32", memory_gb=4, peak_tflops=0.2)
    assert (given.memory_bytes, given.peak_flops) == (4 * 1024**3, 0.2e12)
    with pytest.raises(UsageError, match="--gpu mine: not known; there are a10,"):
        find_gpu("mine", "bf16", memory_gb=None, peak_tflops=1)
    with pytest.raises(UsageError, match="--gpu mine: its peak in bf16 is not known"):
        find_gpu("mine", "bf16", memory_gb=4, peak_tflops=None)
