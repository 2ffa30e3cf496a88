"""A manifest of as many utterances as one likes over a handful of recordings, always the same.

Transcripts are put together from phrases, English and Mandarin, of the length that speech corpora
have. A twentieth of them say what another row says, in other case and punctuation; one row in
100 000 comes twice, id and all.
"""

# R rows of a chunk, P phrases of a row

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE_HZ = 8_000
RECORDING_S = 600
NUM_RECORDINGS = 6
NUM_REPEATED = 20_000
"""Sentences that are said again and again."""
REPEATED_SHARE = 0.05
TWICE_EVERY = 100_000

_CHUNK = 50_000
_CORPORA = {"en": ("read-en", "talks-en"), "zh": ("read-zh", "talks-zh")}
_WORDS = """the of and to in that was he for it with as his on be at by had not are but from or have
an they which one you were her all she there would their we him been has when who will more no if
out so said what up its about into than them can only other new some could time these two may then
do first any my now such like our over man me even most made after also did many before must through
back years where much your way well down should because each just those people how too little state
good very make world still own see men work long get here between both life being under never day
same another know while last might us great old year off come since against go came right used take
three house water morning river garden letter mountain window station company question"""
_SIGNS = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定"
    "行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些"
    "然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公"
)


class Row(NamedTuple):
    """One utterance, as its manifest says it."""

    id: str
    audio: str
    offset: float
    duration: float
    text: str
    language: str
    speaker: str
    corpus: str


def write_recordings(folder: Path) -> list[str]:
    """Noise, which nobody listens to here; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(NUM_RECORDINGS):
        path = folder / f"{index}.wav"
        rng = np.random.default_rng(index)
        noise_T = rng.integers(-3000, 3000, RECORDING_S * RATE_HZ).astype(np.int16)
        soundfile.write(path, noise_T, RATE_HZ)
        paths.append(str(path))
    return paths


def write_manifest(path: Path, num_rows: int, audio: list[str]) -> None:
    """JSONL or CSV, as the name of the file says."""
    form = _csv_line if path.suffix == ".csv" else _json_line
    with path.open("w", encoding="utf-8") as stream:
        if path.suffix == ".csv":
            stream.write(
                "id,audio,offset,duration,sampling_rate,text,language,speaker,corpus,license\n"
            )
        for number, row in enumerate(_rows(num_rows, audio)):
            line = form(row)
            stream.write(line)
            if number % TWICE_EVERY == TWICE_EVERY // 2:
                stream.write(line)


def write_bitext(path: Path, num_rows: int) -> None:
    """Translations that are none, in the fields of `bitext`."""
    english, mandarin = (
        (row.text for row in _rows(2 * num_rows, [""], seed=7) if row.language == language)
        for language in ("en", "zh")
    )
    with path.open("w", encoding="utf-8") as stream:
        for number, (src, tgt) in enumerate(zip(english, mandarin, strict=False)):
            stream.write(
                f'{{"id": "mt/{number:08d}", "src_lang": "en", "tgt_lang": "zh", '
                f'"src": "{src}", "tgt": "{tgt}", "corpus": "mt"}}\n'
            )


def _json_line(row: Row) -> str:
    return (
        f'{{"id": "{row.id}", "audio": "{row.audio}", "offset": {row.offset:.3f}, '
        f'"duration": {row.duration:.3f}, "sampling_rate": {RATE_HZ}, "text": "{row.text}", '
        f'"language": "{row.language}", "speaker": "{row.speaker}", "corpus": "{row.corpus}", '
        '"license": "CC0-1.0"}\n'
    )


def _csv_line(row: Row) -> str:
    return (
        f'{row.id},{row.audio},{row.offset:.3f},{row.duration:.3f},{RATE_HZ},"{row.text}",'
        f"{row.language},{row.speaker},{row.corpus},CC0-1.0\n"
    )


def _rows(num_rows: int, audio: list[str], seed: int = 0) -> Iterator[Row]:
    """English and Mandarin in turn."""
    rng = np.random.default_rng(seed)
    phrases = {"en": english_phrases(rng), "zh": mandarin_phrases(rng)}
    repeated = {
        language: [
            _sentence(language, picked, phrases[language]) for picked in _pick(rng, NUM_REPEATED)
        ]
        for language in phrases
    }
    for first in range(0, num_rows, _CHUNK):
        size = min(_CHUNK, num_rows - first)
        picked = _pick(rng, size)
        again_R = rng.random(size) < REPEATED_SHARE
        which_R = rng.integers(0, NUM_REPEATED, size).tolist()
        duration_R = rng.uniform(1.0, 15.0, size)
        offset_R = rng.uniform(0.0, RECORDING_S - 16.0, size)
        speaker_R = rng.integers(0, 20_000, size).tolist()
        for index in range(size):
            number = first + index
            language = "zh" if number % 2 else "en"
            if again_R[index]:
                text = _otherwise(repeated[language][which_R[index]], number)
            else:
                text = _sentence(language, picked[index], phrases[language])
            corpus = _CORPORA[language][number // 2 % 2]
            yield Row(
                id=f"{corpus}/{number:09d}",
                audio=audio[number % len(audio)],
                offset=offset_R[index],
                duration=duration_R[index],
                text=text,
                language=language,
                speaker=f"spk{speaker_R[index]:05d}",
                corpus=corpus,
            )


def _pick(rng: np.random.Generator, size: int) -> list[list[int]]:
    """Numbers of phrases, three to six a row: int (R, P) cut to their lengths."""
    numbers_RP = rng.integers(0, 6000, (size, 6)).tolist()
    lengths_R = rng.integers(3, 7, size).tolist()
    return [row[:length] for row, length in zip(numbers_RP, lengths_R, strict=True)]


def _sentence(language: str, picked: list[int], phrases: list[str]) -> str:
    if language == "zh":
        return "，".join([phrases[number] for number in picked]) + "。"
    return " ".join([phrases[number] for number in picked]).capitalize() + "."


def _otherwise(text: str, number: int) -> str:
    """The same sentence as another transcriber would have written it."""
    kind = number % 3
    if kind == 0:
        return text
    return text.upper() if kind == 1 else text.rstrip(".。") + " !"


def english_phrases(rng: np.random.Generator) -> list[str]:
    words = _WORDS.split()
    lengths = rng.integers(1, 4, 6000)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def mandarin_phrases(rng: np.random.Generator) -> list[str]:
    lengths = rng.integers(2, 6, 6000)
    return ["".join(rng.choice(list(_SIGNS), length)) for length in lengths]
