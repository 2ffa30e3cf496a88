"""What a user says → the user's turn, for training and for generation alike.

What a model is asked and what it was taught cannot drift apart: every compiler takes the turns of
the user from here. The instruction of a task, a wording of `templates`, stands in the first turn of
the user; in later ones the user's words stand alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from cslm_data.compilers.turns import (
    CompileOptions,
    SourceTurn,
    speech_segment,
    text_of,
    text_segment,
    units_of,
)
from cslm_data.errors import UsageError
from cslm_data.records import Segment, Units
from cslm_data.templates import Prompts, choose_wording, fill_wording

SPOKEN_PROMPTS = frozenset({"asr", "st", "s2st", "continuation", "s2s", "s2t"})
TYPED_PROMPTS = frozenset({"tts", "mt", "instruct", "t2s"})
TRANSLATIONS = frozenset({"mt", "st", "s2st"})
CHATS = frozenset({"s2s", "s2t", "t2s"})


def prompt_kind(task: str, language: str, answer_language: str | None) -> str | None:
    """Which wordings a task takes; None: the user's words alone."""
    if task in CHATS:
        kind = "chat_text" if task == "s2t" else "chat"
        return kind if answer_language in (None, language) else f"{kind}_cross"
    return None if task == "instruct" else task


def prompt_of(
    task: str,
    turn: SourceTurn,
    sample_hash: int,
    options: CompileOptions,
    *,
    answer_language: str | None = None,
    units: Units | None = None,
    history: Sequence[Segment] = (),
) -> tuple[Segment, ...]:
    """`compile_prompt` of what a source's turn says, as the task takes it; `units` are part of it.

    Raises CompileError where the turn lacks that.
    """
    spoken = task in SPOKEN_PROMPTS
    if spoken and units is None:
        units = units_of(turn)
    return compile_prompt(
        task,
        language=turn.language,
        answer_language=answer_language,
        text=None if spoken else text_of(turn),
        units=units,
        seed=options.prompts_seed,
        sample_hash=sample_hash,
        history=history,
        prompts=options.prompts,
    )


def compile_prompt(
    task: str,
    *,
    language: str,
    answer_language: str | None = None,
    text: str | None = None,
    units: Units | None = None,
    seed: int = 0,
    sample_hash: int = 0,
    history: Sequence[Segment] = (),
    prompts: Prompts | None = None,
) -> tuple[Segment, ...]:
    """The dialogue up to the answer that is asked for: the history, then the user's turn.

    A model answers `framing.frame_prompt` of it. Tasks of SPOKEN_PROMPTS take `units`, the others
    `text`; translations need an `answer_language`. `history` is what was said before, answers and a
    system turn included; `prompts` are a team's own wordings. Raises UsageError when what the task
    needs is missing.
    """
    spoken = task in SPOKEN_PROMPTS
    if not spoken and task not in TYPED_PROMPTS:
        names = ", ".join(sorted(SPOKEN_PROMPTS | TYPED_PROMPTS))
        raise UsageError(f"no task {task!r}; there are {names}")
    if (units if spoken else text) is None:
        raise UsageError(f"task {task} needs {'speech' if spoken else 'text'} of the user")
    if task in TRANSLATIONS and answer_language is None:
        raise UsageError(f"task {task} needs the language to translate into")
    kind = prompt_kind(task, language, answer_language)
    if kind is None or any(segment.role == "user" for segment in history):
        if spoken and units is not None:
            return (*history, speech_segment(units, language=language, role="user"))
        return (*history, text_segment(text or "", language=language, role="user"))
    turn = fill_wording(
        kind,
        choose_wording(kind, language, seed=seed, sample_hash=sample_hash, prompts=prompts),
        language=language,
        answer_language=answer_language,
        text=None if spoken else text,
        units=units if spoken else None,
        prompts=prompts,
    )
    return (*history, *turn)
