"""What a run begins with: fresh weights, a Hugging Face model, or another run.

A run without another to begin with starts from `model.base` where that is given. With one, the
weights and the architecture are that run's, whatever it began with itself.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cslm_data.errors import MissingArtefactError, TokenizerMismatchError, UsageError
from cslm_data.shards import MixInfo
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.workspace import Workspace, atomic_path
from cslm_train.config import ModelConfig, TrainConfig
from cslm_train.models.hugging_face import BaseModel, base_folder, read_base, read_base_weights
from cslm_train.models.loading import read_weights
from cslm_train.models.new_rows import extend_rows
from cslm_train.run_folder import InitialRun, RunInfo, base_model_folder, checkpoint_steps
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)

_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Where the weights come from, and the architecture that they have."""

    architecture: ModelConfig
    run: InitialRun | None = None
    base_id: str | None = None
    small_files: Path | None = None
    """Folder with the base model's small files."""


def find_initial_run(workspace: Workspace, stage: str, init_from: Path | None) -> Path | None:
    """The run to begin with; None: none."""
    if init_from is not None:
        return init_from.absolute()
    return workspace.runs / "pretrain" if stage == "sft" else None


def find_beginning(
    initial_run: Path | None,
    mix: MixInfo,
    vocabulary: JointVocabulary,
    config: TrainConfig,
    before: RunInfo | None,
) -> Beginning:
    """What a run begins with; of one that began `before`, as far as it is still there.

    Raises MissingArtefactError, TokenizerMismatchError or UsageError for what does not fit.
    """
    if initial_run is not None:
        if not (initial_run / "run.json").exists() and before and before.init_from is not None:
            return _as_before(before)
        return _from_run(initial_run, mix, vocabulary, config)
    if not config.model.base:
        return Beginning(architecture=config.model)
    folder = base_folder(config.model.base)
    if not folder.exists() and before is not None and before.base_id is not None:
        return _as_before(before)
    return _from_base(read_base(folder), mix, config)


def _as_before(before: RunInfo) -> Beginning:
    """Begun long ago: what it began with is not needed any more."""
    return Beginning(architecture=before.config.model, run=before.init_from, base_id=before.base_id)


def _from_base(base: BaseModel, mix: MixInfo, config: TrainConfig) -> Beginning:
    model = config.model
    text_tokenizer_id = load_text_tokenizer(base.folder).text_tokenizer_id
    if text_tokenizer_id != mix.text_tokenizer_id:
        raise TokenizerMismatchError(
            f"mixes/{mix.folder.name}: text tokens of {mix.text_tokenizer_id}, but {base.folder} "
            f"has {text_tokenizer_id}; run: cslm-data build-mix --stage {mix.stage} "
            f"--text-tokenizer {base.folder} --overwrite"
        )
    if model.max_seq_len > base.max_seq_len:
        raise UsageError(
            f"model.max_seq_len is {model.max_seq_len}, but {base.folder} holds "
            f"{base.max_seq_len} tokens at most; set model.max_seq_len={base.max_seq_len}"
        )
    ours = ("base", "new_rows", "new_rows_noise", "max_seq_len", "dropout")
    architecture = dataclasses.replace(
        base.architecture, **{name: getattr(model, name) for name in ours}
    )
    log.info("the architecture is that of %s", base.folder)
    return Beginning(architecture=architecture, base_id=base.weights_id, small_files=base.folder)


def _from_run(
    run: Path, mix: MixInfo, vocabulary: JointVocabulary, config: TrainConfig
) -> Beginning:
    if not (run / "run.json").exists():
        raise MissingArtefactError(
            f"{run}: no training run to begin with; run: cslm-train run --stage pretrain, or "
            "name another run with --init-from"
        )
    begun = RunInfo.load(run)
    steps = checkpoint_steps(run)
    if not steps:
        raise MissingArtefactError(
            f"{run}: no checkpoint yet; run: cslm-train run --stage {begun.stage}"
        )
    if steps[-1] < begun.num_steps:
        log.warning("%s stopped after step %s of %s", run, steps[-1], begun.num_steps)
    mix.require(
        tokenizer_id=begun.tokenizer_id,
        text_tokenizer_id=begun.text_tokenizer_id,
        template_version=begun.template_version,
    )
    if begun.vocabulary_id != vocabulary.identity:
        raise TokenizerMismatchError(
            f"mixes/{mix.folder.name}: a vocabulary of {vocabulary.size} ids, but {run} was "
            f"trained with another of {begun.vocab_size}; train it again: cslm-train run --stage "
            f"{begun.stage} --overwrite"
        )
    architecture = dataclasses.replace(
        begun.config.model, max_seq_len=config.model.max_seq_len, dropout=config.model.dropout
    )
    if architecture != config.model:
        log.info("the architecture is that of %s", run)
    return Beginning(
        architecture=architecture,
        run=InitialRun(run=run.name, run_id=begun.run_id, step=steps[-1]),
        base_id=begun.base_id,
        small_files=base_model_folder(run),
    )


def copy_small_files(source: Path, folder: Path) -> None:
    """Copy what an export wants of a base model beside its weights."""
    for name in _SMALL_FILES:
        if (source / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)


def initial_weights(
    info: RunInfo, vocabulary: JointVocabulary, *, run: Path | None, workspace: Workspace
) -> dict[str, Tensor] | None:
    """The weights before the first step, fp32 in memory; None: as the model is made."""
    if run is not None:
        assert info.init_from is not None
        return read_weights(run, info.init_from.step)
    model = info.config.model
    if not model.base:
        return None
    base = read_base(base_folder(model.base))
    if base.weights_id != info.base_id:
        raise MissingArtefactError(
            f"{base.folder}: not the model any more that this run was prepared with; put that "
            "back, or begin again with --overwrite"
        )
    centroids = None
    if model.new_rows == "kmeans":
        centroids = find_tokenizer(workspace, info.tokenizer_id).centroids_KE
        if len(centroids) != info.num_units:
            raise UsageError(
                f"model.new_rows kmeans: {info.tokenizer_id} has no centroid for each unit; set "
                "model.new_rows=mean"
            )
    log.info("reading %s", base.folder)
    return extend_rows(
        read_base_weights(base),
        vocabulary,
        how=model.new_rows,
        noise=model.new_rows_noise,
        seed=info.config.trainer.seed,
        centroids_KD=centroids,
    )
