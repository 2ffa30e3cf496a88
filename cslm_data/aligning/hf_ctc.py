"""CTC models of transformers (wav2vec 2.0, HuBERT, wav2vec2-BERT, …) in a directory, as aligners.

The directory has config.json, the weights, vocab.json and preprocessor_config.json. The blank is
the padding symbol; symbols of more than one character (`<unk>`, `<s>`) are left out.
"""

# T samples, N frames, V symbols

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.aligning.acoustic import Spelling
from cslm_data.aligning.networks import CtcNetwork, hop_of
from cslm_data.aligning.spelling import SEPARATOR
from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import choose_device, readable_name
from cslm_data.features.hf_ssl import weights_hash
from cslm_data.keys import content_id

_FILES = ("config.json", "vocab.json", "preprocessor_config.json")
_SPECTRAL_HOP, _SPECTRAL_FIELD = 160, 400
"""Of the filterbanks that wav2vec2-BERT begins with."""


def load_hf_ctc(folder: Path, *, spelling: Spelling, device: str = "auto") -> CtcNetwork:
    """The model of a directory, ready to run.

    Raises MissingArtefactError where a file is not there, UsageError for a model that is no CTC
    model over characters at 16 kHz, CorruptArtefactError where the weights do not fit.
    """
    for name in _FILES:
        if not (folder / name).is_file():
            raise MissingArtefactError(
                f"--aligner {folder}: no {name} there; a directory of a CTC model holds "
                f"{', '.join(_FILES)} and its weights"
            )
    model, front = _load(folder)
    config = model.config
    vocabulary = _read_vocabulary(folder, int(config.vocab_size))
    columns, symbols = _columns(folder, vocabulary, int(config.pad_token_id))
    kind, settings = type(front).__name__, _settings(front)
    identity = content_id(
        {
            "kind": "hf-ctc",
            "model_type": config.model_type,
            "front": [kind, settings],
            "symbols": symbols,
            "columns": columns,
            "weights": weights_hash(model, prefixes=("",)),
        }
    )
    where = choose_device(device)
    model = model.eval().to(where)
    hop, field = _steps(config)
    return CtcNetwork(
        aligner_id=identity,
        name=readable_name(f"hf:{folder.resolve()}", None),
        symbols=symbols,
        spelling=spelling,
        hop=hop,
        field=field,
        columns=columns,
        logits=_logits(model, front, where),
    )


def _load(folder: Path) -> tuple[Any, Any]:
    import transformers

    try:
        model, info = transformers.AutoModelForCTC.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        front = transformers.AutoFeatureExtractor.from_pretrained(
            str(folder), local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"--aligner {folder}: no CTC model that can be loaded ({lines[0]}); "
            "name a directory of Wav2Vec2ForCTC, HubertForCTC or Wav2Vec2BertForCTC"
        ) from None
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3]) or "none"
        raise CorruptArtefactError(
            f"--aligner {folder}: the weights do not fit config.json (missing: {missing}, of "
            f"another shape: {len(info['mismatched_keys'])}); a model without a CTC head cannot "
            "align: take one that was fine-tuned for speech recognition"
        )
    rate_hz = getattr(front, "sampling_rate", SAMPLE_RATE_HZ)
    if rate_hz != SAMPLE_RATE_HZ:
        raise UsageError(
            f"--aligner {folder}: made for {rate_hz} Hz; models for {SAMPLE_RATE_HZ} Hz can be used"
        )
    return model, front


def _read_vocabulary(folder: Path, size: int) -> dict[str, int]:
    """Symbol → output. Raises UsageError for what is not one alphabet."""
    path = folder / "vocab.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptArtefactError(f"{path}: not JSON ({error}); fetch the model again") from None
    if not isinstance(found, dict) or not found:
        raise UsageError(f"{path}: no symbols there; it should hold {{symbol: number}}")
    if any(isinstance(value, dict) for value in found.values()):
        raise UsageError(
            f"{path}: holds the alphabets of {len(found)} languages, whose adapters are not loaded "
            "here; save the model with one of them (model.load_adapter, tokenizer.set_target_lang)"
        )
    if not all(isinstance(value, int) and 0 <= value < size for value in found.values()):
        raise UsageError(f"{path}: numbers beyond the {size} outputs of config.json")
    return found


def _columns(
    folder: Path, vocabulary: dict[str, int], blank: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Outputs of the blank and of each single character, and these; the blank first."""
    delimiter = SEPARATOR
    path = folder / "tokenizer_config.json"
    if path.is_file():
        said = json.loads(path.read_text(encoding="utf-8")).get("word_delimiter_token")
        delimiter = said if isinstance(said, str) else SEPARATOR
    columns, symbols = [blank], ["<blank>"]
    for symbol, column in sorted(vocabulary.items(), key=lambda item: item[1]):
        written = SEPARATOR if symbol == delimiter else symbol
        if column != blank and len(written) == 1:
            columns.append(column)
            symbols.append(written)
    if len(symbols) < 2:
        raise UsageError(
            f"{folder}/vocab.json: no symbol is a single character; models over word pieces or "
            "phonemes cannot align here"
        )
    return tuple(columns), tuple(symbols)


def _settings(front: Any) -> dict[str, Any]:
    """What of the front end's settings changes its numbers, as they are saved."""
    plain = front.to_dict()
    return {name: value for name, value in sorted(plain.items()) if _is_plain(value)}


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _steps(config: Any) -> tuple[int, int]:
    """Samples between frames, and of one."""
    if hasattr(config, "conv_stride"):
        hop, field = hop_of(config.conv_kernel, config.conv_stride)
    else:
        stride = int(config.feature_projection_input_dim // 80)
        hop, field = _SPECTRAL_HOP * stride, _SPECTRAL_FIELD + _SPECTRAL_HOP * (stride - 1)
    if getattr(config, "add_adapter", False):
        factor = int(config.adapter_stride) ** int(config.num_adapter_layers)
        hop, field = hop * factor, max(field, hop * factor)
    return hop, field


def _logits(model: Any, front: Any, where: str) -> Callable[[NDArray[np.float32]], torch.Tensor]:
    def logits(waveform_T: NDArray[np.float32]) -> torch.Tensor:
        found = front(waveform_T, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
        name = front.model_input_names[0]
        inputs = {name: found[name].to(where)}
        if name == "input_features" and "attention_mask" in found:
            inputs["attention_mask"] = found["attention_mask"].to(where)
        logits_NV: torch.Tensor = model(**inputs).logits[0]
        return logits_NV

    return logits
