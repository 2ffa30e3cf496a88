"""A report on unit quality → tables to read, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cslm_data.quality.abx import Speakers
from cslm_data.quality.figures import ALL, UnitReport
from cslm_data.quality.robustness import CHANGES

Cell = str | int | float | None
Row = tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """One table of a report; what several tokenizers make of a language stands together."""

    name: str
    title: str
    explanation: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    is_matrix: bool = False
    """Numbers from 0 to 1 that are better seen than read."""


def figure_tables(report: UnitReport) -> list[FigureTable]:
    """The tables that have anything to say."""
    tables = [_phones(report), _abx(report), _usage(report), *_divergence(report)]
    tables += [_exclusive(report), _robustness(report)]
    return [table for table in tables if table.rows]


def _phones(report: UnitReport) -> FigureTable:
    rows = {}
    for place, tokenizer in enumerate(report.tokenizers):
        for figure in tokenizer.phones:
            speech = figure.speech_frames
            rows[figure.language, figure.corpus or "", place] = (
                figure.language,
                figure.corpus or ALL,
                tokenizer.name,
                figure.all_frames.pnmi,
                figure.shuffled_pnmi,
                None if speech is None else speech.pnmi,
                figure.all_frames.phone_purity,
                figure.all_frames.cluster_purity,
                figure.all_frames.num_phones,
                figure.all_frames.num_frames,
                figure.unlabelled_share,
            )
    return FigureTable(
        name="phones",
        title="units and phones",
        explanation=(
            "PNMI: share of a phone that its unit tells, I(phone; unit) / H(phone). Shuffled: the "
            "same with the units in random order: what chance gives on as many frames. PNMI "
            "speech: without silence, which counts as a phone elsewhere. Phone purity: accuracy of "
            "naming each unit its most frequent phone. Cluster purity: of naming each phone its "
            "most frequent unit; it falls as there are more units. A language with several corpora "
            "is their mean, weighted by frames: each has phones of its own. Unlabelled: frames in "
            "no phone, which are not counted."
        ),
        columns=("language", "corpus", "tokenizer", "PNMI", "shuffled", "PNMI speech")
        + ("phone purity", "cluster purity", "phones", "frames", "unlabelled"),
        rows=_in_order(rows),
    )


def _abx(report: UnitReport) -> FigureTable:
    rows = {}
    for place, tokenizer in enumerate(report.tokenizers):
        kinds = {(figure.language, figure.distance) for figure in tokenizer.abx}
        for language, distance in kinds:
            scores = {
                (figure.context, figure.speakers): figure.score
                for figure in tokenizer.abx
                if (figure.language, figure.distance) == (language, distance)
            }
            there = [scores[context, who] for context, who in _ABX_COLUMNS]
            rows[language, distance, place] = (
                language,
                distance,
                tokenizer.name,
                *(None if score is None else score.error for score in there),
                sum(score.num_cells for score in there if score is not None),
            )
    names = [f"{context} {who}" for context, who in _ABX_COLUMNS]
    return FigureTable(
        name="abx",
        title="ABX error",
        explanation=(
            "How often a spoken phone is nearer to another phone than to its own; 0.5 is chance. "
            "Within one speaker, or across speakers. Triphone: phones with their neighbours, which "
            "are equal; any: phones alone, in any context. Units: frames are equal or not; "
            "centroids: the angle between the centroids of their units. Cells: contrasts of two "
            f"phones that were scored, at most {report.settings.abx_cells:,} for each figure."
        ),
        columns=("language", "distance", "tokenizer", *names, "cells"),
        rows=_in_order(rows),
    )


def _usage(report: UnitReport) -> FigureTable:
    rows = {}
    for place, tokenizer in enumerate(report.tokenizers):
        for language, usage in tokenizer.usage.items():
            rows[language, "", place] = (
                language,
                tokenizer.name,
                usage.num_utterances,
                usage.seconds / 60,
                usage.tokens_per_s,
                usage.frames_per_s,
                usage.mean_run_frames,
                usage.num_used,
                usage.num_dead,
                usage.entropy_bits,
                usage.perplexity,
                usage.bitrate,
                usage.frame_bitrate,
            )
    return FigureTable(
        name="usage",
        title="use of units",
        explanation=(
            "Tokens are units after dedup, frames before. Run: frames that a token lasts. Dead: "
            "units that never occur. Entropy and perplexity of the tokens' distribution. Bits/s: "
            "tokens a second times their entropy, durations not counted; bits/s frames: the same "
            "before dedup."
        ),
        columns=("language", "tokenizer", "utterances", "minutes", "tokens/s", "frames/s", "run")
        + ("used", "dead", "entropy", "perplexity", "bits/s", "bits/s frames"),
        rows=_in_order(rows),
    )


def _divergence(report: UnitReport) -> Iterator[FigureTable]:
    for tokenizer in report.tokenizers:
        bits = tokenizer.divergence_bits or {}
        yield FigureTable(
            name=f"divergence of {tokenizer.name}",
            title=f"divergence of languages, {tokenizer.name}",
            explanation=(
                "Jensen–Shannon divergence of how two languages use the units, in bits: 0 where "
                "they use them alike, 1 where they share none."
            ),
            columns=("language", *bits),
            rows=tuple((language, *others.values()) for language, others in bits.items()),
            is_matrix=True,
        )


def _exclusive(report: UnitReport) -> FigureTable:
    languages = [row.language for row in report.speech]
    rows: list[Row] = []
    for tokenizer in report.tokenizers:
        if tokenizer.exclusive is not None:
            owned = tokenizer.exclusive
            numbers = (owned.num_units[language] for language in languages)
            rows.append((tokenizer.name, owned.share_of_units, owned.share_of_tokens, *numbers))
    return FigureTable(
        name="exclusive",
        title="units of one language",
        explanation=(
            f"Units with {report.settings.exclusive_share:.0%} of their uses in one language, each "
            "language counted as if it had said equally much: their share of the units in use and "
            "of the tokens, and their number by language."
        ),
        columns=("tokenizer", "share of units", "share of tokens", *languages),
        rows=tuple(rows),
    )


def _robustness(report: UnitReport) -> FigureTable:
    rows = {}
    for place, tokenizer in enumerate(report.tokenizers):
        by_language: dict[str, dict[str, float]] = {}
        numbers: dict[str, int] = {}
        for figure in tokenizer.robustness:
            distance = figure.unit_edit_distance
            by_language.setdefault(figure.language, {})[figure.change] = distance.mean
            numbers[figure.language] = distance.num_utterances
        for language, means in by_language.items():
            rows[language, "", place] = (
                language,
                tokenizer.name,
                numbers[language],
                *(means.get(change) for change in CHANGES),
            )
    return FigureTable(
        name="robustness",
        title="unit edit distance",
        explanation=(
            "Edits from an utterance's tokens to those of its changed copy, by the number of its "
            "tokens; the mean over utterances. Changed: stored at another rate and back, white "
            "noise at 20 dB, played slower or faster, begun half a frame or a frame later."
        ),
        columns=("language", "tokenizer", "utterances", *CHANGES),
        rows=_in_order(rows),
    )


_ABX_COLUMNS: tuple[tuple[str, Speakers], ...] = (
    ("triphone", "within"),
    ("triphone", "across"),
    ("any", "within"),
    ("any", "across"),
)


def _in_order(rows: Mapping[tuple[str, str, int], Row]) -> tuple[Row, ...]:
    """By language (all of them last), then by the second key, then by tokenizer."""
    return tuple(rows[key] for key in sorted(rows, key=lambda key: (key[0] == ALL, key)))
