"""wordings → the segments of a user's turn and of a system prompt.

Serves training and generation. What a user says is never formatted into a wording: it goes into a
segment of its own, so a transcript that spells `{speech}` or `<sosp>` stays what it is, and the
number of its tokens does not depend on the wording around it.

Every function takes the `prompts` of a team; without them, the shipped ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from cslm_data.keys import finalise_key, key64
from cslm_data.records import Role, Segment, Units
from cslm_data.wordings import (
    FALLBACK_LANGUAGE,
    PROMPT_KINDS,
    Prompts,
    Slot,
    Wording,
    load_prompts,
    parse_wording,
    shipped_prompts,
)

__all__ = [
    "FALLBACK_LANGUAGE",
    "PROMPT_KINDS",
    "Prompts",
    "Slot",
    "Wording",
    "all_literals",
    "choose_system",
    "choose_wording",
    "fill_wording",
    "literals",
    "load_prompts",
    "num_system_prompts",
    "parse_wording",
    "prompts_id",
    "shipped_prompts",
    "system_segments",
    "wordings",
]


def wordings(kind: str, language: str, *, prompts: Prompts | None = None) -> tuple[Wording, ...]:
    """The wordings of a kind of prompt in a language; English where it has none."""
    return _of(prompts).wordings(kind, language)


def choose_wording(
    kind: str, language: str, *, seed: int, sample_hash: int, prompts: Prompts | None = None
) -> int:
    """Which of the wordings a sample of this hash gets: finalise64(hash xor a mask) mod n."""
    count = len(wordings(kind, language, prompts=prompts))
    return finalise_key(sample_hash ^ _wording_key(kind, seed)) % count


def fill_wording(
    kind: str,
    choice: int,
    *,
    language: str,
    answer_language: str | None = None,
    text: str | None = None,
    units: Units | None = None,
    prompts: Prompts | None = None,
) -> tuple[Segment, ...]:
    """The user's turn: literals and what the user says, as segments. Units win over the text."""
    prompts = _of(prompts)
    wording = prompts.wordings(kind, language)[choice]
    spoken = prompts.spoken(kind, language)
    role: Role = "system" if kind == "system" else "user"
    literal = ""
    segments: list[Segment] = []
    for part in (*wording, None):
        if isinstance(part, str):
            literal += part
            continue
        if part is not None and part.name == "language":
            if answer_language is not None:
                literal += prompts.language_name(answer_language, kind=kind, language=language)
            continue
        if literal:
            segments.append(_text(literal, spoken, role))
            literal = ""
        if part is None:
            continue
        if units is not None:
            segments.append(_speech(units, language))
        else:
            segments.append(_text(text or "", language, role))
    return tuple(segments)


def literals(
    kind: str,
    choice: int,
    *,
    language: str,
    answer_language: str | None = None,
    prompts: Prompts | None = None,
) -> list[str]:
    """The texts that a wording adds to what the user says."""
    segments = fill_wording(
        kind, choice, language=language, answer_language=answer_language, prompts=prompts
    )
    return [segment.text for segment in segments if segment.text]


# --- system prompts --------------------------------------------------------------------------


def num_system_prompts(language: str, *, prompts: Prompts | None = None) -> int:
    """How many system prompts a language has; those in English where it has none of its own."""
    return len(wordings("system", language, prompts=prompts))


def system_segments(
    language: str, *, choice: int, prompts: Prompts | None = None
) -> tuple[Segment, ...]:
    """The turn of the system that stands before the user's."""
    return fill_wording("system", choice, language=language, prompts=prompts)


def choose_system(
    language: str,
    *,
    seed: int,
    sample_hash: int,
    share: float,
    prompts: Prompts | None = None,
) -> int | None:
    """Which system prompt a sample of this hash gets; None for all but a `share` of samples.

    With h = finalise64(sample_hash xor key64("system", seed)), the sample gets one where
    (h >> 11) / 2^53 < share, and it is number (h & 2047) mod n: what SQL computes as well. A
    sample that has one keeps it when the share grows.
    """
    h = finalise_key(sample_hash ^ key64("system", str(seed)))
    if (h >> 11) / 2**53 >= share:
        return None
    return (h & 2047) % num_system_prompts(language, prompts=prompts)


# --- all of them -----------------------------------------------------------------------------


def prompts_id(prompts: Prompts | None = None) -> str:
    """Identity of all wordings: a mix made with other wordings is another mix."""
    return _of(prompts).identity


def all_literals(languages: list[str], *, prompts: Prompts | None = None) -> list[str]:
    """Every literal of every wording in some languages, once, in a fixed order.

    Of a kind without wordings in a language, those in English.
    """
    prompts = _of(prompts)
    texts: dict[str, None] = {}
    for kind, slots in PROMPT_KINDS.items():
        named: Sequence[str | None] = languages if "language" in slots else [None]
        for spoken in dict.fromkeys(prompts.spoken(kind, language) for language in languages):
            for choice in range(len(prompts.tables[kind].get(spoken, ()))):
                for answer_language in named:
                    found = literals(
                        kind,
                        choice,
                        language=spoken,
                        answer_language=answer_language,
                        prompts=prompts,
                    )
                    texts.update(dict.fromkeys(found))
    return list(texts)


@functools.lru_cache(maxsize=256)
def _wording_key(kind: str, seed: int) -> int:
    return key64("wording", kind, str(seed))


def _of(prompts: Prompts | None) -> Prompts:
    return shipped_prompts() if prompts is None else prompts


def _text(text: str, language: str, role: Role) -> Segment:
    return Segment(modality="text", language=language, role=role, trained=False, text=text)


def _speech(units: Units, language: str) -> Segment:
    return Segment(modality="speech", language=language, role="user", trained=False, units=units)
