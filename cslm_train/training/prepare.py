"""Everything of a run before its first step: what belongs together, the packs, `run.json`.

Done by one process; the others read what it wrote.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from cslm_data.errors import AlreadyExistsError, MissingArtefactError, UsageError
from cslm_data.shards import MixInfo
from cslm_data.text_tokenizer import load_text_tokenizer, save_framing
from cslm_data.workspace import Workspace, atomic_path, remove_leftovers
from cslm_train.config import TrainConfig, TrainerConfig
from cslm_train.packing.batches import write_batches
from cslm_train.packing.plan import PackPlan, load_or_make_plan, require_packs
from cslm_train.packing.shard_store import ShardStore, open_store
from cslm_train.packing.stretches import Stretch, accumulation_of, go_on, last_step
from cslm_train.run_folder import (
    RunInfo,
    base_model_folder,
    checkpoint_steps,
    text_tokenizer_folder,
)
from cslm_train.training.beginning import copy_small_files, find_beginning, find_initial_run
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What every process of a run needs."""

    run_dir: Path
    info: RunInfo
    vocabulary: JointVocabulary
    shards: ShardStore
    train: PackPlan
    valid: PackPlan
    init_from: Path | None
    """Run whose weights this one begins with."""
    workspace: Workspace

    @property
    def groups(self) -> list[str]:
        """Task and languages of all samples, in order."""
        return sorted({*self.train.groups, *self.valid.groups})


def prepare_run(
    workspace: Workspace,
    run_dir: Path,
    *,
    stage: str,
    config: TrainConfig,
    mix: str,
    init_from: Path | None,
    overwrite: bool,
    num_processes: int,
    init_checkpoint: str = "last",
) -> None:
    """Leave a folder from which `read_prepared` and the trainer can begin or go on.

    Raises MissingArtefactError, TokenizerMismatchError, UsageError or NoDataError for what does
    not fit together, and AlreadyExistsError when the folder holds another run.
    """
    found = load_mix(workspace, mix, stage)
    run_dir.mkdir(parents=True, exist_ok=True)
    exists = (run_dir / "run.json").exists()
    if exists and overwrite:
        shutil.rmtree(run_dir)
        run_dir.mkdir()
        exists = False
    remove_leftovers(run_dir)
    vocabulary = _vocabulary(found)
    before = RunInfo.load(run_dir) if exists else None
    beginning = find_beginning(
        find_initial_run(workspace, stage, init_from),
        found,
        vocabulary,
        config,
        before,
        checkpoint=init_checkpoint,
    )
    info = RunInfo(
        run=run_dir.name,
        stage=stage,
        mix=mix,
        mix_id=found.mix_id,
        languages=found.languages,
        tokenizer_id=found.tokenizer_id,
        num_units=found.num_units,
        frame_rate_hz=found.frame_rate_hz,
        text_tokenizer_id=found.text_tokenizer_id,
        num_text=vocabulary.num_text,
        vocabulary_id=vocabulary.identity,
        vocab_size=vocabulary.size,
        template_version=vocabulary.framing.template_version,
        num_processes=num_processes,
        num_steps=0,
        init_from=beginning.run,
        config=dataclasses.replace(config, model=beginning.architecture),
        base_id=beginning.base_id,
    )
    if before is not None and (differences := before.differences(info)):
        raise AlreadyExistsError(
            f"{run_dir}: holds another run ({'; '.join(differences)}); give this one another "
            "--output-dir, or replace the other with --overwrite"
        )
    plan, _ = _plans(run_dir, found, vocabulary, config)
    require_packs(plan, found)
    if _has_curriculum(found) and config.data.shuffle_packs != 0:
        log.warning(
            "mixes/%s has a curriculum, and its packs are shuffled: data.shuffle_packs=0 reads "
            "them in its order",
            found.name,
        )
    info = _share_work(info, before, plan, step=max(checkpoint_steps(run_dir), default=None))
    folder = text_tokenizer_folder(run_dir)
    for name in ("tokenizer.json", "meta.json"):
        source = found.text_tokenizer_path() / name
        if source.exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source, temporary)
    save_framing(vocabulary.framing, folder)
    if beginning.small_files is not None:
        copy_small_files(beginning.small_files, base_model_folder(run_dir))
    write_batches(
        run_dir,
        plan,
        seed=config.trainer.seed,
        shuffle_packs=config.data.shuffle_packs,
        num_steps=info.num_steps,
        stretches=info.stretches,
    )
    if info != before:  # places and processes may differ: see RunInfo.differences
        info.save(run_dir)


def read_prepared(workspace: Workspace, run_dir: Path, init_from: Path | None) -> Prepared:
    """What `prepare_run` left, for every process."""
    info = RunInfo.load(run_dir)
    mix = MixInfo.load(workspace.mixes / info.mix)
    vocabulary = JointVocabulary(
        load_text_tokenizer(text_tokenizer_folder(run_dir)), info.num_units
    )
    train, valid = _plans(run_dir, mix, vocabulary, info.config)
    return Prepared(
        run_dir=run_dir,
        info=info,
        vocabulary=vocabulary,
        shards=_store(mix, info.config),
        train=train,
        valid=valid,
        init_from=find_initial_run(workspace, info.stage, init_from),
        workspace=workspace,
    )


def load_mix(workspace: Workspace, name: str, stage: str) -> MixInfo:
    """The mix of a stage."""
    if not (workspace.mixes / name / "mix.json").exists():
        raise MissingArtefactError(
            f"mixes/{name}: no such mix in {workspace.root}; run: "
            f"cslm-data build-mix --stage {stage} --langs …"
        )
    mix = MixInfo.load(workspace.mixes / name)
    if mix.stage != stage:
        raise UsageError(
            f"mixes/{name}: a mix of stage {mix.stage}; train it with --stage {mix.stage}, or "
            f"name a mix of stage {stage} with --mix"
        )
    return mix


def _vocabulary(mix: MixInfo) -> JointVocabulary:
    tokenizer = load_text_tokenizer(mix.text_tokenizer_path())
    mix.require(
        text_tokenizer_id=tokenizer.text_tokenizer_id,
        template_version=tokenizer.framing.template_version,
    )
    return JointVocabulary(tokenizer, mix.num_units)


def _plans(
    run_dir: Path, mix: MixInfo, vocabulary: JointVocabulary, config: TrainConfig
) -> tuple[PackPlan, PackPlan]:
    store = _store(mix, config)
    train, valid = (
        load_or_make_plan(
            run_dir / f"packs-{split}.parquet",
            mix,
            vocabulary,
            split=split,
            pack_length=config.data.pack_length,
            window=config.data.window,
            too_long=config.data.too_long,
            store=store,
        )
        for split in ("train", "valid")
    )
    if valid.num_packs == 0:
        log.warning("mixes/%s: nothing to validate on, so the loss is not measured", mix.name)
    return train, valid


def _has_curriculum(mix: MixInfo) -> bool:
    return any(source.get("curriculum") for source in mix.recipe.get("sources", ()))


def _store(mix: MixInfo, config: TrainConfig) -> ShardStore:
    data = config.data
    return open_store(mix, shards=data.shards, cache_dir=data.cache_dir, cache_gb=data.cache_gb)


def _share_work(
    info: RunInfo, before: RunInfo | None, plan: PackPlan, *, step: int | None
) -> RunInfo:
    """The same run with the steps that its processes take from `step` on."""
    trainer, num_processes = info.config.trainer, info.num_processes
    stretches = before.stretches if before is not None else ()
    if before is not None and step is not None and step >= before.num_steps:
        return before  # finished
    accumulation = accumulation_of(
        num_processes,
        grad_accumulation=trainer.grad_accumulation,
        packs_per_step=trainer.packs_per_step,
    )
    stretches = go_on(stretches, step=step, num_processes=num_processes, accumulation=accumulation)
    num_packs = _num_packs(trainer, plan, stretches[0])
    num_steps = last_step(stretches, num_packs)
    if len(stretches) > 1 and stretches[-1].first_step == step:
        now, earlier = stretches[-1], stretches[-2]
        log.info(
            "after step %s: %s processes of %s packs a step each, before it %s of %s; %s",
            *(step, now.num_processes, now.accumulation),
            *(earlier.num_processes, earlier.accumulation),
            "the same batches"
            if now.packs_per_step == earlier.packs_per_step
            else f"another batch, so {num_steps} steps; trainer.packs_per_step would have kept it",
        )
    return dataclasses.replace(info, num_steps=num_steps, stretches=stretches)


def _num_packs(trainer: TrainerConfig, plan: PackPlan, first: Stretch) -> int:
    """Packs that a run reads in all: what its steps make at its first start, or its epochs."""
    if trainer.num_steps is not None:
        return trainer.num_steps * first.packs_per_step
    assert trainer.num_epochs is not None
    return max(1, math.ceil(trainer.num_epochs * plan.num_packs))
