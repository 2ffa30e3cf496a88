"""Learning rates are those of the formulas, and only what should decay does."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import LRSchedulerConfig, ModelConfig, OptimizerConfig
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.training.optim import make_lr_scheduler, make_optimizer
from cslm_train.vocabulary import JointVocabulary

SMALL = ModelConfig(
    model_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, ffn_inner_dim=16, max_seq_len=32
)


@pytest.fixture
def model(tokenizer_folder: Path) -> SpeechLM:
    torch.manual_seed(0)
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)
    return create_model(dataclasses.replace(SMALL, tied_embeddings=False), vocabulary)


def rates(num_steps: int, *, lr: float = 1.0, **schedule: object) -> list[float]:
    """The rate of every step of a run, as the trainer sees them, and that after the last."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=lr)
    scheduler = make_lr_scheduler(optimizer, LRSchedulerConfig(**schedule), num_steps=num_steps)
    seen = []
    for _ in range(num_steps):
        assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_a_cosine_by_hand() -> None:
    """Ten steps, two of them warm up: thirds of the rate, then eighths of half a turn."""
    seen = rates(10, lr=3.0, name="cosine", warmup_ratio=0.2, final_lr_ratio=0.1)
    eighths = [math.cos(math.pi * k / 8) for k in range(9)]
    expected = [0.3 + 2.7 * (1 + c) / 2 for c in eighths]
    assert seen == pytest.approx([1.0, 2.0, *expected])
    assert (seen[2], seen[6], seen[10]) == pytest.approx((3.0, 1.65, 0.3))


def test_a_line_by_hand() -> None:
    seen = rates(5, name="linear", warmup_ratio=0.2, final_lr_ratio=0.2)
    assert seen == pytest.approx([0.5, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_a_decay_at_the_end_by_hand() -> None:
    """Ten steps: one warms up, five hold, four divide by ten thousand in equal ratios."""
    seen = rates(10, name="wsd", warmup_ratio=0.1, decay_ratio=0.4, final_lr_ratio=1e-4)
    assert seen == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.1, 0.01, 0.001, 0.0001])


def test_a_constant_warms_up_and_stays() -> None:
    seen = rates(4, name="constant", warmup_ratio=0.5, final_lr_ratio=0.0)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "constant"])
def test_one_or_two_steps_have_the_highest_rate_once(name: str) -> None:
    """Also where the ratios ask to warm up in every step; less than half a step is no decay."""
    final = 1.0 if name in ("wsd", "constant") else 0.25
    assert rates(1, name=name, final_lr_ratio=0.25) == pytest.approx([1.0, final])
    nearly_all = {"warmup_ratio": 0.9, "decay_ratio": 0.1, "final_lr_ratio": 0.25}
    assert rates(1, name=name, **nearly_all) == pytest.approx([1.0, final])
    assert rates(2, name=name, **nearly_all) == pytest.approx([0.5, 1.0, final])
    assert rates(2, name="wsd", warmup_ratio=0, decay_ratio=1, final_lr_ratio=0.25) == [
        1,
        0.5,
        0.25,
    ]


def test_ratios_round_to_the_nearest_step() -> None:
    """29 % of 100 steps are 28.999… as floats."""
    seen = rates(100, name="wsd", warmup_ratio=0.29, decay_ratio=0.1, final_lr_ratio=0.01)
    assert (seen[28], seen[29]) == pytest.approx((29 / 30, 1.0))
    assert (seen[90], seen[95], seen[100]) == pytest.approx((1.0, 0.1, 0.01))


def test_a_schedule_goes_on_from_its_state() -> None:
    config = LRSchedulerConfig(name="cosine", warmup_ratio=0.25)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizers = [torch.optim.SGD([weight], lr=0.3) for _ in range(2)]
    first, second = (make_lr_scheduler(each, config, num_steps=8) for each in optimizers)
    for _ in range(3):
        optimizers[0].step()
        first.step()
    second.load_state_dict(first.state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for each, scheduler in zip(optimizers, (first, second), strict=True):
        each.step()
        scheduler.step()
    assert optimizers[1].param_groups[0]["lr"] == optimizers[0].param_groups[0]["lr"]
    assert second.get_last_lr() == first.get_last_lr()


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize(
    ("decayed", "kept"),
    [
        ("all", set()),
        ("matrices", {"norm"}),
        ("projections", {"norm", "embed", "final_proj"}),
    ],
)
def test_what_decays_is_what_was_named(
    model: SpeechLM, name: str, decayed: str, kept: set[str]
) -> None:
    """Without a gradient's pull, a step of rate 0.5 and decay 0.5 leaves three quarters."""
    config = OptimizerConfig(name=name, lr=0.5, weight_decay=0.5, decayed=decayed)
    optimizer = make_optimizer(model, config)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for n, parameter in model.named_parameters():
        stays = any(part in n for part in kept)
        expected = before[n] if stays else 0.75 * before[n]
        torch.testing.assert_close(parameter.detach(), expected, msg=n)
    assert any("norm" in n for n in before)


@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_decay_is_that_of_adamw(model: SpeechLM, decayed: str) -> None:
    """Over steps with real gradients, beside torch's own."""
    theirs = copy.deepcopy(model)
    names = dict(theirs.named_parameters())
    kinds = [[p for p in names.values() if (p.ndim > 1) == matrix] for matrix in (True, False)]
    reference = torch.optim.AdamW(
        [
            {"params": kinds[0], "weight_decay": 0.3},
            {"params": kinds[1], "weight_decay": 0.3 if decayed == "all" else 0.0},
        ],
        lr=0.1,
        betas=(0.9, 0.95),
    )
    config = OptimizerConfig(lr=0.1, weight_decay=0.3, decayed=decayed)
    optimizer = make_optimizer(model, config)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            names[name].grad = parameter.grad.clone()
        optimizer.step()
        reference.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, names[name], msg=name)


def test_the_frozen_are_not_optimized_and_what_has_no_gradient_does_not_decay(
    model: SpeechLM,
) -> None:
    model.decoder.requires_grad_(False)
    optimizer = make_optimizer(model, OptimizerConfig(weight_decay=0.1))
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 2  # embedding and output projection
    before = model.final_proj.weight.clone()
    optimizer.step()
    assert torch.equal(model.final_proj.weight, before)
