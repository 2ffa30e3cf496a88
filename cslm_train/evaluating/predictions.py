"""Samples → answers from their prompts alone, and their scores by the measures of the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from cslm_data.framing import frame, frame_prompt
from cslm_data.records import Sample, Segment, Units
from cslm_train.evaluating import scores
from cslm_train.generate import CHAINS, RULES
from cslm_train.generating.chunks import chunks
from cslm_train.generating.decoding import Continuation, Prompt, decode_batch, room
from cslm_train.generating.grammar import Grammar
from cslm_train.generating.sampling import Sampling
from cslm_train.models.loading import LoadedRun

GENERATED = ("asr", "tts", "mt", "st", "s2st", "s2s", "s2t", "t2s")
"""Tasks that are answered and scored; of the others the loss alone is measured."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, or a reference, taken apart."""

    question: str
    text: str
    units: Units
    well_formed: bool


def answer_group(
    run: LoadedRun,
    task: str,
    samples: Sequence[Sample],
    *,
    sampling: Sampling,
    free: bool | None,
    batch_size: int,
    on_done: Callable[[], None],
) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    """Scores of a group, and a row for each prediction."""
    if not samples:
        return {}, []
    held = not (task in CHAINS if free is None else free)
    grammar = Grammar(run.vocabulary, RULES[task]) if held else None
    turns = [first_answer(sample.segments) for sample in samples]
    continuations = decode_batch(
        run,
        [_prompt(run, s.key, t, grammar) for s, t in zip(samples, turns, strict=True)],
        sampling=sampling,
        batch_size=batch_size,
        on_done=on_done,
    )
    references = [_reference(segments) for segments in turns]
    answers = [_read(run, continuation) for continuation in continuations]
    rows = [
        {
            "key": sample.key,
            "task": task,
            "languages": sample.languages,
            "reference": _content(task, reference),
            "hypothesis": _content(task, found),
            "stop": continuation.stop,
        }
        | ({"well_formed": found.well_formed} if task in CHAINS else {})
        for sample, reference, found, continuation in zip(
            samples, references, answers, continuations, strict=True
        )
    ]
    source, _, target = samples[0].languages.partition("-")
    return score(task, references, answers, source=source, target=target or source), rows


def first_answer(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The turns up to the first of the assistant, that one included."""
    before = list(takewhile(lambda segment: segment.role != "assistant", segments))
    rest = segments[len(before) :]
    return (*before, *takewhile(lambda segment: segment.role == "assistant", rest))


def _prompt(run: LoadedRun, key: str, turns: Sequence[Segment], grammar: Grammar | None) -> Prompt:
    """What to continue, for at most twice the reference's tokens and 20."""
    ids, _ = run.vocabulary.encode(frame_prompt(turns, run.vocabulary.framing))
    whole, _ = run.vocabulary.encode(frame(turns, run.vocabulary.framing))
    limit = min(2 * (len(whole) - len(ids)) + 20, room(run, ids))
    return Prompt(key=key, ids=ids, max_tokens=limit, grammar=grammar)


def _reference(segments: Sequence[Segment]) -> Answer:
    answer = [segment for segment in segments if segment.role == "assistant"]
    speech = [segment.units for segment in answer if segment.modality == "speech"]
    texts = [segment for segment in answer if segment.modality == "text"]
    return Answer(
        question="".join(s.text for s in texts if s.part == "tq"),
        text="".join(s.text for s in texts if s.part != "tq"),
        units=np.concatenate([*speech, np.zeros(0, np.uint16)]),
        well_formed=True,
    )


def _read(run: LoadedRun, continuation: Continuation) -> Answer:
    parts = list(chunks(continuation.ids, run.vocabulary, language="", answer_language=""))
    return Answer(
        question="".join(chunk.text for chunk in parts if chunk.part == "tq"),
        text="".join(chunk.text for chunk in parts if chunk.part == "ta"),
        units=np.array([unit for chunk in parts for unit in chunk.units], np.uint16),
        well_formed=scores.is_well_formed_chain(
            run.vocabulary.decode(continuation.ids), end=run.vocabulary.framing.end
        ),
    )


def score(
    task: str,
    references: Sequence[Answer],
    answers: Sequence[Answer],
    *,
    source: str,
    target: str,
) -> dict[str, float | None]:
    """The measures of a task, over all its answers."""
    expected, found = [a.text for a in references], [a.text for a in answers]
    if task == "asr":
        return {
            scores.error_measure(target): scores.text_error_rate(expected, found, target),
            "exact_match": scores.exact_match(expected, found, target),
        }
    if task == "tts":
        return {
            "unit_error_rate": scores.unit_error_rate(
                [a.units for a in references], [a.units for a in answers]
            )
        }
    off_target = sum(scores.is_off_target(text, target) for text in found) / len(found)
    measures: dict[str, float | None] = {
        "off_target": off_target,
        "chrf": scores.chrf(expected, found),
    }
    if task in ("mt", "st", "s2st"):
        measures["bleu"] = scores.bleu(expected, found, target)
    if task in ("mt", "st"):
        return measures
    questions = [a.question for a in references], [a.question for a in answers]
    measures[f"question_{scores.error_measure(source)}"] = scores.text_error_rate(
        *questions, source
    )
    if task in CHAINS:
        measures["well_formed"] = sum(a.well_formed for a in answers) / len(answers)
    return measures


def _content(task: str, answer: Answer) -> Any:
    """What a prediction is compared by, as JSON."""
    if task == "tts":
        return answer.units.tolist()
    if task in CHAINS or task == "s2t":
        spoken = {"units": answer.units.tolist()} if task in CHAINS else {}
        return {"question": answer.question, "answer": answer.text, **spoken}
    return answer.text
