"""Compilers of the chain of modality: spoken or typed questions, answers in text and speech.

An answer is the text question (TQ), then text (TA) and speech (SA) of the answer chunk by chunk, as
`interleave` cuts them, all of it trained (arXiv:2604.11096). A dialogue has any number of
exchanges, and every answer in it is such a chain.
"""

from __future__ import annotations

from collections.abc import Sequence

from cslm_data.compilers.prompt import prompt_of
from cslm_data.compilers.turns import (
    CompileError,
    CompileOptions,
    SourceTurn,
    speech_segment,
    text_of,
    text_segment,
    units_of,
)
from cslm_data.interleave import TIMED_MODES, AlignmentMismatch, Chunk, interleave
from cslm_data.records import Segment


def compile_s2s(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Spoken questions in, the chain of modality out."""
    return _compile_dialogue("s2s", turns, sample_hash, options)


def compile_t2s(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Typed questions in, the chain of modality out."""
    return _compile_dialogue("t2s", turns, sample_hash, options)


def compile_s2t(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Spoken questions in, the chain of modality up to its text out."""
    return _compile_dialogue("s2t", turns, sample_hash, options)


def compile_s2st(
    turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    """Speech in, text and speech of its translation out; TQ where its transcript is known."""
    source, target = turns
    prompt = prompt_of("s2st", source, sample_hash, options, answer_language=target.language)
    known = source.text is not None and bool(source.text.strip())
    asked = _question(source) if options.text_question and known else ()
    return (*prompt, *asked, *_spoken_answer(target, options))


def _compile_dialogue(
    task: str, turns: Sequence[SourceTurn], sample_hash: int, options: CompileOptions
) -> tuple[Segment, ...]:
    segments: tuple[Segment, ...] = ()
    if turns and turns[0].role == "system":
        system, turns = turns[0], turns[1:]
        segments = (text_segment(text_of(system), language=system.language, role="system"),)
    _check_exchanges(turns)
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        segments = prompt_of(
            task,
            question,
            sample_hash,
            options,
            answer_language=answer.language,
            history=segments,
        )
        asked = _question(question) if options.text_question else ()
        if task == "s2t":
            said = [text_segment(text_of(answer), language=answer.language, part="ta")]
        else:
            said = _spoken_answer(answer, options)
        segments = (*segments, *asked, *said)
    return segments


def _check_exchanges(turns: Sequence[SourceTurn]) -> None:
    """Raise CompileError unless a user and the assistant speak in turn, the assistant last."""
    roles = [turn.role for turn in turns]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise CompileError(
            "bad_turns",
            f"user and assistant do not speak in turn, the assistant last: {' '.join(roles)}",
        )
    if len(turns) > 2 and len({turn.language for turn in turns}) > 1:
        raise CompileError(
            "mixed_languages",
            "an answer in another language is asked for in the first turn, of one exchange only; "
            f"this dialogue has {len(turns) // 2}",
        )


def _question(question: SourceTurn) -> tuple[Segment, ...]:
    return (text_segment(text_of(question), language=question.language, part="tq"),)


def _spoken_answer(answer: SourceTurn, options: CompileOptions) -> list[Segment]:
    chain: list[Segment] = []
    for chunk in _chunks(answer, options):
        chain.append(text_segment(chunk.text, language=answer.language, part="ta"))
        chain.append(speech_segment(chunk.units, language=answer.language, part="sa"))
    return chain


def _chunks(answer: SourceTurn, options: CompileOptions) -> list[Chunk]:
    units, text, words = units_of(answer), text_of(answer), answer.words or ()
    if options.interleave in TIMED_MODES:
        if not words:
            raise CompileError(
                "no_alignment",
                "the spoken answer has no word times; run cslm-data align, or ingest alignments",
            )
        if answer.durations is None or len(answer.durations) != len(units):
            raise CompileError(
                "no_durations",
                "the units of the spoken answer have no durations to tell their times by; run "
                "cslm-data quantize anew",
            )
    try:
        return interleave(
            text,
            words,
            units,
            answer.durations,
            language=answer.language,
            frame_rate_hz=options.frame_rate_hz,
            mode=options.interleave,
            chunk_words=options.chunk_words,
            ratio=options.ratio,
        )
    except AlignmentMismatch as error:
        raise CompileError("alignment_mismatch", str(error)) from None
