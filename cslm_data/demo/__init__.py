"""The demo corpus that comes with the package → a folder such as a user brings. Before the spine.

English and Chinese: spoken sentences with word times, spoken questions and answers, parallel text,
instructions. CC0-1.0; made by docs/authoring/make_demo_corpus.py.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from cslm_data.errors import AlreadyExistsError


@dataclass(frozen=True, kw_only=True)
class DemoSummary:
    """What was laid out.

    num_utterances: spoken sentences, questions and answers, both languages.
    num_bitext: English-Chinese sentence pairs.
    num_instructions: written prompts with a response, both languages.
    num_dialogues: spoken exchanges of a question and an answer, both languages.
    duration_s: speech, seconds.
    """

    num_utterances: int
    num_bitext: int
    num_instructions: int
    num_dialogues: int
    duration_s: float


def lay_out(folder: Path, *, overwrite: bool = False) -> DemoSummary:
    """Copy the demo corpus into a folder, whole or not at all.

    Raises AlreadyExistsError if the folder holds anything and `overwrite` is not given; with
    `overwrite` everything that was in it is gone.
    """
    if folder.exists() and not folder.is_dir():
        raise AlreadyExistsError(f"{folder}: a file is in the way; choose another folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise AlreadyExistsError(
            f"{folder}: the folder is not empty, nothing was written; "
            "choose another folder, or replace all that is in it with --overwrite"
        )
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        with as_file(files(__name__) / "data") as data:
            shutil.copytree(data, fresh, copy_function=shutil.copyfile)
        summary = _summary(fresh)
        if folder.exists():
            folder.rename(Path(scratch) / "replaced")
        fresh.rename(folder)
    return summary


def _summary(folder: Path) -> DemoSummary:
    durations_s = [
        float(str(row["duration"]))
        for language in ("en", "zh")
        for row in _rows(folder / f"speech_{language}.jsonl")
    ]
    return DemoSummary(
        num_utterances=len(durations_s),
        num_bitext=sum(1 for _ in _rows(folder / "bitext_en_zh.jsonl")),
        num_instructions=sum(1 for _ in _rows(folder / "instructions.jsonl")),
        num_dialogues=sum(1 for _ in _rows(folder / "dialogues.jsonl")),
        duration_s=round(sum(durations_s), 3),
    )


def _rows(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
