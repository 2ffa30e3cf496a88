"""Workspace → a report on the quality of its units, tokenizers side by side.

Usage is counted over all speech that every tokenizer of the report has units of; what needs phones
or audio is measured on a keyed sample of it, whose size the report says.
"""

# L languages, P phones, K units, N frames

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import CslmError, UsageError
from cslm_data.progress import Progress, progress
from cslm_data.quality import abx
from cslm_data.quality.figures import (
    ALL,
    AbxFigure,
    PhoneFigures,
    Plots,
    RobustnessFigure,
    Settings,
    TokenizerReport,
    UnitReport,
)
from cslm_data.quality.gather import Gathered, TokenizerData, gather
from cslm_data.quality.phone_frames import (
    SILENCE,
    PhonedUtterance,
    phone_of_frames,
    spoken_phones,
)
from cslm_data.quality.purity import joint_counts, measure_purity, shuffle_units
from cslm_data.quality.robustness import measure_robustness
from cslm_data.quality.usage import (
    EXCLUSIVE_SHARE,
    Counts,
    Usage,
    divergence_bits,
    find_exclusive,
    measure_usage,
)
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.tokenizers.tokenizer_folders import describe, find_tokenizer, list_tokenizers
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

DEFAULT_MAX_UTTERANCES = 2000
DEFAULT_ROBUSTNESS_UTTERANCES = 20

_ABX_KINDS: tuple[tuple[str, abx.Speakers, str], ...] = tuple(
    (context, speakers, distance)
    for context in ("triphone", "any")
    for speakers in get_args(abx.Speakers)
    for distance in ("units", "centroids")
)
"""Context, speakers and distance of each figure."""


def unit_report(
    workspace: Workspace,
    tokenizers: Sequence[str] = (),
    *,
    languages: Sequence[str] | None = None,
    max_utterances: int = DEFAULT_MAX_UTTERANCES,
    robustness_utterances: int = DEFAULT_ROBUSTNESS_UTTERANCES,
    abx_cells: int = abx.MAX_CELLS,
    exact_phones: bool = False,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
) -> UnitReport:
    """Measure the tokenizers of these names or ids, or the only one, on what all have units of.

    Raises MissingArtefactError for a tokenizer there is not, UsageError where none is named and
    there are several or a language has no units, NoDataError without common units.
    """
    chosen = _choose(workspace, tokenizers, device, dtype)
    gathered = gather(
        workspace,
        chosen,
        languages=languages,
        max_utterances=max_utterances,
        robustness_utterances=robustness_utterances,
        exact_phones=exact_phones,
        seed=seed,
    )
    settings = Settings(
        seed=seed,
        max_utterances=max_utterances,
        robustness_utterances=robustness_utterances,
        abx_cells=abx_cells,
        exact_phones=exact_phones,
        exclusive_share=EXCLUSIVE_SHARE,
    )
    notes = [
        f"{row.language}: no phone times, so no PNMI, purities and ABX; ingest JSONL rows "
        '{"id", "phones": [[start, end, phone], …]} with: cslm-data ingest'
        for row in gathered.speech
        if not row.num_with_phones
    ]
    reports = []
    for tokenizer, data in zip(chosen, gathered.tokenizers, strict=True):
        report, problems = _measure(tokenizer, data, gathered, settings)
        reports.append(report)
        notes += [note for note in problems if note not in notes]
    return UnitReport(
        settings=settings, speech=gathered.speech, tokenizers=tuple(reports), notes=tuple(notes)
    )


def _choose(
    workspace: Workspace, names: Sequence[str], device: str, dtype: str
) -> list[SpeechTokenizer]:
    """The named tokenizers, each once; without a name the only one."""
    if names:
        named = [find_tokenizer(workspace, name, device=device, dtype=dtype) for name in names]
        return list({tokenizer.tokenizer_id: tokenizer for tokenizer in named}.values())
    found = list_tokenizers(workspace, device=device, dtype=dtype)
    if len(found) > 1:
        raise UsageError(
            f"there are several speech tokenizers: {describe(found)}; name those to report on, "
            f"e.g. cslm-data unit-report {found[-1].name}, or two side by side: "
            f"cslm-data unit-report --compare {found[-2].name} {found[-1].name}"
        )
    return found or [find_tokenizer(workspace, None)]


def _measure(
    tokenizer: SpeechTokenizer, data: TokenizerData, gathered: Gathered, settings: Settings
) -> tuple[TokenizerReport, list[str]]:
    """All figures of one tokenizer, and notes on what could not be measured."""
    languages = [row.language for row in gathered.speech]
    num_utterances = {row.language: row.num_utterances for row in gathered.speech}
    tokens_LK = np.stack([data.tokens[language] for language in languages])
    several = len(languages) > 1
    phones: list[PhoneFigures] = []
    joints: dict[tuple[str, str], tuple[list[str], Counts]] = {}
    scores: list[AbxFigure] = []
    robustness: list[RobustnessFigure] = []
    notes: list[str] = []
    num_abx = len(_ABX_KINDS) if settings.abx_cells else 0
    stretches_of, problem = _encodable(tokenizer, gathered.stretches)
    notes += [problem] if problem else []
    num_steps = len(data.phoned) * (1 + num_abx) + sum(map(len, stretches_of.values()))
    with progress(f"measure {tokenizer.name}", total=num_steps, unit="steps") as bar:
        for language, utterances in data.phoned.items():
            found, joint = _measure_phones(language, utterances, tokenizer, settings.seed)
            phones += found
            joints |= joint
            if not found:
                notes.append(f"{language}: no frame lies in a phone; are its times in seconds?")
            bar.advance()
            if settings.abx_cells:
                scores += _measure_abx(language, utterances, tokenizer, settings, bar)
                notes += _abx_notes(language, utterances, scores)
        for language, stretches in stretches_of.items():
            moved, problems = measure_robustness(tokenizer, stretches, seed=settings.seed, bar=bar)
            robustness += [
                RobustnessFigure(language=language, change=change, unit_edit_distance=distance)
                for change, distance in moved.items()
            ]
            notes += [f"{language}: left out of robustness: {problem}" for problem in problems]
    return TokenizerReport(
        name=tokenizer.name,
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        frame_rate_hz=tokenizer.frame_rate_hz,
        usage=_measure_usage(tokenizer, data, num_utterances),
        divergence_bits=_by_names(languages, divergence_bits(tokens_LK)) if several else None,
        exclusive=find_exclusive(languages, tokens_LK) if several else None,
        phones=tuple(phones),
        abx=tuple(scores),
        robustness=tuple(robustness),
        plots=Plots(tokens=data.tokens, run_lengths=data.run_lengths, phones=joints),
    ), notes


def _encodable(
    tokenizer: SpeechTokenizer, stretches: dict[str, list[Stretch]]
) -> tuple[dict[str, list[Stretch]], str | None]:
    """What robustness is measured on: nothing, with the reason, where the extractor is not here."""
    try:
        if stretches:
            _ = tokenizer.features
    except CslmError as error:
        return {}, f"{tokenizer.name}: robustness is not measured: {error}"
    return stretches, None


def _measure_usage(
    tokenizer: SpeechTokenizer, data: TokenizerData, num_utterances: dict[str, int]
) -> dict[str, Usage]:
    def measure(tokens_K: Counts, frames_K: Counts, utterances: int) -> Usage:
        return measure_usage(
            tokens_K,
            frames_K,
            num_utterances=utterances,
            frame_rate_hz=tokenizer.frame_rate_hz,
        )

    usage = {
        language: measure(data.tokens[language], data.frames[language], number)
        for language, number in num_utterances.items()
    }
    if len(usage) > 1:
        tokens_K: Counts = np.sum(list(data.tokens.values()), axis=0)
        frames_K: Counts = np.sum(list(data.frames.values()), axis=0)
        usage[ALL] = measure(tokens_K, frames_K, sum(num_utterances.values()))
    return usage


def _by_names(names: Sequence[str], matrix: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(names, row, strict=True))
        for name, row in zip(names, matrix.tolist(), strict=True)
    }


# ------------------------------------------------------------------------------------------ phones
class _Labelled(NamedTuple):
    """The frames of a corpus that lie in a phone."""

    labels: list[str]
    joint_PK: Counts
    shuffled_PK: Counts
    num_frames: int
    """With those in no phone."""
    num_utterances: int


def _measure_phones(
    language: str, utterances: Sequence[PhonedUtterance], tokenizer: SpeechTokenizer, seed: int
) -> tuple[list[PhoneFigures], dict[tuple[str, str], tuple[list[str], Counts]]]:
    """Figures of a language, and of each of its corpora where there are several; joint counts."""
    by_corpus: dict[str, list[PhonedUtterance]] = {}
    for utterance in utterances:
        by_corpus.setdefault(utterance.corpus, []).append(utterance)
    labelled = {
        corpus: _label(by_corpus[corpus], tokenizer, seed, f"{language} {corpus}")
        for corpus in sorted(by_corpus)
    }
    figures = [_phone_figures(language, None, list(labelled.values()))]
    if len(labelled) > 1:
        figures += [_phone_figures(language, name, [one]) for name, one in labelled.items()]
    joints = {(language, name): (one.labels, one.joint_PK) for name, one in labelled.items()}
    return [figure for figure in figures if figure is not None], joints


def _label(
    utterances: Sequence[PhonedUtterance], tokenizer: SpeechTokenizer, seed: int, key: str
) -> _Labelled:
    numbers: dict[str, int] = {}
    phones, units = [], []
    for utterance in utterances:
        names_I = np.array([numbers.setdefault(name, len(numbers)) for name in utterance.phones])
        intervals_N = phone_of_frames(
            utterance.starts_s,
            utterance.ends_s,
            num_frames=len(utterance.units_N),
            frame_rate_hz=tokenizer.frame_rate_hz,
        )
        phones.append(names_I[intervals_N[intervals_N >= 0]])
        units.append(utterance.units_N[intervals_N >= 0])
    phones_N, units_N = np.concatenate(phones), np.concatenate(units)
    sizes = {"num_phones": len(numbers), "num_units": tokenizer.num_units}
    return _Labelled(
        labels=list(numbers),
        joint_PK=joint_counts(phones_N, units_N, **sizes),
        shuffled_PK=joint_counts(phones_N, shuffle_units(units_N, seed=seed, key=key), **sizes),
        num_frames=sum(len(utterance.units_N) for utterance in utterances),
        num_utterances=len(utterances),
    )


def _phone_figures(
    language: str, corpus: str | None, labelled: Sequence[_Labelled]
) -> PhoneFigures | None:
    """None where no frame lies in a phone."""
    joints = [one.joint_PK for one in labelled]
    spoken = [one.joint_PK[[label != SILENCE for label in one.labels]] for one in labelled]
    num_labelled = sum(int(joint_PK.sum()) for joint_PK in joints)
    if not num_labelled:
        return None
    return PhoneFigures(
        language=language,
        corpus=corpus,
        num_utterances=sum(one.num_utterances for one in labelled),
        unlabelled_share=1 - num_labelled / sum(one.num_frames for one in labelled),
        all_frames=measure_purity(joints),
        speech_frames=measure_purity(spoken) if any(one.any() for one in spoken) else None,
        shuffled_pnmi=measure_purity([one.shuffled_PK for one in labelled]).pnmi,
    )


# --------------------------------------------------------------------------------------------- ABX
def _measure_abx(
    language: str,
    utterances: Sequence[PhonedUtterance],
    tokenizer: SpeechTokenizer,
    settings: Settings,
    bar: Progress,
) -> Iterator[AbxFigure]:
    """Every kind of ABX error of a language."""
    items = {
        context: [
            item
            for utterance in utterances
            for item in spoken_phones(
                utterance,
                frame_rate_hz=tokenizer.frame_rate_hz,
                with_neighbours=context == "triphone",
            )
        ]
        for context in ("triphone", "any")
    }
    distances: dict[str, abx.FrameDistance] = {"units": abx.unit_distance}
    if tokenizer.centroids_KE.shape[1] > 1:
        distances["centroids"] = abx.centroid_distance(tokenizer.centroids_KE)
    for context, speakers, distance in _ABX_KINDS:
        if distance in distances:
            yield AbxFigure(
                language=language,
                context=context,
                speakers=speakers,
                distance=distance,
                score=abx.measure_abx(
                    items[context],
                    distances[distance],
                    speakers=speakers,
                    seed=settings.seed,
                    max_cells=settings.abx_cells,
                ),
            )
        bar.advance()


def _abx_notes(
    language: str, utterances: Sequence[PhonedUtterance], scores: Sequence[AbxFigure]
) -> list[str]:
    """Why some ABX figures are missing, or rest on less."""
    notes = []
    nameless = sum(utterance.speaker is None for utterance in utterances)
    if nameless:
        notes.append(
            f"{language}: {nameless} utterances with phones have no speaker and take no part in "
            "ABX; name it in the field `speaker` of the manifest"
        )
    missing = sorted(
        {
            f"{score.speakers} speakers, {score.context} context"
            for score in scores
            if score.language == language and score.score is None
        }
    )
    if missing:
        notes.append(
            f"{language}: no ABX {'; '.join(missing)}: it takes two phones in the same context, "
            "one of them said twice by a speaker (within) or by two of a corpus (across)"
        )
    return notes
