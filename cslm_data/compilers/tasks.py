"""Compilers of the tasks whose answer is text alone or speech alone."""

from __future__ import annotations

from collections.abc import Sequence

from cslm_data.compilers.prompt import compile_prompt, prompt_of
from cslm_data.compilers.turns import (
    CompileError,
    CompileOptions,
    SourceTurn,
    speech_segment,
    text_of,
    text_segment,
    units_of,
)
from cslm_data.keys import finalise_key, key64
from cslm_data.records import Segment

MIN_CONTINUATION_RUNS = 16
"""Runs of an utterance that is cut into a beginning and its continuation: about half a second, so
that each side has four runs or more."""

_CONTINUATION = key64("continuation")


def compile_asr(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Speech in, its transcript out."""
    (turn,) = turns
    prompt = prompt_of("asr", turn, sample_hash, options)
    return (*prompt, text_segment(text_of(turn), language=turn.language))


def compile_tts(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Text in, the speech of it out."""
    (turn,) = turns
    prompt = prompt_of("tts", turn, sample_hash, options)
    return (*prompt, speech_segment(units_of(turn), language=turn.language))


def compile_mt(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """A sentence in, its translation out."""
    source, target = turns
    prompt = prompt_of("mt", source, sample_hash, options, answer_language=target.language)
    return (*prompt, text_segment(text_of(target), language=target.language))


def compile_st(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Speech in, its translation as text out."""
    source, target = turns
    prompt = prompt_of("st", source, sample_hash, options, answer_language=target.language)
    return (*prompt, text_segment(text_of(target), language=target.language))


def compile_continuation(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """The beginning of an utterance in, the rest of it out; no text."""
    (turn,) = turns
    units = units_of(turn)
    if len(units) < MIN_CONTINUATION_RUNS:
        raise CompileError(
            "too_short", f"{len(units)} units are fewer than {MIN_CONTINUATION_RUNS} to cut in two"
        )
    cut = continuation_cut(len(units), sample_hash)
    prompt = prompt_of("continuation", turn, sample_hash, options, units=units[:cut])
    return (*prompt, speech_segment(units[cut:], language=turn.language))


def continuation_cut(num_runs: int, sample_hash: int) -> int:
    """Runs of the beginning: from a quarter to three quarters of all, by the hash of the sample."""
    lowest, highest = -(-num_runs // 4), 3 * num_runs // 4
    return lowest + finalise_key(sample_hash ^ _CONTINUATION) % (highest - lowest + 1)


def compile_instruct(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """A dialogue of text, every answer trained."""
    if not turns or turns[-1].role != "assistant" or all(t.role != "user" for t in turns):
        raise CompileError("no_answer", "the dialogue does not end with an answer to a user")
    segments: tuple[Segment, ...] = ()
    for turn in turns:
        text, language = text_of(turn), turn.language
        if turn.role == "user":
            segments = compile_prompt("instruct", language=language, text=text, history=segments)
        else:
            segments = (*segments, text_segment(text, language=language, role=turn.role))
    return segments
