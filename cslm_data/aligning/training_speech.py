"""Catalog → the speech that the embedded aligner is trained on, in memory: features and states.

A sample by keyed hash, languages evened out, so that a large corpus costs no more than its bound;
an hour takes 29 MB of features.
"""

# F frames, M pairs of them, D features, S states

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cslm_data.aligning.ctc_model import SPELLING, SYMBOLS, front_end, normalise
from cslm_data.aligning.full_sum import fewest_frames, states_of
from cslm_data.aligning.spelling import Alphabet, CannotSpell, make_alphabet, spell
from cslm_data.catalog import open_catalog, read_sql
from cslm_data.errors import AudioError, NoDataError
from cslm_data.keys import content_id, key64
from cslm_data.progress import progress
from cslm_data.tokenizers.sampling import language_quotas
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

LONGEST_S = 30.0
"""Utterances to train on; longer ones take memory by the square of their length."""
_TEMPERATURE = 2.0
_QUIET, _LOUD, _LEAST_RANGE = 0.05, 0.95, 3.0
_SILENT = 0.3
"""Below this share of the way from the quiet frames of an utterance to its loud ones is silence."""


class Lesson(NamedTuple):
    """An utterance to train on."""

    pairs_MD: NDArray[np.float16]
    silent_F: NDArray[np.bool_]
    """Where it is so quiet that nothing is likely to be said."""
    states_S: NDArray[np.int64]

    @property
    def num_pairs(self) -> int:
        """Its length in steps of 20 ms."""
        return len(self.pairs_MD)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSpeech:
    """What is trained on, and where it comes from."""

    lessons: Sequence[Lesson]
    identity: str
    """Of the recordings and their texts, in their order."""
    hours: dict[str, float]
    """Per language."""


def read_training_speech(
    workspace: Workspace, *, languages: Sequence[str] | None, max_hours: float, seed: int
) -> TrainingSpeech:
    """Transcribed speech of the catalog, at most so many hours of it.

    What cannot be read or spelled, or is shorter than its text, is left out and counted in the log;
    align refuses it, with the reason. Raises NoDataError where nothing is left.
    """
    chosen = _choose(workspace, languages, max_hours, seed)
    lessons: list[Lesson] = []
    seconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    alphabet = make_alphabet(SYMBOLS, SPELLING)
    with progress("read speech", total=len(chosen), unit="utt") as bar:
        for stretch in chosen:
            found = _lesson(stretch, alphabet)
            if isinstance(found, str):
                left_out[stretch.utt_id] = found
            else:
                lessons.append(found)
                so_far_s = seconds.get(stretch.language, 0.0)
                seconds[stretch.language] = so_far_s + stretch.duration_s
            bar.advance()
    example = next((f"{utt_id}: {reason}" for utt_id, reason in left_out.items()), "")
    if not lessons:
        asked = f" in {', '.join(languages)}" if languages else ""
        why = (
            f"none of {len(left_out)} utterances can be used, e.g. {example}; mend them"
            if left_out
            else f"no utterance{asked} of up to {LONGEST_S:g} s has a transcript; add some"
        )
        raise NoDataError(
            f"cannot train an aligner: {why} and ingest again: cslm-data ingest FOLDER, or use one "
            "that is trained: cslm-data align --aligner mms_fa"
        )
    if left_out:
        log.warning(
            "%d of %d utterances are no use to train the aligner on, e.g. %s",
            len(left_out),
            len(chosen),
            example,
        )
    return TrainingSpeech(
        lessons=lessons,
        identity=_identity(chosen),
        hours={language: amount / 3600 for language, amount in sorted(seconds.items())},
    )


def tokens_of_words(text: str, language: str, alphabet: Alphabet) -> list[list[int]]:
    """The words of a text as columns of the model. Raises CannotSpell."""
    return [list(word.tokens) for word in spell(text, language, alphabet)]


def _choose(
    workspace: Workspace, languages: Sequence[str] | None, max_hours: float, seed: int
) -> list[Stretch]:
    asked = list(languages) if languages else None
    with open_catalog(workspace, doing="training an aligner") as connection:
        values = {"longest_s": LONGEST_S, "languages": asked}
        there = connection.execute(read_sql("train_ctc_speech"), values).fetchall()
        quotas = language_quotas(
            {language: 1000 * seconds for language, seconds in there},
            max_frames=round(max_hours * 3_600_000),
            temperature=_TEMPERATURE,
        )
        wanted = [amount / 1000 for amount in quotas.values()]
        connection.register("quotas", pa.table({"language": list(quotas), "seconds": wanted}))
        sample = {"longest_s": LONGEST_S, "mask": key64("train-ctc", str(seed))}
        rows = connection.execute(read_sql("train_ctc_sample"), sample).fetchall()
    return [Stretch(*row) for row in rows]


def _lesson(stretch: Stretch, alphabet: Alphabet) -> Lesson | str:
    """Features and states of an utterance, or why there are none."""
    try:
        words = tokens_of_words(stretch.text or "", stretch.language, alphabet)
        waveform_T = stretch.waveform()
    except (CannotSpell, AudioError) as refusal:
        return str(refusal)
    states_S = states_of(words)
    mel_FD = front_end(waveform_T)
    if fewest_frames(states_S) > len(mel_FD):
        return f"too_short_for_text: {len(mel_FD)} frames for {fewest_frames(states_S)} states"
    return Lesson(normalise(mel_FD).astype(np.float16), _silence(mel_FD), states_S)


def _silence(mel_FD: NDArray[np.float32]) -> NDArray[np.bool_]:
    energy_F = np.logaddexp.reduce(mel_FD, axis=1)
    quiet, loud = np.quantile(energy_F, [_QUIET, _LOUD])
    return np.asarray(energy_F < quiet + _SILENT * max(loud - quiet, _LEAST_RANGE))


def _identity(chosen: Iterable[Stretch]) -> str:
    return content_id(
        [[s.utt_id, s.audio_version, s.offset_s, s.duration_s, s.language, s.text] for s in chosen]
    )
