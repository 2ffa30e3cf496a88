"""runs/<name>/metrics/*.jsonl: cut back before a resume, summed up after a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.workspace import atomic_path
from cslm_train.run_folder import RunInfo, checkpoint_steps

_NLL = "nll"
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a training run did. Losses are nats for each trained token."""

    run_dir: Path
    stage: str
    finished: bool
    """False when a signal stopped it; the same command goes on."""
    steps: int
    num_steps: int
    tokens: int
    """Tokens the model read."""
    trained_tokens: int
    """Tokens the loss counted."""
    first_train_loss: float | None
    last_train_loss: float | None
    first_valid_loss: float | None
    """Before the first step; None without a valid split."""
    last_valid_loss: float | None
    group_losses: dict[str, tuple[float, float]]
    """First and last validation loss of each task and languages, `asr/en`."""
    seconds: float
    """Over all the times it was started."""
    tokens_per_second: float
    num_parameters: int
    num_packs: int
    pack_fill: float
    """Share of the packs' length that tokens take."""
    num_skipped: int
    """Samples left out of the packs; packs' rejects files say why."""
    num_split: int
    """Samples longer than a pack, of which the packs hold parts."""
    train_curve: tuple[tuple[int, float], ...]
    """Step and loss of every row."""
    valid_curve: tuple[tuple[int, float], ...]


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a metrics file; a last line cut by a kill ends it."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except ValueError:
                return


def cut_metrics(run_dir: Path, step: int | None) -> None:
    """Drop the rows after the step of the checkpoint that a run resumes from (None: all rows)."""
    for path in (run_dir / "metrics").glob("*.jsonl"):
        if step is None:
            path.unlink()
            continue
        rows = [row for row in read_rows(path) if row["Step"] <= step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def curve(rows: list[Row]) -> tuple[tuple[int, float], ...]:
    """Step and loss of each row."""
    return tuple((row["Step"], row[_NLL]) for row in rows if _NLL in row)


def read_summary(
    run_dir: Path, *, num_packs: int, pack_fill: float, num_skipped: int, num_split: int
) -> TrainSummary:
    """The summary of a run from its files."""
    info = RunInfo.load(run_dir)
    train = list(read_rows(run_dir / "metrics" / "train.jsonl"))
    valid = list(read_rows(run_dir / "metrics" / "valid.jsonl"))
    train_curve, valid_curve = curve(train), curve(valid)
    steps = checkpoint_steps(run_dir)
    last = train[-1] if train else {}
    busy_s = sum(row["data_time"] + row["compute_time"] for row in train)
    first_valid, last_valid = (valid[0], valid[-1]) if valid else ({}, {})
    groups = [name for name in last_valid if name.startswith(f"{_NLL}/")]
    return TrainSummary(
        run_dir=run_dir,
        stage=info.stage,
        finished=bool(steps) and steps[-1] >= info.num_steps,
        steps=last.get("Step", 0),
        num_steps=info.num_steps,
        tokens=round(last.get("total_num_elements", 0)),
        trained_tokens=round(last.get("total_num_targets", 0)),
        first_train_loss=train_curve[0][1] if train_curve else None,
        last_train_loss=train_curve[-1][1] if train_curve else None,
        first_valid_loss=valid_curve[0][1] if valid_curve else None,
        last_valid_loss=valid_curve[-1][1] if valid_curve else None,
        group_losses={
            name.removeprefix(f"{_NLL}/"): (first_valid[name], last_valid[name])
            for name in sorted(groups)
            if name in first_valid
        },
        seconds=last.get("total_time", 0.0),
        tokens_per_second=sum(row["num_elements"] for row in train) / busy_s if busy_s else 0.0,
        num_parameters=info.config.model.num_parameters(info.vocab_size),
        num_packs=num_packs,
        pack_fill=pack_fill,
        num_skipped=num_skipped,
        num_split=num_split,
        train_curve=train_curve,
        valid_curve=valid_curve,
    )
