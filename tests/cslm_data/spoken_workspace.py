"""Catalogs of texts for the tests of synthesis, a program that speaks, what jobs left."""

from __future__ import annotations

import math
import shutil
import sys

import numpy as np
import pytest
from small_files import write_rows

from cslm_data.catalog import open_catalog
from cslm_data.ingest import ingest

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)

PROGRAM = """
import array, sys, time, wave
out, voice, log, seed = sys.argv[1:5]
text = sys.stdin.buffer.read().decode()
with open(log, "a") as stream:
    stream.write(text)
if "crash" in text:
    sys.exit("this text makes me ill")
if "sleep" in text:
    time.sleep(60)
if "mute" not in text:
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1); sound.setsampwidth(2); sound.setframerate(8000)
        tone = [(i * (7 + len(voice) + int(seed) % 5)) % 2000 for i in range(400 * len(text))]
        sound.writeframes(array.array("h", tone).tobytes())
"""
"""Speaks a text as a sawtooth, 1/20 s a character."""


def instruction(key, question, answer, language="en", **fields):
    return {"id": key, "language": language, "prompt": question, "response": answer, **fields}


def ingest_rows(workspace, folder, name, rows):
    ingest(workspace, [write_rows(folder / f"{name}.jsonl", rows)])


def command_of(folder):
    """A template that runs the program above, and the file where it logs what it was given."""
    program, log = folder / "tts.py", folder / "said.txt"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(PROGRAM, encoding="utf-8")
    log.touch()
    return f"{sys.executable} -S -E {program} {{out}} {{voice}} {log} {{seed}}", log


def ask(workspace, query):
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute(query).fetchall()


def files(workspace):
    """Every file that jobs left, with its bytes."""
    found = sorted(path for path in workspace.synthesized.glob("*/*") if path.is_file())
    return {str(path.relative_to(workspace.synthesized)): path.read_bytes() for path in found}


def adds_up(summary):
    return summary.num_in == summary.num_out + summary.num_rejected + summary.num_already


def sine(text, *, language, voice, seed):
    """A backend as a Python callable: as many tenths of a second as the text has characters."""
    if "raise" in text:
        raise RuntimeError("no such luck")
    if "nan" in text:
        return np.full(100, np.nan, np.float32), 16000
    if "stereo" in text:
        return np.ones((100, 2), np.float32), 16000
    if "nothing" in text:
        return None
    step = 2 * math.pi * (100 + 100 * len(voice)) / 16000
    return 0.5 * np.sin(step * np.arange(1600 * len(text), dtype=np.float32)), 16000
