"""A question → an answer in chunks of text and units, streamed as they are produced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from cslm_data.errors import UsageError
from cslm_data.framing import frame_prompt
from cslm_train.evaluating.scores import is_well_formed_chain
from cslm_train.generating.chunks import Chunk, chunks
from cslm_train.generating.decoding import Prompt, Stop, room, stream
from cslm_train.generating.grammar import (
    CHAIN,
    SPEECH_ANSWER,
    TEXT_ANSWER,
    TEXT_CHAIN,
    UNITS,
    Grammar,
    Rules,
)
from cslm_train.generating.playback import Playback, SpeechReady, play
from cslm_train.generating.questions import Question
from cslm_train.generating.sampling import GREEDY, Sampling
from cslm_train.models.loading import LoadedRun

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

SPOKEN = frozenset(
    task for task, rules in RULES.items() if any(UNITS in moves for moves in rules.values())
)
"""Tasks whose answer holds speech."""

DEFAULT_MAX_TOKENS = 1000


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How an answer ended."""

    num_tokens: int
    """All of them, controls included."""
    seconds: float
    stop: Stop
    well_formed: bool | None
    """Of a chain of modality; None for other tasks."""
    playback: Playback | None
    """How its speech came; None without speech."""


def answer(
    run: LoadedRun,
    question: Question,
    *,
    sampling: Sampling = GREEDY,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    free: bool | None = None,
    piece_units: int | None = None,
    seconds_per_unit: float | None = None,
) -> Iterator[Chunk | Finished]:
    """The chunks of the answer as they are produced, then how it ended.

    `free`: any token may come; None: only in a chain of modality, other tasks keep to their form.
    `piece_units`: speech comes in pieces of so many units; None: in whole chunks.
    `seconds_per_unit`: how long a unit plays, to say whether a listener would have waited.
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
    return _answer(run, question, prompt, sampling, piece_units, seconds_per_unit)


def _answer(
    run: LoadedRun,
    question: Question,
    prompt: Prompt,
    sampling: Sampling,
    piece_units: int | None,
    seconds_per_unit: float | None,
) -> Iterator[Chunk | Finished]:
    vocabulary = run.vocabulary
    tokens: list[int] = []
    speech: list[SpeechReady] = []

    def heard() -> Iterator[int]:
        for token in stream(run, prompt, sampling=sampling):
            tokens.append(token)
            yield token

    start = time.monotonic()
    for chunk in chunks(
        heard(),
        vocabulary,
        language=question.language,
        answer_language=question.answer_language,
        piece_units=piece_units,
    ):
        if chunk.part == "sa":
            speech.append(
                SpeechReady(chunk.num_tokens, chunk.seconds_since_start, chunk.tokens_since_start)
            )
        yield chunk
    ended = bool(tokens) and tokens[-1] == vocabulary.end_id
    chain = question.task in CHAINS
    yield Finished(
        num_tokens=len(tokens),
        seconds=time.monotonic() - start,
        stop="end" if ended else "max_tokens",
        well_formed=is_well_formed_chain(vocabulary.decode(tokens), end=vocabulary.framing.end)
        if chain
        else None,
        playback=play(speech, seconds_per_unit),
    )
