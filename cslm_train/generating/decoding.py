"""Prompts → continuations, token by token, with fairseq2's key-value cache.

Sequences of a batch stand at the same position at all times: the cache is filled with as many
tokens as the shortest has, and a longer prompt goes on being read while the others already answer.
So there is no padding, hence no mask, and each sequence sees exactly what it would see alone.
"""

# B sequences of a batch, S positions of a step, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from fairseq2.nn import BatchLayout, IncrementalStateBag
from torch import Tensor

from cslm_data.errors import UsageError
from cslm_data.keys import keyed_rng
from cslm_train.generating.grammar import Grammar
from cslm_train.models.loading import LoadedRun
from cslm_train.vocabulary import Ids

Stop = Literal["end", "max_tokens"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. What is drawn depends on the seed and a prompt's key alone."""

    temperature: float = 0.0
    """0: the likeliest token."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that hold this much of the probability."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that cannot be."""
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")


GREEDY = Sampling()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """What is to be continued."""

    key: str
    """Names the stream of random numbers."""
    ids: Ids
    max_tokens: int
    grammar: Grammar | None = None
    """None: any token may come."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """The tokens that follow a prompt, the end included where it came."""

    key: str
    ids: tuple[int, ...]
    stop: Stop


def room(run: LoadedRun, prompt: Ids) -> int:
    """How many tokens can follow a prompt; 0 or less when the prompt itself is too long."""
    return run.info.config.model.max_seq_len - len(prompt)


def stream(
    run: LoadedRun, prompt: Prompt, *, sampling: Sampling = GREEDY, cached: bool = True
) -> Iterator[int]:
    """The tokens that follow a prompt, each as soon as it is known, the end included.

    `cached` False reads everything again for each token: the same answer, slowly.
    """
    for step in _decode([prompt], run, sampling, cached=cached):
        for _, token in step:
            yield token


def decode_batch(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling = GREEDY,
    batch_size: int = 32,
    max_spread: int = 64,
    on_done: Callable[[], None] = lambda: None,
) -> list[Continuation]:
    """The continuation of each prompt, in their order: the same as of each alone.

    Prompts of a batch differ by at most `max_spread` tokens in length.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    for batch in _batches(prompts, batch_size, max_spread):
        for step in _decode([prompts[index] for index in batch], run, sampling):
            for row, token in step:
                answers[batch[row]].append(token)
        for _ in batch:
            on_done()
    end = run.vocabulary.end_id
    return [
        Continuation(
            key=prompt.key,
            ids=tuple(ids),
            stop="end" if ids and ids[-1] == end else "max_tokens",
        )
        for prompt, ids in zip(prompts, answers, strict=True)
    ]


def _batches(prompts: Sequence[Prompt], batch_size: int, max_spread: int) -> list[list[int]]:
    """Indices of prompts of about the same length."""
    batches: list[list[int]] = []
    shortest = 0
    for index in sorted(range(len(prompts)), key=lambda i: (len(prompts[i].ids), i)):
        length = len(prompts[index].ids)
        if not batches or len(batches[-1]) == batch_size or length - shortest > max_spread:
            batches.append([])
            shortest = length
        batches[-1].append(index)
    return batches


def _decode(
    prompts: Sequence[Prompt], run: LoadedRun, sampling: Sampling, *, cached: bool = True
) -> Iterator[list[tuple[int, int]]]:
    """For each step, the new tokens as (index of the prompt, token)."""
    limits = [min(p.max_tokens, room(run, p.ids)) for p in prompts]
    rows = [row for row, limit in enumerate(limits) if limit > 0]
    if not rows:
        return
    ids = [prompt.ids.tolist() for prompt in prompts]
    ends = [len(ids[row]) + limits[row] for row in range(len(prompts))]
    rngs = [keyed_rng(sampling.seed, "decode", prompt.key) for prompt in prompts]
    states = [0 for _ in prompts]
    end = run.vocabulary.end_id
    num_read = 0
    bag = _new_bag(ends)
    while rows:
        upto = min(len(ids[row]) for row in rows)
        if not cached:
            num_read, bag = 0, _new_bag(ends)
        logits_BV = _forward(run, [ids[row][num_read:upto] for row in rows], bag)
        num_read = upto
        ready = [index for index, row in enumerate(rows) if len(ids[row]) == upto]
        chosen = [rows[index] for index in ready]
        logits_BV = logits_BV[ready]
        _forbid(logits_BV, [prompts[row].grammar for row in chosen], [states[r] for r in chosen])
        tokens = _choose(logits_BV, sampling, [rngs[row] for row in chosen])
        finished = set()
        for row, token in zip(chosen, tokens, strict=True):
            ids[row].append(token)
            grammar = prompts[row].grammar
            if grammar is not None:
                states[row] = grammar.following(states[row], token)
            if token == end or len(ids[row]) == ends[row]:
                finished.add(row)
        yield list(zip(chosen, tokens, strict=True))
        if finished and len(finished) < len(rows):
            staying = [index for index, row in enumerate(rows) if row not in finished]
            bag.reorder(torch.tensor(staying, device=run.device))
        rows = [row for row in rows if row not in finished]


def _new_bag(ends: Sequence[int]) -> IncrementalStateBag:
    return IncrementalStateBag(max(ends) + 1, capacity_increment=None)


@torch.inference_mode()
def _forward(run: LoadedRun, ids: list[list[int]], bag: IncrementalStateBag) -> Tensor:
    """Read tokens (B, S) after those in the bag; logits of what follows the last, fp32 (B, V)."""
    seqs_BS = torch.tensor(ids, device=run.device)
    layout = BatchLayout.of(seqs_BS)
    last = torch.tensor([seqs_BS.size(1) - 1], device=run.device)
    logits_B1V = run.model(seqs_BS, layout, positions_K=last, state_bag=bag)
    bag.increment_step_nr(seqs_BS.size(1))
    return logits_B1V[:, 0].float()


def _forbid(logits_BV: Tensor, grammars: Sequence[Grammar | None], states: Sequence[int]) -> None:
    """Make impossible what a grammar does not allow next, in place."""
    for index, (grammar, state) in enumerate(zip(grammars, states, strict=True)):
        if grammar is not None:
            allowed_V = grammar.allowed_GV[state].to(logits_BV.device)
            logits_BV[index].masked_fill_(~allowed_V, -torch.inf)


def _choose(
    logits_BV: Tensor, sampling: Sampling, rngs: Sequence[np.random.Generator]
) -> list[int]:
    """One token for each row: the likeliest, or drawn from the likeliest with its own stream."""
    if not rngs:
        return []
    if sampling.temperature == 0:
        best: list[int] = logits_BV.argmax(dim=-1).tolist()
        return best
    # The largest first, so that a low temperature cannot overflow.
    shifted_BV = logits_BV.double() - logits_BV.amax(dim=-1, keepdim=True)
    probabilities_BV, order_BV = torch.softmax(shifted_BV / sampling.temperature, dim=-1).sort(
        dim=-1, descending=True, stable=True
    )
    before_BV = probabilities_BV.cumsum(dim=-1) - probabilities_BV
    probabilities_BV.masked_fill_(before_BV >= sampling.top_p, 0.0)
    sums_BV = probabilities_BV.cumsum(dim=-1)
    uniform_B1 = torch.tensor([[rng.random()] for rng in rngs], dtype=torch.float64)
    targets_B1 = uniform_B1.to(sums_BV.device) * sums_BV[:, -1:]
    places_B1 = torch.searchsorted(sums_BV, targets_B1, right=True)
    last_B1 = (probabilities_BV > 0).sum(dim=-1, keepdim=True) - 1
    drawn: list[int] = order_BV.gather(1, places_B1.minimum(last_B1))[:, 0].tolist()
    return drawn
