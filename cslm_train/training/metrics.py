"""runs/<name>/metrics/**/*.jsonl: completed, cut back before a resume, summed up after a run.

A row of train.jsonl is about the steps since the last one; one of valid.jsonl about a validation,
the first of them, step 0, before anything was learnt. All rows, and the SQL view `run_metrics`:

nll, nll/<task>/<languages>   nats for each trained token, of all and of one group
ppl/instruct/<language>       perplexity of written instructions; valid.jsonl, and valid/text.jsonl
                              of `validation.text_mix`
grad_norm, lr                 before clipping, mean over the good steps; of the last step
num_skipped_steps             steps that the guard skipped: their loss is in no mean
num_examples, num_packs       samples and packs read; total_… since the run began
num_elements, num_targets     tokens read and tokens trained; total_… since the run began
tokens_per_second             tokens read, of all processes: padding is none
padding_share                 of the packs' length, what no token takes
trained_share                 of the tokens read, those trained
mfu                           model FLOP/s over the devices' peak; where that is known
data_time, compute_time       seconds waiting for data, and computing
data_share_of_time            of both, the first: above a few percent the reader lags behind
peak_active_mem_bytes …       memory of the GPU, at most
lapse_time, wall_time, total_time   seconds since the last row, this start, over all starts
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.workspace import atomic_path
from cslm_train.config import ModelConfig
from cslm_train.models.weights import num_parameters
from cslm_train.run_folder import RunInfo, checkpoint_steps
from cslm_train.training.flops import flops_per_token

_NLL = "nll"
TEXT_PERPLEXITY = "ppl/instruct/"
"""Prefix of the perplexity of written instructions, before their language."""
_SKIPPED = "skipped.jsonl"
_OF_FAIRSEQ2 = ("data_epoch", "batch_size", "elements_per_batch", "elements_per_second")
"""Values that say nothing of a reader without epochs, or that ours say better."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What turns the counts of a row into shares and speeds."""

    model: ModelConfig
    vocab_size: int
    pack_length: int
    peak_flops: float | None
    """Of all devices together; None: not known."""

    def complete(self, row: Mapping[str, Any]) -> Row:
        """A row with what follows from its counts, and without what nobody reads."""
        done = {name: value for name, value in row.items() if name not in _OF_FAIRSEQ2}
        attended = done.pop("num_attended", 0.0)
        tokens, packs = done.get("num_elements", 0.0), done.get("num_packs", 0.0)
        if not tokens:
            return done
        done["padding_share"] = 1 - tokens / (packs * self.pack_length)
        done["trained_share"] = done["num_targets"] / tokens
        seconds = done["data_time"] + done["compute_time"]
        if seconds <= 0:
            return done
        done["tokens_per_second"] = tokens / seconds
        done["data_share_of_time"] = done["data_time"] / seconds
        if self.peak_flops is not None and "grad_norm" in done:
            each = flops_per_token(
                self.model,
                self.vocab_size,
                attended / tokens,
                trained_share=done["trained_share"],
            )
            done["mfu"] = each * done["tokens_per_second"] / self.peak_flops
        return done


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
    text_perplexity: dict[str, tuple[float, float]]
    """Perplexity of held-out written instructions of each language, before the first step and
    after the last: what the base model forgot."""
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
    num_skipped_steps: int
    """Steps that the guard skipped; skipped.jsonl says which and why."""
    mfu: float | None
    """Utilisation of the devices over all steps, where their peak is known."""
    data_share_of_time: float
    """Share of the time that the model waited for data."""
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


def metrics_files(run_dir: Path) -> dict[str, Path]:
    """Files of metrics by their category: `train`, `valid`, `valid/text`."""
    folder = run_dir / "metrics"
    paths = sorted(folder.rglob("*.jsonl"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def cut_metrics(run_dir: Path, step: int | None) -> None:
    """Drop the rows after the step of the checkpoint that a run resumes from (None: all rows)."""
    skipped = [path for path in (run_dir / _SKIPPED,) if path.exists()]
    for path in (*metrics_files(run_dir).values(), *skipped):
        if step is None:
            path.unlink()
            continue
        rows = [
            row for row in read_rows(path) if int(row["Step" if "Step" in row else "step"]) <= step
        ]
        with atomic_path(path) as temporary:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            temporary.write_text("".join(lines), encoding="utf-8")


def curve(rows: list[Row]) -> tuple[tuple[int, float], ...]:
    """Step and loss of each row."""
    return tuple((row["Step"], row[_NLL]) for row in rows if _NLL in row)


def text_perplexity(run_dir: Path) -> dict[str, tuple[float, float]]:
    """First and last perplexity of written instructions, by language.

    Those of `validation.text_mix` where it is given, else those of the run's own mix.
    """
    for category in ("valid/text", "valid"):
        rows = list(read_rows(run_dir / "metrics" / f"{category}.jsonl"))
        names = [name for name in (rows[0] if rows else ()) if name.startswith(TEXT_PERPLEXITY)]
        if names:
            first, last = rows[0], rows[-1]
            return {
                name.removeprefix(TEXT_PERPLEXITY): (first[name], last[name])
                for name in sorted(names)
                if name in last
            }
    return {}


def best_step(run_dir: Path) -> int | None:
    """The checkpoint of the lowest validation loss, the later of two equal ones; None: none."""
    losses = {
        row["Step"]: row[_NLL]
        for row in read_rows(run_dir / "metrics" / "valid.jsonl")
        if _NLL in row
    }
    kept = [step for step in checkpoint_steps(run_dir) if step in losses]
    return min(kept, key=lambda step: (losses[step], -step), default=None)


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
    waited_s = sum(row["data_time"] for row in train)
    busy_s = waited_s + sum(row["compute_time"] for row in train)
    tokens = math.fsum(row["num_elements"] for row in train)
    used = math.fsum(
        row["mfu"] * row["num_elements"] / row["tokens_per_second"] for row in train if "mfu" in row
    )
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
        text_perplexity=text_perplexity(run_dir),
        seconds=last.get("total_time", 0.0),
        tokens_per_second=tokens / busy_s if busy_s else 0.0,
        num_parameters=num_parameters(info.config.model, info.vocab_size),
        num_packs=num_packs,
        pack_fill=pack_fill,
        num_skipped=num_skipped,
        num_split=num_split,
        num_skipped_steps=sum(1 for _ in read_rows(run_dir / _SKIPPED)),
        mfu=used / busy_s if used else None,
        data_share_of_time=waited_s / busy_s if busy_s else 0.0,
        train_curve=train_curve,
        valid_curve=valid_curve,
    )
