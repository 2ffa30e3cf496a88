"""YAML + `--set section.field=value` → `TrainConfig`: what a training run does, and its defaults.

Configurations stop at the door: inner functions take values. Every field has a default that works;
a wrong one is an error that names the field and where it was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BASE_REQUIRED = "required"
"""`model.base` of a configuration that makes no sense without one: given with --set."""


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
    """Folder of the Hugging Face model to start from (also `hf:FOLDER`); empty: from scratch;
    `required`: to be given with --set."""
    new_rows: Literal["mean", "subword", "kmeans"] = "kmeans"
    """How rows of controls and units begin in a base model: at the mean of its rows; at the mean
    of the rows that spell their name; or spread around the mean as the units' centroids lie, which
    learnt speech fastest (docs/log.md). Units without centroids begin at the mean."""
    new_rows_noise: float | None = None
    """How far they lie from there, over the standard deviation of the base model's rows; None: 1
    for `kmeans`, else 0.1."""
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


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How samples become packs."""

    pack_length: int = 2048
    """Positions of a pack. At most `model.max_seq_len`."""
    window: int = 1024
    """Packs are filled from this many neighbouring samples at a time."""
    shuffle_packs: int | None = None
    """Packs that are shuffled among each other; None: all of an epoch; 0: none, for a mix with a
    curriculum. With shards far away, so many that theirs fit into the cache."""
    prefetch: int = 2
    """Steps read and encoded ahead, in the background."""
    too_long: Literal["skip", "cut", "split"] = "skip"
    """What becomes of samples longer than a pack, each counted and named beside the packs:
    `skip` leaves them out; `cut` reads their first `pack_length` tokens; `split` reads them in
    consecutive documents of at most `pack_length`, of which a later one does not see the earlier.
    Of either, only what holds trained tokens."""
    shards: str = ""
    """Where the mix's shards lie when not beside mix.json: a folder, or a URL such as
    `s3://bucket/shards`. Their indexes stay with the mix."""
    cache_dir: str = ""
    """Folder of this machine for shards from a URL; empty: `~/.cache/cslm/shards`."""
    cache_gb: float = 100.0
    """What that folder may hold; the shards read longest ago go first."""


LoraTarget = Literal[
    "q_proj",
    "k_proj",
    "v_proj",
    "output_proj",
    "gate_proj",
    "inner_proj",
    "self_attn",
    "ffn",
    "self_attn.output_proj",
    "ffn.output_proj",
]


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters beside frozen weights. A checkpoint holds both, so it can be read alone."""

    rank: int = 0
    """Inner width of an adapter; 0: no adapters, every weight is trained."""
    alpha: float = 16.0
    """What adapters add is multiplied by `alpha / rank`."""
    dropout: float = 0.0
    """Probability of dropping an input of an adapter."""
    targets: tuple[LoraTarget, ...] = ("self_attn", "ffn")
    """Projections that get one: by name in attention and feed-forward alike (`output_proj` is in
    both), by place and name (`ffn.output_proj`), or all of a place (`ffn`)."""
    train_embeddings: Literal["none", "new_rows", "all"] = "new_rows"
    """Which rows of embedding and output projection train with the adapters: without those of
    controls and units, `new_rows`, no speech is learnt."""

    def adapts(self, name: str) -> bool:
        """Whether a module is or lies in a target: `layers.0.ffn.inner_proj` in `ffn`."""
        return any(f".{target}." in f".{name}." for target in self.targets)


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """What stays as it is, and for how long. Rows are those of embedding and output projection."""

    new_rows_only_steps: int | None = 0
    """So many first steps train only the rows of controls and units, and cost what any step does;
    None: all steps, which then save the gradients of the rest."""
    old_rows: bool = False
    """Never train the rows of the text vocabulary."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, or Adafactor."""

    name: Literal["adamw", "adafactor"] = "adamw"
    """`adafactor` keeps a mean of squared gradients for each row and column instead of two numbers
    for each weight, and cannot be sharded; of the fields below it has `lr` and weight decay."""
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
    decayed: Literal["all", "matrices", "projections"] = "matrices"
    """What decays. `matrices`: all weights but norms and biases, the usual; `projections`: also not
    embedding and output rows. What is frozen does not decay."""


@dataclass(frozen=True, kw_only=True)
class LRSchedulerConfig:
    """The learning rate over the run: warm-up from 0, then as named."""

    name: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """`wsd` holds the rate, then decays it exponentially over the last `decay_ratio` of steps. All
    reach the final rate when the last step is done."""
    warmup_ratio: float = 0.03
    """Share of the steps that warm up."""
    decay_ratio: float = 0.1
    """Share of the steps that decay; `wsd` only."""
    final_lr_ratio: float = 0.1
    """Final learning rate over the highest; of no effect for `constant`."""


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
    """Packs of one step on each process, unless `packs_per_step` is given."""
    packs_per_step: int | None = None
    """Packs of one step on all processes together; a multiple of their number. With it a run takes
    the same steps on any number of processes. None: processes x `grad_accumulation`."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: weights and optimizer stay fp32. Sharded weights are cast whole, and gradients summed
    in fp32; elsewhere it is autocast."""
    num_threads: int | None = None
    """CPU threads; None: OMP_NUM_THREADS, else the cores divided by the processes of this host."""


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How processes share the work. A run may go on with other values of all of these."""

    data_parallel: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: every process has all weights; `fsdp`: each holds a share of weights, gradients and
    optimizer (FSDP2). One process alone needs neither."""
    shard_group_size: int | None = None
    """`fsdp`: processes that share one copy of the weights, best those of a host; None: all."""
    activation_checkpointing: Literal["none", "layer"] = "none"
    """`layer`: keep only the inputs of layers for the backward pass and compute the rest again."""
    checkpoint_every_nth_layer: int = 1
    """With `layer`: 1 for every layer, 2 for every second …"""
    compile: bool = False
    """Compile each layer with torch.compile; attention stays as it is."""
    timeout_minutes: float = 15.0
    """Longest wait of a process for the others, also while the first one plans the packs."""


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """When the loss on the mix's valid split is measured; also after the last step."""

    every_n_steps: int = 50
    """A multiple of `metrics.every_n_steps`."""
    text_mix: str = ""
    """Mix of the same vocabulary on whose written instructions the model is measured as well, to
    see what it forgets when its own mix has none; empty: none."""
    max_forgetting: float | None = None
    """Warn when the perplexity of written instructions is more than so many times that before the
    first step, e.g. 1.2; None: never."""


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
class GuardConfig:
    """Steps that change nothing, because what they would teach is not sound."""

    on: bool = True
    """Skip a step whose loss or gradient is not finite, and record its samples."""
    max_skipped_steps: int = 10
    """So many in a row are skipped; one more ends the run with an error."""
    spike_factor: float = 0.0
    """Skip a step, too, whose gradient's norm is above so many times the median of those before;
    0: none."""
    spike_window: int = 100
    """Good steps that the median is taken of; none is a spike before there are as many."""


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """What is recorded in the run's folder, and elsewhere."""

    every_n_steps: int = 1
    """Steps that make a row of metrics/train.jsonl."""
    tensorboard: bool = True
    """Also write TensorBoard files."""
    wandb_project: str = ""
    """Also record to this project of Weights & Biases; empty: not. Needs the extra `[wandb]`."""
    wandb_mode: Literal["online", "offline"] = "online"
    """`offline`: into the run's folder, for `wandb sync`."""
    peak_tflops: float | None = None
    """Highest TFLOP/s of one device, for the utilisation `mfu`; None: that of the GPU by its name,
    and no `mfu` where it is not known."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_scheduler: LRSchedulerConfig = field(default_factory=LRSchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
