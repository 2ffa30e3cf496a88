"""manifests/mixes/*.yaml → a checked recipe. What a mix is made of, before any data is seen."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cslm_data.errors import UsageError
from cslm_data.interleave import DEFAULT_CHUNK_WORDS, InterleaveMode
from cslm_data.languages import check_language
from cslm_data.records import Stage
from cslm_data.settings import build, parse_yaml

SINGLE_TASKS = ("asr", "tts", "continuation", "instruct")
PAIR_TASKS = ("mt", "st", "s2st")
BOTH_TASKS = ("s2s", "t2s", "s2t")
TASKS = (*SINGLE_TASKS, *PAIR_TASKS, *BOTH_TASKS)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Corpora that are never trained on, and no sentence of theirs in any other corpus either."""

    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How samples are divided into train, valid and test."""

    by: Literal["content", "manifest"] = "content"
    """`content`: by the hash of what is said; `manifest`: by the corpus's own split, else train."""
    valid: float = 0.05
    """Share of the sentences that validate, with `by: content`."""
    test: float = 0.05
    """Share of the sentences that test, with `by: content`."""
    held_out: HeldOut = HeldOut()
    """Whole corpora that validate or test, with `by: content`."""
    seed: int = 0
    """Chooses the held-out sentences; not the seed of the mix, so that mixes agree on them."""
    max_per_source: int | None = None
    """At most so many held-out samples of each task × language in valid, and in test."""


@dataclass(frozen=True, kw_only=True)
class SourceRules:
    """One task of a mix, in every language or every pair of languages."""

    task: str
    """One of asr, tts, continuation, instruct, mt, st, s2st, s2s, t2s, s2t."""
    weight: float | None = None
    """Share of the training tokens, against the sum of all weights. Either this or `tokens`."""
    tokens: int | None = None
    """Training tokens of the task over all its languages; the weights share what is left."""
    languages: Literal["each", "pairs"] = "each"
    """`each`: inside every language; `pairs`: from every language to every other."""
    only: tuple[str, ...] | None = None
    """Of these languages alone, `[zh]`, or pairs, `[en-zh, zh-en]`; null: of all that are asked."""
    language_weights: dict[str, float] | None = None
    """How the task's tokens are split, `{en: 2, zh: 1}` or `{en-zh: 1}`; 1 for one not named."""
    temperature: float | None = None
    """Split the task's tokens in proportion to n^(1/T) of the n tokens that a language has: 1 is as
    the data, larger is flatter. null: the recipe's."""
    curriculum: tuple[float, ...] | None = None
    """The weight along the mix, at points spread evenly from its begin to its end, as multiples;
    `[1, 0]` fades out. What lies between is interpolated."""
    max_epochs: float = 1.0
    """How often a source may be repeated, also in part."""
    where: str | None = None
    """SQL predicate over the columns of `utterances`, `bitext` or `dialogues`."""
    order_by: str | None = None
    """SQL expression over the same; of less than an epoch the rows with the largest value are
    taken. null: a keyed sample."""
    optional: bool = False
    """Whether a language without data for the task is passed over; else it is an error."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a mix is made of."""

    stage: Stage
    """`pretrain` or `sft`."""
    sources: tuple[SourceRules, ...]
    """The tasks with their weights or tokens."""
    seed: int = 0
    """Order of the mix; `--seed` replaces it."""
    selection_seed: int = 0
    """Which samples make up a fraction of an epoch; another `seed` keeps them."""
    prompts_seed: int = 0
    """Which wording a sample gets; another `seed` keeps it."""
    total_tokens: int | None = None
    """Training tokens of the mix; null: one pass over all sources, or less where a task that is
    not optional could not hold its share of that."""
    temperature: float | None = None
    """Of sources that name none; null: languages share evenly."""
    system_prompts: float = 0.0
    """Share of the samples that begin with a system prompt (prompts/system.yaml)."""
    interleave: InterleaveMode = "chunk"
    """How spoken answers are cut: `chunk` of words, single `word`s, a fixed `ratio`, or `full`."""
    chunk_words: int = DEFAULT_CHUNK_WORDS
    """Words of a chunk of a spoken answer."""
    ratio: tuple[int, ...] | None = None
    """Words and units of a chunk, `[n, m]`, with `interleave: ratio`."""
    text_question: bool = True
    """Whether an answer to speech begins with what was asked, as text."""
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
    _positive(recipe.temperature, f"{where}: temperature")
    _positive(recipe.max_sample_tokens, f"{where}: max_sample_tokens")
    _positive(rules.max_per_source, f"{where}: splits.max_per_source")
    if not 0 <= recipe.system_prompts <= 1:
        raise UsageError(f"{where}: system_prompts: a share, from 0 to 1")
    if recipe.ratio is not None and (len(recipe.ratio) != 2 or min(recipe.ratio) < 1):
        raise UsageError(f"{where}: ratio: two whole numbers, words and units: [n, m]")
    if rules.by == "manifest" and rules.held_out != HeldOut():
        raise UsageError(f"{where}: splits.held_out goes with by: content")
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
    if (source.weight is None) == (source.tokens is None):
        raise UsageError(f"{where}: name either weight or tokens")
    _positive(source.weight, f"{where}.weight")
    _positive(source.tokens, f"{where}.tokens")
    _positive(source.max_epochs, f"{where}.max_epochs")
    _positive(source.temperature, f"{where}.temperature")
    for label, weight in (source.language_weights or {}).items():
        _check_label(label, source, f"{where}.language_weights")
        _positive(weight, f"{where}.language_weights.{label}")
    for label in source.only or ():
        _check_label(label, source, f"{where}.only")
    if source.only == ():
        raise UsageError(f"{where}.only: name at least one, or leave it out")
    if source.language_weights and source.temperature:
        raise UsageError(f"{where}: name either language_weights or temperature")
    curriculum = source.curriculum
    if curriculum is not None and (
        len(curriculum) < 2
        or not all(0 <= weight < float("inf") for weight in curriculum)
        or not any(curriculum)
    ):
        raise UsageError(
            f"{where}.curriculum: two multiples or more, at least 0, not all of them 0"
        )


def _check_label(label: str, source: SourceRules, where: str) -> None:
    """`en` for a task inside a language, `en-zh` for one between two."""
    ends = label.split("-")
    if len(ends) != (1 if source.languages == "each" else 2):
        form = "a language, such as en" if source.languages == "each" else "a pair, such as en-zh"
        raise UsageError(f"{where}: {label!r} must be {form}")
    for end in ends:
        check_language(end, where=where)


def _positive(value: float | None, where: str) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise UsageError(f"{where}: must be more than 0, not {value}")
