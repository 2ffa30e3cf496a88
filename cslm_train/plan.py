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

from cslm_data.errors import UsageError
from cslm_data.framing import CONTROLS
from cslm_data.shards import MixInfo
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config import ModelConfig, TrainConfig
from cslm_train.planning.devices import GPU
from cslm_train.planning.memory import Placement, memory_of, variants
from cslm_train.planning.parameters import Parameters, count_parameters
from cslm_train.planning.reading import Reading, groups_of, read_mix, read_tokens
from cslm_train.planning.records import Architecture, Cost, Disk, Request, RunPlan, Steps, Way
from cslm_train.planning.shapes import shape_of
from cslm_train.run_folder import RunInfo
from cslm_train.training.flops import flops_per_token
from cslm_train.training.rates import rate_factor, warmup_steps

_PAPER_UNITS = 4096
_FP32, _BF16, _ADAM_MOMENTS = 4, 2, 2


def plan_run(workspace: Workspace, config: TrainConfig, request: Request, gpu: GPU) -> RunPlan:
    """The arithmetic of one stage. Raises CslmError for what a user can mend."""
    found = None
    if request.tokens is None:
        found = MixInfo.load(workspace.mixes / (request.mix or request.stage))
        if found.stage != request.stage:
            raise UsageError(
                f"mixes/{found.folder.name}: a mix of stage {found.stage}; plan it with --stage "
                f"{found.stage}"
            )
    architecture = _architecture(workspace, config, request, found)
    model, vocab_size = architecture.model, architecture.vocab_size
    parameters = count_parameters(
        model, vocab_size, base_vocab_size=architecture.base_vocab_size
    )
    pack_length = config.data.pack_length
    if found is None:
        assert request.tokens is not None
        reading = read_tokens(
            request.tokens, sample_tokens=request.sample_tokens, pack_length=pack_length
        )
    else:
        reading = read_mix(found, pack_length=pack_length)
    steps = _steps(config, reading, request.num_gpus)
    placement = _placement(config, request)
    memory = memory_of(model, vocab_size, parameters, placement)
    flops = flops_per_token(
        model, vocab_size, reading.mean_context, trained_share=request.trained_share
    )
    return RunPlan(
        stage=request.stage,
        mix=None if found is None else found.folder.name,
        num_gpus=request.num_gpus,
        gpu=gpu,
        architecture=architecture,
        parameters=parameters,
        groups=tuple(groups_of(found)) if found is not None else (),
        reading=reading,
        steps=steps,
        placement=placement,
        memory=memory,
        fits=memory.total <= gpu.memory_bytes,
        ways=tuple(_ways(model, vocab_size, parameters, placement, gpu)),
        cost=_cost(flops, steps.num_tokens, gpu, request),
        disk=_disk(config, parameters),
        notes=tuple(_notes(architecture, reading, request, found)),
    )


def _architecture(
    workspace: Workspace, config: TrainConfig, request: Request, mix: MixInfo | None
) -> Architecture:
    ours = {name: getattr(config.model, name) for name in ("max_seq_len", "dropout")}
    units = request.num_units or (mix.num_units if mix is not None else _PAPER_UNITS)
    if request.shape is not None:
        shape = shape_of(request.shape)
        return Architecture(
            source=f"{request.shape}: config.json of {shape.source}",
            model=dataclasses.replace(shape.model, **ours),
            vocab_size=shape.vocab_size + len(CONTROLS) + units,
            base_vocab_size=shape.vocab_size,
        )
    begun = workspace.runs / "pretrain"
    if request.stage == "sft" and (begun / "run.json").is_file():
        info = RunInfo.load(begun)
        return Architecture(
            source="runs/pretrain, with whose weights sft begins",
            model=dataclasses.replace(info.config.model, **ours),
            vocab_size=info.vocab_size,
            base_vocab_size=None,
        )
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


def _steps(config: TrainConfig, reading: Reading, num_gpus: int) -> Steps:
    per_gpu = config.trainer.grad_accumulation
    per_step = per_gpu * num_gpus
    steps = config.trainer.num_steps
    if steps is None:
        assert config.trainer.num_epochs is not None
        steps = max(1, math.ceil(config.trainer.num_epochs * reading.num_packs / per_step))
    tokens = reading.num_positions / reading.num_packs * per_step
    schedule = config.lr_scheduler
    warmup = warmup_steps(schedule, num_steps=steps)
    shown = {1, warmup + 1, steps // 4, steps // 2, 3 * steps // 4, steps}
    return Steps(
        num_steps=steps,
        warmup_steps=warmup,
        num_epochs=steps * per_step / reading.num_packs,
        packs_per_step=per_step,
        packs_per_gpu=per_gpu,
        tokens_per_step=round(tokens),
        num_tokens=round(tokens * steps),
        learning_rates=tuple(
            (step, config.optimizer.lr * rate_factor(step - 1, schedule, num_steps=steps))
            for step in sorted(shown)
            if 1 <= step <= steps
        ),
    )


def _placement(config: TrainConfig, request: Request) -> Placement:
    return Placement(
        world_size=request.num_gpus,
        sharded=False,
        checkpointing=False,
        precision=config.trainer.precision,
        pack_length=config.data.pack_length,
        trained_share=request.trained_share,
    )


def _ways(
    model: ModelConfig,
    vocab_size: int,
    parameters: Parameters,
    placement: Placement,
    gpu: GPU,
) -> Iterator[Way]:
    for name, other in variants(placement).items():
        total = memory_of(model, vocab_size, parameters, other).total
        yield Way(name=name, settings="", total=total, fits=total <= gpu.memory_bytes)


def _cost(flops: float, num_tokens: int, gpu: GPU, request: Request) -> Cost:
    total = flops * num_tokens
    per_second = gpu.peak_flops * request.mfu * request.num_gpus
    hours = total / per_second / 3600
    return Cost(
        mfu=request.mfu,
        flops_per_token=flops,
        total_flops=total,
        tokens_per_second=per_second / flops,
        hours=hours,
        gpu_hours=hours * request.num_gpus,
    )


def _disk(config: TrainConfig, parameters: Parameters) -> Disk:
    checkpoint = _FP32 * (parameters.total + _ADAM_MOMENTS * parameters.trainable)
    kept = config.checkpoint.keep_last + config.checkpoint.keep_best + 1
    return Disk(
        checkpoint_bytes=checkpoint,
        num_checkpoints=kept,
        total_bytes=checkpoint * kept,
        export_bytes=_BF16 * parameters.total,
    )


def _notes(
    architecture: Architecture, reading: Reading, request: Request, mix: MixInfo | None
) -> Iterator[str]:
    yield "x"
