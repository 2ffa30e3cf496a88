"""YAML + `--set section.field=value` → `TrainConfig`: what a training run does, and its defaults.

Configurations stop at the door: inner functions take values. Every field has a default that works;
a wrong one is an error that names the field and where it was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3's stretching of the slow rotary frequencies.

    Source: transformers 4.57, `_compute_llama3_parameters`; arXiv 2407.21783.
    """

    factor: float
    """How much longer the context is than the one first trained on."""
    low_freq_factor: float
    high_freq_factor: float
    original_length: int
    """The context first trained on, in tokens."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture. The vocabulary's size comes from the mix.

    With `base`, its config.json fills in everything but `max_seq_len`, `dropout` and the new rows.
    """

    base: str = ""
    """Folder of the Hugging Face model to start from (also `hf:FOLDER`); empty: from scratch."""
    new_rows: Literal["mean", "subword", "kmeans"] = "mean"
    """How rows of controls and units begin in a base model: at the mean of its rows; at the mean
    of the rows that spell their name; or spread around the mean as the units' centroids lie."""
    new_rows_noise: float = 0.1
    """How far they lie from there, over the standard deviation of the base model's rows."""
    kind: Literal["llama", "qwen2", "qwen3"] = "llama"
    """Under whose name the model is exported."""
    model_dim: int = 256
    """Width of the residual stream."""
    num_layers: int = 4
    """Decoder layers."""
    num_heads: int = 4
    """Query heads; divides `model_dim` unless `head_dim` is given."""
    num_kv_heads: int = 2
    """Key and value heads; divides `num_heads`."""
    head_dim: int | None = None
    """Width of a head; None: `model_dim` over `num_heads`."""
    ffn_inner_dim: int = 704
    """Inner width of the gated feed-forward network."""
    max_seq_len: int = 2048
    """Longest sequence in tokens, prompt and answer together."""
    dropout: float = 0.0
    """Probability of dropping an output of a sub-layer."""
    tied_embeddings: bool = True
    """One matrix for the embedding and the output projection."""
    qkv_bias: bool = False
    """Biases on the projections to queries, keys and values (Qwen 2)."""
    qk_norm: bool = False
    """RMSNorm over each head's queries and keys (Qwen 3)."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """None: the frequencies as they are."""
    rms_norm_eps: float = 1e-5
    """Added to the variance in RMSNorm."""

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.head_dim or self.model_dim // self.num_heads

    def num_parameters(self, vocab_size: int) -> int:
        """Weights of the model with a vocabulary of that size."""
        width, inner, head = self.model_dim, self.ffn_inner_dim, self.head_width
        projected = (self.num_heads + 2 * self.num_kv_heads) * head
        attention = width * projected + width * self.num_heads * head
        attention += projected if self.qkv_bias else 0
        attention += 2 * head if self.qk_norm else 0
        layer = attention + 3 * width * inner + 2 * width
        embeddings = vocab_size * width * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * layer + width


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How samples become packs."""

    pack_length: int = 2048
    """Positions of a pack; a longer sample is skipped and counted. At most `model.max_seq_len`."""
    window: int = 1024
    """Packs are filled from this many neighbouring samples at a time."""
    prefetch: int = 2
    """Steps read and encoded ahead, in the background."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW."""

    lr: float = 2e-3
    """Highest learning rate."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""


@dataclass(frozen=True, kw_only=True)
class LRSchedulerConfig:
    """The learning rate over the run: warm-up from 0, then as named."""

    name: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """`wsd` holds the rate, then decays it exponentially over the last `decay_ratio` of steps."""
    warmup_ratio: float = 0.03
    """Share of the steps that warm up."""
    decay_ratio: float = 0.1
    """Share of the steps that decay; `wsd` only."""
    final_lr_ratio: float = 0.1
    """Last learning rate over the highest; of no effect for `constant`."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and how exactly to train."""

    seed: int = 2
    """Of the initial weights, the order of packs and dropout."""
    num_steps: int | None = None
    """Optimizer steps; None: as many as `num_epochs` makes."""
    num_epochs: float | None = 1.0
    """Passes over the packs, when `num_steps` is None."""
    grad_accumulation: int = 1
    """Packs of one step on each process."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; weights and optimizer stay fp32."""
    num_threads: int | None = None
    """CPU threads; None: OMP_NUM_THREADS, else the cores divided by the processes of this host."""


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """When the loss on the mix's valid split is measured; also after the last step."""

    every_n_steps: int = 50
    """A multiple of `metrics.every_n_steps`."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When everything a resume needs is saved; also after the last step."""

    every_n_steps: int = 50
    """A multiple of `metrics.every_n_steps`, and with `keep_best` of `validation.every_n_steps`."""
    keep_last: int = 1
    """Newest checkpoints that stay."""
    keep_best: int = 1
    """Checkpoints of the lowest validation loss that stay; 0: none is kept for that."""


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """What is recorded in the run's folder."""

    every_n_steps: int = 1
    """Steps that make a row of metrics/train.jsonl."""
    tensorboard: bool = True
    """Also write TensorBoard files."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_scheduler: LRSchedulerConfig = field(default_factory=LRSchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
