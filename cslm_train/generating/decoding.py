"""Prompts → continuations, token by token, with a cache of keys and values.

Sequences of a batch stand at the same position at all times: the cache is filled with as many
tokens as the shortest has, and a longer prompt goes on being read while the others already answer.
So there is no padding, hence no mask, and each sequence sees exactly what it would see alone.
"""

# B sequences of a batch, S positions of a step, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from fairseq2.nn import BatchLayout
from torch import Tensor

from cslm_data.keys import keyed_rng
from cslm_train.generating.cache import ReadSequences
from cslm_train.generating.grammar import Grammar
from cslm_train.generating.sampling import GREEDY, Sampling, choose
from cslm_train.models.loading import LoadedRun
from cslm_train.vocabulary import Ids

Stop = Literal["end", "max_tokens"]


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
    """For each step, the new tokens as (index of the prompt, token).

    A step waits for the device where `choose` does.
    """
    limits = [min(p.max_tokens, room(run, p.ids)) for p in prompts]
    rows = [row for row, limit in enumerate(limits) if limit > 0]
    if not rows:
        return
    ids = [prompt.ids.tolist() for prompt in prompts]
    ends = [len(ids[row]) + limits[row] for row in range(len(prompts))]
    rngs = [keyed_rng(sampling.seed, "decode", prompt.key) for prompt in prompts]
    states = [0 for _ in prompts]
    end = run.vocabulary.end_id
    read = ReadSequences(
        run.model, num_sequences=len(rows), capacity=max(ends[row] for row in rows)
    )
    newest_B1: Tensor | None = None
    while rows:
        upto = min(len(ids[row]) for row in rows)
        if not cached:
            logits_BV = _read_all(run, [ids[row][:upto] for row in rows])
        else:
            if newest_B1 is None:
                unread = [ids[row][read.num_read : upto] for row in rows]
                newest_B1 = torch.tensor(unread, device=run.device)
            logits_BV = read.read(newest_B1)
        ready = [index for index, row in enumerate(rows) if len(ids[row]) == upto]
        chosen = [rows[index] for index in ready]
        if len(chosen) < len(rows):
            logits_BV = logits_BV[ready]
        logits_BV = logits_BV.float()
        _forbid(logits_BV, [prompts[row].grammar for row in chosen], [states[r] for r in chosen])
        tokens_B, tokens = choose(logits_BV, sampling, [rngs[row] for row in chosen])
        finished = set()
        for row, token in zip(chosen, tokens, strict=True):
            ids[row].append(token)
            grammar = prompts[row].grammar
            if grammar is not None:
                states[row] = grammar.following(states[row], token)
            if token == end or len(ids[row]) == ends[row]:
                finished.add(row)
        yield list(zip(chosen, tokens, strict=True))
        # Where every sequence goes on from its new token, that is already on the device.
        newest_B1 = tokens_B[:, None] if len(chosen) == len(rows) and not finished else None
        if finished and len(finished) < len(rows):
            read.keep([index for index, row in enumerate(rows) if row not in finished])
        rows = [row for row in rows if row not in finished]


@torch.inference_mode()
def _read_all(run: LoadedRun, ids: list[list[int]]) -> Tensor:
    """The model's own forward pass over tokens (B, S): logits of what follows the last (B, V)."""
    seqs_BS = torch.tensor(ids, device=run.device)
    last = torch.tensor([seqs_BS.size(1) - 1], device=run.device)
    return run.model(seqs_BS, BatchLayout.of(seqs_BS), positions_K=last)[:, 0]


@torch.inference_mode()
def _forbid(logits_BV: Tensor, grammars: Sequence[Grammar | None], states: Sequence[int]) -> None:
    """Make impossible what a grammar does not allow next, in place."""
    for index, (grammar, state) in enumerate(zip(grammars, states, strict=True)):
        if grammar is not None:
            forbidden_V = grammar.forbidden(logits_BV.device)[state]
            logits_BV[index].masked_fill_(forbidden_V, -torch.inf)
