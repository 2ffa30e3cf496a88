"""espeak-ng as a backend: formant speech of some hundred languages, without any download.

A text goes to the program on its stdin, its sound comes back as a WAV file; the same text and voice
give the same samples, the seed changes nothing. Mandarin is read from pinyin, Latin words in it by
the English voice of the same person. Japanese is read from kana: kanji are refused.
"""

# T samples

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.synthesis.backend import BackendOptions, Speech, UnspeakableError
from cslm_data.synthesis.espeak_voices import (
    PINYIN,
    EspeakVoice,
    listed_variants,
    listed_voices,
    people_of,
    person_of,
    voice_of,
)
from cslm_data.synthesis.mandarin import read_mandarin
from cslm_data.synthesis.programs import run_program
from cslm_data.text.scripts import language_scripts

_PROGRAM = "espeak-ng"
_LATIN_VOICE = "en-us"
_ENDS_CLAUSE = (".", ",", "!", "?")

_SCRIPTS = """
    Arab=ARABIC Armn=ARMENIAN Beng=BENGALI Bopo=BOPOMOFO Cyrl=CYRILLIC Deva=DEVANAGARI
    Ethi=ETHIOPIC Geor=GEORGIAN Grek=GREEK Gujr=GUJARATI Guru=GURMUKHI Hang=HANGUL Hani=CJK
    Hebr=HEBREW Hira=HIRAGANA Kana=KATAKANA Khmr=KHMER Knda=KANNADA Laoo=LAO Latn=LATIN
    Mlym=MALAYALAM Mong=MONGOLIAN Mymr=MYANMAR Orya=ORIYA Sinh=SINHALA Taml=TAMIL Telu=TELUGU
    Thaa=THAANA Thai=THAI Tibt=TIBETAN Yiii=YI
"""
"""ISO 15924 = the first word of the names of its letters in Unicode."""
_SCRIPT_NAMES = dict(pair.split("=") for pair in _SCRIPTS.split())
_KNOWN_SCRIPTS = frozenset(_SCRIPT_NAMES.values())
_NO_KANJI = frozenset({"ja", "ko"})
"""Languages whose Chinese characters espeak-ng cannot read."""


@dataclass(frozen=True, kw_only=True)
class EspeakBackend:
    """espeak-ng of this machine."""

    program: str
    version: str
    installed: frozenset[str]
    variants: frozenset[str]
    time_limit_s: float

    @property
    def name(self) -> str:
        """See Backend."""
        return "espeak"

    @property
    def identity(self) -> dict[str, object]:
        """See Backend. Its version is in `made_by`: a newer one is no other speaker."""
        return {"backend": "espeak"}

    @property
    def made_by(self) -> str:
        """See Backend."""
        return self.version

    def voices(self, language: str) -> tuple[str, ...]:
        """See Backend."""
        return people_of(voice_of(language, self.installed))

    def find_voice(self, name: str, language: str) -> str:
        """See Backend: a variant of the language's voice (`f3`), or a voice as a whole."""
        base = voice_of(language, self.installed)
        if name in self.variants:
            return str(person_of(base, name))
        voice = EspeakVoice.parse(name)
        if voice.voice not in self.installed:
            raise UsageError(
                f"--voices {name}: espeak-ng has no voice {voice.voice!r}; see espeak-ng --voices"
            )
        if voice.variant and voice.variant not in self.variants:
            raise UsageError(
                f"--voices {name}: espeak-ng has no variant {voice.variant!r}; there are "
                f"{' '.join(sorted(self.variants))}"
            )
        if base == PINYIN and voice.voice != PINYIN:
            raise UsageError(f"--voices {name}: Mandarin needs the voice {PINYIN}")
        return str(voice)

    def speak(self, text: str, *, language: str, voice: str, seed: int) -> Speech:
        """See Backend. Raises UnspeakableError: `unsupported_text`, `tts_failed`, `bad_audio`."""
        person = EspeakVoice.parse(voice)
        check_script(text, language)
        if person.voice != PINYIN:
            return self._say(_without_phonemes(text), person, person.voice)
        spoken = [
            self._say(stretch.text, person, PINYIN if stretch.is_pinyin else _LATIN_VOICE)
            for stretch in read_mandarin(text)
        ]
        if not spoken:
            raise UnspeakableError("no_words", "nothing in the text is spoken")
        whole_T = np.concatenate([speech.samples_T for speech in spoken])
        return Speech(samples_T=whole_T, sample_rate_hz=spoken[0].sample_rate_hz)

    def _say(self, text: str, person: EspeakVoice, voice: str) -> Speech:
        with tempfile.TemporaryDirectory(prefix="cslm-tts-") as folder:
            out = Path(folder) / "out.wav"
            arguments = [self.program, "-b", "1", "-s", str(person.speed), "-p", str(person.pitch)]
            arguments += ["-v", f"{voice}+{person.variant}" if person.variant else voice]
            arguments += ["-w", str(out), "--stdin"]
            if not text.rstrip().endswith(_ENDS_CLAUSE):
                arguments.append("-z")
            run_program(arguments, text=text + "\n", time_limit_s=self.time_limit_s)
            return _read_wav(out)


def load_espeak(options: BackendOptions) -> EspeakBackend:
    """espeak-ng as it is installed. Raises MissingArtefactError where it is not."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise MissingArtefactError(
            "--backend espeak: there is no program espeak-ng; install it (Debian, Ubuntu: apt "
            "install espeak-ng; macOS: brew install espeak-ng), or take another backend (--command)"
        )
    version = _ask(program, "--version")
    found = re.search(r"(\d+(?:\.\d+)+)", version)
    return EspeakBackend(
        program=program,
        version=f"espeak-ng {found[1] if found else 'of unknown version'}",
        installed=listed_voices(_ask(program, "--voices")),
        variants=listed_variants(_ask(program, "--voices=variant")),
        time_limit_s=options.time_limit_s,
    )


def check_script(text: str, language: str) -> None:
    """Raise UnspeakableError for letters that the voices of a language would only name.

    Latin letters are read in every language, as English where they are foreign.
    """
    scripts = language_scripts().get(language)
    if scripts is None:
        return
    read = {"LATIN", *(_SCRIPT_NAMES[each] for each in scripts if each in _SCRIPT_NAMES)}
    if language in _NO_KANJI:
        read.discard("CJK")
    for letter in unicodedata.normalize("NFKC", text):
        if letter.isascii() or not letter.isalpha():
            continue
        script = unicodedata.name(letter, "").split(" ")[0].split("-")[0]
        if script in _KNOWN_SCRIPTS and script not in read:
            why = f"espeak-ng cannot read {letter!r} in {language}"
            if language == "ja" and script == "CJK":
                why += ": of Japanese it reads kana alone"
            raise UnspeakableError("unsupported_text", why)


def _without_phonemes(text: str) -> str:
    """`[[` begins phonemes for espeak-ng; a text means brackets."""
    return re.sub(r"\[(?=\[)", "[ ", text)


def _read_wav(path: Path) -> Speech:
    import soundfile

    if not path.is_file():
        raise UnspeakableError("bad_audio", "espeak-ng ended well, but wrote no sound")
    samples_T: NDArray[np.int16]
    try:
        samples_T, sample_rate_hz = soundfile.read(path, dtype="int16")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UnspeakableError("bad_audio", f"espeak-ng wrote no WAV file ({error})") from None
    if samples_T.ndim != 1 or not samples_T.any():
        raise UnspeakableError("bad_audio", "espeak-ng said nothing but silence")
    return Speech(samples_T=samples_T, sample_rate_hz=int(sample_rate_hz))


def _ask(program: str, option: str) -> str:
    """What it prints. Raises MissingArtefactError where it does not run."""
    try:
        done = subprocess.run([program, option], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingArtefactError(
            f"--backend espeak: {program} {option} does not run ({error}); install espeak-ng anew"
        ) from None
    return done.stdout.decode("utf-8", "replace")
