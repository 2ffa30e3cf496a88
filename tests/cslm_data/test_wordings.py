from __future__ import annotations

import itertools
import pickle
import re
from pathlib import Path

import pytest

from cslm_data.errors import UsageError
from cslm_data.languages import ISO_639_1, ISO_639_3
from cslm_data.wordings import (
    PROMPT_KINDS,
    Slot,
    Wording,
    load_prompts,
    parse_wording,
    shipped_prompts,
)

LANGUAGES = ["en", "zh", "de", "es", "fr", "ja", "nl"]
SCRIPTS = {"zh": re.compile("[一-鿿]"), "ja": re.compile("[ぁ-ヿ一-鿿]")}
NAMED = Slot("language")


def shape(wording: Wording) -> str:
    """A wording as it is read, whatever the user says in it."""
    shown = {NAMED: "{language}"}
    parts = (part if isinstance(part, str) else shown.get(part, "{}") for part in wording)
    return " ".join("".join(parts).split())


def place(wording: Wording) -> str:
    """Where what the user says stands in a wording."""
    parts = [part for part in wording if part != NAMED]
    if isinstance(parts[0], Slot):
        return "first"
    return "last" if isinstance(parts[-1], Slot) else "middle"


@pytest.mark.parametrize(
    ("kind", "language"), list(itertools.product(sorted(PROMPT_KINDS), LANGUAGES))
)
def test_each_kind_has_eight_wordings_in_each_language(kind: str, language: str) -> None:
    found = shipped_prompts().tables[kind][language]
    assert len({shape(wording).casefold() for wording in found}) >= 8
    for wording in found:
        literals = "".join(part for part in wording if isinstance(part, str))
        assert SCRIPTS.get(language, re.compile("[a-z]")).search(literals)
        slots = [part.name for part in wording if isinstance(part, Slot)]
        assert sorted(slots) == sorted(PROMPT_KINDS[kind])
    if PROMPT_KINDS[kind]:
        assert {place(wording) for wording in found} == {"first", "middle", "last"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_tasks_are_asked_for_in_the_same_words(language: str) -> None:
    tables = shipped_prompts().tables
    asked: dict[str, str] = {}
    for kind, table in tables.items():
        for wording in table[language]:
            words = shape(wording).strip(" .:。：")
            assert asked.setdefault(words, kind) == kind


WRITING = {
    "en": "writ|text",
    "zh": "写|文字",
    "de": "schrieb|schreib|schrift|text",
    "es": "escr[ií]|texto",
    "fr": "[éeè]cri|texte",
    "ja": "書|文字|文章|テキスト",
    "nl": "schrij|schrift|schreven|tekst",
}
SPEAKING = {
    "en": "aloud|speak|speech speech|spoken|language} speech",
    "zh": "说出|口|}语音",
    "de": "laut|sprich|mündlich|sprache zu sprache|gesprochen",
    "es": "voz|oral|hablado|pronuncia",
    "fr": "voix|oral|prononce|parole en parole|à la parole",
    "ja": "声|口頭|話",
    "nl": "hardop|spraak|mondeling|gesproken|spreek",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_wordings_say_whether_writing_or_speech_is_wanted(language: str) -> None:
    tables = shipped_prompts().tables
    for kind in ("st", "chat_text", "chat_text_cross"):
        for wording in tables[kind][language]:
            assert re.search(WRITING[language], shape(wording).casefold()), shape(wording)
    for wording in tables["s2st"][language]:
        assert re.search(SPEAKING[language], shape(wording).casefold()), shape(wording)
        assert not re.search(WRITING[language], shape(wording).casefold()), shape(wording)


def test_languages_are_named_in_each_language_of_the_prompts() -> None:
    names = shipped_prompts().names
    for speaker in LANGUAGES:
        assert set(names[speaker]) == set(names["en"])
        assert len(set(names[speaker].values())) == len(names[speaker])
    assert set(names["en"]) <= ISO_639_1 | ISO_639_3
    assert {"no", "ko", "it", "pt", "sv"} <= set(names["en"])


# --- a team's own ------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_file_of_a_team_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Ours.")
    own = load_prompts(write(tmp_path, asr='en: ["Hark: {speech}"]\nno: ["Hør: {speech}"]\n'))
    assert own.wordings("asr", "en") == (("Hark: ", Slot("speech")),)
    # Not a boolean of YAML 1.1.
    assert own.wordings("asr", "no") == (("Hør: ", Slot("speech")),)
    # The shipped file is replaced as a whole.
    assert own.wordings("asr", "zh") == own.wordings("asr", "en")
    assert own.spoken("asr", "zh") == "en"
    assert own.tables["tts"] == shipped_prompts().tables["tts"]
    assert own.files["asr"] == str(tmp_path / "asr.yaml")
    assert own.language_name("de", kind="mt", language="fr") == "allemand"


def test_names_of_languages_can_be_a_teams_own(tmp_path: Path) -> None:
    own = load_prompts(write(tmp_path, languages="en: {zh: Mandarin}\nfr: {zh: mandarin}\n"))
    assert own.language_name("zh", kind="mt", language="en") == "Mandarin"
    assert own.language_name("zh", kind="mt", language="fr") == "mandarin"
    assert own.language_name("de", kind="mt", language="en") == "de"


def test_the_identity_is_of_what_is_said_and_not_of_how_it_is_written(tmp_path: Path) -> None:
    assert load_prompts().identity == shipped_prompts().identity
    ids = [shipped_prompts().identity]
    for text in ('en: ["a {speech}", "b {speech}"]', 'en: ["b {speech}", "a {speech}"]'):
        ids.append(load_prompts(write(tmp_path, asr=text)).identity)
    assert len(set(ids)) == 3
    noted = "# a note\nen:\n- 'b {speech}'\n- a {speech}\n"
    assert load_prompts(write(tmp_path, asr=noted)).identity == ids[2]
    named = load_prompts(write(tmp_path, asr=noted, languages="en: {zh: Mandarin}"))
    assert named.identity != ids[2]


def test_prompts_go_to_other_processes(tmp_path: Path) -> None:
    own = load_prompts(write(tmp_path, asr='en: ["Hark: {speech}"]'))
    there = pickle.loads(pickle.dumps(own))
    assert there.tables == own.tables
    assert there.identity == own.identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("en:\n  - a {speech}\n  - b\n", "asr.yaml:3: en: wording 'b' must hold each of {speech}"),
        ("en: ['a {speech} {speech}']", "asr.yaml:1: en: wording"),
        ("en: ['a {speech} {language}']", "must hold each of {speech} once and nothing else"),
        ("en: ['a {{speech}}']", "must hold each of {speech} once and nothing else"),
        (
            "en:\n- 'a  {speech}'\n- \"a\\n{speech} \"\n",
            "asr.yaml:3: en: wording 'a\\n{speech} ' is there twice",
        ),
        ("en: []", "asr.yaml:1: en: must be a list of at least one wording"),
        ("en: a {speech}", "asr.yaml:1: en: must be a list of at least one wording"),
        ("en: [{speech}]", "asr.yaml:1: en: must be text in quotes, not 'a list or a table'"),
        ("de: ['a {speech}']\nen: [12]", "asr.yaml:2: en: must be text in quotes, not '12'"),
        ("en: [~]", "asr.yaml:1: en: must be text in quotes"),
        ("en: ['a {speech}']\nen: ['b {speech}']", "asr.yaml:2: en is there twice"),
        ("english: ['a {speech}']", "asr.yaml:1: unknown language code 'english'; "),
        ("[a]: ['a {speech}']", "asr.yaml:1: unknown language code"),
        ("- a {speech}", "asr.yaml:1: must be a list of wordings for each language"),
        ("", "asr.yaml: must be a list of wordings for each language"),
        ("{}", "asr.yaml: holds no wordings of asr"),
        ("en: [a {speech}", "asr.yaml: not YAML ("),
        ("en: ['\x07 {speech}']", "asr.yaml: not YAML ("),
        ("en: !!python/object/apply:os.system ['true']", "en: wording 'true' must hold each of"),
        ("[" * 3000, "asr.yaml: not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_file_line_and_language(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        load_prompts(write(tmp_path, asr=text))
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "asr.yaml"))


def test_a_system_prompt_says_something_and_holds_no_slot(tmp_path: Path) -> None:
    for text, message in [
        ("en: ['You hear {speech}']", "must hold nothing in braces"),
        ("en: [' ']", "system.yaml:1: en: wording ' ' is empty"),
    ]:
        with pytest.raises(UsageError, match=message):
            load_prompts(write(tmp_path, system=text))


def test_a_folder_that_replaces_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: no such folder of prompts; it may hold asr\."):
        load_prompts(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no file of prompts; it may hold asr.yaml, tts"):
        load_prompts(tmp_path)
    unreadable = tmp_path / "asr.yaml"
    unreadable.write_bytes(b"en: ['\xff {speech}']")
    with pytest.raises(UsageError, match=r"asr\.yaml: cannot be read \("):
        load_prompts(tmp_path)
    unreadable.unlink()
    for name in ("ars.yaml", "tts.yml"):
        (tmp_path / name).write_text("en: ['a {text}']")
        with pytest.raises(UsageError, match=rf"{name}: not a file of prompts; there are asr\.yam"):
            load_prompts(tmp_path)
        (tmp_path / name).unlink()


def test_names_of_languages_are_checked_too(tmp_path: Path) -> None:
    for text, message in [
        ("en: German", "languages.yaml:1: must be a table of names in en"),
        ("en: {de: 3}", "languages.yaml:1: en: de: must be text in quotes, not '3'"),
        ("en: {deu: German}", "languages.yaml:1: unknown language code 'deu'"),
    ]:
        with pytest.raises(UsageError) as error:
            load_prompts(write(tmp_path, languages=text))
        assert message in str(error.value)


def test_without_english_there_is_nothing_to_fall_back_to(tmp_path: Path) -> None:
    own = load_prompts(write(tmp_path, asr='de: ["Hör: {speech}"]'))
    assert len(own.wordings("asr", "de")) == 1
    with pytest.raises(UsageError, match=r"asr\.yaml: no wordings in zh, nor in en to use instead"):
        own.wordings("asr", "zh")
    with pytest.raises(ValueError, match="no kind of prompt 'sing'"):
        own.wordings("sing", "en")


def test_a_wording_needs_each_of_its_slots_once() -> None:
    assert parse_wording("a{text}b", slots=("text",), where="f") == ("a", Slot("text"), "b")
    assert parse_wording("a", slots=(), where="f") == ("a",)
    for bad in ("no slot", "{text}{text}", "{text} {other}", "{}{text}", "{text} }"):
        with pytest.raises(UsageError, match="f: wording"):
            parse_wording(bad, slots=("text",), where="f")
