"""Python callables as backends: entry points of the group `cslm.tts`, or `package.module:function`.

A callable is `(text: str, *, language: str, voice: str, seed: int) -> (samples, sample_rate_hz)`
with float32 samples (T,) in -1…1. It is loaded once in each worker; where it needs a model, it
keeps it. What it raises is a reject of that text.
"""

# T samples

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from cslm_data.errors import UsageError
from cslm_data.synthesis.backend import Speech, UnspeakableError, to_speech

ENTRY_POINT_GROUP = "cslm.tts"

DEFAULT_VOICE = "default"

_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class CallableBackend:
    """A backend around a callable."""

    spec: str
    speak_text: Callable[..., Any]
    version: str

    @property
    def name(self) -> str:
        """See Backend."""
        return re.sub(r"[^a-z0-9]+", "-", self.spec.lower()).strip("-")

    @property
    def identity(self) -> dict[str, object]:
        """See Backend. What the callable does inside is its author's to name."""
        return {"backend": "python", "spec": self.spec}

    @property
    def made_by(self) -> str:
        """See Backend."""
        return self.version

    def voices(self, language: str) -> tuple[str, ...]:
        """See Backend. Only --voices knows what the callable takes."""
        return (DEFAULT_VOICE,)

    def find_voice(self, name: str, language: str) -> str:
        """See Backend."""
        return name

    def speak(self, text: str, *, language: str, voice: str, seed: int) -> Speech:
        """See Backend. Raises UnspeakableError: `tts_failed`, `bad_audio`."""
        try:
            said = self.speak_text(text, language=language, voice=voice, seed=seed)
        except Exception as error:  # whatever its libraries raise is about this text
            detail = f"{self.spec}: {type(error).__name__}: {error}"[:_SHOWN]
            raise UnspeakableError("tts_failed", detail) from error
        try:
            samples, sample_rate_hz = said
            samples_T = np.asarray(samples, dtype=np.float32)
            return to_speech(samples_T, int(sample_rate_hz))
        except (TypeError, ValueError) as error:
            detail = f"{self.spec}: (samples (T,), sample_rate_hz) is expected back ({error})"
            raise UnspeakableError("bad_audio", detail[:_SHOWN]) from None


def load_entry_point(spec: str, built_in: Sequence[str]) -> CallableBackend:
    """The callable of a spec. Raises UsageError where there is none."""
    entries = {entry.name: entry for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    entry = entries.get(spec)
    if entry is not None:
        found = _load(spec, entry.load)
        version = f"{entry.dist.name} {entry.dist.version}" if entry.dist else spec
        return CallableBackend(spec=spec, speak_text=found, version=version)
    module, colon, function = spec.partition(":")
    if not (colon and module and function):
        there = ", ".join([*built_in, *sorted(entries)])
        raise UsageError(
            f"--backend {spec}: no such backend; there are {there}, or a Python callable as "
            "package.module:function"
        )
    found = _load(spec, lambda: getattr(importlib.import_module(module), function))
    return CallableBackend(spec=spec, speak_text=found, version=spec)


def _load(spec: str, load: Callable[[], Any]) -> Callable[..., Any]:
    try:
        found = load()
    except Exception as error:  # an import runs code of others
        raise UsageError(
            f"--backend {spec}: cannot be loaded ({type(error).__name__}: {error}); is its package "
            "installed, or its folder on PYTHONPATH?"
        ) from error
    if not callable(found):
        raise UsageError(f"--backend {spec}: is no function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]
