"""Rows of metrics, completed → JSONL, TensorBoard, Weights & Biases and the live progress.

Reads what fairseq2 and the units publish every `metrics.every_n_steps` steps and at validations;
writes runs/<name>/metrics/, tb/, wandb/.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq2.file_system import FileSystem
from fairseq2.gang import Gangs
from fairseq2.metrics.recorders import (
    JsonlMetricRecorder,
    MetricDescriptorRegistry,
    MetricRecorder,
    TensorBoardRecorder,
)
from torch import Tensor

from cslm_data.errors import CslmError, MissingArtefactError, UsageError
from cslm_data.workspace import atomic_path
from cslm_train.config import MetricsConfig
from cslm_train.run_folder import RunInfo
from cslm_train.training.flops import peak_flops
from cslm_train.training.metrics import Pace, Row, metrics_files, read_rows

log = logging.getLogger(__name__)

_NO_DESCRIPTORS = MetricDescriptorRegistry([])


class RunRecorder(MetricRecorder):
    """Completes each row and hands it on.

    A value that is not finite is left out of the row: JSON has none.
    """

    def __init__(
        self,
        recorders: Sequence[MetricRecorder],
        *,
        pace: Pace,
        watchers: Sequence[Callable[[str, Row], None]] = (),
    ) -> None:
        self._recorders = recorders
        self._pace = pace
        self._watchers = watchers

    def record_metric_values(
        self, category: str, values: Mapping[str, object], step_nr: int | None = None
    ) -> None:
        """See MetricRecorder."""
        row = self._pace.complete(
            {name: plain for name, value in values.items() if (plain := _plain(value)) is not None}
        )
        for recorder in self._recorders:
            recorder.record_metric_values(category, row, step_nr)
        for watcher in self._watchers:
            watcher(category, row)

    def close(self) -> None:
        """See MetricRecorder."""
        for recorder in self._recorders:
            recorder.close()


def _plain(value: object) -> Any:
    """A number or text as JSON has it; None for what it has not."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_recorder(
    run_dir: Path,
    file_system: FileSystem,
    info: RunInfo,
    *,
    pace: Pace,
    watchers: Sequence[Callable[[str, Row], None]],
    record: bool,
) -> MetricRecorder:
    """What rank 0 records; nothing on the others.

    TensorBoard files cannot be cut back before a resume: they are written anew from the JSONL.
    """
    config = info.config.metrics
    recorders: list[MetricRecorder] = []
    if record:
        recorders.append(JsonlMetricRecorder(run_dir, file_system, _NO_DESCRIPTORS))
        shutil.rmtree(run_dir / "tb", ignore_errors=True)
        if config.tensorboard:
            recorders.append(_tensorboard(run_dir))
        if config.wandb_project:
            recorders.append(WandbRecorder(run_dir, info, config))
    return RunRecorder(recorders, pace=pace, watchers=watchers)


def make_pace(info: RunInfo, gangs: Gangs) -> Pace:
    """What the speed of a run is measured by: its model, its packs, its devices."""
    config, each = info.config, None
    if config.metrics.peak_tflops is not None:
        each = config.metrics.peak_tflops * 1e12
    elif gangs.device.type == "cuda":
        name = torch.cuda.get_device_name(gangs.device)
        each = peak_flops(name, config.trainer.precision)
        if each is None:
            log.info("%s: no peak known, so no mfu; give it as metrics.peak_tflops", name)
    return Pace(
        model=config.model,
        vocab_size=info.vocab_size,
        pack_length=config.data.pack_length,
        peak_flops=None if each is None else each * gangs.root.size,
    )


def _tensorboard(run_dir: Path) -> TensorBoardRecorder:
    board = TensorBoardRecorder(run_dir, _NO_DESCRIPTORS)
    for category, path in metrics_files(run_dir).items():
        for row in read_rows(path):
            step = row.pop("Step")
            del row["Time"]
            board.record_metric_values(category, row, step)
    return board


class WandbRecorder(MetricRecorder):
    """Weights & Biases. A run that goes on is the same run there, too.

    fairseq2's own fails with its present versions. Rows that a killed run records again are equal
    to those recorded before, and W&B leaves them as they were.
    """

    def __init__(self, run_dir: Path, info: RunInfo, config: MetricsConfig) -> None:
        """Raises MissingArtefactError without the package, UsageError when it cannot log in."""
        try:
            import wandb
        except ImportError:
            raise MissingArtefactError(
                "metrics.wandb_project is set, but the package wandb is not installed; run: "
                "pip install 'cslm[wandb]'"
            ) from None
        try:
            self._run = wandb.init(
                project=config.wandb_project,
                id=_wandb_id(run_dir, info),
                name=info.run,
                resume="allow",
                mode=config.wandb_mode,
                dir=run_dir,
                config=info.as_dict(),
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.errors.UsageError as error:
            raise UsageError(
                f"metrics.wandb_project {config.wandb_project}: {error}; run: wandb login, or "
                "record with metrics.wandb_mode=offline"
            ) from None
        except wandb.Error as error:
            raise CslmError(
                f"metrics.wandb_project {config.wandb_project}: Weights & Biases cannot be "
                f"reached ({error}); record with metrics.wandb_mode=offline"
            ) from None

    def record_metric_values(
        self, category: str, values: Mapping[str, object], step_nr: int | None = None
    ) -> None:
        """See MetricRecorder."""
        row = {f"{category}/{name}": value for name, value in values.items()}
        self._run.log(row, step=step_nr)

    def close(self) -> None:
        """See MetricRecorder."""
        self._run.finish()


def _wandb_id(run_dir: Path, info: RunInfo) -> str:
    """The name of the run at W&B, for as long as its folder is there."""
    path = run_dir / "wandb.txt"
    if not path.exists():
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", info.run)[:40]
        with atomic_path(path) as temporary:
            temporary.write_text(f"{name}-{secrets.token_hex(6)}\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
