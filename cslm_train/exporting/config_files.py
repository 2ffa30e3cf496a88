"""What says of an export what it is: config.json, generation_config.json, units.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cslm_data.framing import CONTROLS, PAD
from cslm_data.workspace import write_json
from cslm_train.exporting.token_names import TokenNames
from cslm_train.exporting.tokenizer_files import SpecialTokens
from cslm_train.models.hugging_face import config_json
from cslm_train.run_folder import RunInfo
from cslm_train.vocabulary import JointVocabulary

TEMPERATURE, TOP_P = 1.0, 0.7
"""How the paper decodes. Source: the decoding scripts published with arXiv 2604.11096."""

_FORMAT = "4.57.0"
"""Version of transformers whose files these are.

4.57.3 to 4.57.6 take a larger vocabulary without this, or with their own version, for Mistral's,
and warn that its tokenizer is wrong.
"""

IDENTITY = "cslm"
"""Section of config.json by which an export is known."""


def write_config(
    folder: Path,
    info: RunInfo,
    vocabulary: JointVocabulary,
    special: SpecialTokens,
    *,
    dtype: torch.dtype,
    step: int,
) -> None:
    """Write config.json and generation_config.json."""
    model = info.config.model
    tokens = {
        "bos_token_id": special.bos_id,
        "eos_token_id": vocabulary.end_id,
        "pad_token_id": vocabulary.control_id(PAD),
    }
    config = {
        **config_json(model, vocab_size=vocabulary.size),
        **tokens,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "transformers_version": _FORMAT,
        "use_cache": True,
        IDENTITY: {
            "tokenizer_id": info.tokenizer_id,
            "num_units": info.num_units,
            "frame_rate_hz": info.frame_rate_hz,
            "first_unit_id": vocabulary.unit_id(0),
            "controls": {name: vocabulary.control_id(name) for name in CONTROLS},
            "text_tokenizer_id": info.text_tokenizer_id,
            "vocabulary_id": info.vocabulary_id,
            "template_version": info.template_version,
            "stage": info.stage,
            "mix_id": info.mix_id,
            "run_id": info.run_id,
            "step": step,
        },
    }
    write_json(folder / "config.json", config)
    generation: dict[str, Any] = {
        **tokens,
        "do_sample": True,
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "max_length": model.max_seq_len,
    }
    write_json(folder / "generation_config.json", generation)


def write_units(
    folder: Path, info: RunInfo, vocabulary: JointVocabulary, names: TokenNames
) -> None:
    """Write units.json: how units and controls are written, and their ids."""
    document = {
        "tokenizer_id": info.tokenizer_id,
        "num_units": info.num_units,
        "frame_rate_hz": info.frame_rate_hz,
        "dedup": "a run of equal frames is one unit",
        "written": f"{names.unit_prefix}UNIT{names.unit_suffix}",
        "first_unit_id": vocabulary.unit_id(0),
        "controls": {
            name: {"id": vocabulary.control_id(name), "token": token}
            for name, token in names.controls.items()
        },
        "units": [
            {"unit": unit, "id": vocabulary.unit_id(unit), "token": names.unit(unit)}
            for unit in range(info.num_units)
        ],
    }
    write_json(folder / "units.json", document)
