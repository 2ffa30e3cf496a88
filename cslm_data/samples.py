"""rows of the catalog → samples: their names, the hashes that every choice follows, their tokens.

What a sample says is compiled by `compilers`, one per task. The hash of a sample stands for its
source and its epoch, and SQL computes it too: `md5_number_lower` of the ids and some constants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from cslm_data.compilers import COMPILERS
from cslm_data.compilers.prompt import compile_prompt, prompt_kind
from cslm_data.compilers.turns import CompileError, CompileOptions, SourceTurn
from cslm_data.framing import OWN, TurnFraming, frame
from cslm_data.keys import finalise_key, key64, md5_key
from cslm_data.records import Sample

__all__ = [
    "COMPILERS",
    "CompileError",
    "CompileOptions",
    "SourceTurn",
    "compile_prompt",
    "compile_sample",
    "count_tokens",
    "epoch_hash",
    "prompt_kind",
    "sample_key",
    "sample_name",
    "source_hash",
]


@functools.lru_cache(maxsize=4096)
def _task_key(task: str, languages: str) -> int:
    return key64(task, languages)


@functools.lru_cache(maxsize=4096)
def _epoch_key(epoch: int) -> int:
    return key64("epoch", str(epoch))


def source_hash(task: str, languages: str, source_ids: Sequence[str]) -> int:
    """64 bits that stand for a source in the names of its samples."""
    return finalise_key(md5_key("\0".join(source_ids)) ^ _task_key(task, languages))


def epoch_hash(of_source: int, epoch: int) -> int:
    """Hash of the sample that a source makes in an epoch; in the first, the source's own."""
    return finalise_key(of_source ^ _epoch_key(epoch)) if epoch else of_source


def sample_name(task: str, languages: str, of_source: int, epoch: int = 0) -> str:
    """Unique name of a sample in its mix, from its source's hash; a repeat has another one."""
    name = f"{task}-{languages}-{of_source:016x}"
    return f"{name}-e{epoch}" if epoch else name


def sample_key(task: str, languages: str, source_ids: Sequence[str], epoch: int = 0) -> str:
    """Unique name of a sample in its mix, from the ids of its source."""
    return sample_name(task, languages, source_hash(task, languages, source_ids), epoch)


def compile_sample(
    task: str,
    languages: str,
    turns: Sequence[SourceTurn],
    source_ids: Sequence[str],
    *,
    epoch: int,
    options: CompileOptions,
) -> Sample:
    """The sample of a source, with the wording of this epoch. Raises CompileError."""
    of_source = source_hash(task, languages, source_ids)
    return Sample(
        key=sample_name(task, languages, of_source, epoch),
        task=task,
        languages=languages,
        segments=COMPILERS[task](turns, epoch_hash(of_source, epoch), options),
    )


def count_tokens(
    samples: Sequence[Sample],
    encode_batch: Callable[[Sequence[str]], Sequence[Sequence[Any]]],
    framing: TurnFraming = OWN,
) -> list[int]:
    """Tokens of each sample as training will see them: text of a tokenizer, units, controls."""
    totals = []
    texts: list[str] = []
    owners: list[int] = []
    for index, sample in enumerate(samples):
        total = 0
        for piece in frame(sample.segments, framing):
            if piece.kind in ("control", "special"):
                total += 1
            elif piece.kind == "units":
                total += len(piece.units)
            else:
                texts.append(piece.text)
                owners.append(index)
        totals.append(total)
    for index, ids in zip(owners, encode_batch(texts), strict=True):
        totals[index] += len(ids)
    return totals
