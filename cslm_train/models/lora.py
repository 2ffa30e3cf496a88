"""A model → the same with low-rank adapters beside frozen weights; a checkpoint → without them.

An adapter adds `alpha / rank · B A x` to a projection `W x`, Hu et al., arXiv:2106.09685. Weights
keep their names, so that a checkpoint of such a model holds a plain model and, beside it, `lora_a`
and `lora_b` of each adapted projection: whatever reads weights gets them merged.
"""

# I input dimension, O output dimension, R rank

from __future__ import annotations

import math
from collections.abc import Mapping

from fairseq2.nn import ColumnShardedLinear, Linear, Projection, RowShardedLinear
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import dropout, linear
from torch.nn.init import kaiming_uniform_, zeros_

from cslm_train.config import LoraConfig
from cslm_train.models.family import SpeechLM

_A, _B = "lora_a", "lora_b"


class LoraProjection(Projection):
    """A projection with an adapter; of no effect until its first step, for B begins as zeros."""

    def __init__(
        self,
        weight: Parameter,
        bias: Parameter | None,
        *,
        rank: int,
        scale: float,
        dropout_p: float,
    ) -> None:
        """`weight` (O, I) and `bias` (O) are kept by their names and frozen."""
        super().__init__(input_dim=weight.size(1), output_dim=weight.size(0))
        self.weight = weight
        self.bias: Parameter | None
        self.register_parameter("bias", bias)
        self.lora_a = Parameter(weight.new_empty((rank, self.input_dim)))
        self.lora_b = Parameter(weight.new_empty((self.output_dim, rank)))
        self.scale = scale
        self.dropout_p = dropout_p
        for frozen in (weight, bias):
            if frozen is not None:
                frozen.requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A as a projection begins, B as zeros."""
        kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        zeros_(self.lora_b)

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        added = linear(dropout(x, self.dropout_p, self.training), self.lora_a)
        return linear(x, self.weight, self.bias) + self.scale * linear(added, self.lora_b)

    def extra_repr(self) -> str:
        """For printing."""
        return f"input_dim={self.input_dim}, output_dim={self.output_dim}, scale={self.scale}"


def apply_lora(model: SpeechLM, config: LoraConfig) -> None:
    """Give the targets of a model adapters and freeze what does not train with them, in place.

    Call it with the weights loaded, before the model is wrapped for several processes. Rows of
    text are not told apart here: `train_embeddings` "new_rows" lets the whole matrices train, and
    `cslm_train.training.freezing` holds their old rows.
    """
    if config.rank == 0:
        return
    model.requires_grad_(False)
    for name, module in list(model.decoder.named_modules()):
        if not config.adapts(name):
            continue
        if not isinstance(module, Linear | ColumnShardedLinear | RowShardedLinear):
            continue
        adapted = LoraProjection(
            module.weight,
            module.bias,
            rank=config.rank,
            scale=config.alpha / config.rank,
            dropout_p=config.dropout,
        )
        parent, _, attribute = name.rpartition(".")
        setattr(model.decoder.get_submodule(parent), attribute, adapted)
    if config.train_embeddings != "none":
        for module in (model.decoder_frontend.embed, model.final_proj):
            module.requires_grad_(True)


def merged_weights(weights: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The weights of a checkpoint as those of a model without adapters; others are left alone.

    Whole matrices are needed, not shards of them.
    """
    if config.rank == 0:
        return dict(weights)
    merged = {name: w for name, w in weights.items() if name.rpartition(".")[2] not in (_A, _B)}
    for name, b_OR in weights.items():
        owner, _, last = name.rpartition(".")
        if last == _B:
            a_RI = weights[f"{owner}.{_A}"]
            update_OI = config.alpha / config.rank * (b_OR.float() @ a_RI.float())
            weight = merged[f"{owner}.weight"]
            merged[f"{owner}.weight"] = (weight.float() + update_OI).to(weight.dtype)
    return merged
