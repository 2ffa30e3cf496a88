"""recipe + languages → the sources of a mix: one task in one language, or from one to another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cslm_data.keys import key64
from cslm_data.mixing.recipes import Recipe, SourceRules
from cslm_data.samples import prompt_kind

COUNTED_IN_SQL = {
    "asr": "utterances",
    "tts": "utterances",
    "mt": "bitext",
    "instruct": "dialogues",
}
"""Tasks whose samples are one row of a table each: their tokens are a sum that SQL makes."""

COMPILED = {
    "continuation": "mix_utterances",
    "st": "mix_speech_translations",
    "s2st": "mix_speech_translations",
    "s2s": "mix_chat",
    "t2s": "mix_chat",
    "s2t": "mix_chat",
}
"""Tasks whose samples are compiled to count them, and the query that reads their rows."""

SPEECH_TASKS = frozenset({"asr", "tts", *COMPILED})


@dataclass(frozen=True, kw_only=True)
class MixSource:
    """One task in one language, or from one to another."""

    index: int
    rule: int
    """Which of the recipe's sources it comes from."""
    task: str
    language: str
    answer_language: str
    weight: float
    """Against the others of its rule, where no temperature says it."""
    temperature: float | None
    curriculum: tuple[float, ...] | None
    max_epochs: float
    where: str | None
    order_by: str | None
    optional: bool

    @property
    def languages(self) -> str:
        """Label of the languages: `en`, or `en-zh` from English to Mandarin."""
        return label_of(self.language, self.answer_language)

    @property
    def prompt_kind(self) -> str | None:
        """Which wordings its samples take."""
        return prompt_kind(self.task, self.language, self.answer_language)

    @property
    def task_hash(self) -> int:
        """What tells samples of the same row in several tasks apart; see samples.source_hash."""
        return key64(self.task, self.languages)


def label_of(language: str, answer_language: str) -> str:
    """`en`, or `en-zh` from English to Mandarin."""
    return language if language == answer_language else f"{language}-{answer_language}"


def expand_recipe(recipe: Recipe, languages: Sequence[str]) -> list[MixSource]:
    """The sources of a recipe for some languages, in the order of the recipe."""
    sources: list[MixSource] = []
    for number, rule in enumerate(recipe.sources):
        for language, answer_language in _ends(rule, languages):
            label = label_of(language, answer_language)
            if rule.only is not None and label not in rule.only:
                continue
            weights = rule.language_weights
            source = MixSource(
                index=len(sources),
                rule=number,
                task=rule.task,
                language=language,
                answer_language=answer_language,
                weight=1.0 if weights is None else weights.get(label, 1.0),
                temperature=None if weights else rule.temperature or recipe.temperature,
                curriculum=rule.curriculum,
                max_epochs=rule.max_epochs,
                where=rule.where,
                order_by=rule.order_by,
                optional=rule.optional,
            )
            sources.append(source)
    return sources


def _ends(rule: SourceRules, languages: Sequence[str]) -> list[tuple[str, str]]:
    if rule.languages == "each":
        return [(language, language) for language in languages]
    return list(itertools.permutations(languages, 2))
