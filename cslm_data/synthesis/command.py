"""Any program as a backend: a template such as `piper --model {voice} --output_file {out}`.

The template is cut into arguments once, before anything is filled in, and run without a shell: what
a text or a voice holds can never become an option or a command of its own. The text comes on stdin,
and in a file where the template has {text_file}; the sound is read from {out}.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.synthesis.backend import BackendOptions, Speech, UnspeakableError, to_speech
from cslm_data.synthesis.entry_point import DEFAULT_VOICE
from cslm_data.synthesis.programs import run_program

_PLACEHOLDERS = ("text_file", "out", "language", "voice", "seed")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class CommandBackend:
    """A program of the user's."""

    template: str
    arguments: tuple[str, ...]
    time_limit_s: float

    @property
    def name(self) -> str:
        """See Backend: of the program."""
        stem = Path(self.arguments[0]).stem.lower()
        return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "command"

    @property
    def identity(self) -> dict[str, object]:
        """See Backend."""
        return {"backend": "command", "template": self.template}

    @property
    def made_by(self) -> str:
        """See Backend."""
        return self.template

    def voices(self, language: str) -> tuple[str, ...]:
        """See Backend. Raises UsageError where the template asks for a voice: none is known."""
        if self._has("voice"):
            raise UsageError(
                f"--command {self.template!r}: has {{voice}}; say which there are with --voices, "
                "e.g. --voices en=amy,en=joe,zh=huayan"
            )
        return (DEFAULT_VOICE,)

    def find_voice(self, name: str, language: str) -> str:
        """See Backend. Raises UsageError where the template has no place for a voice."""
        if not self._has("voice"):
            raise UsageError(
                f"--voices {name}: the command has no {{voice}} and would sound the same; put "
                "{voice} where it takes one"
            )
        return name

    def speak(self, text: str, *, language: str, voice: str, seed: int) -> Speech:
        """See Backend. Raises UnspeakableError: `tts_failed`, `tts_timeout`, `bad_audio`."""
        with tempfile.TemporaryDirectory(prefix="cslm-tts-") as name:
            folder = Path(name)
            out, text_file = folder / "out.wav", folder / "text.txt"
            text_file.write_text(text + "\n", encoding="utf-8", errors="replace")
            values = {
                "text_file": str(text_file),
                "out": str(out),
                "language": language,
                "voice": voice,
                "seed": str(seed),
            }
            filled = [
                _PLACEHOLDER.sub(lambda found: values[found[1]], each) for each in self.arguments
            ]
            run_program(filled, text=text + "\n", time_limit_s=self.time_limit_s)
            return read_sound(out, self.arguments[0])

    def _has(self, placeholder: str) -> bool:
        return any("{" + placeholder + "}" in each for each in self.arguments)


def load_command(options: BackendOptions) -> CommandBackend:
    """The backend of a template.

    Raises UsageError for a template that cannot be run, MissingArtefactError without its program.
    """
    template = options.command
    if not template:
        raise UsageError(
            "--backend command: say which with --command, e.g. "
            "--command 'piper --model {voice} --output_file {out}'"
        )
    said = f"--command {template!r}"
    try:
        arguments = shlex.split(template)
    except ValueError as error:
        raise UsageError(f"{said}: {error}; its quotes must close") from None
    used = [name for each in arguments for name in _PLACEHOLDER.findall(each)]
    unknown = sorted({name for name in used if name not in _PLACEHOLDERS})
    known = ", ".join("{" + name + "}" for name in _PLACEHOLDERS)
    if unknown:
        raise UsageError(f"{said}: unknown {{{unknown[0]}}}; there are {known}")
    if "out" not in used:
        raise UsageError(f"{said}: has no {{out}}, the file that the sound is written to")
    if _PLACEHOLDER.search(arguments[0]):
        raise UsageError(f"{said}: begins with a placeholder; the program must be named")
    if shutil.which(arguments[0]) is None:
        raise MissingArtefactError(
            f"{said}: there is no program {arguments[0]!r}; install it, or give its path"
        )
    return CommandBackend(
        template=template, arguments=tuple(arguments), time_limit_s=options.time_limit_s
    )


def read_sound(path: Path, program: str) -> Speech:
    """What a program wrote, mean over its channels. Raises UnspeakableError: `bad_audio`."""
    import soundfile

    if not path.is_file():
        raise UnspeakableError("bad_audio", f"{program}: ended well, but wrote no sound")
    try:
        samples, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        detail = f"{program}: wrote what cannot be read as sound ({error})"
        raise UnspeakableError("bad_audio", detail[:_SHOWN]) from None
    mono_T = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    return to_speech(mono_T, int(sample_rate_hz))
