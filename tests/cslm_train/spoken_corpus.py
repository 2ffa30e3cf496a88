"""Utterances of chirps with noise, ingested and quantised by the real commands' code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from cslm_data.ingest import ingest
from cslm_data.keys import keyed_rng
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace


def write_speech(path: Path, seed: int, seconds: float = 3.0) -> Path:
    """A chirp with noise."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    rng = keyed_rng(seed, "speech")
    wave = 0.3 * np.sin(2 * np.pi * (200 + 400 * seed * time) * time)
    soundfile.write(path, wave + rng.normal(0, 0.01, len(time)), 16_000)
    return path


def make_corpus(folder: Path) -> Path:
    """A workspace of four utterances with units, and one that came after quantize."""
    rows = [
        {
            "id": f"u{number}",
            "audio": str(write_speech(folder / f"u{number}.wav", number)),
            "text": "one two",
            "language": "en",
        }
        for number in range(5)
    ]
    workspace = Workspace(folder / "workspace")
    for count in (4, 5):
        manifest = folder / "utterances.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
        ingest(workspace, [manifest])
        if count == 4:
            quantize(workspace, num_units=20, num_workers=1)
    return workspace.root
