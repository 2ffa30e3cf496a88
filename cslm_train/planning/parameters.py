"""Architecture + vocabulary → how many weights a model has, by part, and how many of them train."""

from __future__ import annotations

from dataclasses import dataclass

from cslm_train.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights of a model, counted once where they are tied."""

    embedding: int
    output: int
    """Output projection; 0 where it is the embedding."""
    attention: int
    """Projections of all layers, with the biases that Qwen2 has."""
    feed_forward: int
    norms: int
    total: int
    non_embedding: int
    """Without embedding and output projection."""
    new_rows: int
    """Of embedding and output projection: the rows that the base model has not."""
    adapters: int
    """Of LoRA, beside the total."""
    trainable: int
    """Weights with a gradient and a state of the optimizer, adapters among them."""


def count_parameters(
    model: ModelConfig, vocab_size: int, *, base_vocab_size: int | None = None
) -> Parameters:
    """The weights of the architecture, all of them trained.

    `base_vocab_size`: rows that a base model brings; None: the model is made from scratch, and has
    no new rows beside old ones.
    """
    width, head, layers = model.model_dim, model.head_width, model.num_layers
    queries, keys = model.num_heads * head, model.num_kv_heads * head
    projections = 2 * width * queries + 2 * width * keys
    biases = queries + 2 * keys if model.qkv_bias else 0
    matrices = 1 if model.tied_embeddings else 2
    embedding = vocab_size * width
    attention = layers * (projections + biases)
    feed_forward = layers * 3 * width * model.ffn_inner_dim
    norms = layers * (2 * width + (2 * head if model.qk_norm else 0)) + width
    non_embedding = attention + feed_forward + norms
    total = non_embedding + matrices * embedding
    new = 0 if base_vocab_size is None else max(0, vocab_size - base_vocab_size)
    return Parameters(
        embedding=embedding,
        output=(matrices - 1) * embedding,
        attention=attention,
        feed_forward=feed_forward,
        norms=norms,
        total=total,
        non_embedding=non_embedding,
        new_rows=matrices * new * width,
        adapters=0,
        trainable=total,
    )
