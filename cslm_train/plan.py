"""Configuration + mix (or a number of tokens) → the arithmetic of a run, before any GPU is used.

Step 1. The architecture: of a public model by name, of the run that is begun with, of the base
        model's config.json, or of the configuration; and the size of the joint vocabulary.
Step 2. What one pass reads: from the run's own plan of packs, the mix, or a number of tokens.
Step 3. Steps and learning rates, memory of one GPU, FLOPs and hours, checkpoints on disk.

No torch, no fairseq2: a laptop without them can plan a cluster's run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from cslm_data.errors import UsageError
from cslm_data.framing import CONTROLS
from cslm_data.shards import MixInfo
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config import BASE_REQUIRED, ModelConfig, TrainConfig
from cslm_train.models.hugging_face import base_folder
from cslm_train.packing.stretches import accumulation_of
from cslm_train.planning.devices import GPU
from cslm_train.planning.memory import Placement, memory_of, optimizer_bytes
from cslm_train.planning.parameters import Parameters, count_parameters
from cslm_train.planning.reading import Reading, groups_of, read_mix, read_plan, read_tokens
from cslm_train.planning.records import Architecture, Cost, Disk, Request, RunPlan, Steps
from cslm_train.planning.shapes import Shape, read_shape, shape_of
from cslm_train.planning.ways import ways_of
from cslm_train.run_folder import RunInfo
from cslm_train.training.flops import flops_per_token
from cslm_train.training.rates import rate_factor, warmup_steps

_PAPER_UNITS = 4096
_FP32, _BF16 = 4, 2


def plan_run(workspace: Workspace, config: TrainConfig, request: Request, gpu: GPU) -> RunPlan:
    """The arithmetic of one stage. Raises CslmError for what a user can mend."""
    mix = None
    if request.tokens is None:
        mix = MixInfo.load(workspace.mixes / (request.mix or request.stage))
        if mix.stage != request.stage:
            raise UsageError(
                f"mixes/{mix.folder.name}: a mix of stage {mix.stage}; plan it with --stage "
                f"{mix.stage}"
            )
    architecture = _architecture(workspace, config, request, mix)
    model, vocab_size = architecture.model, architecture.vocab_size
    reading = _reading(workspace, config, request, mix)
    steps = _steps(config, reading, request.num_gpus)
    parameters = count_parameters(
        model,
        vocab_size,
        base_vocab_size=architecture.base_vocab_size,
        lora=config.lora,
        only_rows=config.freeze.new_rows_only_steps is None,
    )
    placement = _placement(config, request)
    memory = memory_of(model, vocab_size, parameters, placement)
    flops = flops_per_token(
        model, vocab_size, reading.mean_context, trained_share=request.trained_share
    )
    return RunPlan(
        stage=request.stage,
        mix=None if mix is None else mix.folder.name,
        num_gpus=request.num_gpus,
        gpu=gpu,
        architecture=architecture,
        parameters=parameters,
        groups=() if mix is None else tuple(groups_of(mix)),
        reading=reading,
        steps=steps,
        placement=placement,
        memory=memory,
        fits=memory.total <= gpu.memory_bytes,
        ways=tuple(ways_of(architecture, placement, config.lora, memory_bytes=gpu.memory_bytes)),
        cost=_cost(flops, steps.num_tokens, gpu, request),
        disk=_disk(config, parameters, placement),
        notes=tuple(_notes(architecture, reading, request, mix, config.data.too_long)),
    )


# --- step 1 -----------------------------------------------------------------------------------


def _architecture(
    workspace: Workspace, config: TrainConfig, request: Request, mix: MixInfo | None
) -> Architecture:
    units = request.num_units or (mix.num_units if mix is not None else _PAPER_UNITS)
    begun = request.init_from or workspace.runs / "pretrain"
    begins = request.stage == "sft" and (begun / "run.json").is_file()
    base = config.model.base
    if request.shape is not None:
        return _extended(shape_of(request.shape), config, units, num_text=None)
    if begins or request.init_from is not None:
        info = RunInfo.load(begun)
        return Architecture(
            source=f"the run {begun.name}, whose weights it begins with",
            model=_ours(info.config.model, config),
            vocab_size=info.vocab_size,
            base_vocab_size=None,
        )
    if base:
        if base == BASE_REQUIRED:
            raise UsageError(
                "model.base: this configuration is for a base model: name one with --shape, or "
                "give the folder of a Hugging Face model with --set model.base=FOLDER"
            )
        folder = base_folder(base)
        return _extended(read_shape(folder), config, units, num_text=_num_text(folder))
    if mix is None:
        raise UsageError(
            "--tokens alone does not say how many tokens the vocabulary has: name a model with "
            "--shape, or its folder with --set model.base=FOLDER"
        )
    text = load_text_tokenizer(mix.text_tokenizer_path()).vocab_size
    return Architecture(
        source="the configuration, from scratch",
        model=config.model,
        vocab_size=text + len(CONTROLS) + units,
        base_vocab_size=None,
    )


def _extended(shape: Shape, config: TrainConfig, units: int, num_text: int | None) -> Architecture:
    """A base model with rows for controls and units; without its tokenizer every row is text."""
    text = num_text or shape.vocab_size
    if config.model.max_seq_len > shape.model.max_seq_len:
        raise UsageError(
            f"model.max_seq_len is {config.model.max_seq_len}, but {shape.source} holds "
            f"{shape.model.max_seq_len} tokens at most"
        )
    return Architecture(
        source=shape.source,
        model=_ours(shape.model, config),
        vocab_size=text + len(CONTROLS) + units,
        base_vocab_size=min(text, shape.vocab_size),
    )


def _ours(model: ModelConfig, config: TrainConfig) -> ModelConfig:
    """An architecture with the fields that are this run's own to say."""
    ours = config.model
    return dataclasses.replace(model, max_seq_len=ours.max_seq_len, dropout=ours.dropout)


def _num_text(folder: Path) -> int | None:
    """Ids of a base model's text tokenizer; None where the folder holds a config.json alone."""
    if not (folder / "tokenizer.json").is_file():
        return None
    return load_text_tokenizer(folder).vocab_size


# --- steps 2 and 3 ----------------------------------------------------------------------------


def _reading(
    workspace: Workspace, config: TrainConfig, request: Request, mix: MixInfo | None
) -> Reading:
    if mix is not None:
        planned = read_plan(workspace.runs / request.stage, mix, config.data)
        return planned or read_mix(mix, config.data)
    assert request.tokens is not None
    return read_tokens(
        request.tokens,
        sample_tokens=request.sample_tokens,
        pack_length=config.data.pack_length,
    )


def _steps(config: TrainConfig, reading: Reading, num_gpus: int) -> Steps:
    trainer, schedule = config.trainer, config.lr_scheduler
    per_gpu = accumulation_of(
        num_gpus,
        grad_accumulation=trainer.grad_accumulation,
        packs_per_step=trainer.packs_per_step,
    )
    per_step = per_gpu * num_gpus
    steps = trainer.num_steps
    if steps is None:
        assert trainer.num_epochs is not None
        steps = max(1, math.ceil(trainer.num_epochs * reading.num_packs / per_step))
    tokens = reading.num_positions / reading.num_packs * per_step
    warmup = warmup_steps(schedule, num_steps=steps)
    shown = {1, warmup + 1, steps // 4, steps // 2, 3 * steps // 4, steps}
    return Steps(
        num_steps=steps,
        warmup_steps=warmup,
        num_epochs=steps * per_step / reading.num_packs,
        packs_per_step=per_step,
        packs_per_gpu=per_gpu,
        samples_per_step=round(reading.num_samples / reading.num_packs * per_step),
        tokens_per_step=round(tokens),
        num_tokens=round(tokens * steps),
        learning_rates=tuple(
            (step, config.optimizer.lr * rate_factor(step - 1, schedule, num_steps=steps))
            for step in sorted(shown)
            if 1 <= step <= steps
        ),
    )


def _placement(config: TrainConfig, request: Request) -> Placement:
    parallel, gpus = config.parallel, request.num_gpus
    shards = 1
    if parallel.data_parallel == "fsdp":
        shards = min(parallel.shard_group_size or gpus, gpus)
        if gpus % shards:
            raise UsageError(
                f"parallel.shard_group_size: {gpus} processes do not make groups of {shards}; set "
                "it to a divisor of their number, or leave it out to shard over all"
            )
    recompute = parallel.activation_checkpointing == "layer"
    return Placement(
        world_size=gpus,
        shards=shards,
        recompute_every=parallel.checkpoint_every_nth_layer if recompute else 0,
        precision=config.trainer.precision,
        pack_length=config.data.pack_length,
        trained_share=request.trained_share,
        factored=config.optimizer.name == "adafactor",
    )


def _cost(flops: float, num_tokens: int, gpu: GPU, request: Request) -> Cost:
    per_second = gpu.peak_flops * request.mfu * request.num_gpus
    hours = flops * num_tokens / per_second / 3600
    return Cost(
        mfu=request.mfu,
        flops_per_token=flops,
        total_flops=flops * num_tokens,
        tokens_per_second=per_second / flops,
        hours=hours,
        gpu_hours=hours * request.num_gpus,
    )


def _disk(config: TrainConfig, parameters: Parameters, placement: Placement) -> Disk:
    weights = parameters.total + parameters.adapters
    checkpoint = _FP32 * weights + optimizer_bytes(parameters, factored=placement.factored)
    kept = config.checkpoint.keep_last + config.checkpoint.keep_best + 1
    return Disk(
        checkpoint_bytes=checkpoint,
        num_checkpoints=kept,
        total_bytes=checkpoint * kept,
        export_bytes=_BF16 * parameters.total,
    )


def _notes(
    architecture: Architecture,
    reading: Reading,
    request: Request,
    mix: MixInfo | None,
    too_long: str,
) -> Iterator[str]:
    if reading.num_too_long:
        done = {"skip": "left out", "cut": "cut at its end", "split": "split over several"}
        yield (
            f"{reading.num_too_long} samples are longer than a pack and {done[too_long]}: "
            "data.too_long says which, data.pack_length how long a pack is"
        )
    if mix is not None and architecture.base_vocab_size is not None:
        yield (
            f"tokens are those of the mix's text tokenizer, {mix.text_tokenizer_id}; a run needs a "
            "mix that was built with --text-tokenizer of the base model, and its texts may come to "
            "more or fewer tokens"
        )
    if request.trained_share == 1.0:
        yield (
            "logits are counted for every position of a pack; a pack of prompts and answers "
            "predicts fewer: --trained-share 0.6 says so"
        )
    yield "hours are those of training alone: validation, checkpoints and a slow disk come on top"
