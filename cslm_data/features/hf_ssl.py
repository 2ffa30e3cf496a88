"""HuBERT, wav2vec 2.0, WavLM and wav2vec2-BERT of transformers: a directory or a repository.

The forward pass stops at the layer asked for: what is above it is thrown away after loading. The
weights then run in `front_end.py` and `encoder.py` (wav2vec2-BERT: `w2v_bert.py`).
Layer k is `hidden_states[k]` of the full model: 0 is the input of the first block, 1 its output,
and so on; no layer means the last one, after the final norm where the model has one there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import ExtractorOptions, choose_device
from cslm_data.features.encoder import Encoder
from cslm_data.features.front_end import FrontEnd
from cslm_data.features.network import FrameEncoder, Front, NetworkExtractor
from cslm_data.features.w2v_bert import MODEL_TYPE as W2V_BERT
from cslm_data.features.w2v_bert import w2v_bert_parts

_NORMALISE_EPS = 1e-7
"""As in transformers' Wav2Vec2FeatureExtractor."""

_MODEL_TYPES = (
    "data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", W2V_BERT, "wavlm",
)  # fmt: skip
_USED = ("feature_extractor.", "feature_projection.", "encoder.")
"""Weights that the features depend on; the rest (mask embedding, heads) is of training only."""

_CONFIG_FIELDS = (
    "model_type", "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "do_stable_layer_norm", "conv_dim", "conv_kernel", "conv_stride", "conv_bias",
    "conv_pos_batch_norm", "conv_pos_kernel_size", "feat_extract_norm", "feat_extract_activation",
    "feat_proj_layer_norm", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
    "num_buckets", "max_bucket_distance", "adapter_attn_dim",
)  # fmt: skip
"""Fields of the configuration that change what the weights compute."""


def load_hf(name: str, options: ExtractorOptions) -> NetworkExtractor:
    """The network that a directory or a repository holds, ready to run up to a layer.

    Raises UsageError for a model or a layer that cannot be used, MissingArtefactError where there
    is none, CorruptArtefactError where weights are missing.
    """
    if not name:
        raise UsageError("--extractor hf: name a directory or a repository, e.g. hf:./hubert")
    model, settings = _load(name)
    config = model.config
    layer = _cut(model, options.layer, name)
    device, dtype = choose_device(options.device), getattr(torch, options.dtype)
    # Before the weights move: what is made of them below is no longer in the library's order.
    weights = weights_hash(model)
    parts = w2v_bert_parts if config.model_type == W2V_BERT else _parts
    front, encoder, family = parts(model, settings, device=device, dtype=dtype)
    return NetworkExtractor(
        identity={"kind": "hf", **family, "weights": weights},
        layer=layer,
        dim=int(config.hidden_size),
        front=front,
        encoder=encoder,
        device=device,
    )


def _parts(
    model: Any, settings: Mapping[str, Any], *, device: str, dtype: torch.dtype
) -> tuple[Front, FrameEncoder, dict[str, object]]:
    """Front, encoder and identity of everything that begins with convolutions."""
    config = model.config
    by_layer = getattr(config, "feat_extract_norm", "layer") == "layer"
    normalise = bool(settings.get("do_normalize", by_layer))
    front = FrontEnd(
        model.feature_extractor.conv_layers,
        normalise_eps=_NORMALISE_EPS if normalise else None,
        device=device,
        dtype=dtype,
    )
    stable = bool(getattr(config, "do_stable_layer_norm", False))
    final_norm = model.encoder.layer_norm
    encoder = Encoder(
        projection=model.feature_projection,
        positional=model.encoder.pos_conv_embed,
        blocks=model.encoder.layers,
        norms_first=stable,
        norm_before=None if stable else final_norm,
        norm_after=final_norm if isinstance(final_norm, torch.nn.LayerNorm) and stable else None,
        device=device,
        dtype=dtype,
    )
    fields = {name: getattr(config, name, None) for name in _CONFIG_FIELDS}
    return front, encoder, {"config": fields, "normalise": normalise}


def weights_hash(model: torch.nn.Module, *, prefixes: tuple[str, ...] = _USED) -> str:
    """BLAKE2b-128 over names, shapes and float32 values of the weights that are used."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(_plain_names(model.state_dict()).items()):
        if name.startswith(prefixes):
            values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
            digest.update(f"{name}{list(values.shape)}".encode())
            digest.update(values.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def _plain_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names that do not depend on which of torch's two weight norms the library uses."""
    old = ".parametrizations.weight.original"
    return {
        name.replace(f"{old}0", ".weight_g").replace(f"{old}1", ".weight_v"): tensor
        for name, tensor in state.items()
    }


def _load(name: str) -> tuple[Any, dict[str, Any]]:
    """The full model in float32 and the settings of its preprocessor."""
    import transformers

    local = Path(name).expanduser()
    is_path = local.is_dir() or name.startswith((".", "/", "~"))
    if is_path and not (local / "config.json").is_file():
        raise MissingArtefactError(
            f"--extractor hf:{name}: no config.json there; name a directory that holds one with "
            "model.safetensors, or a repository such as facebook/hubert-base-ls960"
        )
    source = str(local) if is_path else name
    try:
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=is_path)
        if config.model_type not in _MODEL_TYPES:
            raise UsageError(
                f"--extractor hf:{name}: a model of type {config.model_type!r}; the types that can "
                f"be used are {', '.join(_MODEL_TYPES)}"
            )
        model, info = transformers.AutoModel.from_pretrained(
            source,
            config=config,
            local_files_only=is_path,
            dtype=torch.float32,
            output_loading_info=True,
        )
        settings = _preprocessor_settings(source, config, local_files_only=is_path)
    except (OSError, ValueError) as error:
        raise MissingArtefactError(
            f"--extractor hf:{name}: cannot be loaded ({str(error).strip().splitlines()[0]}); "
            "check the name and the network, or fetch it elsewhere and name its directory"
        ) from None
    missing = [key for key in info["missing_keys"] if key.startswith(_USED)]
    if missing or info["mismatched_keys"]:
        raise CorruptArtefactError(
            f"--extractor hf:{name}: the weights do not fit config.json (missing: "
            f"{', '.join(missing[:3]) or 'none'}, of another shape: "
            f"{len(info['mismatched_keys'])}); fetch the model again"
        )
    rate_hz = settings.get("sampling_rate", SAMPLE_RATE_HZ)
    if rate_hz != SAMPLE_RATE_HZ:
        raise UsageError(
            f"--extractor hf:{name}: made for {rate_hz} Hz; models for {SAMPLE_RATE_HZ} Hz can be "
            "used"
        )
    return model.eval(), settings


def _preprocessor_settings(source: str, config: Any, *, local_files_only: bool) -> dict[str, Any]:
    """preprocessor_config.json; empty without that file. What it leaves out, the family decides."""
    from transformers.utils import cached_file

    path = cached_file(
        source,
        "preprocessor_config.json",
        local_files_only=local_files_only,
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        return {}
    settings: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    if config.model_type != W2V_BERT:
        settings.setdefault("do_normalize", True)
    return settings


def _cut(model: Any, layer: int | None, name: str) -> int:
    """Throw away the blocks above `layer`, and the final norm where that layer comes before it."""
    encoder, last = model.encoder, len(model.encoder.layers)
    chosen = last if layer is None else layer
    if not 0 <= chosen <= last:
        raise UsageError(f"--layer {layer}: {name} has the layers 0 to {last}")
    encoder.layers = encoder.layers[:chosen]
    if getattr(model.config, "do_stable_layer_norm", False) and chosen < last:
        # That layer comes before the final norm.
        encoder.layer_norm = torch.nn.Identity()
    if getattr(model, "adapter", None) is not None:
        model.adapter = None
    return chosen
