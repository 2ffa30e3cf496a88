"""manifests/mixes/*.yaml → a checked recipe. What a mix is made of, before any data is seen."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cslm_data.errors import UsageError
from cslm_data.interleave import DEFAULT_CHUNK_WORDS
from cslm_data.records import Stage
from cslm_data.settings import build, parse_yaml

SINGLE_TASKS = ("asr", "tts", "instruct")
PAIR_TASKS = ("mt",)
BOTH_TASKS = ("s2s", "t2s")
TASKS = (*SINGLE_TASKS, *PAIR_TASKS, *BOTH_TASKS)


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How samples are divided into train, valid and test."""

    by: Literal["content", "manifest"] = "content"
    """`content`: by the hash of what is said; `manifest`: by the corpus's own split, else train."""
    valid: float = 0.05
    """Share of the sentences that validate, with `by: content`."""
    test: float = 0.05
    """Share of the sentences that test, with `by: content`."""
    seed: int = 0
    """Chooses the held-out sentences; not the seed of the mix, so that mixes agree on them."""
    max_per_source: int | None = None
    """At most so many held-out samples of each task × language in valid, and in test."""


@dataclass(frozen=True, kw_only=True)
class SourceRules:
    """One task of a mix, in every language or every pair of languages."""

    task: str
    """One of asr, tts, mt, instruct, s2s, t2s."""
    weight: float
    """Share of the training tokens, against the sum of all weights; split evenly over languages."""
    languages: Literal["each", "pairs"] = "each"
    """`each`: inside every language; `pairs`: from every language to every other."""
    max_epochs: float = 1.0
    """How often a source may be repeated, also in part."""
    where: str | None = None
    """SQL predicate over the columns of `utterances`, `bitext` or `dialogues`."""
    optional: bool = False
    """Whether a language without data for the task is passed over; else it is an error."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a mix is made of."""

    stage: Stage
    """`pretrain` or `sft`."""
    sources: tuple[SourceRules, ...]
    """The tasks with their weights."""
    seed: int = 0
    """Order of the mix; `--seed` replaces it."""
    selection_seed: int = 0
    """Which samples make up a fraction of an epoch; another `seed` keeps them."""
    prompts_seed: int = 0
    """Which wording a sample gets; another `seed` keeps it."""
    total_tokens: int | None = None
    """Training tokens of the mix; null: one pass over all sources, or less where a task that is
    not optional could not hold its share of that."""
    max_candidates: int | None = None
    """Look at no more than about so many rows of each task × language, a keyed sample of them, so
    that a mix of a share of a very large corpus is planned quickly; null: at all. Spoken dialogues
    are always looked at whole."""
    chunk_words: int = DEFAULT_CHUNK_WORDS
    """Words of a chunk of a spoken answer."""
    max_sample_tokens: int | None = None
    """Longer samples are rejected; null: none are."""
    splits: SplitRules = SplitRules()
    """How samples are divided into train, valid and test."""


def load_recipe(path: Path | None, *, stage: str) -> Recipe:
    """The recipe of a file, or of the stage from manifests/mixes. Raises UsageError."""
    if path is None:
        if stage not in typing.get_args(Stage):
            raise UsageError(f"--stage {stage}: there are {', '.join(typing.get_args(Stage))}")
        name = f"manifests/mixes/{stage}.yaml"
        file = resources.files("cslm_manifests").joinpath(f"mixes/{stage}.yaml")
        text = file.read_text(encoding="utf-8")
    else:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot read this recipe ({error})") from None
    return check_recipe(parse_yaml(text, where=name), where=name)


def check_recipe(document: Any, *, where: str) -> Recipe:
    """A recipe of parsed YAML. Raises UsageError that names the file and the field."""
    recipe = build(Recipe, document, where=where)
    rules = recipe.splits
    if not (rules.valid >= 0 and rules.test >= 0 and rules.valid + rules.test < 1):
        raise UsageError(
            f"{where}: splits: valid and test must be shares that leave some for train"
        )
    _positive(recipe.chunk_words, f"{where}: chunk_words")
    _positive(recipe.total_tokens, f"{where}: total_tokens")
    _positive(recipe.max_candidates, f"{where}: max_candidates")
    _positive(recipe.max_sample_tokens, f"{where}: max_sample_tokens")
    _positive(rules.max_per_source, f"{where}: splits.max_per_source")
    if not recipe.sources:
        raise UsageError(f"{where}: sources: a mix needs at least one")
    for index, source in enumerate(recipe.sources):
        _check_source(source, f"{where}: sources[{index}]")
    return recipe


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-like values, every field written out."""
    row = dataclasses.asdict(recipe)
    row["sources"] = list(row["sources"])
    return row


def _check_source(source: SourceRules, where: str) -> None:
    if source.task not in TASKS:
        raise UsageError(f"{where}.task: {source.task!r} is not one of {', '.join(TASKS)}")
    if source.languages == "pairs" and source.task in SINGLE_TASKS:
        raise UsageError(f"{where}.languages: {source.task} is inside one language; write each")
    if source.languages == "each" and source.task in PAIR_TASKS:
        raise UsageError(f"{where}.languages: {source.task} is between two; write pairs")
    _positive(source.weight, f"{where}.weight")
    _positive(source.max_epochs, f"{where}.max_epochs")


def _positive(value: float | None, where: str) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise UsageError(f"{where}: must be more than 0, not {value}")
