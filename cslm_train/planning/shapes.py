"""Name of a public model, or a config.json → an architecture, before its weights are on disk.

Source: `config.json` of each model on the Hugging Face hub. Instruct models have the same shape.
The numbers of parameters are those their model cards round; the tests hold the arithmetic to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cslm_data.errors import UsageError
from cslm_train.config import ModelConfig
from cslm_train.models.hugging_face import read_architecture, read_config_json


class Shape(NamedTuple):
    """A public architecture."""

    vocab_size: int
    """Rows of its embedding."""
    model: ModelConfig
    source: str
    """Where its config.json is from."""


def _llama(
    width: int, layers: int, heads: int, inner: int, *, tied: bool, head_dim: int
) -> ModelConfig:
    return ModelConfig(
        model_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=head_dim,
        max_seq_len=131_072,
        ffn_inner_dim=inner,
        tied_embeddings=tied,
        rope_theta=500_000.0,
        rms_norm_eps=1e-5,
    )


def _qwen2(
    width: int, layers: int, heads: int, kv_heads: int, inner: int, *, tied: bool
) -> ModelConfig:
    return ModelConfig(
        kind="qwen2",
        model_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        ffn_inner_dim=inner,
        max_seq_len=32_768,
        tied_embeddings=tied,
        qkv_bias=True,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-6,
    )


def _qwen3(width: int, layers: int, heads: int, inner: int, *, tied: bool) -> ModelConfig:
    return ModelConfig(
        kind="qwen3",
        model_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=128,
        ffn_inner_dim=inner,
        max_seq_len=40_960,
        tied_embeddings=tied,
        qk_norm=True,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-6,
    )


SHAPES: dict[str, Shape] = {
    "llama-3.1-8b": Shape(
        128_256,
        _llama(4096, 32, 32, 14_336, tied=False, head_dim=128),
        "meta-llama/Llama-3.1-8B",
    ),
    "llama-3.2-1b": Shape(
        128_256, _llama(2048, 16, 32, 8192, tied=True, head_dim=64), "meta-llama/Llama-3.2-1B"
    ),
    "llama-3.2-3b": Shape(
        128_256, _llama(3072, 28, 24, 8192, tied=True, head_dim=128), "meta-llama/Llama-3.2-3B"
    ),
    "qwen2.5-0.5b": Shape(151_936, _qwen2(896, 24, 14, 2, 4864, tied=True), "Qwen/Qwen2.5-0.5B"),
    "qwen2.5-1.5b": Shape(151_936, _qwen2(1536, 28, 12, 2, 8960, tied=True), "Qwen/Qwen2.5-1.5B"),
    "qwen2.5-7b": Shape(152_064, _qwen2(3584, 28, 28, 4, 18_944, tied=False), "Qwen/Qwen2.5-7B"),
    "qwen3-0.6b": Shape(151_936, _qwen3(1024, 28, 16, 3072, tied=True), "Qwen/Qwen3-0.6B"),
    "qwen3-8b": Shape(151_936, _qwen3(4096, 36, 32, 12_288, tied=False), "Qwen/Qwen3-8B"),
}


def shape_of(name: str) -> Shape:
    """A shape by its name, in any case, or of a config.json or the folder that holds one.

    Raises UsageError that lists the names, or for a model that cannot be trained here.
    """
    key = name.lower().rsplit("/", 1)[-1].removesuffix("-instruct")
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return read_shape(path if path.is_dir() else path.parent)
    if key not in SHAPES:
        raise UsageError(
            f"--shape {name}: no such shape, and no config.json there; there are "
            f"{', '.join(SHAPES)}"
        )
    return SHAPES[key]


def read_shape(folder: Path) -> Shape:
    """The shape in a folder's config.json; its weights need not be there."""
    config = read_config_json(folder)
    where = folder / "config.json"
    return Shape(int(config["vocab_size"]), read_architecture(config, str(where)), str(where))
