"""runs/<name>/ → its weights and vocabulary, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.models.lora import merged_weights
from cslm_train.models.shard_files import merged
from cslm_train.run_folder import RunInfo, checkpoint_steps, model_files, text_tokenizer_folder
from cslm_train.vocabulary import JointVocabulary


def read_weights(run_dir: Path, step: int) -> dict[str, Tensor]:
    """The weights of a checkpoint as a plain model has them, from however many ranks' files.

    Adapters are merged. Nothing but tensors is unpickled. Raises MissingArtefactError and
    CorruptArtefactError.
    """
    files = model_files(run_dir, step)
    if not files:
        raise MissingArtefactError(
            f"{run_dir}: no checkpoint of step {step}; there are "
            f"{', '.join(map(str, checkpoint_steps(run_dir))) or 'none'}"
        )
    return merged_weights(merged(files), RunInfo.load(run_dir).config.lora)


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A trained model, ready to answer."""

    model: SpeechLM
    """In eval mode."""
    vocabulary: JointVocabulary
    info: RunInfo
    step: int
    device: torch.device


def load_vocabulary(run_dir: Path, info: RunInfo) -> JointVocabulary:
    """The vocabulary of a run, from the copy of its text tokenizer."""
    vocabulary = JointVocabulary(
        load_text_tokenizer(text_tokenizer_folder(run_dir)), info.num_units
    )
    if vocabulary.identity != info.vocabulary_id:
        raise CorruptArtefactError(
            f"{run_dir}: its text tokenizer is not the one it was trained with; train again"
        )
    if vocabulary.framing.template_version != info.template_version:
        raise CorruptArtefactError(
            f"{run_dir}: its turns were framed as template version {info.template_version}, its "
            f"text tokenizer says {vocabulary.framing.template_version}; train again"
        )
    return vocabulary


Precision = Literal["fp32", "bf16"]


def load_run(
    run_dir: Path, *, step: int | None = None, device: str = "cpu", precision: Precision = "fp32"
) -> LoadedRun:
    """The model of a run, at a step or at its last checkpoint.

    With bf16 weights take half the memory and the time to read it; rotary frequencies stay fp32.
    Raises MissingArtefactError when there is no run or no checkpoint yet.
    """
    info = RunInfo.load(run_dir)
    steps = checkpoint_steps(run_dir)
    if not steps:
        raise MissingArtefactError(
            f"{run_dir}: no checkpoint yet; run: cslm-train run --stage {info.stage}"
        )
    chosen = steps[-1] if step is None else step
    weights = read_weights(run_dir, chosen)
    vocabulary = load_vocabulary(run_dir, info)
    model = create_model(info.config.model, vocabulary)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CorruptArtefactError(
            f"{run_dir}: the weights of step {chosen} are not of its model ({_first_line(error)}); "
            "choose another step, or train again"
        ) from None
    if precision == "bf16":
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16()
    return LoadedRun(
        model=model.eval().to(device),
        vocabulary=vocabulary,
        info=info,
        step=chosen,
        device=torch.device(device),
    )


def _first_line(error: RuntimeError) -> str:
    return " ".join(str(error).split())[:200]
