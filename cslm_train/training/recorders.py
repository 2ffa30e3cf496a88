"""Metrics of a run → JSONL and TensorBoard files."""

from __future__ import annotations

import shutil
from pathlib import Path

from fairseq2.file_system import FileSystem
from fairseq2.metrics.recorders import (
    CompositeMetricRecorder,
    JsonlMetricRecorder,
    MetricDescriptorRegistry,
    MetricRecorder,
    TensorBoardRecorder,
)

from cslm_train.config import TrainConfig
from cslm_train.training.metrics import read_rows

_NO_DESCRIPTORS = MetricDescriptorRegistry([])


def make_recorder(
    run_dir: Path, file_system: FileSystem, config: TrainConfig, *, record: bool
) -> MetricRecorder:
    """JSONL and TensorBoard on rank 0, nothing on the others.

    TensorBoard files cannot be cut back before a resume: they are written anew from the JSONL.
    """
    if not record:
        return CompositeMetricRecorder([])
    recorders: list[MetricRecorder] = [JsonlMetricRecorder(run_dir, file_system, _NO_DESCRIPTORS)]
    shutil.rmtree(run_dir / "tb", ignore_errors=True)
    if config.metrics.tensorboard:
        board = TensorBoardRecorder(run_dir, _NO_DESCRIPTORS)
        for category in ("train", "valid"):
            for row in read_rows(run_dir / "metrics" / f"{category}.jsonl"):
                step = row.pop("Step")
                del row["Time"]
                board.record_metric_values(category, row, step)
        recorders.append(board)
    return CompositeMetricRecorder(recorders)
