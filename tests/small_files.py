"""Small real files that many tests need: recordings and manifests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile


def write_tone(
    path: Path,
    *,
    seconds: float = 0.5,
    rate: int = 16000,
    channels: int = 1,
    hz: float = 440.0,
    seed: int = 0,
) -> Path:
    """A tone with a little noise, so that no two frames are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, (len(time), channels))
    tone = 0.3 * np.sin(2 * np.pi * hz * time)[:, None] + noise
    soundfile.write(path, tone.astype(np.float32), rate)
    return path


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
