"""A run → a folder that transformers and vLLM load. Reads runs/, tokenizers/, mixes/, the catalog.

Step 1  the tokenizer: text, controls and units with the ids of training; the chat template
Step 2  config.json, generation_config.json, units.json, the speech tokenizer
Step 3  the weights, streamed from the checkpoint into safetensors
Step 4  transformers reads the tokenizer back: its tokens against those of training
Step 5  the model card, from what the files of the run say

The folder appears whole or not at all, and says in export.json what it is.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.exporting.folders import DESCRIPTION, check_free, made_whole
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace, write_json
from cslm_train.exporting.check import check_tokens
from cslm_train.exporting.config_files import write_config, write_units
from cslm_train.exporting.facts import gather
from cslm_train.exporting.model_card import CardInputs, write_card
from cslm_train.exporting.token_names import choose_names
from cslm_train.exporting.tokenizer_files import write_tokenizer
from cslm_train.exporting.weights import DTYPES, DtypeName, write_weights
from cslm_train.models.loading import load_vocabulary, read_weights
from cslm_train.run_folder import (
    RunInfo,
    base_model_folder,
    text_tokenizer_folder,
)

log = logging.getLogger(__name__)

FORMAT = "hugging-face"
SPEECH_TOKENIZER = "speech_tokenizer"

DEFAULT_DTYPE: DtypeName = "bf16"
DEFAULT_SHARD_GB = 5.0


@dataclass(frozen=True, kw_only=True)
class ModelExport:
    """What an export made."""

    folder: Path
    run: str
    run_id: str
    step: int
    dtype: DtypeName
    num_parameters: int
    num_bytes: int
    """Of the weights."""
    vocab_size: int
    tokenizer_id: str
    files: tuple[str, ...]
    num_compared: int
    """Samples and probes whose tokens transformers was asked for."""
    num_different: int
    """Of those, other tokens than in training."""


def export_run(
    workspace: Workspace,
    run_dir: Path,
    out: Path,
    *,
    step: int,
    dtype: DtypeName = DEFAULT_DTYPE,
    max_shard_gb: float = DEFAULT_SHARD_GB,
    license: str | None = None,
    base_model: str | None = None,
    without_speech_tokenizer: bool = False,
    overwrite: bool = False,
) -> ModelExport:
    """Export the checkpoint of a step of a run.

    `license` and `base_model` are the publisher's word for the model card. Raises UsageError,
    MissingArtefactError, CorruptArtefactError, AlreadyExistsError.
    """
    if not max_shard_gb > 0:
        raise UsageError(f"--max-shard-gb {max_shard_gb}: a size above 0")
    target = out.expanduser().absolute()
    check_free(target, overwrite=overwrite)
    info = RunInfo.load(run_dir)
    text_tokenizer = load_text_tokenizer(text_tokenizer_folder(run_dir))
    vocabulary = load_vocabulary(run_dir, info)
    names = choose_names(text_tokenizer.backend.get_vocab(), info.num_units)
    speech = None if without_speech_tokenizer else find_speech_tokenizer(workspace, info)
    model = info.config.model
    torch_dtype = DTYPES[dtype]
    with made_whole(target) as folder:
        special = write_tokenizer(
            folder,
            text_tokenizer,
            vocabulary,
            names,
            base_files=base_model_folder(run_dir),
            max_seq_len=model.max_seq_len,
        )
        write_config(folder, info, vocabulary, special, dtype=torch_dtype, step=step)
        write_units(folder, info, vocabulary, names)
        if speech is not None:
            _copy_speech_tokenizer(speech, folder / SPEECH_TOKENIZER)
        written = write_weights(
            read_weights(run_dir, step),
            model,
            folder,
            vocab_size=vocabulary.size,
            dtype=torch_dtype,
            max_shard_bytes=round(max_shard_gb * 1e9),
        )
        checked = check_tokens(folder, workspace, info, vocabulary)
        card = CardInputs(
            facts=gather(workspace, run_dir, info, step),
            names=names,
            weights=written,
            dtype=dtype,
            checked=checked,
            license=license,
            base_model=base_model,
            has_speech_tokenizer=speech is not None,
        )
        write_card(folder, card)
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        write_json(
            folder / DESCRIPTION,
            {
                "format": FORMAT,
                "run": info.run,
                "run_id": info.run_id,
                "step": step,
                "dtype": dtype,
                "tokenizer_id": info.tokenizer_id,
                "num_units": info.num_units,
                "text_tokenizer_id": info.text_tokenizer_id,
                "template_version": info.template_version,
                "mix_id": info.mix_id,
                "files": files,
            },
        )
    return ModelExport(
        folder=target,
        run=info.run,
        run_id=info.run_id,
        step=step,
        dtype=dtype,
        num_parameters=written.num_parameters,
        num_bytes=written.num_bytes,
        vocab_size=vocabulary.size,
        tokenizer_id=info.tokenizer_id,
        files=(*files, DESCRIPTION),
        num_compared=checked.num_probes + checked.num_samples,
        num_different=len(checked.different),
    )


def find_speech_tokenizer(workspace: Workspace, info: RunInfo) -> Path:
    """Folder of the run's speech tokenizer. Raises MissingArtefactError."""
    for found in tokenizer_folders.list_tokenizers(workspace):
        if found.tokenizer_id == info.tokenizer_id:
            return workspace.tokenizers / found.name
    raise MissingArtefactError(
        f"{workspace.tokenizers}: the speech tokenizer {info.tokenizer_id} of {info.run} is not "
        "here; put its folder there, or export without it: --without-speech-tokenizer"
    )


def _copy_speech_tokenizer(source: Path, folder: Path) -> None:
    folder.mkdir()
    for path in sorted(source.iterdir()):
        if path.name == "tokenizer.json" or path.suffix == ".npy":
            shutil.copyfile(path, folder / path.name)
