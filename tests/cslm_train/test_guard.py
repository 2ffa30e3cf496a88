"""A step that is not sound changes nothing, is recorded, and the run goes on as it would."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
from test_resume import SETTINGS, Crash, outcome, train, weights
from torch import Tensor

from cslm_data.catalog import open_catalog
from cslm_data.errors import DivergedError
from cslm_data.query import run_query
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.models.loading import read_weights
from cslm_train.training import loss, stopping

EVERY = ["checkpoint.every_n_steps=1", "validation.every_n_steps=1", "checkpoint.keep_last=12"]
SPIKES = ["guard.spike_factor=10", "guard.spike_window=6"]

Spoil = Callable[[Tensor], Tensor]


def nan_loss(nll_K: Tensor) -> Tensor:
    return nll_K * float("nan")


def endless_loss(nll_K: Tensor) -> Tensor:
    """Infinite, with the gradient that it had."""
    return nll_K + float("inf")


def endless_gradient(nll_K: Tensor) -> Tensor:
    nll_K.register_hook(lambda grad_K: grad_K * float("inf"))
    return nll_K * 1.0


def large_gradient(nll_K: Tensor) -> Tensor:
    nll_K.register_hook(lambda grad_K: grad_K * 1000)
    return nll_K * 1.0


@pytest.fixture
def spoil_steps(monkeypatch) -> Callable[[Mapping[int, Spoil]], None]:
    """Spoil the loss of the first pack of some steps."""

    def spoil(steps: Mapping[int, Spoil]) -> None:
        monkeypatch.undo()
        now = {"step": 0, "packs": 0}
        set_step, token_nll = loss.LossTrainUnit.set_step_nr, loss.token_nll

        def begin(self: loss.LossTrainUnit, step: int) -> None:
            now.update(step=step, packs=0)
            set_step(self, step)

        def spoilt(model: torch.nn.Module, batch: Any) -> Tensor:
            nll_K = token_nll(model, batch)
            if model.training:
                now["packs"] += 1
                if now["packs"] == 1 and now["step"] in steps:
                    return steps[now["step"]](nll_K)
            return nll_K

        monkeypatch.setattr(loss.LossTrainUnit, "set_step_nr", begin)
        monkeypatch.setattr(loss, "token_nll", spoilt)

    return spoil


def skipped(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "skipped.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def optimizer_tensors(run_dir: Path, step: int) -> dict[str, Tensor]:
    """What the optimizer remembers at a checkpoint, whatever it is kept under."""
    found: dict[str, Tensor] = {}

    def walk(tree: object, at: str) -> None:
        if isinstance(tree, Tensor):
            found[at] = tree
        elif isinstance(tree, dict):
            for name, value in tree.items():
                if name != "param_groups":
                    walk(value, f"{at}/{name}")

    for path in (run_dir / "checkpoints" / f"step_{step}" / "optimizer").rglob("*.pt"):
        walk(torch.load(path, weights_only=True), path.name)
    return found


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(nan_loss, "loss"), (endless_loss, "loss"), (endless_gradient, "gradient")],
)
def test_a_bad_step_leaves_weights_and_optimizer_as_they_are(
    workspace: Workspace, build_mix, spoil_steps, caplog, spoil: Spoil, reason: str
) -> None:
    build_mix()
    config = load_config("smoke", [*SETTINGS, *EVERY, "trainer.num_steps=4"])
    reference = train(workspace, config, "reference").run_dir
    spoil_steps({3: spoil})
    summary = train(workspace, config)
    run_dir = summary.run_dir
    at = {step: read_weights(run_dir, step) for step in (1, 2, 3, 4)}
    assert same(at[2], read_weights(reference, 2))
    assert same(at[3], at[2])
    assert not same(at[4], at[3])
    assert all(tensor.isfinite().all() for tensor in at[4].values())
    memory = {step: optimizer_tensors(run_dir, step) for step in (2, 3, 4)}
    assert len(memory[2]) == 3 * (len(at[2]) - 1)  # the tied matrix is saved under two names
    assert same(memory[3], memory[2])
    assert not same(memory[4], memory[3])
    (row,) = skipped(run_dir)
    assert (row["step"], row["reason"]) == (3, reason)
    assert f"step 3 skipped: its {reason}" in caplog.text
    assert (summary.finished, summary.num_skipped_steps) == (True, 1)
    rates = [[r["lr"] for r in outcome(folder)["train"]] for folder in (run_dir, reference)]
    assert rates[0] == rates[1]


def test_a_skipped_step_is_in_no_mean_of_its_row(workspace, build_mix, spoil_steps) -> None:
    build_mix()
    train(workspace, load_config("smoke", [*SETTINGS, "trainer.num_steps=4"]), "reference")
    spoil_steps({4: nan_loss})
    settings = [*SETTINGS, "trainer.num_steps=4", "metrics.every_n_steps=2"]
    run_dir = train(workspace, load_config("smoke", settings)).run_dir
    _, last = outcome(run_dir)["train"]
    good, bad = outcome(workspace.runs / "reference")["train"][2:]
    assert (last["Step"], last["num_skipped_steps"]) == (4, 1)
    for name in ("nll", "grad_norm", "num_targets"):
        assert last[name] == pytest.approx(good[name], rel=1e-12)
    for name in ("num_examples", "num_elements"):  # they were read
        assert last[name] == good[name] + bad[name]


def test_a_row_of_skipped_steps_alone_has_no_loss(workspace, build_mix, spoil_steps) -> None:
    build_mix()
    spoil_steps({2: nan_loss})
    summary = train(workspace, load_config("smoke", [*SETTINGS, "trainer.num_steps=4"]))
    row = outcome(summary.run_dir)["train"][1]
    assert not [name for name in row if name.startswith(("nll", "grad_norm"))]
    assert [step for step, _ in summary.train_curve] == [1, 3, 4]
    lines = (summary.run_dir / "metrics" / "train.jsonl").read_text(encoding="utf-8")
    assert "NaN" not in lines


def test_the_record_names_the_samples_of_the_step_and_those_at_fault(
    workspace, build_mix, monkeypatch
) -> None:
    build_mix()
    token_nll = loss.token_nll
    at_fault = "tts-train-0007"

    def spoilt(model: torch.nn.Module, batch: Any) -> Tensor:
        nll_K = token_nll(model, batch)
        if not model.training or at_fault not in batch.keys:
            return nll_K
        document = batch.keys.index(at_fault)
        begin, end = (sum(batch.lengths[:n]) for n in (document, document + 1))
        bad_K = (batch.positions_K >= begin) & (batch.positions_K < end)
        return torch.where(bad_K, torch.nan, nll_K)

    monkeypatch.setattr(loss, "token_nll", spoilt)
    run_dir = train(workspace, load_config("smoke", SETTINGS)).run_dir
    rows = skipped(run_dir)
    batches = f"'{run_dir}/batches-*.parquet'"
    read = duckdb.sql(f"select step from {batches} where key = '{at_fault}' order by step")
    assert [row["step"] for row in rows] == [step for (step,) in read.fetchall()]
    for row in rows:
        keys = duckdb.sql(f"select key from {batches} where step = {row['step']}").fetchall()
        assert sorted(row["keys"]) == sorted(key for (key,) in keys)
        assert row["suspects"] == [at_fault]
        assert row["loss"] is None


@pytest.mark.parametrize("crash_at", [6, 9])
def test_what_the_guard_remembers_survives_a_crash(
    workspace, build_mix, spoil_steps, monkeypatch, crash_at: int
) -> None:
    """The spike of step 8 is one by the norms of steps 1 to 7; step 3 is no part of them."""
    build_mix()
    config = load_config("smoke", [*SETTINGS, *SPIKES])
    bad = {3: nan_loss, 8: large_gradient}
    spoil_steps(bad)
    reference = train(workspace, config, "reference").run_dir
    assert [(r["step"], r["reason"]) for r in skipped(reference)] == [(3, "loss"), (8, "spike")]
    norms = [row["grad_norm"] for row in outcome(reference)["train"][:7] if "grad_norm" in row]
    limit = torch.tensor(norms, dtype=torch.float64).median().item() * 10
    assert skipped(reference)[1]["limit"] == pytest.approx(limit, rel=1e-12)
    check = stopping.Stop.check

    def crash(self: stopping.Stop, step: int) -> None:
        if step == crash_at:
            raise Crash
        check(self, step)

    monkeypatch.setattr(stopping.Stop, "check", crash)
    with pytest.raises(Crash):
        train(workspace, config)
    monkeypatch.undo()
    spoil_steps(bad)
    assert train(workspace, config).finished
    run_dir = workspace.runs / "pretrain"
    assert outcome(run_dir) == outcome(reference)
    assert same(weights(run_dir), weights(reference))
    assert skipped(run_dir) == skipped(reference)


def test_without_a_factor_a_large_gradient_is_clipped_and_learnt(
    workspace, build_mix, spoil_steps
) -> None:
    build_mix()
    spoil_steps({8: large_gradient})
    summary = train(workspace, load_config("smoke", SETTINGS))
    assert summary.num_skipped_steps == 0
    assert outcome(summary.run_dir)["train"][7]["grad_norm"] > 100


def test_too_many_bad_steps_in_a_row_end_the_run(workspace, build_mix, spoil_steps) -> None:
    """Four are allowed: 2 is alone, 6 is the fifth from 2 on but the third in a row."""
    build_mix()
    config = load_config("smoke", [*SETTINGS, "guard.max_skipped_steps=3"])
    steps = (2, 4, 5, 6, 8, 9, 10, 11)
    spoil_steps(dict.fromkeys(steps, nan_loss))
    for _ in range(2):  # the second time it goes on from step 8, one bad step behind it
        with pytest.raises(DivergedError, match=r"4 steps in a row up to step 11 .*optimizer\.lr"):
            train(workspace, config)
    run_dir = workspace.runs / "pretrain"
    assert [row["step"] for row in skipped(run_dir)] == list(steps)
    assert all(tensor.isfinite().all() for tensor in weights(run_dir).values())


def test_without_the_guard_one_bad_step_spoils_the_model(workspace, build_mix, spoil_steps) -> None:
    build_mix()
    spoil_steps({2: nan_loss})
    settings = [*SETTINGS, "trainer.num_steps=4", "guard.on=false", "checkpoint.keep_best=0"]
    run_dir = train(workspace, load_config("smoke", settings)).run_dir
    assert not (run_dir / "skipped.jsonl").exists()
    assert weights(run_dir)["final_proj.weight"].isnan().any()


def test_sql_says_what_a_run_recorded_and_skipped(workspace, build_mix, spoil_steps) -> None:
    with open_catalog(workspace, write=True, doing="test"):
        pass
    empty = "select count(*) from run_metrics union all select count(*) from skipped_steps"
    assert run_query(workspace, empty).rows == [(0,), (0,)]
    build_mix()
    spoil_steps({3: nan_loss})
    run_dir = train(workspace, load_config("smoke", [*SETTINGS, "trainer.num_steps=4"])).run_dir
    rows = outcome(run_dir)
    with (run_dir / "metrics" / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"Time": "2026-')  # a line that is being written
    found = run_query(
        workspace,
        "select category, step, task, languages, value from run_metrics "
        "where run = 'pretrain' and metric = 'nll'",
    ).rows
    expected = {
        (category, row["Step"], *([*name.split("/"), None, None][1:3]), value)
        for category, listed in rows.items()
        for row in listed
        for name, value in row.items()
        if name.split("/")[0] == "nll"
    }
    assert len(expected) > 20
    assert set(found) == expected
    (row,) = skipped(run_dir)
    query = "select step, reason, loss, keys, suspects from skipped_steps"
    assert run_query(workspace, query).rows == [(3, "loss", None, row["keys"], row["suspects"])]
