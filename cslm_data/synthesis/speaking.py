"""A part of texts → its speech on disk: what a worker does. No catalog here.

Each text has a seed of its own, by the job's seed and the id of its row: what is spoken depends on
the row alone, never on the worker or on what was spoken before.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cslm_data.keys import key64
from cslm_data.storage import LocalFolder
from cslm_data.synthesis import load_backend
from cslm_data.synthesis.backend import Backend, BackendOptions, Speech, UnspeakableError
from cslm_data.synthesis.parts import Item, PlannedTurn, SpeechPart, write_speech_part
from cslm_data.synthesis.speakable import speakable

_SHORTEST_S = 0.1
"""Shorter speech is none that ingest takes."""


@dataclass(frozen=True, kw_only=True)
class SpeakingOptions:
    """What a worker needs to know beside its parts."""

    backend: str
    options: BackendOptions
    seed: int
    max_seconds: float


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What became of a part."""

    num_items: int
    num_rejected: int
    seconds: float


def make_speaker(folder: LocalFolder, options: SpeakingOptions) -> Callable[[SpeechPart], Spoken]:
    """A worker: writes one part and says what is in it."""
    backend = load_backend(options.backend, options.options)

    def work(part: SpeechPart) -> Spoken:
        rows: list[tuple[Any, ...]] = []
        sounds: list[bytes] = []
        start = num_rejected = 0
        seconds = 0.0
        for item in part.items:
            try:
                speeches = _speak(backend, item, options)
            except UnspeakableError as error:
                num_rejected += 1
                refusal = (error.reason, error.detail)
                turns = [_turn(turn, None, start, b"") for turn in item.turns]
                rows.append((*item[:-1], turns, backend.made_by, *refusal))
                continue
            turns = []
            for turn, speech in zip(item.turns, speeches, strict=True):
                data = b"" if speech is None else encode_flac(speech)
                turns.append(_turn(turn, speech, start, data))
                sounds.append(data)
                start += len(data)
                seconds += speech.duration_s if speech else 0.0
            rows.append((*item[:-1], turns, backend.made_by, None, None))
        write_speech_part(folder, part.name, rows, sounds)
        return Spoken(num_items=len(rows), num_rejected=num_rejected, seconds=seconds)

    return work


def encode_flac(speech: Speech) -> bytes:
    """FLAC of 16 bits: the same samples give the same bytes."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(
        buffer, speech.samples_T, speech.sample_rate_hz, format="FLAC", subtype="PCM_16"
    )
    return buffer.getvalue()


def _speak(backend: Backend, item: Item, options: SpeakingOptions) -> list[Speech | None]:
    """The speech of each turn, None where it stays text. Raises UnspeakableError that names it.

    All texts are looked at before the first is spoken: many rows are refused for their answer.
    """
    lines = []
    for at, turn in enumerate(item.turns):
        with _named(at, turn):
            is_spoken = turn["voice"] is not None
            lines.append(
                speakable(turn["text"], max_seconds=options.max_seconds) if is_spoken else ""
            )
    return [
        None if turn["voice"] is None else _speak_line(backend, line, item, at, options)
        for at, (turn, line) in enumerate(zip(item.turns, lines, strict=True))
    ]


def _speak_line(
    backend: Backend, line: str, item: Item, at: int, options: SpeakingOptions
) -> Speech:
    turn = item.turns[at]
    with _named(at, turn):
        speech = backend.speak(
            line,
            language=turn["language"],
            voice=str(turn["voice"]),
            seed=key64(str(options.seed), item.id, str(at)) >> 33,
        )
        if not speech.samples_T.any():
            raise UnspeakableError("bad_audio", "nothing but silence")
        if speech.duration_s < _SHORTEST_S:
            detail = f"{speech.duration_s:.3f} s < {_SHORTEST_S} s of speech"
            raise UnspeakableError("bad_audio", detail)
        if speech.duration_s > options.max_seconds:
            detail = f"{speech.duration_s:.1f} s > --max-seconds {options.max_seconds:g}"
            raise UnspeakableError("too_long", detail)
    return speech


@contextlib.contextmanager
def _named(at: int, turn: PlannedTurn) -> Iterator[None]:
    """Say which turn was refused."""
    try:
        yield
    except UnspeakableError as error:
        where = f"turn {at} ({turn['role']}, {turn['language']}, {turn['voice']})"
        raise UnspeakableError(error.reason, f"{where}: {error.detail}") from error


def _turn(turn: PlannedTurn, speech: Speech | None, start: int, data: bytes) -> dict[str, Any]:
    """A turn with the place of its speech in the pack; null where there is none."""
    if speech is None:
        return {**turn, "start": None, "length": None, "duration_s": None, "sample_rate_hz": None}
    return {
        **turn,
        "start": start,
        "length": len(data),
        "duration_s": speech.duration_s,
        "sample_rate_hz": speech.sample_rate_hz,
    }
