"""A Hugging Face folder ↔ our architecture and weights: config.json, *.safetensors.

Read are LLaMA (plain, tied, Llama 3's rotary frequencies, any epsilon), Qwen 2 and 2.5, Qwen 3.
Anything in a config.json that our architecture does not have is an error that names it.

transformers turns the first half of a head's dimensions into the second, fairseq2 turns neighbours
into each other: rows of queries and keys change places on the way in and back on the way out.
"""

# M model dimension, H heads, D head dimension

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.keys import content_id
from cslm_train.config import BASE_REQUIRED, ModelConfig, RopeScaling
from cslm_train.models.weights import EMBEDDING, OUTPUT, weight_shapes

if TYPE_CHECKING:  # config.json is read where there is no torch, to plan a run
    from torch import Tensor

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""`model_type` of a config.json we read, and the class of transformers."""

_NAMES = {
    "model.embed_tokens": "decoder_frontend.embed",
    "model.norm": "decoder.layer_norm",
    "lm_head": "final_proj",
}
_LAYER_NAMES = {
    "self_attn.q_proj": "self_attn.q_proj",
    "self_attn.k_proj": "self_attn.k_proj",
    "self_attn.v_proj": "self_attn.v_proj",
    "self_attn.o_proj": "self_attn.output_proj",
    "self_attn.q_norm": "self_attn.q_norm",
    "self_attn.k_norm": "self_attn.k_norm",
    "mlp.gate_proj": "ffn.gate_proj",
    "mlp.up_proj": "ffn.inner_proj",
    "mlp.down_proj": "ffn.output_proj",
    "input_layernorm": "self_attn_layer_norm",
    "post_attention_layernorm": "ffn_layer_norm",
}
_TURNED = re.compile(r"\.self_attn\.(q|k)_(proj|norm)\.(weight|bias)$")
_SAMPLED_BLOCKS, _BLOCK = 64, 1 << 16


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A model to start from."""

    folder: Path
    architecture: ModelConfig
    vocab_size: int
    """Rows of its embedding; some may belong to no token."""
    max_seq_len: int
    """Its longest sequence."""
    weights_id: str
    """Identity of config and weights."""


# --- config.json ------------------------------------------------------------------------------


def base_folder(base: str) -> Path:
    """`hf:FOLDER` or `FOLDER` → the folder. Raises UsageError where it is still to be given."""
    if base == BASE_REQUIRED:
        raise UsageError(
            "model.base: this configuration is for a base model: give the folder of a Hugging "
            "Face model with --set model.base=FOLDER"
        )
    return Path(base.removeprefix("hf:")).expanduser()


def read_base(folder: Path) -> BaseModel:
    """The architecture in a folder, and the identity of its weights.

    Raises MissingArtefactError, CorruptArtefactError, or UsageError for a model we cannot hold.
    """
    config = read_config_json(folder)
    if "cslm" in config:
        raise UsageError(
            f"{folder}: an export of ours, which has units already; go on from the run it was "
            "exported from: --init-from RUN"
        )
    files = weight_files(folder)
    return BaseModel(
        folder=folder,
        architecture=read_architecture(config, str(folder / "config.json")),
        vocab_size=int(config["vocab_size"]),
        max_seq_len=int(config.get("max_position_embeddings", 2048)),
        weights_id=content_id({"config": config, "files": [_fingerprint(f) for f in files]}),
    )


def read_config_json(folder: Path) -> dict[str, Any]:
    """The config.json of a folder. Raises MissingArtefactError, CorruptArtefactError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingArtefactError(
            f"{folder}: no config.json here; model.base must be the folder of a Hugging Face "
            "model, as save_pretrained or `hf download` leaves it"
        ) from None
    except ValueError as error:
        raise CorruptArtefactError(f"{path}: not JSON ({error}); download it again") from None
    if not isinstance(config, dict) or "vocab_size" not in config:
        raise CorruptArtefactError(f"{path}: not the configuration of a language model")
    return config


def read_architecture(config: Mapping[str, Any], where: str) -> ModelConfig:
    """A config.json as our architecture; everything else of ModelConfig at its default.

    Raises UsageError for what our architecture does not have.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise UsageError(
            f"{where}: model_type {kind} cannot be trained; there are {', '.join(ARCHITECTURES)}"
        )
    _refuse(config, kind, where)
    try:
        heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
        head = int(config.get("head_dim") or width // heads)
        return ModelConfig(
            kind=kind,
            model_dim=width,
            num_layers=int(config["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=None if head == width // heads else head,
            ffn_inner_dim=int(config["intermediate_size"]),
            max_seq_len=int(config.get("max_position_embeddings", 2048)),
            tied_embeddings=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=kind == "qwen2",
            qk_norm=kind == "qwen3",
            rope_theta=_rope_theta(config),
            rope_scaling=_rope_scaling(config, where),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArtefactError(f"{where}: {error} is missing or no number") from None


def _refuse(config: Mapping[str, Any], kind: str, where: str) -> None:
    """Raise UsageError for parts that our architecture does not have."""
    must_be: dict[str, tuple[Any, ...]] = {
        "hidden_act": (None, "silu"),
        "attention_bias": (None, False),
        "mlp_bias": (None, False),
        "use_sliding_window": (None, False),
        "partial_rotary_factor": (None, 1, 1.0),
        "quantization_config": (None,),
        "pretraining_tp": (None, 1),
    }
    for name, allowed in must_be.items():
        if config.get(name) not in allowed:
            raise UsageError(
                f"{where}: {name} {config[name]} of a {kind} model cannot be trained; choose "
                "another model.base"
            )
    layers = set(config.get("layer_types") or ["full_attention"])
    if layers != {"full_attention"}:
        raise UsageError(
            f"{where}: layers of {', '.join(sorted(layers))} cannot be trained; choose another "
            "model.base"
        )


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the rotary frequencies: `rope_parameters` since transformers 5."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_theta(config: Mapping[str, Any]) -> float:
    return float(_rope(config).get("rope_theta", config.get("rope_theta", 10_000.0)))


def _rope_scaling(config: Mapping[str, Any], where: str) -> RopeScaling | None:
    rope = _rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UsageError(
            f"{where}: rotary frequencies of type {kind} cannot be trained; there are default and "
            "llama3"
        )
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_length=int(rope["original_max_position_embeddings"]),
    )


def config_json(model: ModelConfig, *, vocab_size: int) -> dict[str, Any]:
    """Our architecture as the fields of a config.json, ids of special tokens aside."""
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[model.kind]],
        "model_type": model.kind,
        "vocab_size": vocab_size,
        "hidden_size": model.model_dim,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_width,
        "intermediate_size": model.ffn_inner_dim,
        "max_position_embeddings": model.max_seq_len,
        "tie_word_embeddings": model.tied_embeddings,
        "rope_theta": model.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": model.rms_norm_eps,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
    }
    if (scaling := model.rope_scaling) is not None:
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_length,
        }
    if model.kind == "llama":
        config |= {"attention_bias": False, "mlp_bias": False}
    elif model.kind == "qwen2":
        config |= {"use_sliding_window": False}
    else:
        config |= {"attention_bias": False, "use_sliding_window": False}
    return config


# --- weights ----------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, sharded or not.

    Raises MissingArtefactError, CorruptArtefactError.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise CorruptArtefactError(f"{index}: not an index of weights ({error})") from None
        files = [folder / Path(name).name for name in names]
    else:
        files = [folder / "model.safetensors"]
    if missing := [file.name for file in files if not file.is_file()]:
        old = " (its *.bin files are pickles, which are not read: save it with safe_serialization)"
        raise MissingArtefactError(
            f"{folder}: no {', '.join(missing)} here{old if any(folder.glob('*.bin')) else ''}; "
            "download the model again"
        )
    return files


def _fingerprint(file: Path) -> str:
    """Identity of a file of weights: its size, its head and blocks all over it."""
    size = file.stat().st_size
    starts = sorted({size * block // _SAMPLED_BLOCKS for block in range(_SAMPLED_BLOCKS)})
    with file.open("rb") as stream:
        blocks = []
        for start in starts:
            stream.seek(start)
            blocks.append(stream.read(_BLOCK).hex())
    return content_id({"name": file.name, "size": size, "blocks": blocks})


def read_base_weights(base: BaseModel) -> dict[str, Tensor]:
    """The weights in our names and order of dimensions, in the data type they are stored in.

    Raises CorruptArtefactError when one is missing, of another shape, or too many.
    """
    return _checked(dict(_read(base)), base)


def _read(base: BaseModel) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in weight_files(base.folder):
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - no mapping
                    if name.endswith("rotary_emb.inv_freq"):
                        continue  # follows from the configuration
                    ours = _our_name(name)
                    if ours is None:
                        raise CorruptArtefactError(f"{file}: {name} has no place in the model")
                    yield ours, _turn(ours, stored.get_tensor(name), base.architecture, into=True)
        except SafetensorError as error:
            raise CorruptArtefactError(f"{file}: not safetensors ({error})") from None


def _checked(weights: dict[str, Tensor], base: BaseModel) -> dict[str, Tensor]:
    if base.architecture.tied_embeddings:
        import torch

        weights[OUTPUT] = weights.get(EMBEDDING, torch.empty(0))
    shapes = weight_shapes(base.architecture, base.vocab_size)
    wrong = [
        f"{name} is {tuple(weights[name].shape) if name in weights else 'missing'}, not {shape}"
        for name, shape in shapes.items()
        if name not in weights or tuple(weights[name].shape) != shape
    ] + [f"{name} has no place" for name in weights.keys() - shapes.keys()]
    if wrong:
        raise CorruptArtefactError(
            f"{base.folder}: its weights are not those of its config.json: {'; '.join(wrong[:3])}"
        )
    return weights


def to_hugging_face(weights: Mapping[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
    """Our weights in transformers' names and order of dimensions; a tied output is left out."""
    names = {ours: theirs for theirs, ours in _NAMES.items()}
    layer_names = {ours: theirs for theirs, ours in _LAYER_NAMES.items()}
    return {
        _renamed(name, r"decoder\.layers\.", names, "model.layers.", layer_names) or name: _turn(
            name, weight, model, into=False
        )
        for name, weight in weights.items()
        if not (name == OUTPUT and model.tied_embeddings)
    }


def _our_name(name: str) -> str | None:
    return _renamed(name, r"model\.layers\.", _NAMES, "decoder.layers.", _LAYER_NAMES)


def _renamed(
    name: str, layers: str, names: dict[str, str], new_layers: str, layer_names: dict[str, str]
) -> str | None:
    module, _, leaf = name.rpartition(".")
    if match := re.fullmatch(rf"{layers}(\d+)\.(.+)", module):
        new = layer_names.get(match[2])
        return None if new is None else f"{new_layers}{match[1]}.{new}.{leaf}"
    new = names.get(module)
    return None if new is None else f"{new}.{leaf}"


def _turn(name: str, weight: Tensor, model: ModelConfig, *, into: bool) -> Tensor:
    """Rows of queries and keys in our order (`into`) or in transformers'; other weights as is."""
    if not _TURNED.search(name):
        return weight
    shape = (2, model.head_width // 2) if into else (model.head_width // 2, 2)
    return weight.view(-1, *shape, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
