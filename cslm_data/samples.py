"""rows of the catalog → samples, one compiler per task; prompts for generation by the same code.

A compiler takes the turns of a source (an utterance is one turn, a translation two) and gives the
segments of a sample. The user's turn comes from `templates`, for training and for generation alike,
so what a model is asked and what it was taught cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import UsageError
from cslm_data.framing import OWN, TurnFraming, frame
from cslm_data.interleave import DEFAULT_CHUNK_WORDS, AlignmentMismatch, interleave
from cslm_data.keys import finalise64, key64, md5_key
from cslm_data.records import Part, Role, Sample, Segment, Units, Word
from cslm_data.templates import choose_wording, fill_wording


class CompileError(ValueError):
    """A source that makes no sample. `reason` is the short name that goes into `rejects`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceTurn:
    """One turn of a source as the catalog has it: text, speech, or both."""

    role: Role
    language: str
    text: str | None = None
    units: Units | None = None
    durations: NDArray[np.uint16] | None = None
    """Frames of each run of units."""
    words: tuple[Word, ...] | None = None
    excluded: str | None = None
    """Which curation moved its speech out, and why."""


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What compilers need to know besides the source."""

    prompts_seed: int = 0
    frame_rate_hz: float = 50.0
    chunk_words: int = DEFAULT_CHUNK_WORDS


Compiler = Callable[[Sequence[SourceTurn], int, CompileOptions], tuple[Segment, ...]]
"""Turns, key of the sample, options → segments. Raises CompileError."""


# --- the user's turn -------------------------------------------------------------------------


def prompt_kind(task: str, language: str, answer_language: str | None) -> str | None:
    """Which wordings a task takes; None: the user's words alone."""
    if task in ("asr", "tts", "mt"):
        return task
    if task in ("s2s", "t2s"):
        return "chat" if answer_language in (None, language) else "chat_cross"
    return None


def compile_prompt(
    task: str,
    *,
    language: str,
    answer_language: str | None = None,
    text: str | None = None,
    units: Units | None = None,
    seed: int = 0,
    sample_hash: int = 0,
) -> tuple[Segment, ...]:
    """The user's turn of a task; a model answers `framing.frame_prompt` of it.

    `asr` and `s2s` take `units`, the others `text`; `mt` needs an `answer_language`.
    Raises UsageError when what the task needs is missing.
    """
    if task not in COMPILERS:
        raise UsageError(f"no task {task!r}; there are {', '.join(COMPILERS)}")
    spoken = task in ("asr", "s2s")
    if (units if spoken else text) is None:
        raise UsageError(f"task {task} needs {'speech' if spoken else 'text'} of the user")
    if task == "mt" and answer_language is None:
        raise UsageError("task mt needs the language to translate into")
    kind = prompt_kind(task, language, answer_language)
    if kind is None:
        return (_text(text or "", language=language, role="user"),)
    return fill_wording(
        kind,
        choose_wording(kind, language, seed=seed, sample_hash=sample_hash),
        language=language,
        answer_language=answer_language,
        text=None if spoken else text,
        units=units if spoken else None,
    )


# --- compilers -------------------------------------------------------------------------------


def compile_asr(
    turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Speech in, its transcript out."""
    (turn,) = turns
    prompt = compile_prompt(
        "asr",
        language=turn.language,
        units=_units(turn),
        seed=options.prompts_seed,
        sample_hash=key,
    )
    return (*prompt, _text(_said(turn), language=turn.language))


def compile_tts(
    turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Text in, the speech of it out."""
    (turn,) = turns
    prompt = compile_prompt(
        "tts", language=turn.language, text=_said(turn), seed=options.prompts_seed, sample_hash=key
    )
    return (*prompt, _speech(_units(turn), language=turn.language))


def compile_mt(
    turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """A sentence in, its translation out."""
    source, target = turns
    prompt = compile_prompt(
        "mt",
        language=source.language,
        answer_language=target.language,
        text=_said(source),
        seed=options.prompts_seed,
        sample_hash=key,
    )
    return (*prompt, _text(_said(target), language=target.language))


def compile_instruct(
    turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """A dialogue of text, every answer trained."""
    if not turns or turns[-1].role != "assistant" or all(t.role != "user" for t in turns):
        raise CompileError("no_answer", "the dialogue does not end with an answer to a user")
    return tuple(_text(_said(t), language=t.language, role=t.role) for t in turns)


def compile_s2s(
    turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """A spoken question in, the chain of modality out."""
    return _compile_chain("s2s", turns, key, options)


def compile_t2s(
    turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """A typed question in, the chain of modality out."""
    return _compile_chain("t2s", turns, key, options)


COMPILERS: dict[str, Compiler] = {
    "asr": compile_asr,
    "tts": compile_tts,
    "mt": compile_mt,
    "instruct": compile_instruct,
    "s2s": compile_s2s,
    "t2s": compile_t2s,
}


def _compile_chain(
    task: str, turns: Sequence[SourceTurn], key: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """TQ, then TA and SA chunk by chunk, all of it trained."""
    question, answer = turns
    prompt = compile_prompt(
        task,
        language=question.language,
        answer_language=answer.language,
        text=_said(question),
        units=_units(question) if task == "s2s" else None,
        seed=options.prompts_seed,
        sample_hash=key,
    )
    units, text = _units(answer), _said(answer)
    if not answer.words:
        raise CompileError(
            "no_alignment", "the spoken answer has no word times; ingest alignments for it"
        )
    durations = answer.durations if answer.durations is not None else np.zeros(0, np.uint16)
    try:
        chunks = interleave(
            text,
            answer.words,
            units,
            durations,
            frame_rate_hz=options.frame_rate_hz,
            chunk_words=options.chunk_words,
        )
    except AlignmentMismatch as error:
        raise CompileError("alignment_mismatch", str(error)) from None
    chain: list[Segment] = [_text(_said(question), language=question.language, part="tq")]
    for chunk in chunks:
        chain.append(_text(chunk.text, language=answer.language, part="ta"))
        chain.append(_speech(chunk.units, language=answer.language, part="sa"))
    return (*prompt, *chain)


def _said(turn: SourceTurn) -> str:
    if turn.text is None or not turn.text.strip():
        raise CompileError("no_text", f"the turn of the {turn.role} has no text")
    return turn.text


def _units(turn: SourceTurn) -> Units:
    if turn.excluded is not None:
        raise CompileError(
            "excluded", f"the speech of the {turn.role} was moved out by {turn.excluded}"
        )
    if turn.units is None or len(turn.units) == 0:
        raise CompileError(
            "no_units",
            f"the speech of the {turn.role} has no units of this tokenizer; run cslm-data "
            "quantize, or see why it was rejected there",
        )
    return turn.units


def _text(text: str, *, language: str, role: Role = "assistant", part: Part = "") -> Segment:
    return Segment(
        modality="text",
        language=language,
        role=role,
        trained=role == "assistant",
        part=part,
        text=text,
    )


def _speech(units: Units, *, language: str, part: Part = "") -> Segment:
    return Segment(
        modality="speech", language=language, role="assistant", trained=True, part=part, units=units
    )


# --- samples ---------------------------------------------------------------------------------


def source_hash(task: str, languages: str, source_ids: Sequence[str]) -> int:
    """64 bits that stand for a source in the names of its samples."""
    joined = md5_key("\0".join(source_ids)) ^ key64(task, languages)
    return int(finalise64(np.array([joined], np.uint64))[0])


def epoch_hash(of_source: int, epoch: int) -> int:
    """Hash of a sample in an epoch."""
    if epoch == 0:
        return of_source
    return int(finalise64(np.array([of_source ^ key64("epoch", str(epoch))], np.uint64))[0])


def sample_name(task: str, languages: str, of_source: int, epoch: int = 0) -> str:
    """Unique name of a sample in its mix, from its source's hash; a repeat has another one."""
    name = f"{task}-{languages}-{of_source:016x}"
    return f"{name}-e{epoch}" if epoch else name


def sample_key(task: str, languages: str, source_ids: Sequence[str], epoch: int = 0) -> str:
    """Unique name of a sample in its mix, from the ids of its source."""
    return sample_name(task, languages, source_hash(task, languages, source_ids), epoch)


def compile_sample(
    task: str,
    languages: str,
    turns: Sequence[SourceTurn],
    source_ids: Sequence[str],
    *,
    epoch: int,
    options: CompileOptions,
) -> Sample:
    """The sample of a source, with the wording of this epoch. Raises CompileError."""
    key = sample_key(task, languages, source_ids, epoch)
    return Sample(
        key=key,
        task=task,
        languages=languages,
        segments=COMPILERS[task](
            turns, epoch_hash(source_hash(task, languages, source_ids), epoch), options
        ),
    )


def count_tokens(
    samples: Sequence[Sample],
    encode_batch: Callable[[Sequence[str]], Sequence[Sequence[Any]]],
    framing: TurnFraming = OWN,
) -> list[int]:
    """Tokens of each sample as training will see them: text of a tokenizer, units, controls."""
    totals = []
    texts: list[str] = []
    owners: list[int] = []
    for index, sample in enumerate(samples):
        total = 0
        for piece in frame(sample.segments, framing):
            if piece.kind in ("control", "special"):
                total += 1
            elif piece.kind == "units":
                total += len(piece.units)
            else:
                texts.append(piece.text)
                owners.append(index)
        totals.append(total)
    for index, ids in zip(owners, encode_batch(texts), strict=True):
        totals[index] += len(ids)
    return totals
