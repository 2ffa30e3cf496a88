"""wordings → the segments of a user's turn. Reads manifests/prompts.

Serves training and generation. A wording is parsed once into literal text and slots. What a user
says is never formatted: it goes into a segment of its own, so a transcript that spells `{speech}`
or `<sosp>` stays what it is, and the number of its tokens does not depend on the wording around it.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from importlib import resources

import yaml

from cslm_data.errors import UsageError
from cslm_data.keys import content_id, finalise_key, key64
from cslm_data.languages import language_name
from cslm_data.records import Segment, Units

log = logging.getLogger(__name__)

PROMPT_KINDS: dict[str, tuple[str, ...]] = {
    "asr": ("speech",),
    "tts": ("text",),
    "mt": ("text", "language"),
    "st": ("speech", "language"),
    "s2st": ("speech", "language"),
    "continuation": ("speech",),
    "chat": ("question",),
    "chat_cross": ("question", "language"),
}
"""Files of manifests/prompts, and the placeholders that each wording in them holds exactly once."""

FALLBACK_LANGUAGE = "en"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Slot:
    """A placeholder of a wording."""

    name: str


Wording = tuple[str | Slot, ...]


def parse_wording(wording: str, *, slots: tuple[str, ...], where: str) -> Wording:
    """Cut a wording into literals and slots. Raises UsageError unless each slot is there once."""
    parts: list[str | Slot] = []
    for index, part in enumerate(_PLACEHOLDER.split(wording)):
        if index % 2:
            parts.append(Slot(part))
        elif part:
            parts.append(part)
    found = sorted(part.name for part in parts if isinstance(part, Slot))
    if found != sorted(slots):
        raise UsageError(
            f"{where}: wording {wording!r} must hold each of "
            f"{', '.join('{' + name + '}' for name in slots)} once and nothing else in braces"
        )
    return tuple(parts)


def wordings(kind: str, language: str) -> tuple[Wording, ...]:
    """The wordings of a kind of prompt in a language; English where it has none."""
    table = _load(kind)
    if language in table:
        return table[language]
    _say_fallback(kind, language)
    return table[FALLBACK_LANGUAGE]


def choose_wording(kind: str, language: str, *, seed: int, sample_hash: int) -> int:
    """Which of the wordings a sample of this hash gets."""
    return finalise_key(sample_hash ^ _wording_key(kind, seed)) % len(wordings(kind, language))


def num_systems(language: str) -> int:
    return 0


def system_segments(language: str, *, choice: int) -> tuple[Segment, ...]:
    return ()


def choose_system(language: str, *, seed: int, sample_hash: int, share: float) -> int | None:
    return None


def fill_wording(
    kind: str,
    choice: int,
    *,
    language: str,
    answer_language: str | None = None,
    text: str | None = None,
    units: Units | None = None,
) -> tuple[Segment, ...]:
    """The user's turn: literals and what the user says, as segments. Units win over the text."""
    wording = wordings(kind, language)[choice]
    named = (
        language_name(answer_language, spoken=_spoken(kind, language)) if answer_language else ""
    )
    literal = ""
    segments: list[Segment] = []
    for part in (*wording, None):
        if isinstance(part, str):
            literal += part
            continue
        if part is not None and part.name == "language":
            literal += named
            continue
        if literal:
            segments.append(_text(literal, _spoken(kind, language)))
            literal = ""
        if part is None:
            continue
        if units is not None:
            segments.append(_speech(units, language))
        else:
            segments.append(_text(text or "", language))
    return tuple(segments)


def literals(
    kind: str, choice: int, *, language: str, answer_language: str | None = None
) -> list[str]:
    """The texts that a wording adds to what the user says."""
    segments = fill_wording(kind, choice, language=language, answer_language=answer_language)
    return [segment.text for segment in segments if segment.text]


def prompts_id() -> str:
    """Identity of all wordings: a mix made with other wordings is another mix."""
    names = [*PROMPT_KINDS, "languages"]
    return content_id({name: _read(name) for name in names})


def all_literals(languages: list[str]) -> list[str]:
    """Every literal of every wording in some languages, once, in a fixed order."""
    texts: dict[str, None] = {}
    for kind in PROMPT_KINDS:
        for language in languages:
            for answer_language in languages:
                for choice in range(len(wordings(kind, language))):
                    found = literals(
                        kind, choice, language=language, answer_language=answer_language
                    )
                    texts.update(dict.fromkeys(found))
    return list(texts)


@functools.lru_cache(maxsize=256)
def _wording_key(kind: str, seed: int) -> int:
    return key64("wording", kind, str(seed))


def _spoken(kind: str, language: str) -> str:
    """The language that the wording itself is in."""
    return language if language in _load(kind) else FALLBACK_LANGUAGE


def _text(text: str, language: str) -> Segment:
    return Segment(modality="text", language=language, role="user", trained=False, text=text)


def _speech(units: Units, language: str) -> Segment:
    return Segment(modality="speech", language=language, role="user", trained=False, units=units)


@functools.cache
def _say_fallback(kind: str, language: str) -> None:
    log.warning("prompts/%s.yaml has no wordings in %s: the English ones are used", kind, language)


def _read(name: str) -> str:
    file = resources.files("cslm_manifests").joinpath(f"prompts/{name}.yaml")
    return file.read_text(encoding="utf-8")


@functools.cache
def _load(kind: str) -> dict[str, tuple[Wording, ...]]:
    if kind not in PROMPT_KINDS:
        raise ValueError(f"no kind of prompt {kind!r}; there are {', '.join(PROMPT_KINDS)}")
    where = f"manifests/prompts/{kind}.yaml"
    table = yaml.safe_load(_read(kind))
    return {
        language: tuple(
            parse_wording(row, slots=PROMPT_KINDS[kind], where=f"{where}: {language}")
            for row in rows
        )
        for language, rows in table.items()
    }
