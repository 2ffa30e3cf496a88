"""How `cslm-train generate` prints an answer, line by line as it comes."""

from __future__ import annotations

import json as jsonlib
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cslm_train.generate import Finished
    from cslm_train.generating.chunks import Chunk
    from cslm_train.generating.playback import Playback
    from cslm_train.generating.questions import Question


def chunk_line(chunk: Chunk) -> str:
    """A stretch of an answer."""
    content = printable(chunk.text) if chunk.text else " ".join(map(str, chunk.units))
    return f"{chunk.part} [{chunk.language}] {content}"


def end_line(end: Finished, question: Question) -> str:
    """How an answer ended, and how its speech came."""
    form = {None: "", True: ", well formed", False: ", not well formed"}[end.well_formed]
    stopped = "" if end.stop == "end" else ", cut at the limit of tokens"
    speed = end.num_tokens / end.seconds if end.seconds else 0.0
    return (
        f"{question.task}: {end.num_tokens} tokens in {end.seconds:.2f} s "
        f"({speed:.0f} a second){stopped}{form}{_playback_line(end.playback)}"
    )


def _playback_line(playback: Playback | None) -> str:
    if playback is None:
        return ""
    line = (
        f"\nfirst speech after {playback.first_speech_tokens} tokens, "
        f"{playback.first_speech_s:.2f} s; {playback.units_per_second:.0f} units a second"
    )
    if playback.speech_s is None:
        return line
    line += f"; it plays {playback.speech_s:.2f} s"
    if playback.num_gaps:
        return f"{line}; a listener waits {playback.gaps_s:.2f} s more, {playback.num_gaps} times"
    margin = playback.smallest_margin_s
    return line if margin is None else f"{line} without a gap, by {margin:.2f} s at the tightest"


def print_line(line: str) -> None:
    """Print at once, whoever reads."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """A model's text, or JSON, without the characters that would steer a terminal."""
    return "".join(c if _is_printable(c) else jsonlib.dumps(c)[1:-1] for c in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def safe_json(value: dict[str, Any]) -> str:
    """JSON on one line, every character of it printable."""
    return printable(jsonlib.dumps(value, ensure_ascii=False))
