"""demo_lexicon, demo_sentences, demo_dialogues → cslm_data/demo/data, through espeak-ng.

Run by hand, from the root of the project, when the texts change:

    apt install espeak-ng                   # 1.51 made the committed files
    pip install pypinyin==0.55.0            # the one requirement that cslm itself does not have
    python docs/authoring/make_demo_corpus.py

Step 1: speak each text with libespeak-ng; its phone events carry sample positions, so the word
times are those of the synthesiser and not an estimate. Step 2: resample 22.05 → 16 kHz.
Step 3: store as Ogg/Opus. The same versions of espeak-ng, soxr and libopus give the same bytes:
voice, rate and pitch hang on a hash of the id, and the random Ogg serial number is replaced by one.

Chinese is spoken from toned pinyin by the voice cmn-latn-pinyin, because `-v cmn` misreads Hanzi
in this version of espeak-ng.
"""

# T samples

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import re
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from demo_dialogues import EXCHANGES, INSTRUCTIONS_EN, INSTRUCTIONS_ZH
from demo_lexicon import Pair, plain_zh, words_en, words_zh
from demo_sentences import SPOKEN, WRITTEN
from numpy.typing import NDArray
from pypinyin import Style, lazy_pinyin

OUT = Path(__file__).resolve().parents[2] / "cslm_data" / "demo" / "data"
SEED = "cslm-demo-1"
SAMPLE_RATE_HZ = 16000
GAIN = 0.9 / 32768  # the loudest voice comes close to full scale, Opus overshoots a little
COMPRESSION_LEVEL = 0.99  # libsndfile: 6 kbit/s at 1.0, 256 kbit/s at 0.0
VOICES = {
    "en": ("en-us", "en-gb", "en-us+f3"),
    "zh": ("cmn-latn-pinyin", "cmn-latn-pinyin+f2", "cmn-latn-pinyin+m3"),
}
BY_FILE = {"en-gb": "gmw/en"}  # espeak_SetVoiceByName does not know this one by its language
LICENSE = {"corpus": "demo", "license": "CC0-1.0"}

# espeak-ng says some word pairs as one dictionary entry ("in the") and then reports no event for
# the second word. First word of such a pair → how many of the phones are its own.
PHONES_OF_FIRST = {"i": 1, "there": 3, "do": 2, "does": 3, "in": 2, "on": 2}

PINYIN = {  # where pypinyin reads a word alone otherwise than it is said here
    "只": "zhi1", "得": "de5", "还": "hai2", "一": "yi1", "一共": "yi2gong4", "一天": "yi4tian1",
    "妈妈": "ma1ma5", "爸爸": "ba4ba5", "哥哥": "ge1ge5", "姐姐": "jie3jie5", "朋友": "peng2you5",
    "喜欢": "xi3huan5", "东西": "dong1xi5", "早上": "zao3shang5", "晚上": "wan3shang5",
}  # fmt: skip
CLASSIFIERS = frozenset("个只匹头条本顶辆朵件把张")

# Constants of speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS, INITIALIZE_PHONEME_IPA = 1, 2
EVENT_LIST_TERMINATED, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
CHARS_UTF8, RATE, PITCH = 1, 1, 3


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An event of the synthesiser: `phone` is None for a word, "" for a pause."""

    sample: int
    character: int
    phone: str | None


class Synthesiser:
    """libespeak-ng in synchronous mode, one text at a time."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libespeak-ng.so.1")
        self.sample_rate_hz: int = self._lib.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, 0, None, INITIALIZE_PHONEME_EVENTS | INITIALIZE_PHONEME_IPA
        )
        self._chunks: list[NDArray[np.int16]] = []
        self._marks: list[Mark] = []
        self._callback = _CALLBACK(self._collect)  # kept: C holds a bare pointer to it
        self._lib.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave: Any, num_samples: int, events: Any) -> int:
        if wave and num_samples:
            self._chunks.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
        i = 0
        while events[i].type != EVENT_LIST_TERMINATED:
            event = events[i]
            if event.type in (EVENT_WORD, EVENT_PHONEME):
                phone = event.id.string.decode() if event.type == EVENT_PHONEME else None
                self._marks.append(
                    Mark(sample=event.sample, character=event.text_position - 1, phone=phone)
                )
            i += 1
        return 0

    def speak(
        self, text: str, *, voice: str, rate: int, pitch: int
    ) -> tuple[NDArray[np.int16], list[Mark]]:
        """Speech of a text, int16 (T,), and the events in it."""
        self._chunks, self._marks = [], []
        if self._lib.espeak_SetVoiceByName(BY_FILE.get(voice, voice).encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice}; install espeak-ng-data 1.51")
        self._lib.espeak_SetParameter(RATE, rate, 0)
        self._lib.espeak_SetParameter(PITCH, pitch, 0)
        data = text.encode()
        self._lib.espeak_Synth(data, len(data) + 1, 0, 0, 0, CHARS_UTF8, None, None)
        return np.concatenate(self._chunks), self._marks


def word_samples(spoken: str, marks: list[Mark]) -> list[tuple[int, int]]:
    """First and last sample of every word of a spoken text; pauses belong to no word.

    Raises ValueError where espeak-ng merged two words that PHONES_OF_FIRST does not know.
    """
    tokens = list(re.finditer(r"\S+", spoken))
    numbers = {token.start(): i for i, token in enumerate(tokens)}
    phones: list[list[tuple[int, int]]] = [[] for _ in tokens]
    current = 0
    for i, mark in enumerate(marks):
        if mark.phone is None:  # a long pause repeats a word event, at no word's place
            current = numbers.get(mark.character, current)
        elif mark.phone:  # a nasal before a vowel lasts beyond the next word's event
            end = next((m.sample for m in marks[i:] if m.sample > mark.sample), mark.sample)
            phones[current].append((mark.sample, end))
    for i, token in enumerate(tokens):
        if phones[i]:
            continue
        count = PHONES_OF_FIRST.get(tokens[i - 1].group().lower(), 0)
        if not 0 < count < len(phones[i - 1]):
            raise ValueError(f"{spoken!r}: no phones for {token.group()!r}; see PHONES_OF_FIRST")
        phones[i - 1], phones[i] = phones[i - 1][:count], phones[i - 1][count:]
    return [(p[0][0], p[-1][1]) for p in phones]


def toned_pinyin(segmented: str) -> str:
    """Segmented Hanzi → toned pinyin, a token a word, ASCII punctuation: what the voice reads."""
    words = segmented.translate(str.maketrans("，。？", ",.?")).replace(",", ", ").split()
    spoken = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        bare, tail = re.fullmatch(r"([^,.?]+)([,.?]*)", word).groups()  # type: ignore[union-attr]
        syllables = PINYIN.get(bare) or "".join(
            lazy_pinyin(bare, Style.TONE3, neutral_tone_with_five=True)
        )
        if bare == "一" and following[:1] in CLASSIFIERS:
            fourth = lazy_pinyin(following[0], style=Style.TONE3)[0].endswith("4")
            syllables = "yi2" if fourth else "yi4"
        spoken.append(syllables + tail)
    return " ".join(spoken)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{SEED}|{key}".encode()).digest()[:8], "big")


def _crc_of_byte(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]


def _crc(page: bytes) -> int:
    """The checksum of an Ogg page: polynomial 0x04c11db7, not reflected. Source: RFC 3533, §6."""
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ CRC_TABLE[crc >> 24 ^ byte]
    return crc


def with_serial(ogg: bytes, serial: int) -> bytes:
    """The same Ogg stream under another serial number (libsndfile draws a random one)."""
    out, at = bytearray(), 0
    while at < len(ogg):
        num_segments = ogg[at + 26]
        end = at + 27 + num_segments + sum(ogg[at + 27 : at + 27 + num_segments])
        page = bytearray(ogg[at:end])
        page[14:18] = struct.pack("<I", serial)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _crc(bytes(page)))
        out += page
        at = end
    return bytes(out)


def encode(wave_T: NDArray[np.float32], *, key: str) -> bytes:
    """16 kHz speech → the bytes of an Ogg/Opus file."""
    stored = io.BytesIO()
    soundfile.write(
        stored, wave_T, SAMPLE_RATE_HZ, format="OGG", subtype="OPUS",
        compression_level=COMPRESSION_LEVEL,
    )  # fmt: skip
    return with_serial(stored.getvalue(), _hash(f"serial|{key}") & 0xFFFFFFFF)


def utterance(
    synthesiser: Synthesiser, pair: Pair, *, language: str, name: str, voice: int, out: Path
) -> tuple[dict[str, object], dict[str, object]]:
    """Speak and store one text; its rows for speech_*.jsonl and speech_*.align.jsonl."""
    key = f"demo/{language}/{name}"
    spoken = pair.en if language == "en" else toned_pinyin(pair.zh)
    words = words_en(pair.en) if language == "en" else words_zh(pair.zh)
    speaker = VOICES[language][voice % 3]
    wave_T, marks = synthesiser.speak(
        spoken,
        voice=speaker,
        rate=150 + _hash(f"rate|{key}") % 31,
        pitch=42 + _hash(f"pitch|{key}") % 17,
    )
    spans = word_samples(spoken, marks)
    if len(spans) != len(words):
        raise ValueError(f"{key}: {len(words)} words, {len(spans)} spans; check the segmentation")
    rate_hz = synthesiser.sample_rate_hz
    resampled_T = soxr.resample(wave_T.astype(np.float32) * GAIN, rate_hz, SAMPLE_RATE_HZ)
    audio = f"audio/{language}/{name}.ogg"
    (out / audio).write_bytes(encode(resampled_T, key=key))
    row = {
        "id": key,
        "audio": audio,
        "duration": round(len(resampled_T) / SAMPLE_RATE_HZ, 4),
        "sampling_rate": SAMPLE_RATE_HZ,
        "text": pair.en if language == "en" else plain_zh(pair.zh),
        "language": language,
        "speaker": speaker,
        **LICENSE,
        "kind": "synthetic",
        "pair_id": f"demo/{name}",
    }
    times = [
        [round(a / rate_hz, 4), round(b / rate_hz, 4), word]
        for (a, b), word in zip(spans, words, strict=True)
    ]
    return row, {"id": key, "language": language, "words": times}


def spoken_texts() -> Iterator[tuple[str, Pair, str]]:
    """Name, text and voice key of everything that is spoken; an answer has another voice."""
    for i, pair in enumerate(SPOKEN, start=1):
        yield f"s{i:03d}", pair, f"s{i:03d}"
    for i, exchange in enumerate(EXCHANGES):
        yield f"q{i:02d}", exchange.question, f"q{i:02d}"
        yield f"a{i:02d}", exchange.answer, f"q{i:02d}"


def bitext() -> Iterator[dict[str, object]]:
    """Rows of bitext_en_zh.jsonl: the spoken sentences, then those that are only written."""
    names = [f"s{i:03d}" for i in range(1, len(SPOKEN) + 1)]
    names += [f"w{i:03d}" for i in range(1, len(WRITTEN) + 1)]
    for name, pair in zip(names, [*SPOKEN, *WRITTEN], strict=True):
        yield {
            "id": f"demo/{name}", "src_lang": "en", "tgt_lang": "zh",
            "src": pair.en, "tgt": plain_zh(pair.zh), **LICENSE,
        }  # fmt: skip


def instructions() -> Iterator[dict[str, object]]:
    """Rows of instructions.jsonl."""
    for language, items in (("en", INSTRUCTIONS_EN), ("zh", INSTRUCTIONS_ZH)):
        for i, (prompt, response) in enumerate(items):
            yield {
                "id": f"demo/instr_{language}_{i:03d}", "language": language,
                "prompt": prompt, "response": response, **LICENSE,
            }  # fmt: skip


def dialogues() -> Iterator[dict[str, object]]:
    """Rows of dialogues.jsonl: every exchange in English, then in Chinese."""
    for language in VOICES:
        for i, exchange in enumerate(EXCHANGES):
            turns = [
                {
                    "role": role,
                    "language": language,
                    "text": pair.en if language == "en" else plain_zh(pair.zh),
                    "audio": f"audio/{language}/{letter}{i:02d}.ogg",
                }
                for role, letter, pair in (
                    ("user", "q", exchange.question),
                    ("assistant", "a", exchange.answer),
                )
            ]
            key = f"demo/qa_{language}_{i:02d}"
            yield {"id": key, "parallel_id": f"qa_{i:02d}", **LICENSE, "turns": turns}


def write_jsonl(path: Path, rows: Iterator[dict[str, object]]) -> None:
    """One JSON object a line."""
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def main() -> None:
    """Write every file but README.md and LICENSE anew."""
    shutil.rmtree(OUT / "audio", ignore_errors=True)
    synthesiser = Synthesiser()
    for language in VOICES:
        (OUT / "audio" / language).mkdir(parents=True)
        rows, times = [], []
        for name, pair, voice_key in spoken_texts():
            voice = _hash(f"voice|{language}|{voice_key}") % 3 + (name[0] == "a")
            row, words = utterance(
                synthesiser, pair, language=language, name=name, voice=voice, out=OUT
            )
            rows.append(row)
            times.append(words)
        write_jsonl(OUT / f"speech_{language}.jsonl", iter(rows))
        write_jsonl(OUT / f"speech_{language}.align.jsonl", iter(times))
    write_jsonl(OUT / "bitext_en_zh.jsonl", bitext())
    write_jsonl(OUT / "instructions.jsonl", instructions())
    write_jsonl(OUT / "dialogues.jsonl", dialogues())


if __name__ == "__main__":
    main()
