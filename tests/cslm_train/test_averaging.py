"""The mean of checkpoints is a run like any other, but for training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from crashing import TINY, saved, train
from cslm_cli.train import app
from typer.testing import CliRunner

from cslm_data.errors import AlreadyExistsError, MissingArtefactError, UsageError
from cslm_train.config import LoraConfig
from cslm_train.config_files import load_config
from cslm_train.models.loading import load_run, read_weights
from cslm_train.run_folder import RunInfo, checkpoint_steps
from cslm_train.train import run_training
from cslm_train.training.averaging import average_run

SETTINGS = [*TINY, "checkpoint.every_n_steps=2", "validation.every_n_steps=2"]


@pytest.fixture
def run_dir(workspace, build_mix) -> Path:
    build_mix()
    return train(workspace, load_config("smoke", SETTINGS), "whole")


def test_a_mean_is_that_of_each_weight(workspace, run_dir: Path) -> None:
    info = average_run(run_dir, workspace.runs / "mean", last=3)
    assert info.averaged == (4, 6, 8)
    loaded = load_run(workspace.runs / "mean")
    assert loaded.info == info
    assert loaded.step == 8
    tables = ("decoder_frontend.embed.weight", "final_proj.weight")
    file = saved(workspace.runs / "mean")
    assert len({file[name].data_ptr() for name in tables}) == 1
    mean, parts = loaded.model.state_dict(), [saved(run_dir, step) for step in (4, 6, 8)]
    assert mean.keys() == parts[0].keys()
    for name, weight in mean.items():
        expected = torch.stack([part[name] for part in parts]).mean(dim=0)
        torch.testing.assert_close(weight, expected, atol=1e-7, rtol=1e-6)


def test_means_of_other_steps_are_other_runs(workspace, run_dir: Path) -> None:
    ids = {RunInfo.load(run_dir).run_id}
    for steps in [(2, 4), (8, 2, 2)]:
        info = average_run(run_dir, workspace.runs / "mean", steps=steps, overwrite=True)
        assert info.averaged == tuple(sorted(set(steps)))
        assert checkpoint_steps(workspace.runs / "mean") == [max(steps)]
        ids.add(info.run_id)
    ids.add(average_run(run_dir, workspace.runs / "all").run_id)
    assert len(ids) == 4


def test_adapters_are_merged_before_the_mean(workspace, build_mix, run_dir: Path) -> None:
    """The mean of B A is not the product of the means."""
    config = load_config("smoke", [*SETTINGS, "lora.rank=2"])
    adapted = train(workspace, config, "adapted", init_from=run_dir)
    info = average_run(adapted, workspace.runs / "mean", last=2)
    assert info.config.lora == LoraConfig()
    mean = load_run(workspace.runs / "mean").model.state_dict()
    first, second = read_weights(adapted, 6), read_weights(adapted, 8)
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (first[name] + second[name]) / 2, atol=1e-7, rtol=1e-6)


def test_a_mean_begins_another_run_but_is_not_trained_itself(workspace, run_dir: Path) -> None:
    average_run(run_dir, workspace.runs / "mean", last=2)
    config = load_config("smoke", SETTINGS)
    with pytest.raises(AlreadyExistsError, match="averaged"):
        train(workspace, config, "mean")
    summary = run_training(
        workspace,
        stage="pretrain",
        config=config,
        output_dir=workspace.runs / "next",
        init_from=workspace.runs / "mean",
    )
    whole = run_training(workspace, stage="pretrain", config=config, output_dir=run_dir)
    losses = [loss for _, loss in whole.valid_curve]
    assert summary.first_valid_loss < losses[2]  # less than halfway through


def test_what_cannot_be_averaged_is_said(workspace, run_dir: Path, tmp_path: Path) -> None:
    mean = workspace.runs / "mean"
    with pytest.raises(MissingArtefactError, match="no checkpoint of step 5; there are 2, 4, 6, 8"):
        average_run(run_dir, mean, steps=[4, 5])
    with pytest.raises(UsageError, match=r"asked for were 9 of 2, 4, 6, 8; .*keep_last"):
        average_run(run_dir, mean, last=9)
    with pytest.raises(UsageError, match="asked for were 1 of"):
        average_run(run_dir, mean, steps=[4])
    with pytest.raises(UsageError, match="give one of them"):
        average_run(run_dir, mean, steps=[4, 8], last=2)
    with pytest.raises(UsageError, match="the run itself"):
        average_run(run_dir, run_dir, overwrite=True)
    with pytest.raises(AlreadyExistsError, match="holds a run"):
        average_run(run_dir, train(workspace, load_config("smoke", SETTINGS), "other"))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    with pytest.raises(AlreadyExistsError, match="something else"):
        average_run(run_dir, tmp_path / "precious", overwrite=True)
    assert not list(workspace.runs.glob(".*"))
    assert not mean.exists()


def test_the_command_says_what_it_wrote(workspace, run_dir: Path) -> None:
    where = ["-w", str(workspace.root), "--run", "whole"]
    done = CliRunner().invoke(app, ["average", *where, "--last", "2", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["averaged"] == [6, 8]
    assert load_run(workspace.runs / "whole-average").info.run_id == report["run_id"]
    wrong = CliRunner().invoke(app, ["average", *where, "--steps", "6,x"])
    assert isinstance(wrong.exception, UsageError)
    assert "--steps 6,x: expected numbers" in str(wrong.exception)
