"""Architecture + vocabulary → the names and shapes of its weights, and how many numbers they hold.

Without torch, so that a plan may ask too.
"""

from __future__ import annotations

import math

from cslm_train.config import ModelConfig

Shape = tuple[int, ...]

EMBEDDING, OUTPUT = "decoder_frontend.embed.weight", "final_proj.weight"


def layer_shapes(model: ModelConfig) -> dict[str, Shape]:
    """The shape of every weight of a layer, by its name inside of it; matrices are (out, in)."""
    width, inner, head = model.model_dim, model.ffn_inner_dim, model.head_width
    queries, keys = model.num_heads * head, model.num_kv_heads * head
    shapes: dict[str, Shape] = {
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.k_proj.weight": (keys, width),
        "self_attn.v_proj.weight": (keys, width),
        "self_attn.output_proj.weight": (width, queries),
        "ffn.gate_proj.weight": (inner, width),
        "ffn.inner_proj.weight": (inner, width),
        "ffn.output_proj.weight": (width, inner),
        "self_attn_layer_norm.weight": (width,),
        "ffn_layer_norm.weight": (width,),
    }
    if model.qkv_bias:
        shapes |= {f"self_attn.{x}_proj.bias": (queries if x == "q" else keys,) for x in "qkv"}
    if model.qk_norm:
        shapes |= {f"self_attn.{x}_norm.weight": (head,) for x in "qk"}
    return shapes


def weight_shapes(model: ModelConfig, vocab_size: int) -> dict[str, Shape]:
    """The shape of every weight of a model, in our names; a tied output stands beside its twin."""
    of_layer = layer_shapes(model)
    return {
        EMBEDDING: (vocab_size, model.model_dim),
        **{
            f"decoder.layers.{number}.{name}": shape
            for number in range(model.num_layers)
            for name, shape in of_layer.items()
        },
        "decoder.layer_norm.weight": (model.model_dim,),
        OUTPUT: (vocab_size, model.model_dim),
    }


def num_parameters(model: ModelConfig, vocab_size: int) -> int:
    """Weights of a model, counted once where they are tied."""
    shapes = weight_shapes(model, vocab_size)
    if model.tied_embeddings:
        del shapes[OUTPUT]
    return sum(map(math.prod, shapes.values()))
