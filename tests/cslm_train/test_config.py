"""A configuration is what its file says, and a mistake in it is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.records import Stage
from cslm_train.config import TrainConfig
from cslm_train.config_files import from_dict, load_config, named_configs


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_named_configurations_load() -> None:
    assert named_configs() == ["pretrain", "sft", "smoke"]
    for name in named_configs():
        for stage in get_args(Stage):
            assert isinstance(load_config(name, stage=stage), TrainConfig)


def test_a_file_changes_the_fields_it_names(tmp_path: Path) -> None:
    path = write(tmp_path, "optimizer:\n  lr: 3e-4\ntrainer:\n  num_steps: 7\n")
    config = load_config(path)
    assert config.optimizer == dataclasses.replace(TrainConfig().optimizer, lr=3e-4)
    assert config.trainer.num_steps == 7
    assert config.model == TrainConfig().model
    assert load_config(write(tmp_path, "")) == TrainConfig()


def test_a_stage_may_differ(tmp_path: Path) -> None:
    path = write(tmp_path, "optimizer:\n  lr: 0.5\nsft:\n  optimizer:\n    lr: 0.25\n")
    assert load_config(path, stage="pretrain").optimizer.lr == 0.5
    assert load_config(path, stage="sft").optimizer.lr == 0.25
    assert load_config(path).optimizer.lr == 0.5
    assert load_config(path, ["optimizer.lr=1"], stage="sft").optimizer.lr == 1.0
    with pytest.raises(UsageError, match="mine.yaml: sft: trainer.steps: no such field"):
        load_config(write(tmp_path, "sft:\n  trainer:\n    steps: 3\n"), stage="pretrain")


def test_set_overrides_the_file_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, "optimizer:\n  lr: 0.1\n")
    overrides = ["optimizer.lr=1", "optimizer.lr=2e-3", "lr_scheduler.name=wsd"]
    config = load_config(path, [*overrides, "trainer.num_steps=null", "metrics.tensorboard=false"])
    assert config.optimizer.lr == 0.002
    assert config.lr_scheduler.name == "wsd"
    assert config.trainer.num_steps is None
    assert config.metrics.tensorboard is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser:\n  lr: 1\n", r"mine.yaml: optimiser: no such field; did you mean optimizer\?"),
        ("optimizer:\n  lrr: 1\n", r"mine.yaml: optimizer.lrr: no such field; did you mean lr\?"),
        ("trainer:\n  xyz: 1\n", "trainer.xyz: no such field; there are seed, num_steps"),
        ("optimizer:\n  lr: high\n", "optimizer.lr must be a number, not 'high'"),
        ("trainer:\n  num_steps: 1.5\n", "trainer.num_steps must be a whole number, not 1.5"),
        ("trainer:\n  seed: true\n", "trainer.seed must be a whole number, not True"),
        ("metrics:\n  tensorboard: 1\n", "metrics.tensorboard must be true or false, not 1"),
        ("lr_scheduler:\n  name: step\n", "lr_scheduler.name must be one of cosine, linear"),
        ("optimizer: 3\n", "optimizer must be a section of fields, not 3"),
        ("- 1\n", "the file must be a section of fields"),
        ("a: [\n", "mine.yaml: not YAML"),
        ("trainer:\n  num_steps: 0\n", "mine.yaml: trainer.num_steps must be above 0, not 0"),
        ("data:\n  pack_length: 4096\n", "data.pack_length is 4096, but must be at most model"),
        ("model:\n  model_dim: 250\n", "model.model_dim is 250, but must be an even multiple"),
        ("checkpoint:\n  every_n_steps: 70\n", "a multiple of validation.every_n_steps, or"),
        ("trainer:\n  num_epochs: null\n", "trainer.num_epochs is None, but must be given"),
    ],
)
def test_a_mistake_names_the_field_and_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(write(tmp_path, text))


def test_a_mistake_on_the_command_line_names_the_option() -> None:
    with pytest.raises(UsageError, match="--set trainer.steps=3: trainer.steps: no such field"):
        load_config("smoke", ["trainer.steps=3"])
    with pytest.raises(UsageError, match="--set trainer: expected section.field=value"):
        load_config("smoke", ["trainer"])
    with pytest.raises(UsageError, match="data.window must be above 0"):
        load_config("smoke", ["data.window=-1"])


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefactError, match="one of pretrain, sft, smoke"):
        load_config(tmp_path / "nothing.yaml")
    with pytest.raises(MissingArtefactError, match="smokey: no such configuration"):
        load_config("smokey")
    with pytest.raises(UsageError, match="not a readable YAML file"):
        load_config(tmp_path)


def test_yaml_builds_no_objects(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not YAML"):
        load_config(write(tmp_path, "trainer: !!python/object/apply:os.getcwd []\n"))


def test_a_configuration_survives_json() -> None:
    config = load_config("smoke", ["optimizer.lr=0.125", "trainer.num_epochs=null"])
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(config))), "run.json") == config
