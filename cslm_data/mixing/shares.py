"""weights, budgets and what there is → how many tokens of each source. Pure."""

# S sources

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cslm_data.errors import UsageError
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.sources import MixSource


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a source shall give, and what of that it can."""

    requested: float
    """Training tokens that the recipe asks for."""
    target: float
    """Training tokens to take: less where the source lacks them, more where others do."""


def water_fill(
    weights_S: Sequence[float], capacities_S: Sequence[float], total: float
) -> list[float]:
    """Tokens of each source: shares of the total by weight, none over its capacity.

    What a source cannot give is shared among the others in proportion to their weights, until all
    is given or every source is empty.
    """
    given = [0.0] * len(weights_S)
    active = [i for i, weight in enumerate(weights_S) if weight > 0 and capacities_S[i] > 0]
    left = float(total)
    while active:
        scale = left / sum(weights_S[i] for i in active)
        full = [i for i in active if weights_S[i] * scale >= capacities_S[i]]
        if not full:
            for i in active:
                given[i] = weights_S[i] * scale
            break
        for i in full:
            given[i] = float(capacities_S[i])
            left -= capacities_S[i]
        active = [i for i in active if i not in full]
        left = max(left, 0.0)
    return given


def asked_shares(sources: Sequence[MixSource], recipe: Recipe) -> list[float]:
    """Share of each source as the recipe has it, whatever there is: even over its languages.

    Budgets in tokens count against `total_tokens`, or as much as a weight of 1 without one.
    """
    total = recipe.total_tokens
    weights = [
        rule.weight or (1.0 if total is None else (rule.tokens or 0) / total)
        for rule in recipe.sources
    ]
    sizes = [sum(s.rule == rule for s in sources) for rule in range(len(weights))]
    asked = sum(weight for weight, size in zip(weights, sizes, strict=True) if size)
    return [weights[s.rule] / asked / sizes[s.rule] for s in sources]


def share_out(
    sources: Sequence[MixSource], available_S: Sequence[int], recipe: Recipe
) -> list[Share]:
    """Tokens of each source: first of each of the recipe's tasks, then of its languages.

    Only languages that have data for a task count. What a language lacks, the other languages of
    the task give; what a task lacks, the tasks with weights do. Raises UsageError for budgets over
    the total.
    """
    rules = list({source.rule: None for source in sources})
    members = {rule: [s.index for s in sources if s.rule == rule] for rule in rules}
    capacity_S = [tokens * s.max_epochs for tokens, s in zip(available_S, sources, strict=True)]
    capacity = {rule: sum(capacity_S[i] for i in members[rule]) for rule in rules}
    budgets = {rule: tokens for rule in rules if (tokens := recipe.sources[rule].tokens)}
    weights = {rule: weight for rule in rules if (weight := recipe.sources[rule].weight)}
    total = recipe.total_tokens
    if total is None:
        available = {rule: sum(available_S[i] for i in members[rule]) for rule in rules}
        total = sum(budgets.values()) + _one_pass(recipe, weights, available, capacity)
    elif sum(budgets.values()) > total:
        raise UsageError(
            f"recipe: the sources ask for {sum(budgets.values())} tokens, more than total_tokens "
            f"{total}"
        )
    left = total - sum(budgets.values())
    requested = dict(budgets) | {
        rule: left * weight / sum(weights.values()) for rule, weight in weights.items()
    }
    given = {rule: min(float(tokens), capacity[rule]) for rule, tokens in budgets.items()}
    filled = water_fill(
        list(weights.values()), [capacity[rule] for rule in weights], total - sum(given.values())
    )
    given |= dict(zip(weights, filled, strict=True))
    shares: list[Share] = [Share(requested=0.0, target=0.0)] * len(sources)
    for rule, inside in members.items():
        weight_of = [_weight(sources[i], available_S[i]) for i in inside]
        targets = water_fill(weight_of, [capacity_S[i] for i in inside], given[rule])
        for i, weight, target in zip(inside, weight_of, targets, strict=True):
            asked = requested[rule] * weight / (sum(weight_of) or 1)
            shares[i] = Share(requested=asked, target=target)
    return shares


def _weight(source: MixSource, available: int) -> float:
    """Of a source among those of its rule; 0 without data."""
    if available == 0:
        return 0.0
    if source.temperature is None:
        return source.weight
    return float(available ** (1 / source.temperature))


def _one_pass(
    recipe: Recipe,
    weights: dict[int, float],
    available: dict[int, int],
    capacity: dict[int, float],
) -> int:
    """One pass over all sources, or as much as the scarcest required task can hold its share of.

    So a small spoken corpus is not drowned in the text that is only there to be replayed.
    """
    total = sum(weights.values())
    limits = [
        capacity[rule] * total / weight
        for rule, weight in weights.items()
        if capacity[rule] > 0 and not recipe.sources[rule].optional
    ]
    return round(min([sum(available[rule] for rule in weights), *limits]))
