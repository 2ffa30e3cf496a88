"""Small random models, made and saved by transformers as teams find them on their disks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

VARIANTS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"rms_norm_eps": 1e-6}),
    "llama tied, one key head": (
        LlamaConfig,
        LlamaForCausalLM,
        {"tie_word_embeddings": True, "num_key_value_heads": 1, "rms_norm_eps": 1e-3},
    ),
    "llama 3.1": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rope_scaling": _LLAMA3_ROPE, "rope_theta": 500_000.0, "rms_norm_eps": 1e-5},
    ),
    "llama 3.2": (
        LlamaConfig,
        LlamaForCausalLM,
        {
            "rope_scaling": {**_LLAMA3_ROPE, "factor": 32.0},
            "rope_theta": 500_000.0,
            "tie_word_embeddings": True,
            "head_dim": 16,
        },
    ),
    "qwen 2.5": (Qwen2Config, Qwen2ForCausalLM, {"rope_theta": 1_000_000.0}),
    "qwen 2.5 tied": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen 3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen 3 untied": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 4}),
}


def save_base(
    folder: Path,
    variant: str,
    *,
    vocab_size: int,
    tokenizer_folder: Path | None = None,
    max_shard_size: str = "5GB",
    **changes: Any,
) -> PreTrainedModel:
    """Save a random model of a variant of VARIANTS, with a tokenizer where one is given."""
    config_type, model_type, own = VARIANTS[variant]
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 72,
        "max_position_embeddings": 256,
    }
    torch.manual_seed(3)
    model = model_type(config_type(**{**fields, **own, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Random all over: transformers begins biases at 0 and norms at 1.
            spread = 0.2 if parameter.ndim == 1 else 0.15
            parameter.add_(spread * torch.randn(parameter.shape))
            if "lm_head" in name or "embed" in name:
                parameter.mul_(1.5)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    if tokenizer_folder is not None:
        shutil.copyfile(tokenizer_folder / "tokenizer.json", folder / "tokenizer.json")
    return model
