"""A run + a held-out split of a mix → loss and scores per task and languages.

Reads runs/<name> and mixes/<name>; writes runs/<name>/evaluation-<split>.json and
predictions-<split>.jsonl, named after the mix too where it is not the one the run was trained on.

Step 1  every sample of the split is read once with its answer: the loss of its trained tokens
Step 2  the first samples of each group are answered from their prompts alone
Step 3  answers are scored against the references, by the measures of their task
"""

# K trained targets

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cslm_data.errors import NoDataError, UsageError
from cslm_data.framing import frame
from cslm_data.progress import progress
from cslm_data.records import SPLITS, Sample
from cslm_data.shards import MixInfo, iter_samples
from cslm_data.workspace import Workspace, atomic_path, write_json
from cslm_train.evaluating.predictions import GENERATED, answer_group
from cslm_train.generating.sampling import GREEDY, Sampling
from cslm_train.models.loading import LoadedRun
from cslm_train.packing.reader import PackedBatch
from cslm_train.training.loss import token_nll

log = logging.getLogger(__name__)

DEFAULT_MAX_SAMPLES = 40
_BATCH_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class Group:
    """What was measured on one task and languages. A measure that does not apply is None."""

    task: str
    languages: str
    num_samples: int
    num_too_long: int
    """Of those, samples that do not fit into the model: left out."""
    num_targets: int
    """Tokens the loss counts."""
    loss: float | None
    """Nats for each of them."""
    num_answered: int
    scores: dict[str, float | None]
    """Shares and rates as fractions, `bleu` and `chrf` in percent."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything measured on one split."""

    run: str
    run_id: str
    stage: str
    step: int
    mix: str
    mix_id: str
    split: str
    max_samples: int
    sampling: Sampling
    free: bool | None
    groups: tuple[Group, ...]
    task_losses: dict[str, float]
    """Over the languages of each task."""
    written: tuple[Path, Path]
    """The evaluation and the predictions."""


@dataclass(kw_only=True)
class _Gathered:
    """Sums over the samples of a group, and those that will be answered."""

    num_samples: int = 0
    num_too_long: int = 0
    num_targets: int = 0
    sum_nll: float = 0.0
    kept: list[Sample] = field(default_factory=list)


def evaluate(
    workspace: Workspace,
    run: LoadedRun,
    run_dir: Path,
    *,
    split: str = "test",
    mix: str | None = None,
    tasks: Sequence[str] = (),
    max_samples: int = DEFAULT_MAX_SAMPLES,
    sampling: Sampling = GREEDY,
    free: bool | None = None,
    batch_size: int = 32,
) -> Evaluation:
    """Measure a run on a split of the mix it was trained on, or of `mix`.

    At most `max_samples` of each task and languages are answered, the first in the mix; 0: none.
    Raises NoDataError for an empty split, TokenizerMismatchError for a mix of other tokenizers.
    """
    info = MixInfo.load(workspace.mixes / (mix or run.info.mix))
    info.require(
        tokenizer_id=run.info.tokenizer_id,
        text_tokenizer_id=run.info.text_tokenizer_id,
        template_version=run.info.template_version,
    )
    if mix is None and info.mix_id != run.info.mix_id:
        log.warning("mixes/%s was built again after %s was trained on it", info.name, run.info.run)
    _check(info, split, max_samples)
    gathered = _gather(run, info, split, tasks, max_samples)
    groups, predictions = [], []
    jobs = {
        key: group.kept[:max_samples] if key[0] in GENERATED else []
        for key, group in gathered.items()
    }
    with progress(f"answer {split}", total=sum(map(len, jobs.values())), unit="samples") as bar:
        for (task, languages), group in gathered.items():
            answered, rows = answer_group(
                run,
                task,
                jobs[task, languages],
                sampling=sampling,
                free=free,
                batch_size=batch_size,
                on_done=bar.advance,
            )
            predictions += rows
            groups.append(
                Group(
                    task=task,
                    languages=languages,
                    num_samples=group.num_samples,
                    num_too_long=group.num_too_long,
                    num_targets=group.num_targets,
                    loss=group.sum_nll / group.num_targets if group.num_targets else None,
                    num_answered=len(rows),
                    scores=answered,
                )
            )
    name = split if info.name == run.info.mix else f"{info.name}-{split}"
    evaluation = Evaluation(
        run=run.info.run,
        run_id=run.info.run_id,
        stage=run.info.stage,
        step=run.step,
        mix=info.name,
        mix_id=info.mix_id,
        split=split,
        max_samples=max_samples,
        sampling=sampling,
        free=free,
        groups=tuple(groups),
        task_losses=_task_losses(gathered),
        written=(run_dir / f"evaluation-{name}.json", run_dir / f"predictions-{name}.jsonl"),
    )
    _write(evaluation, predictions)
    return evaluation


def _check(info: MixInfo, split: str, max_samples: int) -> None:
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if max_samples < 0:
        raise UsageError(f"at most {max_samples} samples is not a number of samples")
    if not info.shards(split):
        sizes = {
            name: sum(e.num_samples for e in info.entries if e.split == name) for name in SPLITS
        }
        there = ", ".join(f"{name} ({count})" for name, count in sizes.items() if count)
        raise NoDataError(
            f"mixes/{info.name}: its split {split} holds no sample; there are: {there or 'none'}. "
            "Choose one with --split, or build the mix again with a larger share for it"
        )


# --- step 1: loss ----------------------------------------------------------------------------


def _gather(
    run: LoadedRun, info: MixInfo, split: str, tasks: Sequence[str], max_samples: int
) -> dict[tuple[str, str], _Gathered]:
    """Losses and the samples to answer, by (task, languages) in the order of their names."""
    gathered: dict[tuple[str, str], _Gathered] = {}
    seen: set[str] = set()
    longest = run.info.config.model.max_seq_len
    total = sum(entry.num_samples for entry in info.entries if entry.split == split)
    with progress(f"loss of {split}", total=total, unit="samples") as bar:
        for batch in _batches(run, iter_samples(info.folder, split), bar.advance):
            documents = []
            for sample, document in batch:
                seen.add(sample.task)
                if tasks and sample.task not in tasks:
                    continue
                group = gathered.setdefault((sample.task, sample.languages), _Gathered())
                group.num_samples += 1
                if len(document[0]) - 1 > longest:
                    group.num_too_long += 1
                    continue
                documents.append((group, document))
                if len(group.kept) < max_samples:
                    group.kept.append(sample)
            _add_losses(run, documents)
    missing = [task for task in tasks if task not in seen]
    if missing:
        raise NoDataError(
            f"mixes/{info.name}: no {' or '.join(missing)} in its split {split}; "
            f"there are {', '.join(sorted(seen))}"
        )
    return dict(sorted(gathered.items()))


_Document = tuple[np.ndarray, np.ndarray]


def _batches(
    run: LoadedRun, samples: Iterable[Sample], on_read: Callable[[], None]
) -> Iterator[list[tuple[Sample, _Document]]]:
    """Samples with their ids and flags, about `_BATCH_TOKENS` at a time."""
    batch: list[tuple[Sample, _Document]] = []
    num_tokens = 0
    for sample in samples:
        document = run.vocabulary.encode(frame(sample.segments, run.vocabulary.framing))
        if batch and num_tokens + len(document[0]) > _BATCH_TOKENS:
            yield batch
            batch, num_tokens = [], 0
        batch.append((sample, document))
        num_tokens += len(document[0])
        on_read()
    if batch:
        yield batch


@torch.inference_mode()
def _add_losses(run: LoadedRun, documents: Sequence[tuple[_Gathered, _Document]]) -> None:
    """Add the loss of each document's trained tokens to its group."""
    if not documents:
        return
    inputs_S = np.concatenate([ids[:-1] for _, (ids, _) in documents]).astype(np.int64)
    targets_S = np.concatenate([ids[1:] for _, (ids, _) in documents]).astype(np.int64)
    lengths = [len(ids) - 1 for _, (ids, _) in documents]
    positions_K = np.flatnonzero(np.concatenate([trained[1:] for _, (_, trained) in documents]))
    owners_K = np.repeat(np.arange(len(documents)), lengths)[positions_K]
    batch = PackedBatch(
        inputs_S=torch.from_numpy(inputs_S),
        lengths=lengths,
        positions_K=torch.from_numpy(positions_K),
        targets_K=torch.from_numpy(targets_S[positions_K]),
        groups_K=torch.from_numpy(owners_K),
        pack_id=0,
        keys=(),
    )
    batch.to(run.device)
    nll_K = token_nll(run.model, batch).cpu().double().numpy()
    sums = np.bincount(owners_K, weights=nll_K, minlength=len(documents))
    counts = np.bincount(owners_K, minlength=len(documents))
    for (group, _), total, count in zip(documents, sums.tolist(), counts.tolist(), strict=True):
        group.sum_nll += total
        group.num_targets += count


def _task_losses(gathered: dict[tuple[str, str], _Gathered]) -> dict[str, float]:
    losses = {}
    for task in dict.fromkeys(task for task, _ in gathered):
        groups = [group for (name, _), group in gathered.items() if name == task]
        count = sum(group.num_targets for group in groups)
        if count:
            losses[task] = sum(group.sum_nll for group in groups) / count
    return losses


def _write(evaluation: Evaluation, predictions: Sequence[dict[str, Any]]) -> None:
    report, rows = evaluation.written
    with atomic_path(rows) as temporary:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in predictions]
        temporary.write_text("".join(lines), encoding="utf-8")
    values = dataclasses.asdict(evaluation)
    del values["written"]
    write_json(report, values)
