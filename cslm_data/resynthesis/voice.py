"""A speech tokenizer's units → log mel energies. Reads units and audio, writes tokenizers/*/mel/.

An MFCC tokenizer needs nothing but its centroids. All others need a regression, which is fitted on
the workspace's own speech when it is first wanted and kept beside the tokenizer; it is no part of
the tokenizer's identity.
"""

# N frames of units, F frames of 10 ms, B mel bins

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import decode
from cslm_data.catalog import open_catalog, read_sql, scalar
from cslm_data.errors import AudioError, MissingArtefactError, NoDataError
from cslm_data.keys import key64
from cslm_data.progress import Progress, progress
from cslm_data.records import Units
from cslm_data.resynthesis import cepstra, regression
from cslm_data.resynthesis.distance import log_mel
from cslm_data.resynthesis.regression import MelRegression
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

FIT_S = 1800.0
"""Speech that a regression is fitted on, at most."""
_LONGEST_S = 60.0
_GROWN = 2.0
"""A fit that had less than it may have is made anew when there is this many times more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Voice:
    """How units of one tokenizer are turned into energies."""

    method: str
    """`centroids` or `regression`."""
    about: str
    """For a person: what it is made from."""
    fitted: bool
    """True if it was made now."""
    features_KD: Floats | None = None
    regression: MelRegression | None = None

    def log_mel_of_units(self, units_N: Units, num_mel_frames: int) -> Floats:
        """uint16 (N,) → float32 (F, B); F may differ by the frames at the end."""
        if self.regression is not None:
            return self.regression.log_mel_of_units(units_N, num_mel_frames)
        assert self.features_KD is not None
        return cepstra.log_mel_of_units(units_N, self.features_KD)


def find_voice(
    workspace: Workspace, tokenizer: SpeechTokenizer, *, by_regression: bool = False
) -> Voice:
    """The voice of a tokenizer; a regression that is not there, or stale, is fitted and kept.

    `by_regression`: also where the centroids alone would do. Raises MissingArtefactError without
    units to fit on, NoDataError when none of their audio can be read.
    """
    if tokenizer.extractor_identity.get("kind") == "mfcc" and not by_regression:
        return Voice(
            method="centroids",
            about="from the centroids alone: cepstra to mel energies",
            fitted=False,
            features_KD=tokenizer.normalisation.invert(tokenizer.centroids_KE),
        )
    folder = workspace.tokenizers / tokenizer.name / "mel"
    kept = _still_good(workspace, tokenizer, regression.load(folder))
    if kept is not None:
        return _voice(*kept, fitted=False)
    with workspace.lock(f"mel-{tokenizer.tokenizer_id}", "listen"):
        made, about = _fit(workspace, tokenizer)
        regression.save(made, folder, about)
    return _voice(made, about, fitted=True)


def _voice(made: MelRegression, about: dict[str, Any], *, fitted: bool) -> Voice:
    told = f"by a regression on {about['seconds'] / 60:.1f} minutes of this workspace's speech"
    return Voice(method="regression", about=told, fitted=fitted, regression=made)


def _still_good(
    workspace: Workspace,
    tokenizer: SpeechTokenizer,
    kept: tuple[MelRegression, dict[str, Any]] | None,
) -> tuple[MelRegression, dict[str, Any]] | None:
    """What was kept, unless it is another tokenizer's or there is much more speech by now."""
    if kept is None or kept[1].get("tokenizer_id") != tokenizer.tokenizer_id:
        return None
    seconds = float(kept[1]["seconds"])
    if seconds < FIT_S and _available_s(workspace, tokenizer) > _GROWN * seconds:
        return None
    return kept


def _available_s(workspace: Workspace, tokenizer: SpeechTokenizer) -> float:
    with open_catalog(workspace, doing="listen") as connection:
        frames = scalar(connection, read_sql("listen_available"), [tokenizer.tokenizer_id])
    return float(frames or 0) / tokenizer.frame_rate_hz


def _fit(workspace: Workspace, tokenizer: SpeechTokenizer) -> tuple[MelRegression, dict[str, Any]]:
    parameters = {
        "tokenizer_id": tokenizer.tokenizer_id,
        "mask": key64("listen", "sample"),
        "seconds": FIT_S,
        "longest_s": _LONGEST_S,
    }
    with open_catalog(workspace, doing="listen") as connection:
        rows = connection.execute(read_sql("listen_sample"), parameters).fetchall()
    if not rows:
        raise MissingArtefactError(
            f"{tokenizer.name}: this workspace holds no units of it to learn from how they sound; "
            f"run: cslm-data quantize --tokenizer {tokenizer.name}"
        )
    failed: list[str] = []
    lengths: list[float] = []
    log.info("learning how the units of %s sound, on %d utterances", tokenizer.name, len(rows))
    with progress("listen", total=len(rows), unit="utt") as bar:
        speech = _speech(rows, tokenizer.frame_rate_hz, lengths, failed, bar)
        first = next(speech, None)
        if first is None:
            raise NoDataError(
                f"{tokenizer.name}: none of the {len(rows)} recordings that its units are to be "
                f"compared with can be read; first: {failed[0]}"
            )
        made = regression.fit(
            itertools.chain([first], speech),
            centroids_KE=tokenizer.centroids_KE,
            frame_rate_hz=tokenizer.frame_rate_hz,
        )
    if failed:
        log.warning("%d recordings could not be read; first: %s", len(failed), failed[0])
    return made, {
        "tokenizer_id": tokenizer.tokenizer_id,
        "num_utterances": len(lengths),
        "seconds": round(sum(lengths), 3),
    }


def _speech(
    rows: list[tuple[Any, ...]],
    frame_rate_hz: float,
    lengths: list[float],
    failed: list[str],
    bar: Progress,
) -> Iterator[tuple[Units, Floats]]:
    """Frames of units and energies of each utterance that can be read."""
    for audio, offset_s, duration_s, units, durations in rows:
        bar.advance()
        try:
            wave_T = decode(audio, offset_s=offset_s, duration_s=duration_s)
        except AudioError as error:
            failed.append(str(error))
            continue
        units_N = expand(np.asarray(units), np.asarray(durations))
        num_frames = max(1, round(duration_s * frame_rate_hz))
        lengths.append(duration_s)
        yield units_N[:num_frames], log_mel(wave_T)
