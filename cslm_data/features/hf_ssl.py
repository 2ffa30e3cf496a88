"""HuBERT, wav2vec 2.0 and WavLM as transformers has them: a directory, or a repository to fetch.

The forward pass stops at the layer asked for: what is above it is thrown away after loading.
Layer k is `hidden_states[k]` of the full model: 0 is the input of the first block, 1 its output,
and so on; no layer means the last one, after the final norm where the model has one there.
"""

# T samples, N frames, D features

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import ExtractorOptions, choose_device

Floats = NDArray[np.float32]

_MODEL_TYPES = ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
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


class HfExtractor:
    """float32 (T,) → float32 (N, D) of one layer, an utterance at a time."""

    def __init__(self, name: str, options: ExtractorOptions) -> None:
        if not name:
            raise UsageError("--extractor hf: name a directory or a repository, e.g. hf:./hubert")
        model, self._normalise = _load(name)
        config = model.config
        self.layer = _cut(model, options.layer, name)
        self.dim = int(config.hidden_size)
        stride = int(np.prod(config.conv_stride))
        self.frame_rate_hz = SAMPLE_RATE_HZ / stride
        self._shortest = _receptive_field(config.conv_kernel, config.conv_stride)
        self.identity: dict[str, object] = {
            "kind": "hf",
            "config": {name: getattr(config, name, None) for name in _CONFIG_FIELDS},
            "layer": self.layer,
            "normalise": self._normalise,
            "weights": weights_hash(model),
        }
        self._device = choose_device(options.device)
        self._dtype = getattr(torch, options.dtype)
        self._model = model.to(self._device, self._dtype)

    def __call__(self, waveform_T: Floats) -> Floats:
        """Features of one utterance; one too short for a frame is padded with zeros."""
        wave_T = np.asarray(waveform_T, np.float32)
        if self._normalise:
            wave_T = zero_mean_unit_variance(wave_T)
        if len(wave_T) < self._shortest:
            wave_T = np.pad(wave_T, (0, self._shortest - len(wave_T)))
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(wave_T))[None]
            hidden = self._model(batch.to(self._device, self._dtype)).last_hidden_state[0]
            return np.asarray(hidden.float().cpu().numpy(), np.float32)


def zero_mean_unit_variance(wave_T: Floats) -> Floats:
    """What transformers' Wav2Vec2FeatureExtractor does where `do_normalize` is set."""
    if not len(wave_T):
        return wave_T
    return np.asarray((wave_T - wave_T.mean()) / np.sqrt(wave_T.var() + 1e-7), np.float32)


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


def _load(name: str) -> tuple[Any, bool]:
    """The full model in float32 and whether it wants normalised waveforms."""
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
        normalise = _wants_normalised(source, config, local_files_only=is_path)
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
    return model.eval(), normalise


def _wants_normalised(source: str, config: Any, *, local_files_only: bool) -> bool:
    """`do_normalize` of preprocessor_config.json; without that file, what the family does."""
    from transformers.utils import cached_file

    path = cached_file(
        source,
        "preprocessor_config.json",
        local_files_only=local_files_only,
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        return bool(config.feat_extract_norm == "layer")
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    return bool(settings.get("do_normalize", True))


def _cut(model: Any, layer: int | None, name: str) -> int:
    """Throw away the blocks above `layer`, and the final norm where that layer comes before it."""
    encoder, last = model.encoder, len(model.encoder.layers)
    chosen = last if layer is None else layer
    if not 0 <= chosen <= last:
        raise UsageError(f"--layer {layer}: {name} has the layers 0 to {last}")
    encoder.layers = encoder.layers[:chosen]
    if getattr(model.config, "do_stable_layer_norm", False) and chosen < last:
        encoder.layer_norm = torch.nn.Identity()
    if getattr(model, "adapter", None) is not None:
        model.adapter = None
    return chosen


def _receptive_field(kernels: list[int], strides: list[int]) -> int:
    """Samples that the first frame sees."""
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field
