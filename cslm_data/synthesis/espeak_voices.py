"""Languages → voices of espeak-ng, and the variants, speeds and pitches that tell voices apart.

A voice of ours is `VOICE[+VARIANT][:SPEED[:PITCH]]`, e.g. `en-us+f3:160:50`: words per minute and
0…99 as espeak-ng takes them. Source: espeak-ng 1.51, `--voices` and `--voices=variant`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from cslm_data.errors import UsageError

PINYIN = "cmn-latn-pinyin"
"""Mandarin out of pinyin with tones: `cmn` misreads Hanzi in Debian's build."""

PREFERRED = {
    "cmn": PINYIN,
    "en": "en-us",
    "fr": "fr-fr",
    "no": "nb",
    "pt": "pt-br",
    "zh": PINYIN,
}
"""Languages whose voice is not simply called after them."""

MISREAD = {
    "hak": "it has no dictionary of Hanzi",
    "my": "it cannot part words that are written without spaces",
    "shn": "it cannot part words that are written without spaces",
    "th": "it cannot part words that are written without spaces",
    "yue": "it has no dictionary of Hanzi",
}
"""Languages that espeak-ng lists and does not speak: what comes out is no language."""

_PEOPLE = (
    *(("m1", 160, 50), ("f1", 165, 50), ("m2", 150, 42), ("f2", 155, 56), ("m3", 170, 46)),
    *(("f3", 160, 44), ("m4", 155, 56), ("f4", 170, 52), ("m5", 165, 38), ("f5", 150, 48)),
    *(("m6", 175, 52), ("m7", 160, 60)),
)
"""Variant, speed and pitch of the voices of each language, men and women in turn."""

_VOICE = re.compile(r"([\w-]+)(?:\+(\w+))?(?::(\d{1,3}))?(?::(\d{1,2}))?")
_SPEEDS = (80, 450)
_ROW = re.compile(r"\s*\d+\s+(\S+)\s+\S+\s+\S+\s+(\S+)")


@dataclass(frozen=True, kw_only=True)
class EspeakVoice:
    """How espeak-ng is to speak."""

    voice: str
    variant: str = ""
    speed: int = 160
    pitch: int = 50

    def __str__(self) -> str:
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.voice}{variant}:{self.speed}:{self.pitch}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A voice as it is written. Raises UsageError."""
        found = _VOICE.fullmatch(text)
        if found is None or not _SPEEDS[0] <= int(found[3] or 160) <= _SPEEDS[1]:
            raise UsageError(
                f"--voices {text}: a voice of espeak is VOICE[+VARIANT][:SPEED[:PITCH]], e.g. "
                f"en-us+f3:160:50, with {_SPEEDS[0]} to {_SPEEDS[1]} words per minute"
            )
        return cls(
            voice=found[1],
            variant=found[2] or "",
            speed=int(found[3] or 160),
            pitch=int(found[4] or 50),
        )


def voice_of(language: str, installed: frozenset[str]) -> str:
    """The voice of a language among those that are installed. Raises UsageError."""
    if language in MISREAD:
        raise UsageError(
            f"--langs {language}: espeak-ng lists this language, but {MISREAD[language]}, so that "
            "nothing worth learning would come out; take another backend (--command, --backend)"
        )
    voice = PREFERRED.get(language, language)
    if voice not in installed:
        spoken = sorted(
            code for code in {*PREFERRED, *installed} if len(code) == 2 and code not in MISREAD
        )
        raise UsageError(
            f"--langs {language}: espeak-ng has no voice {voice!r}; of languages with two letters "
            f"it speaks {' '.join(spoken)}"
        )
    return voice


def people_of(voice: str) -> tuple[str, ...]:
    """Our voices of a voice of espeak-ng."""
    return tuple(
        str(EspeakVoice(voice=voice, variant=variant, speed=speed, pitch=pitch))
        for variant, speed, pitch in _PEOPLE
    )


def person_of(voice: str, variant: str) -> EspeakVoice:
    """The voice of a variant, with our speed and pitch of it where we have one."""
    for name, speed, pitch in _PEOPLE:
        if name == variant:
            return EspeakVoice(voice=voice, variant=name, speed=speed, pitch=pitch)
    return EspeakVoice(voice=voice, variant=variant)


def listed_voices(output: str) -> frozenset[str]:
    """Languages that `espeak-ng --voices` prints."""
    return frozenset(row[1] for line in output.splitlines() if (row := _ROW.match(line)))


def listed_variants(output: str) -> frozenset[str]:
    """Variants that `espeak-ng --voices=variant` prints: names of files below `!v/`."""
    found = re.findall(r"!v/(\S+)", output)
    return frozenset(found)
