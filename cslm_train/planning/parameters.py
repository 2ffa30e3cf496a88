"""Architecture + vocabulary → how many weights a model has, by part, and how many of them train."""

# V vocabulary, M model dimension

from __future__ import annotations

from dataclasses import dataclass

from cslm_train.config import LoraConfig, ModelConfig
from cslm_train.models.weights import layer_shapes


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights of a model, counted once where they are tied."""

    embedding: int
    output: int
    """Output projection; 0 where it is the embedding."""
    attention: int
    """Projections of all layers, with the biases that Qwen 2 has."""
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
    factored_state: int
    """Numbers that Adafactor keeps of them: one for each row and column of a matrix."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A matrix of every layer."""

    name: str
    """As in a checkpoint, inside of a layer: `ffn.gate_proj`."""
    input_dim: int
    output_dim: int

    @property
    def size(self) -> int:
        """Its weights."""
        return self.input_dim * self.output_dim


def projections(model: ModelConfig) -> list[Projection]:
    """The matrices of a layer."""
    return [
        Projection(name=name.removesuffix(".weight"), input_dim=shape[1], output_dim=shape[0])
        for name, shape in layer_shapes(model).items()
        if len(shape) == 2
    ]


def count_parameters(
    model: ModelConfig,
    vocab_size: int,
    *,
    base_vocab_size: int | None = None,
    lora: LoraConfig | None = None,
    only_rows: bool = False,
) -> Parameters:
    """The weights of the architecture by part.

    `base_vocab_size`: rows of text that a base model brings; None: the model is made from scratch.
    `only_rows`: nothing but embedding and output projection ever trains.
    """
    width, layers = model.model_dim, model.num_layers
    of_layer = projections(model)
    sizes = {
        place: layers * sum(p.size for p in of_layer if p.name.startswith(place))
        for place in ("self_attn", "ffn")
    }
    vectors = {name: shape[0] for name, shape in layer_shapes(model).items() if len(shape) == 1}
    biases = layers * sum(size for name, size in vectors.items() if name.endswith(".bias"))
    norms = layers * sum(vectors.values()) - biases + width
    tables = 1 if model.tied_embeddings else 2
    embedding = vocab_size * width
    non_embedding = sizes["self_attn"] + biases + sizes["ffn"] + norms
    adapted = [p for p in of_layer if lora is not None and lora.rank and lora.adapts(p.name)]
    rank = lora.rank if lora is not None else 0
    ends = layers * sum(p.input_dim + p.output_dim for p in of_layer)
    adapter_ends = layers * sum(p.input_dim + p.output_dim for p in adapted)
    # What trains: all, or the rows alone, or adapters and perhaps the rows.
    layers_train = not rank and not only_rows
    tables_train = not rank or (lora is not None and lora.train_embeddings != "none")
    adapters_train = bool(rank) and not only_rows
    trainable = factored = 0
    if layers_train:
        trainable, factored = non_embedding, ends + biases + norms
    if tables_train:
        trainable += tables * embedding
        factored += tables * (vocab_size + width)
    if adapters_train:
        trainable += rank * adapter_ends
        factored += adapter_ends + 2 * rank * layers * len(adapted)
    new = 0 if base_vocab_size is None else max(0, vocab_size - base_vocab_size)
    return Parameters(
        embedding=embedding,
        output=(tables - 1) * embedding,
        attention=sizes["self_attn"] + biases,
        feed_forward=sizes["ffn"],
        norms=norms,
        total=non_embedding + tables * embedding,
        non_embedding=non_embedding,
        new_rows=tables * new * width,
        adapters=rank * adapter_ends,
        trainable=trainable,
        factored_state=factored,
    )
