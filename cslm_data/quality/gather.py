"""Workspace → what a report on unit quality needs, in memory. Reads units, alignments, catalog.

The catalog is open for as long as this takes and no longer: measuring takes longer.
"""

# L languages, K units

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from cslm_data.catalog import Connection, open_catalog, read_sql
from cslm_data.errors import CorruptArtefactError, NoDataError, UsageError
from cslm_data.keys import key64
from cslm_data.quality.figures import LanguageSpeech
from cslm_data.quality.phone_frames import PhonedUtterance, exact_phone, fold_phone
from cslm_data.quality.usage import Counts
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

LONGEST_RUN = 30
"""Runs of so many frames and over are counted together."""

_BATCH_ROWS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizerData:
    """What the units of one tokenizer are."""

    tokens: dict[str, Counts]
    """Language → tokens of each unit, int64 (K,)."""
    frames: dict[str, Counts]
    run_lengths: dict[str, Counts]
    """Language → runs of 1 … LONGEST_RUN frames."""
    phoned: dict[str, list[PhonedUtterance]] = field(default_factory=dict)
    """Language → the sample of utterances that have phones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """All that is measured."""

    speech: tuple[LanguageSpeech, ...]
    tokenizers: tuple[TokenizerData, ...]
    stretches: dict[str, list[Stretch]]
    """Language → the sample of utterances to encode again."""


def gather(
    workspace: Workspace,
    tokenizers: Sequence[SpeechTokenizer],
    *,
    languages: Sequence[str] | None,
    max_utterances: int,
    robustness_utterances: int,
    exact_phones: bool,
    seed: int,
) -> Gathered:
    """Read what a report on these tokenizers needs; samples are keyed by the seed.

    Raises NoDataError where no utterance has units of all of them, UsageError for a language
    without.
    """
    parameters = {
        "tokenizer_ids": [tokenizer.tokenizer_id for tokenizer in tokenizers],
        "languages": None if languages is None else list(languages),
        "mask": key64("unit report", str(seed)),
    }
    with open_catalog(workspace, doing="a report on unit quality") as connection:
        connection.execute(read_sql("quality_shared"), parameters)
        rows = connection.execute(read_sql("quality_speech")).fetchall()
        speech = tuple(
            LanguageSpeech(language=language, num_utterances=num, num_with_phones=with_phones)
            for language, num, with_phones in rows
        )
        _check(speech, tokenizers, languages)
        data = []
        for tokenizer in tokenizers:
            counted = _usage(connection, tokenizer, [row.language for row in speech])
            phoned = _phoned(connection, tokenizer.tokenizer_id, max_utterances, exact_phones)
            data.append(TokenizerData(**counted, phoned=phoned))
        sample = connection.execute(
            read_sql("quality_stretches"), {"max_utterances": robustness_utterances}
        ).fetchall()
    stretches: dict[str, list[Stretch]] = {}
    for row in sample:
        stretch = Stretch(*row)
        stretches.setdefault(stretch.language, []).append(stretch)
    return Gathered(speech=speech, tokenizers=tuple(data), stretches=stretches)


def _check(
    speech: Sequence[LanguageSpeech],
    tokenizers: Sequence[SpeechTokenizer],
    languages: Sequence[str] | None,
) -> None:
    there = {row.language for row in speech}
    missing = [language for language in languages or () if language not in there]
    names = " and ".join(tokenizer.name for tokenizer in tokenizers)
    hint = "; ".join(f"cslm-data quantize --tokenizer {t.name}" for t in tokenizers)
    if missing:
        raise UsageError(
            f"--langs {','.join(languages or ())}: no utterance in {', '.join(missing)} has units "
            f"of {names}; run: {hint}"
        )
    if not there:
        raise NoDataError(f"no utterance has units of {names}; run: {hint}")


def _usage(
    connection: Connection, tokenizer: SpeechTokenizer, languages: Sequence[str]
) -> dict[str, dict[str, Counts]]:
    def nothing(length: int) -> dict[str, Counts]:
        return {language: np.zeros(length, np.int64) for language in languages}

    tokens, frames = nothing(tokenizer.num_units), nothing(tokenizer.num_units)
    parameters = {"tokenizer_id": tokenizer.tokenizer_id}
    for language, unit, num_tokens, num_frames in connection.execute(
        read_sql("quality_usage"), parameters
    ).fetchall():
        if unit >= tokenizer.num_units:
            raise CorruptArtefactError(
                f"units of {tokenizer.tokenizer_id}: unit {unit}, but the tokenizer has "
                f"{tokenizer.num_units}; remove them and run: cslm-data quantize --tokenizer "
                f"{tokenizer.name}"
            )
        tokens[language][unit] = num_tokens
        frames[language][unit] = num_frames
    run_lengths = nothing(LONGEST_RUN)
    for language, length, num_runs in connection.execute(
        read_sql("quality_runs"), {**parameters, "longest": LONGEST_RUN}
    ).fetchall():
        run_lengths[language][length - 1] = num_runs
    return {"tokens": tokens, "frames": frames, "run_lengths": run_lengths}


def _phoned(
    connection: Connection, tokenizer_id: str, max_utterances: int, exact_phones: bool
) -> dict[str, list[PhonedUtterance]]:
    parameters = {"tokenizer_id": tokenizer_id, "max_utterances": max_utterances}
    result: Any = connection.sql(read_sql("quality_phones"), params=parameters)
    found: dict[str, list[PhonedUtterance]] = {}
    with result.to_arrow_reader(_BATCH_ROWS) as reader:
        for batch in reader:
            for language, utterance in _utterances(batch, exact_phones):
                found.setdefault(language, []).append(utterance)
    return found


def _utterances(batch: pa.RecordBatch, exact_phones: bool) -> list[tuple[str, PhonedUtterance]]:
    name = exact_phone if exact_phones else fold_phone
    rows = []
    for i in range(batch.num_rows):
        utterance = PhonedUtterance(
            utt_id=batch["utt_id"][i].as_py(),
            corpus=batch["corpus"][i].as_py(),
            speaker=batch["speaker"][i].as_py(),
            units_N=expand(_numbers(batch["units"][i]), _numbers(batch["durations"][i])),
            phones=[name(label) for label in batch["phones"][i].as_py()],
            starts_s=_numbers(batch["starts_s"][i]),
            ends_s=_numbers(batch["ends_s"][i]),
        )
        rows.append((batch["language"][i].as_py(), utterance))
    return rows


def _numbers(values: pa.ListScalar) -> Any:
    return values.values.to_numpy(zero_copy_only=False)
