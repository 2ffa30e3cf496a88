"""Backends: espeak-ng, a program of the user's, a Python callable."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from small_files import write_tone
from spoken_workspace import command_of, needs_espeak

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.synthesis import load_backend
from cslm_data.synthesis.backend import BackendOptions, UnspeakableError
from cslm_data.synthesis.choosing import find_voices


def say(backend, text, language="en", voice=None):
    voice = voice or backend.voices(language)[0]
    return backend.speak(text, language=language, voice=voice, seed=0)


@pytest.fixture(scope="module")
def espeak():
    return load_backend("espeak", BackendOptions())


# ----------------------------------------------------------------------------- espeak-ng
@needs_espeak
def test_the_same_text_and_voice_give_the_same_samples(espeak):
    first, again = say(espeak, "Good morning."), say(espeak, "Good morning.")
    assert first.samples_T.dtype == np.int16
    np.testing.assert_array_equal(first.samples_T, again.samples_T)
    assert 0.5 < first.duration_s < 2.0


@needs_espeak
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_two_voices_of_a_language_sound_the_same(espeak, language):
    text = {"en": "Hello.", "zh": "你好。"}[language]
    voices = espeak.voices(language)
    sounds = {say(espeak, text, language, voice).samples_T.tobytes() for voice in voices}
    assert len(sounds) == len(voices) == 12


@needs_espeak
def test_mandarin_takes_as_long_as_its_syllables(espeak):
    # Speakers of Mandarin say 4 to 7 syllables a second, espeak-ng at 160 wpm rather fewer; the
    # Hanzi themselves, misread, are spelled out as letters of a foreign script.
    text = "我们今天下午去图书馆看书，然后一起吃晚饭。"
    per_s = 19 / say(espeak, text, "zh").duration_s
    assert 3 < per_s < 7
    tone1, tone4 = say(espeak, "妈", "zh"), say(espeak, "骂", "zh")
    assert tone1.samples_T.tobytes() != tone4.samples_T.tobytes()


@needs_espeak
@pytest.mark.parametrize(
    "text",
    [
        "; touch HACKED",
        "$(touch HACKED) `touch HACKED`",
        "-w HACKED --stdin",
        "<voice name='xx'><audio src='/etc/passwd'/>hi",
        "[[h@l'oU]] there",
        "[[[[hi",
    ],
)
def test_hostile_text_is_spoken_and_never_obeyed(espeak, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speech = say(espeak, text)
    assert speech.duration_s > 0.3
    assert list(tmp_path.iterdir()) == []


@needs_espeak
def test_phonemes_in_brackets_are_text(espeak, tmp_path):
    text = "[[n'oU]] thanks"
    out = tmp_path / "raw.wav"
    options = ["-b", "1", "-s", "160", "-p", "50", "-v", "en-us+m1", "-z", "-w", out, "--stdin"]
    subprocess.run(["espeak-ng", *options], input=text.encode(), check=True)
    obeyed, _ = soundfile.read(out, dtype="int16")
    spoken = say(espeak, text, voice="en-us+m1:160:50").samples_T
    # "no thanks" as phonemes; letter by letter it takes longer.
    assert len(spoken) > 1.2 * len(obeyed)


@needs_espeak
def test_languages_it_does_not_speak_are_named(espeak):
    for language, why in (("th", "written without spaces"), ("gl", "has no voice 'gl'")):
        with pytest.raises(UsageError, match=f"--langs {language}.*{why}"):
            espeak.voices(language)
    with pytest.raises(UnspeakableError, match="kana alone"):
        say(espeak, "日本", "ja")
    assert say(espeak, "こんにちは", "ja").duration_s > 0.3


@needs_espeak
def test_voices_may_be_a_number_or_names(espeak):
    assert len(find_voices(espeak, ["en", "zh"], 3)["zh"]) == 3
    chosen = find_voices(espeak, ["en", "zh"], ["f3", "en=en-gb+m2:150:40"])
    assert chosen == {
        "en": ("en-us+f3:160:44", "en-gb+m2:150:40"),
        "zh": ("cmn-latn-pinyin+f3:160:44",),
    }
    for wanted in (0, 99, ["nobody"], ["en-us+nobody"], ["xx+f3"], ["-v"], ["en-us+f3:5"]):
        with pytest.raises(UsageError, match="--voices"):
            find_voices(espeak, ["en"], wanted)
    with pytest.raises(UsageError, match="none of them is for zh"):
        find_voices(espeak, ["zh"], ["en=f3"])
    with pytest.raises(UsageError, match="Mandarin needs"):
        find_voices(espeak, ["zh"], ["en-us+f3"])


def test_without_the_program_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingArtefactError, match="apt install espeak-ng"):
        load_backend("espeak", BackendOptions())


# ----------------------------------------------------------------------------- a command
def test_a_command_gets_the_text_on_stdin_and_in_a_file(tmp_path):
    program = tmp_path / "check.py"
    program.write_text(
        "import sys, shutil\n"
        "text = sys.stdin.buffer.read()\n"
        "assert text == open(sys.argv[1], 'rb').read() == 'é; $(x)\\n'.encode()\n"
        "assert sys.argv[3:] == ['--of=zh', 'two words', '7'], sys.argv\n"
        f"shutil.copy({str(tmp_path / 'a.wav')!r}, sys.argv[2])\n"
    )
    write_tone(tmp_path / "a.wav", seconds=0.25, rate=24000, channels=2)
    template = f"{sys.executable} {program} {{text_file}} {{out}} --of={{language}} {{voice}} "
    backend = load_backend("command", BackendOptions(command=template + "{seed}"))
    speech = backend.speak("é; $(x)", language="zh", voice="two words", seed=7)
    assert (speech.sample_rate_hz, speech.duration_s) == (24000, 0.25)


def test_what_a_command_does_wrong_is_said_with_its_own_words(tmp_path):
    template, _ = command_of(tmp_path)
    backend = load_backend("command", BackendOptions(command=template, time_limit_s=0.5))
    expected = {
        "crash": ("tts_failed", "exit status 1: this text makes me ill"),
        "mute": ("bad_audio", "wrote no sound"),
    }
    quick = load_backend("command", BackendOptions(command=template))
    for text, (reason, detail) in expected.items():
        with pytest.raises(UnspeakableError) as refusal:
            say(quick, text, voice="v")
        assert (refusal.value.reason, detail in refusal.value.detail) == (reason, True)
    begun = time.monotonic()
    with pytest.raises(UnspeakableError, match="tts_timeout: .*longer than 0.5 s"):
        say(backend, "sleep", voice="v")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("template", "error"),
    [
        (None, "say which with --command"),
        ("", "say which with --command"),
        ("cat {text_file}", "has no {out}"),
        ("cat {out} {speaker}", "unknown {speaker}"),
        ("cat 'x {out}", "quotes"),
        ("{voice} {out}", "begins with a placeholder"),
    ],
)
def test_templates_that_make_no_sense_are_refused(template, error):
    with pytest.raises(UsageError) as refusal:
        load_backend("command", BackendOptions(command=template))
    assert error in str(refusal.value)


def test_a_command_that_is_not_there_and_voices_it_has_no_place_for():
    with pytest.raises(MissingArtefactError, match="no program 'no-such-tts'"):
        load_backend("command", BackendOptions(command="no-such-tts {out}"))
    plain = load_backend("command", BackendOptions(command="cat {out}"))
    assert plain.voices("en") == ("default",)
    with pytest.raises(UsageError, match="no {voice}"):
        find_voices(plain, ["en"], ["amy"])
    with pytest.raises(UsageError, match="say which there are with --voices"):
        find_voices(load_backend("command", BackendOptions(command="cat {out} {voice}")), ["en"], 1)


# ----------------------------------------------------------------------------- a callable
def test_a_python_callable_speaks_and_its_faults_are_rejects():
    backend = load_backend("spoken_workspace:sine", BackendOptions())
    assert backend.name == "spoken-workspace-sine"
    speech = say(backend, "seven c")
    assert (speech.sample_rate_hz, speech.duration_s) == (16000, 0.7)
    assert abs(int(speech.samples_T.max()) - round(0.5 * 32767)) < 20
    faults = {
        "raise": "tts_failed: spoken_workspace:sine: RuntimeError: no such luck",
        "nan": "bad_audio: .*finite",
        "stereo": r"bad_audio: .*\(100, 2\)",
        "nothing": "bad_audio: .*expected back",
    }
    for text, why in faults.items():
        with pytest.raises(UnspeakableError, match=why):
            say(backend, text)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("nobody", "no such backend; there are command, espeak"),
        ("no_such_module:f", "cannot be loaded"),
        ("spoken_workspace:nothing", "cannot be loaded"),
        ("spoken_workspace:PROGRAM", "is no function"),
    ],
)
def test_a_backend_that_is_not_there_is_named(spec, error):
    with pytest.raises(UsageError, match=error):
        load_backend(spec, BackendOptions())
