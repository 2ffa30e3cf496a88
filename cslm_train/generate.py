"""A question → an answer in chunks of text and units, streamed as they are produced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from cslm_data.errors import UsageError
from cslm_data.framing import ANSWER, QUESTION, frame_prompt
from cslm_train.evaluating.scores import is_well_formed_chain
from cslm_train.generating.decoding import Prompt, Stop, room, stream
from cslm_train.generating.grammar import (
    CHAIN,
    SPEECH_ANSWER,
    TEXT_ANSWER,
    TEXT_CHAIN,
    Grammar,
    Rules,
)
from cslm_train.generating.questions import Question
from cslm_train.generating.sampling import GREEDY, Sampling
from cslm_train.models.loading import LoadedRun
from cslm_train.vocabulary import JointVocabulary

AnswerPart = Literal["tq", "ta", "sa"]

RULES: dict[str, Rules] = {
    "asr": TEXT_ANSWER,
    "mt": TEXT_ANSWER,
    "st": TEXT_ANSWER,
    "instruct": TEXT_ANSWER,
    "tts": SPEECH_ANSWER,
    "continuation": SPEECH_ANSWER,
    "s2t": TEXT_CHAIN,
    "s2s": CHAIN,
    "t2s": CHAIN,
    "s2st": CHAIN,
}
"""The form of each task's answer."""

CHAINS = frozenset({"s2s", "t2s", "s2st"})
"""Tasks whose answer is text and speech by turns. They decode freely unless told otherwise: whether
the form comes out is worth knowing."""

DEFAULT_MAX_TOKENS = 1000


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of an answer: text question, text or speech."""

    part: AnswerPart
    language: str
    text: str = ""
    units: tuple[int, ...] = ()
    num_tokens: int
    """Of its text or units, without controls."""
    seconds_since_start: float
    """When it was complete."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How an answer ended."""

    num_tokens: int
    """All of them, controls included."""
    seconds: float
    stop: Stop
    well_formed: bool | None
    """Of a chain of modality; None for other tasks."""


def chunks(
    tokens: Iterable[int],
    vocabulary: JointVocabulary,
    *,
    language: str,
    answer_language: str,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Chunk]:
    """The stretches of an answer, whatever its form, each when the token after it comes."""
    start = clock()
    question, answer = vocabulary.control_id(QUESTION), vocabulary.control_id(ANSWER)
    open_kind, stretch, asking = "control", list[int](), False

    def close() -> Iterator[Chunk]:
        if stretch:
            (piece,) = vocabulary.decode(stretch)
            tq = asking and piece.kind == "text"
            yield Chunk(
                part="sa" if piece.kind == "units" else "tq" if tq else "ta",
                language=language if tq else answer_language,
                text=piece.text,
                units=tuple(piece.units.tolist()),
                num_tokens=len(stretch),
                seconds_since_start=clock() - start,
            )

    for token in tokens:
        kind = vocabulary.kind(token)
        if kind != open_kind:
            yield from close()
            open_kind, stretch = kind, []
        if kind in ("text", "units"):
            stretch.append(token)
        elif token in (question, answer):
            asking = token == question
    yield from close()


def answer(
    run: LoadedRun,
    question: Question,
    *,
    sampling: Sampling = GREEDY,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    free: bool | None = None,
) -> Iterator[Chunk | Finished]:
    """The chunks of the answer as they are produced, then how it ended.

    `free`: any token may come; None: only in a chain of modality, other tasks keep to their form.
    Raises UsageError when the question leaves no room for an answer.
    """
    vocabulary = run.vocabulary
    ids, _ = vocabulary.encode(frame_prompt(question.segments, vocabulary.framing))
    if room(run, ids) < 1:
        raise UsageError(
            f"the question takes {len(ids)} tokens, but the model holds "
            f"{run.info.config.model.max_seq_len} with the answer; ask something shorter"
        )
    free = question.task in CHAINS if free is None else free
    prompt = Prompt(
        key=question.key,
        ids=ids,
        max_tokens=max_tokens,
        grammar=None if free else Grammar(vocabulary, RULES[question.task]),
    )
    return _answer(run, question, prompt, sampling)


def _answer(
    run: LoadedRun, question: Question, prompt: Prompt, sampling: Sampling
) -> Iterator[Chunk | Finished]:
    vocabulary = run.vocabulary
    tokens: list[int] = []

    def heard() -> Iterator[int]:
        for token in stream(run, prompt, sampling=sampling):
            tokens.append(token)
            yield token

    start = time.monotonic()
    yield from chunks(
        heard(),
        vocabulary,
        language=question.language,
        answer_language=question.answer_language,
    )
    ended = bool(tokens) and tokens[-1] == vocabulary.end_id
    chain = question.task in CHAINS
    yield Finished(
        num_tokens=len(tokens),
        seconds=time.monotonic() - start,
        stop="end" if ended else "max_tokens",
        well_formed=is_well_formed_chain(vocabulary.decode(tokens), end=vocabulary.framing.end)
        if chain
        else None,
    )
