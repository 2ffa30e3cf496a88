"""Units → sound that a person can judge. Reads the catalog, units, audio; writes wav, svg, html.

Step 1  find the utterances and their units of one speech tokenizer
Step 2  units → log mel energies, by the tokenizer's voice (resynthesis/voice.py)
Step 3  energies → waveform, as loud as the original
Step 4  write both, draw them with the units between, and say how far they are from each other
"""

# T samples, N frames of units, K units

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ, audio_version, decode
from cslm_data.catalog import Connection, open_catalog, read_sql
from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.features.kaldi import FRAME, HOP
from cslm_data.file_names import file_stem
from cslm_data.keys import key64
from cslm_data.records import Units, Word
from cslm_data.resynthesis import spectrum
from cslm_data.resynthesis.distance import Distance, distance, log_mel
from cslm_data.resynthesis.page import Entry, write_page
from cslm_data.resynthesis.picture import Panels, draw
from cslm_data.resynthesis.voice import Voice, find_voice
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.workspace import Workspace, atomic_path

Floats = NDArray[np.float32]

_PAGE = "listen.html"
_SEED_BITS = (1 << 31) - 1
_LONGEST_DURATION = 0xFFFF
_DURATION_SAMPLE = 2000
"""Utterances that tell how long a unit lasts."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One utterance (or a line of units) as sound."""

    utt_id: str
    language: str
    text: str
    duration_s: float
    num_units: int
    distance: Distance | None
    """From the original; None for units without one."""
    mean_distance: Distance | None
    """The same of a sound that has the original's mean spectrum throughout: what nothing costs."""
    resynthesis: Path
    original: Path | None
    picture: Path


@dataclass(frozen=True, kw_only=True)
class ListenSummary:
    """What was written."""

    tokenizer_id: str
    name: str
    method: str
    """`centroids` or `regression`."""
    about: str
    fitted: bool
    """True if this run fitted the regression."""
    page: Path
    heard: tuple[Heard, ...]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A row of listen_utterances.sql."""

    utt_id: str
    audio: str
    offset_s: float
    duration_s: float
    language: str
    text: str | None
    audio_version: str
    units: list[int] | None
    durations: list[int] | None
    units_version: str | None
    words: list[dict[str, Any]] | None


def listen(
    workspace: Workspace,
    utt_ids: Sequence[str] = (),
    *,
    language: str | None = None,
    limit: int = 3,
    tokenizer: str | None = None,
    out: Path | None = None,
    by_regression: bool = False,
    seed: int = 0,
) -> ListenSummary:
    """Make some utterances audible as their units have them.

    Without `utt_ids`, `limit` examples are chosen by `seed`, of `language` if it is given. Raises
    NoDataError for an unknown id, MissingArtefactError where units are missing or of an older
    recording, UsageError, AudioError.
    """
    used = find_tokenizer(workspace, tokenizer)
    with open_catalog(workspace, doing="listen") as connection:
        wanted = list(dict.fromkeys(utt_ids)) or _examples(connection, used, language, limit, seed)
        found = _find(connection, used, wanted)
    for each in found:
        _require_current(each)
    voice = find_voice(workspace, used, by_regression=by_regression)
    folder = _folder(workspace, used, out)
    heard = tuple(_hear(each, used, voice, folder) for each in found)
    return _finish(used, voice, folder, heard)


def listen_to_units(
    workspace: Workspace,
    units: Sequence[int],
    *,
    durations: Sequence[int] | None = None,
    name: str = "units",
    tokenizer: str | None = None,
    out: Path | None = None,
    by_regression: bool = False,
) -> ListenSummary:
    """Make a line of units audible, of a model's answer, say.

    Without `durations` (frames of each) a unit lasts as long as it does on average in the
    workspace. Raises UsageError for units that the tokenizer does not have.
    """
    used = find_tokenizer(workspace, tokenizer)
    wrong = [unit for unit in units if not 0 <= unit < used.num_units]
    if wrong or not units:
        raise UsageError(
            f"--units: {f'unit {wrong[0]}' if wrong else 'no unit at all'}; {used.name} has the "
            f"units 0 to {used.num_units - 1}: name the right tokenizer with --tokenizer"
        )
    if durations is not None and (
        len(durations) != len(units)
        or not 1 <= min(durations) <= max(durations) <= _LONGEST_DURATION
    ):
        raise UsageError(
            f"--durations: {len(durations)} numbers for {len(units)} units; give one for each, in "
            f"frames, 1 or more, at most {_LONGEST_DURATION}"
        )
    units_R = np.asarray(units, np.uint16)
    if durations is None:
        durations_R = _usual_durations(workspace, used)[units_R]
    else:
        durations_R = np.asarray(durations, np.uint16)
    voice = find_voice(workspace, used, by_regression=by_regression)
    folder = _folder(workspace, used, out)
    frames = int(durations_R.sum(dtype=np.int64))
    num_samples = round(frames / used.frame_rate_hz * SAMPLE_RATE_HZ)
    wave_T = spectrum.limit_peak(_resynthesise(voice, units_R, durations_R, num_samples, name))
    stem = file_stem(name)
    panels = Panels(
        title=f"{name}: {len(units_R)} units of {used.name}",
        original_FB=None,
        resynthesis_FB=log_mel(wave_T),
        units=units_R,
        durations=durations_R,
        frame_rate_hz=used.frame_rate_hz,
    )
    heard = Heard(
        utt_id=name,
        language="",
        text="",
        duration_s=num_samples / SAMPLE_RATE_HZ,
        num_units=len(units_R),
        distance=None,
        mean_distance=None,
        resynthesis=_write_wav(folder / f"{stem}.units.wav", wave_T),
        original=None,
        picture=_write_text(folder / f"{stem}.svg", draw(panels)),
    )
    return _finish(used, voice, folder, (heard,))


# ----------------------------------------------------------------------------- the utterances
def _examples(
    connection: Connection,
    tokenizer: SpeechTokenizer,
    language: str | None,
    limit: int,
    seed: int,
) -> list[str]:
    parameters = {
        "tokenizer_id": tokenizer.tokenizer_id,
        "language": language,
        "mask": key64("listen", str(seed)),
        "limit": limit,
    }
    rows = connection.execute(read_sql("listen_examples"), parameters).fetchall()
    if not rows:
        of = f" of language {language!r}" if language else ""
        raise MissingArtefactError(
            f"{tokenizer.name}: no utterance{of} has units of it that are up to date; run: "
            f"cslm-data quantize --tokenizer {tokenizer.name}"
        )
    return [utt_id for (utt_id,) in rows]


def _find(connection: Connection, tokenizer: SpeechTokenizer, wanted: list[str]) -> list[_Found]:
    """The utterances in the order asked for, each with units."""
    parameters = {"tokenizer_id": tokenizer.tokenizer_id, "utt_ids": wanted}
    answer = connection.execute(read_sql("listen_utterances"), parameters)
    names = [column[0] for column in answer.description or []]
    rows = {row[0]: _Found(**dict(zip(names, row, strict=True))) for row in answer.fetchall()}
    for utt_id in wanted:
        if utt_id not in rows:
            moved = connection.execute(
                "select kind || ' ' || curation_id, reason from excluded "
                "where table_name = 'utterances' and id = ?",
                [utt_id],
            ).fetchone()
            if moved:
                raise NoDataError(
                    f"{utt_id}: was moved out by {moved[0]} ({moved[1]}); bring it back with: "
                    "cslm-data filter --undo"
                )
            raise NoDataError(
                f"{utt_id}: no utterance has this id; find ids with: "
                'cslm-data sql "select utt_id from utterances limit 10"'
            )
        if rows[utt_id].units is None:
            refused = connection.execute(
                "select reason, detail from rejects where stage = 'quantize' and key = ?", [utt_id]
            ).fetchone()
            why = f" (refused before as {refused[0]}: {refused[1]})" if refused else ""
            raise MissingArtefactError(
                f"{utt_id}: has no units of {tokenizer.name}{why}; run: "
                f"cslm-data quantize --tokenizer {tokenizer.name}"
            )
    return [rows[utt_id] for utt_id in wanted]


def _require_current(found: _Found) -> None:
    """Raise MissingArtefactError when units, catalog and recording are not of one version."""
    if found.units_version != found.audio_version:
        raise MissingArtefactError(
            f"{found.utt_id}: its units are of an earlier version of {found.audio}; make new ones "
            "with: cslm-data quantize"
        )
    if audio_version(found.audio) != found.audio_version:
        raise MissingArtefactError(
            f"{found.utt_id}: {found.audio} has changed since it was ingested, so its units are of "
            "another recording; run cslm-data ingest on its manifest again, then cslm-data quantize"
        )


def _usual_durations(workspace: Workspace, tokenizer: SpeechTokenizer) -> NDArray[np.uint16]:
    """Frames that each unit usually lasts, 1 or more: uint16 (K,)."""
    parameters = {
        "tokenizer_id": tokenizer.tokenizer_id,
        "mask": key64("listen", "durations"),
        "limit": _DURATION_SAMPLE,
    }
    with open_catalog(workspace, doing="listen") as connection:
        rows = connection.execute(read_sql("listen_durations"), parameters).fetchall()
    usual_K = np.ones(tokenizer.num_units, np.uint16)
    for unit, frames in rows:
        usual_K[unit] = max(1, round(frames))
    return usual_K


# ---------------------------------------------------------------------------------- the sound
def _hear(found: _Found, tokenizer: SpeechTokenizer, voice: Voice, folder: Path) -> Heard:
    """Resynthesise one utterance, write and draw it."""
    original_T = decode(found.audio, offset_s=found.offset_s, duration_s=found.duration_s)
    units_R = np.asarray(found.units, np.uint16)
    durations_R = np.asarray(found.durations, np.uint16)
    wave_T = _resynthesise(voice, units_R, durations_R, len(original_T), found.utt_id)
    wave_T = spectrum.match_loudness(wave_T, original_T)
    original_FB = log_mel(original_T)
    mean_T = spectrum.waveform_of(
        original_FB.mean(axis=0)[None], num_samples=len(original_T), seed=_seed(found.utt_id)
    )
    stem = file_stem(found.utt_id)
    panels = Panels(
        title=f"{found.utt_id}: {found.text or ''}",
        original_FB=original_FB,
        resynthesis_FB=log_mel(wave_T),
        units=units_R,
        durations=durations_R,
        frame_rate_hz=tokenizer.frame_rate_hz,
        words=[Word(**word) for word in found.words or ()],
    )
    return Heard(
        utt_id=found.utt_id,
        language=found.language,
        text=found.text or "",
        duration_s=len(original_T) / SAMPLE_RATE_HZ,
        num_units=len(units_R),
        distance=distance(wave_T, original_T),
        mean_distance=distance(spectrum.match_loudness(mean_T, original_T), original_T),
        resynthesis=_write_wav(folder / f"{stem}.units.wav", wave_T),
        original=_write_wav(folder / f"{stem}.original.wav", original_T),
        picture=_write_text(folder / f"{stem}.svg", draw(panels)),
    )


def _resynthesise(
    voice: Voice, units_R: Units, durations_R: NDArray[np.uint16], num_samples: int, key: str
) -> Floats:
    num_mel_frames = 1 + max(0, num_samples - FRAME) // HOP
    log_mel_FB = voice.log_mel_of_units(expand(units_R, durations_R), num_mel_frames)
    return spectrum.waveform_of(log_mel_FB, num_samples=num_samples, seed=_seed(key))


def _seed(key: str) -> int:
    """Where the phase of an utterance starts: its own, and the same in every run."""
    return key64("phase", key) & _SEED_BITS


# ---------------------------------------------------------------------------------- the files
def _folder(workspace: Workspace, tokenizer: SpeechTokenizer, out: Path | None) -> Path:
    folder = out or workspace.root / "listen" / tokenizer.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _finish(
    tokenizer: SpeechTokenizer, voice: Voice, folder: Path, heard: tuple[Heard, ...]
) -> ListenSummary:
    entries = [
        Entry(
            title=each.utt_id,
            text=each.text,
            facts=_facts(each),
            original=each.original and each.original.relative_to(folder),
            resynthesis=each.resynthesis.relative_to(folder),
            picture=each.picture.relative_to(folder),
        )
        for each in heard
    ]
    page = folder / _PAGE
    write_page(page, f"Units of {tokenizer.tokenizer_id}", voice.about, entries)
    return ListenSummary(
        tokenizer_id=tokenizer.tokenizer_id,
        name=tokenizer.name,
        method=voice.method,
        about=voice.about,
        fitted=voice.fitted,
        page=page,
        heard=heard,
    )


def _facts(heard: Heard) -> str:
    facts = f"{heard.duration_s:.2f} s, {heard.num_units} units"
    if heard.distance is not None and heard.mean_distance is not None:
        facts += (
            f", mel-cepstral distortion {heard.distance.mcd_db:.2f} dB (the mean spectrum: "
            f"{heard.mean_distance.mcd_db:.2f} dB), log mel energies {heard.distance.mel_db:.2f} "
            f"dB (the mean spectrum: {heard.mean_distance.mel_db:.2f} dB)"
        )
    return facts


def _write_wav(path: Path, wave_T: Floats) -> Path:
    import soundfile

    with atomic_path(path) as temporary:
        soundfile.write(temporary, wave_T, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return path


def _write_text(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
