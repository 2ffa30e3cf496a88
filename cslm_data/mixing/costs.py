"""What a sample costs in tokens besides what its source says: wording, system prompt, framing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cslm_data.keys import key64
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.sources import COUNTED_IN_SQL, MixSource
from cslm_data.records import Role, Sample, Segment
from cslm_data.samples import (
    CompileOptions,
    SourceTurn,
    compile_sample,
    count_tokens,
    epoch_hash,
    source_hash,
)
from cslm_data.shards import encode_sample
from cslm_data.templates import (
    Prompts,
    choose_system,
    choose_wording,
    literals,
    num_system_prompts,
    system_segments,
    wordings,
)
from cslm_data.text_tokenizer import TextTokenizer

WITH_SYSTEM = frozenset({"asr", "tts", "mt", "st", "s2st", "continuation", "s2s", "t2s", "s2t"})
"""Tasks that a system prompt may be put in front of; text instructions bring their own."""

_TEXT = "x"


@dataclass(frozen=True, kw_only=True)
class PromptCosts:
    """Tokens of each wording and of each system prompt that a sample of a source may get."""

    wordings: tuple[int, ...]
    wording_mask: int
    systems: tuple[int, ...]
    system_mask: int
    system_share: float

    def sql(self, hashed: str) -> str:
        """The tokens as an expression of SQL over the hash of a sample in its epoch."""
        added = _pick(self.wordings, f"keyed64({hashed}, {self.wording_mask})")
        if not self.systems:
            return added
        drawn = f"keyed64({hashed}, {self.system_mask})"
        chosen = _pick(self.systems, f"({drawn} & 2047)")
        share = f"({drawn} >> 11)::double / 9007199254740992 < {self.system_share!r}"
        return f"({added} + case when {share} then {chosen} else 0 end)"


@dataclass(frozen=True, kw_only=True)
class FixedCosts:
    """What every sample of a source that SQL counts has: its framing."""

    tokens: int
    num_bytes: int
    """Of its JSON without its texts, a typical wording included."""


@dataclass(frozen=True, kw_only=True)
class DialogueCosts:
    """What it takes to frame a dialogue of text."""

    user_tokens: int
    assistant_tokens: int
    system_tokens: int
    """Of a system turn that is not the first turn."""
    begin_without_system: int
    begin_with_system: int
    segment_bytes: int
    num_bytes: int


def prompt_costs(
    source: MixSource, tokenizer: TextTokenizer, recipe: Recipe, prompts: Prompts | None
) -> PromptCosts:
    """Count every wording and system prompt of a source."""
    kind = source.prompt_kind
    seed = recipe.prompts_seed
    added: list[int] = [0]
    if kind is not None:
        added = [
            sum(
                tokenizer.count_batch(
                    literals(
                        kind,
                        choice,
                        language=source.language,
                        answer_language=source.answer_language,
                        prompts=prompts,
                    )
                )
            )
            for choice in range(len(wordings(kind, source.language, prompts=prompts)))
        ]
    systems: list[int] = []
    if recipe.system_prompts and source.task in WITH_SYSTEM:
        asked = _segment("user", source.language)
        plain = _count([asked], tokenizer)
        for choice in range(num_system_prompts(source.language, prompts=prompts)):
            segments = system_segments(source.language, choice=choice, prompts=prompts)
            systems.append(_count([*segments, asked], tokenizer) - plain)
    return PromptCosts(
        wordings=tuple(added),
        wording_mask=key64("wording", kind or "", str(seed)),
        systems=tuple(systems),
        system_mask=key64("system", str(seed)),
        system_share=recipe.system_prompts,
    )


def fixed_costs(
    source: MixSource, costs: PromptCosts, tokenizer: TextTokenizer, options: CompileOptions
) -> FixedCosts:
    """Framing of a task that SQL counts, found by compiling the smallest sample of it."""
    units = None if COUNTED_IN_SQL[source.task] == "bitext" else np.zeros(1, np.uint16)
    turn = SourceTurn(
        role="user",
        language=source.language,
        text=_TEXT,
        units=units,
        durations=None if units is None else np.ones(1, np.uint16),
    )
    turns = [turn]
    if units is None:
        turns.append(SourceTurn(role="assistant", language=source.answer_language, text=_TEXT))
    sample = compile_sample(source.task, source.languages, turns, [_TEXT], epoch=0, options=options)
    [total] = count_tokens([sample], tokenizer.encode_batch, tokenizer.framing)
    choice = wording_choice(source, [_TEXT], options)
    said = len(turns) * sum(tokenizer.count_batch([_TEXT]))
    return FixedCosts(
        tokens=total - said - (0 if units is None else 1) - costs.wordings[choice],
        num_bytes=len(encode_sample(sample)[0]) - len(turns) * len(_TEXT),
    )


def dialogue_costs(source: MixSource, tokenizer: TextTokenizer) -> DialogueCosts:
    """Framing of a dialogue: what opens and closes a turn of each role, and what begins it."""
    said = sum(tokenizer.count_batch([_TEXT]))

    def framed(*roles: Role) -> int:
        segments = [_segment(role, source.language) for role in roles]
        return _count(segments, tokenizer) - said * len(roles)

    user = framed("user", "assistant") - framed("assistant")
    assistant = framed("user", "assistant") - framed("user")
    system = framed("system", "user", "assistant") - user - assistant
    begin = framed("user") - user
    inside = framed("user", "assistant", "system", "user", "assistant")
    sample = Sample(
        key=_TEXT,
        task=source.task,
        languages=source.languages,
        segments=(_segment("user", source.language), _segment("assistant", source.language)),
    )
    one = encode_sample(sample)[0]
    segment_bytes = len(encode_sample(sample.with_segments(sample.segments * 2))[0]) - len(one)
    return DialogueCosts(
        user_tokens=user,
        assistant_tokens=assistant,
        system_tokens=inside - begin - 2 * user - 2 * assistant,
        begin_without_system=begin,
        begin_with_system=system,
        segment_bytes=segment_bytes // 2,
        num_bytes=len(one) - segment_bytes,
    )


def wording_choice(source: MixSource, source_ids: Sequence[str], options: CompileOptions) -> int:
    """Which wording the sample of a source row gets in its first epoch."""
    if source.prompt_kind is None:
        return 0
    return choose_wording(
        source.prompt_kind,
        source.language,
        seed=options.prompts_seed,
        sample_hash=source_hash(source.task, source.languages, source_ids),
        prompts=options.prompts,
    )


def with_system(
    sample: Sample, source_ids: Sequence[str], epoch: int, *, share: float, options: CompileOptions
) -> Sample:
    """The sample with the system prompt that it gets, if any."""
    if not share or sample.task not in WITH_SYSTEM:
        return sample
    language = sample.languages.split("-")[0]
    hashed = epoch_hash(source_hash(sample.task, sample.languages, source_ids), epoch)
    choice = choose_system(
        language,
        seed=options.prompts_seed,
        sample_hash=hashed,
        share=share,
        prompts=options.prompts,
    )
    if choice is None:
        return sample
    segments = system_segments(language, choice=choice, prompts=options.prompts)
    return sample.with_segments((*segments, *sample.segments))


def _count(segments: Sequence[Segment], tokenizer: TextTokenizer) -> int:
    sample = Sample(key=_TEXT, task="instruct", languages="en", segments=tuple(segments))
    return count_tokens([sample], tokenizer.encode_batch, tokenizer.framing)[0]


def _segment(role: Role, language: str) -> Segment:
    return Segment(
        modality="text", language=language, role=role, trained=role == "assistant", text=_TEXT
    )


def _pick(tokens: Sequence[int], drawn: str) -> str:
    """One of some numbers, by what was drawn."""
    if len(set(tokens)) == 1:
        return str(tokens[0])
    return f"[{', '.join(map(str, tokens))}][1 + ({drawn} % {len(tokens)})::integer]"
