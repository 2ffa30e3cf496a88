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
from cslm_train.config import TrainConfig
from cslm_train.packing.batches import write_batches
from cslm_train.packing.plan import PackPlan, load_or_make_plan, require_packs
from cslm_train.run_folder import RunInfo, base_model_folder, text_tokenizer_folder
from cslm_train.training.beginning import copy_small_files, find_beginning, find_initial_run
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What every process of a run needs."""

    run_dir: Path
    info: RunInfo
    vocabulary: JointVocabulary
    shards_dir: Path
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
        find_initial_run(workspace, stage, init_from), found, vocabulary, config, before
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
        num_steps=before.num_steps if before else 0,
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
    info = dataclasses.replace(info, num_steps=_num_steps(config, plan, num_processes))
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
        num_steps=info.num_steps,
        num_ranks=num_processes,
        accumulation=config.trainer.grad_accumulation,
    )
    if before is None:
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
        shards_dir=mix.folder / "shards",
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
    train, valid = (
        load_or_make_plan(
            run_dir / f"packs-{split}.parquet",
            mix,
            vocabulary,
            split=split,
            pack_length=config.data.pack_length,
            window=config.data.window,
        )
        for split in ("train", "valid")
    )
    if valid.num_packs == 0:
        log.warning("mixes/%s: nothing to validate on, so the loss is not measured", mix.name)
    return train, valid


def _num_steps(config: TrainConfig, plan: PackPlan, num_processes: int) -> int:
    trainer = config.trainer
    if trainer.num_steps is not None:
        return trainer.num_steps
    assert trainer.num_epochs is not None
    per_step = num_processes * trainer.grad_accumulation
    return max(1, math.ceil(trainer.num_epochs * plan.num_packs / per_step))
