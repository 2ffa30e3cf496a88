"""What a plan comes to: requested against realised tokens, what is missing for whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cslm_data.mixing.choosing import Stock
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.shares import Share
from cslm_data.mixing.sources import MixSource
from cslm_data.records import SPLITS

Row = dict[str, Any]

TOLERANCE = 0.001
"""Shares that differ by less than this are as requested."""


def realised_rows(
    sources: Sequence[MixSource],
    stocks: Sequence[Stock],
    shares: Sequence[Share],
    chosen: Mapping[tuple[int, int], tuple[int, int]],
) -> list[Row]:
    """A row per split, task and languages; `chosen` has samples and tokens per source and split.

    Languages without data for a task are left out; `missing` says them.
    """
    requested = sum(share.requested for share in shares) or 1.0
    realised = sum(tokens for (_, split), (_, tokens) in chosen.items() if split == 0) or 1
    rows: list[Row] = []
    for source, stock, share in zip(sources, stocks, shares, strict=True):
        if stock.num_usable == 0:
            continue
        number, tokens = chosen.get((source.index, 0), (0, 0))
        available = stock.tokens.get(0, 0)
        rows.append(
            {
                "split": SPLITS[0],
                "task": source.task,
                "languages": source.languages,
                "requested_share": share.requested / requested,
                "realised_share": tokens / realised,
                "requested_tokens": round(share.requested),
                "realised_tokens": tokens,
                "num_samples": number,
                "available_tokens": available,
                "epochs": tokens / available if available else 0.0,
                "note": _note(source, share, available, tokens, number),
            }
        )
    for split in range(1, len(SPLITS)):
        for source, stock in zip(sources, stocks, strict=True):
            number, tokens = chosen.get((source.index, split), (0, 0))
            if number:
                rows.append(
                    {
                        "split": SPLITS[split],
                        "task": source.task,
                        "languages": source.languages,
                        "requested_share": None,
                        "realised_share": None,
                        "requested_tokens": None,
                        "realised_tokens": tokens,
                        "num_samples": number,
                        "available_tokens": stock.tokens.get(split, 0),
                        "epochs": None,
                        "note": "",
                    }
                )
    return rows


def _note(source: MixSource, share: Share, available: int, tokens: int, number: int) -> str:
    if available == 0:
        return "none in train: all of it is held out"
    if share.target < share.requested * (1 - TOLERANCE):
        return f"all of it {source.max_epochs:g} times is less than asked for"
    if share.target > share.requested * (1 + TOLERANCE):
        return "takes over what others lack"
    if abs(tokens - share.target) > max(1.0, share.target * TOLERANCE):
        return f"whole samples come no nearer, of {tokens // max(1, number)} tokens on average"
    return ""


# --- what is missing -------------------------------------------------------------------------

_LACKS = {
    "asr": ("speech-text pairs", "transcribed speech in {languages}"),
    "tts": ("speech-text pairs", "transcribed speech in {languages}"),
    "continuation": ("speech", "speech in {languages}"),
    "mt": ("translations", "MT {pair}"),
    "instruct": ("text instructions", "instructions in {languages}"),
    "st": ("translated speech", "translations whose one side is spoken, {pair}"),
    "s2st": ("parallel speech", "translations of which both sides are spoken, {pair}"),
    "s2s": ("spoken questions with spoken answers", "spoken dialogues {languages}"),
    "t2s": ("questions with spoken answers", "spoken dialogues {languages}"),
    "s2t": ("spoken questions with answers", "spoken questions {languages}"),
}
"""What a task needs, and what to add."""

_STEPS = {
    "no_units": "run cslm-data quantize",
    "no_alignment": "run cslm-data align",
    "excluded": "see cslm-data filter --list",
}
_SYNTHESISED = frozenset({"s2s", "t2s", "s2t", "s2st"})


def missing(
    sources: Sequence[MixSource], stocks: Sequence[Stock], languages: Sequence[str], recipe: Recipe
) -> tuple[list[str], list[str]]:
    """What a language lacks of the tasks that the recipe requires, and what of the optional ones.

    A task between languages is satisfied for a language by any one pair with it: the languages
    are tied to each other through that one.
    """
    served: dict[int, set[str]] = {}
    for source, stock in zip(sources, stocks, strict=True):
        if stock.num_usable:
            ends = {source.language, source.answer_language}
            served.setdefault(source.rule, set()).update(ends)
    has = {language: _has(language, sources, stocks) for language in languages}
    required: dict[str, None] = {}
    optional: dict[str, None] = {}
    for number, rule in enumerate(recipe.sources):
        of_rule = [
            (source, stock)
            for source, stock in zip(sources, stocks, strict=True)
            if source.rule == number
        ]
        for language in languages:
            ours = [pair for pair in of_rule if language in _ends(pair[0])]
            if not ours or language in served.get(number, set()):
                continue
            said = _say(language, ours, has[language], languages)
            (optional if rule.optional else required)[said] = None
    return list(required), list(optional)


def _ends(source: MixSource) -> tuple[str, str]:
    return source.language, source.answer_language


def _has(language: str, sources: Sequence[MixSource], stocks: Sequence[Stock]) -> str | None:
    """What a language does have, to say it beside what it lacks."""
    for source, stock in zip(sources, stocks, strict=True):
        if stock.num_usable and language in _ends(source):
            return _LACKS[source.task][0]
    return None


def _say(
    language: str,
    ours: Sequence[tuple[MixSource, Stock]],
    has: str | None,
    languages: Sequence[str],
) -> str:
    source = ours[0][0]
    what, add = _LACKS[source.task]
    others = [other for other in languages if other != language] or [language]
    between = source.language != source.answer_language
    pair = f"{others[0]}–{language}"
    add = add.format(languages=pair if between else language, pair=pair)
    begin = f"{language} has {has} but no {what}" if has else f"{language} has no {what}"
    reasons = sum((stock.reasons for _, stock in ours), type(ours[0][1].reasons)())
    rows = sum(stock.num_rows for _, stock in ours)
    if rows:
        told = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        step = "; ".join(text for reason, text in _STEPS.items() if reason in reasons)
        return f"{begin} that can be used, of {rows} ({told}): {step or 'see their reasons'}"
    if source.where:
        add += f", or widen where: {source.where}"
    if source.task in _SYNTHESISED:
        add += ", or make it: cslm-data synthesize"
    return f"{begin}: add {add} (for {source.task})"
