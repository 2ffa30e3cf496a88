"""YAML + `--set section.field=value` → `TrainConfig`, every field checked.

A wrong field is an error that names it and where it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.records import Stage
from cslm_data.settings import build, parse_yaml
from cslm_train.config import TrainConfig


def named_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("cslm_train").joinpath("configs")
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_config(
    config: str | Path = "smoke", overrides: Sequence[str] = (), *, stage: Stage | None = None
) -> TrainConfig:
    """The configuration of a file, or of a name of `named_configs()`, with `section.field=value`.

    A file may hold sections `pretrain` and `sft` with what differs in that stage; the overrides
    come last. Raises UsageError that names the field and the file, MissingArtefactError for no
    such file.
    """
    import yaml

    text, where = _read(config)
    tree = parse_yaml(text, where=where)
    stages = {}
    if isinstance(tree, dict):
        stages = {name: tree.pop(name) for name in get_args(Stage) if name in tree}
    built = build(TrainConfig, tree, where=where, base=TrainConfig())
    for name, section in stages.items():
        changed = build(TrainConfig, section, where=f"{where}: {name}", base=built)
        built = changed if name == stage else built
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path.strip():
            raise UsageError(f"--set {override}: expected section.field=value")
        try:
            nested: Any = yaml.safe_load(value)
        except yaml.YAMLError:
            nested = value
        for name in reversed(path.strip().split(".")):
            nested = {name: nested}
        built = build(TrainConfig, nested, where=f"--set {override}", base=built)
    check_config(built, where)
    return built


def from_dict(tree: Any, where: str) -> TrainConfig:
    """The configuration of `dataclasses.asdict`."""
    return build(TrainConfig, tree, where=where, base=TrainConfig())


def check_config(config: TrainConfig, where: str = "configuration") -> None:
    """Raise UsageError for a field that cannot be, alone or beside another."""
    model, trainer, schedule = config.model, config.trainer, config.lr_scheduler
    for name in _POSITIVE:
        value = _get(config, name)
        if value is not None and value <= 0:
            raise UsageError(f"{where}: {name} must be above 0, not {value}")
    metrics, validation = config.metrics.every_n_steps, config.validation.every_n_steps
    checkpoint = config.checkpoint.every_n_steps
    best = config.checkpoint.keep_best > 0
    rules = {
        "model.model_dim: an even multiple of model.num_heads, where model.head_dim is not given": (
            model.head_dim is not None or model.model_dim % (2 * model.num_heads) == 0
        ),
        "model.head_dim: even": model.head_width % 2 == 0,
        "model.new_rows_noise: 0 or more": model.new_rows_noise >= 0,
        "model.num_kv_heads: a divisor of model.num_heads": (
            model.num_heads % model.num_kv_heads == 0
        ),
        "model.dropout: at least 0 and below 1": 0 <= model.dropout < 1,
        "data.pack_length: at most model.max_seq_len": (
            config.data.pack_length <= model.max_seq_len
        ),
        "lr_scheduler.warmup_ratio: at least 0 and below 1": 0 <= schedule.warmup_ratio < 1,
        "lr_scheduler.decay_ratio: at least 0, and at most 1 with lr_scheduler.warmup_ratio": (
            0 <= schedule.decay_ratio <= 1 - schedule.warmup_ratio
        ),
        "lr_scheduler.final_lr_ratio: at least 0 and at most 1, and above 0 for wsd": (
            0 <= schedule.final_lr_ratio <= 1
            and (schedule.final_lr_ratio > 0 or schedule.name != "wsd")
        ),
        "trainer.num_epochs: given when trainer.num_steps is not": (
            trainer.num_steps is not None or trainer.num_epochs is not None
        ),
        "validation.every_n_steps: a multiple of metrics.every_n_steps": validation % metrics == 0,
        "checkpoint.every_n_steps: a multiple of metrics.every_n_steps": checkpoint % metrics == 0,
        "checkpoint.every_n_steps: a multiple of validation.every_n_steps, or "
        "checkpoint.keep_best 0": not best or checkpoint % validation == 0,
    }
    for rule, holds in rules.items():
        if not holds:
            name, _, expected = rule.partition(": ")
            raise UsageError(f"{where}: {name} is {_get(config, name)}, but must be {expected}")


_POSITIVE = (
    "model.model_dim",
    "model.num_layers",
    "model.num_heads",
    "model.num_kv_heads",
    "model.head_dim",
    "model.ffn_inner_dim",
    "model.max_seq_len",
    "data.pack_length",
    "data.window",
    "data.prefetch",
    "optimizer.lr",
    "trainer.num_steps",
    "trainer.num_epochs",
    "trainer.grad_accumulation",
    "trainer.max_grad_norm",
    "trainer.num_threads",
    "validation.every_n_steps",
    "checkpoint.every_n_steps",
    "checkpoint.keep_last",
    "metrics.every_n_steps",
)


def _get(config: TrainConfig, name: str) -> Any:
    section, field_name = name.split(".")
    return getattr(getattr(config, section), field_name)


def _read(config: str | Path) -> tuple[str, str]:
    """Text of a configuration and the name to give it in errors."""
    names = named_configs()
    if isinstance(config, str) and config in names:
        folder = resources.files("cslm_train").joinpath("configs")
        return folder.joinpath(f"{config}.yaml").read_text(encoding="utf-8"), f"{config}.yaml"
    try:
        return Path(config).read_text(encoding="utf-8"), str(config)
    except FileNotFoundError:
        raise MissingArtefactError(
            f"{config}: no such configuration; give a YAML file or one of {', '.join(names)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{config}: not a readable YAML file ({error})") from None
