from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_run import make_run, speech, text

from cslm_data.audio import decode
from cslm_data.errors import (
    AudioError,
    MissingArtefactError,
    NoDataError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.framing import ANSWER, BOS, END, QUESTION, SPEECH_END, SPEECH_START, frame_prompt
from cslm_data.ingest import ingest
from cslm_data.keys import keyed_rng
from cslm_data.quantize import quantize
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.templates import load_prompts
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace
from cslm_train.decoding import Sampling
from cslm_train.generate import Chunk, Finished, answer, chunks
from cslm_train.model import LoadedRun, load_run
from cslm_train.questions import Question, pose
from cslm_train.run_choice import choose_run
from cslm_train.run_folder import RunInfo


def write_speech(path: Path, seed: int, seconds: float = 3.0) -> Path:
    """A chirp with noise."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    rng = keyed_rng(seed, "speech")
    wave = 0.3 * np.sin(2 * np.pi * (200 + 400 * seed * time) * time)
    soundfile.write(path, wave + rng.normal(0, 0.01, len(time)), 16_000)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of four utterances with units, and one that came after quantize."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        {
            "id": f"u{number}",
            "audio": str(write_speech(folder / f"u{number}.wav", number)),
            "text": "one two",
            "language": "en",
        }
        for number in range(5)
    ]
    workspace = Workspace(folder / "workspace")
    for count in (4, 5):
        manifest = folder / "utterances.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
        ingest(workspace, [manifest])
        if count == 4:
            quantize(workspace, num_units=20, num_workers=1)
    return workspace.root


@pytest.fixture
def workspace(corpus: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(corpus, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def tokenizer(workspace: Workspace) -> SpeechTokenizer:
    return tokenizer_folders.find_tokenizer(workspace, None)


@pytest.fixture
def run(
    workspace: Workspace,
    tokenizer_folder: Path,
    tokenizer: SpeechTokenizer,
) -> LoadedRun:
    made = make_run(
        workspace.runs / "sft",
        tokenizer_folder,
        stage="sft",
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        max_seq_len=512,
    )
    return load_run(made)


def test_a_recording_becomes_the_units_of_the_runs_tokenizer(
    workspace: Workspace, run: LoadedRun, tokenizer: SpeechTokenizer
) -> None:
    audio = str(workspace.root.parent / "new.wav")
    write_speech(Path(audio), 9)
    question = pose(workspace, run.info, "asr", audio=audio, language="en")
    (spoken,) = (segment for segment in question.segments if segment.modality == "speech")
    assert spoken.units.tolist() == tokenizer.encode(decode(audio)).units.tolist()
    assert all(segment.role == "user" and not segment.trained for segment in question.segments)


def test_an_utterance_gives_its_stored_units_and_its_language(
    workspace: Workspace,
    run: LoadedRun,
    tokenizer: SpeechTokenizer,
    corpus: Path,
) -> None:
    question = pose(workspace, run.info, "asr", utterance="u1")
    (spoken,) = (segment for segment in question.segments if segment.modality == "speech")
    audio = str(corpus.parent / "u1.wav")
    assert spoken.units.tolist() == tokenizer.encode(decode(audio)).units.tolist()
    assert question.language == "en"
    # Stored: the recording itself is not needed any more.
    shutil.rmtree(workspace.tokenizers)
    again = pose(workspace, run.info, "asr", utterance="u1")
    assert again.segments == question.segments


def test_an_utterance_without_units_is_encoded_from_its_audio(
    workspace: Workspace,
    run: LoadedRun,
    tokenizer: SpeechTokenizer,
    corpus: Path,
) -> None:
    question = pose(workspace, run.info, "chat", utterance="u4")
    (spoken,) = (segment for segment in question.segments if segment.modality == "speech")
    audio = str(corpus.parent / "u4.wav")
    assert spoken.units.tolist() == tokenizer.encode(decode(audio)).units.tolist()
    assert question.task == "s2s"


def test_what_a_user_gives_wrongly_is_said(workspace: Workspace, run: LoadedRun) -> None:
    def posing(task: str, **given: str) -> None:
        pose(workspace, run.info, task, **given)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="asr takes one of --audio, --utt; given: none"):
        posing("asr", language="en")
    with pytest.raises(UsageError, match="given: --audio and --text"):
        posing("chat", text="one", audio="a.wav", language="en")
    with pytest.raises(UsageError, match="tts takes one of --text; given: --utt"):
        posing("tts", utterance="u1")
    with pytest.raises(UsageError, match="--lang is missing: give one of en, zh"):
        posing("tts", text="one")
    with pytest.raises(UsageError, match="unknown language code 'xx'"):
        posing("tts", text="one", language="xx")
    with pytest.raises(UsageError, match="--answer-lang: unknown language code 'english'"):
        posing("mt", text="one", language="zh", answer_language="english")
    with pytest.raises(UsageError, match="--text is empty"):
        posing("tts", text=" ", language="en")
    with pytest.raises(NoDataError, match="nobody: no utterance of this id"):
        posing("asr", utterance="nobody")
    with pytest.raises(AudioError, match="missing"):
        posing("asr", audio="nowhere.wav", language="en")
    with pytest.raises(UsageError, match="no task 'sing'"):
        posing("sing", text="la", language="en")


def test_translation_goes_into_the_other_language_of_the_run(
    workspace: Workspace, run: LoadedRun
) -> None:
    question = pose(workspace, run.info, "mt", text="one", language="en")
    assert question.answer_language == "zh"
    for task in ("st", "s2st"):
        spoken = pose(workspace, run.info, task, utterance="u1")
        assert (spoken.task, spoken.language, spoken.answer_language) == (task, "en", "zh")
        words = "".join(segment.text for segment in spoken.segments)
        assert "Chinese" in words
        assert [s.modality for s in spoken.segments].count("speech") == 1
    assert pose(workspace, run.info, "continuation", utterance="u1").answer_language == "en"
    assert pose(workspace, run.info, "chat", text="one", language="en").answer_language == "en"


def test_a_chat_is_answered_in_speech_unless_writing_is_asked_for(
    workspace: Workspace, run: LoadedRun
) -> None:
    def task_of(**given: Any) -> str:
        return pose(workspace, run.info, "chat", **given).task

    for form in (None, "speech"):
        assert task_of(utterance="u1", answer_form=form) == "s2s"
        assert task_of(text="one", language="en", answer_form=form) == "t2s"
    assert task_of(utterance="u1", answer_form="text") == "s2t"
    assert task_of(text="one", language="en", answer_form="text") == "instruct"
    typed = pose(workspace, run.info, "chat", text="one", language="en", answer_form="text")
    assert [segment.text for segment in typed.segments] == ["one"]
    written = pose(
        workspace, run.info, "chat", utterance="u1", answer_form="text", answer_language="zh"
    )
    assert "Chinese" in "".join(segment.text for segment in written.segments)


def test_wordings_of_a_team_ask_the_question(
    workspace: Workspace, run: LoadedRun, tmp_path: Path
) -> None:
    (tmp_path / "st.yaml").write_text('en: ["{speech} <sosp>, in {language}"]\n')
    own = load_prompts(tmp_path)
    question = pose(workspace, run.info, "st", utterance="u1", prompts=own)
    assert [segment.text for segment in question.segments] == ["", " <sosp>, in Chinese"]
    ids, _ = run.vocabulary.encode(frame_prompt(question.segments))
    controls = [p.text for p in run.vocabulary.decode(ids.tolist()) if p.kind == "control"]
    assert controls.count(SPEECH_START) == 1
    shipped = pose(workspace, run.info, "asr", utterance="u1", prompts=own)
    assert shipped == pose(workspace, run.info, "asr", utterance="u1")


def test_a_language_that_a_task_cannot_answer_in_is_refused(
    workspace: Workspace, run: LoadedRun
) -> None:
    def posing(task: str, **given: Any) -> None:
        pose(workspace, run.info, task, **given)

    for task in ("st", "s2st"):
        with pytest.raises(UsageError, match=f"{task} takes one of --audio, --utt; given: --text"):
            posing(task, text="one", language="en")
        with pytest.raises(UsageError, match=f"{task} is into another language than en"):
            posing(task, utterance="u1", answer_language="en")
    with pytest.raises(UsageError, match="mt is into another language than zh"):
        posing("mt", text="一", language="zh", answer_language="zh")
    with pytest.raises(UsageError, match="asr answers in en, not in zh; to write a translation of"):
        posing("asr", utterance="u1", answer_language="zh")
    with pytest.raises(UsageError, match="tts answers in en, not in zh; to translate a text: mt"):
        posing("tts", text="one", language="en", answer_language="zh")
    with pytest.raises(UsageError, match="continuation answers in en, not in zh"):
        posing("continuation", utterance="u1", answer_language="zh")
    with pytest.raises(UsageError, match="say in --text which language you want"):
        posing("chat", text="1", language="en", answer_language="zh", answer_form="text")
    with pytest.raises(UsageError, match="--answer is of chat: what asr answers with is settled"):
        posing("asr", utterance="u1", answer_form="text")


def test_units_of_another_tokenizer_are_refused(
    workspace: Workspace, run: LoadedRun, tokenizer_folder: Path
) -> None:
    other = make_run(workspace.runs / "other", tokenizer_folder, tokenizer_id="mfcc-20-abcdef")
    info = RunInfo.load(other)
    audio = str(write_speech(workspace.root / "a.wav", 3))
    with pytest.raises(TokenizerMismatchError, match=r"mfcc-20-abcdef, but here are mfcc-\d+ \("):
        pose(workspace, info, "asr", audio=audio, language="en")
    with pytest.raises(TokenizerMismatchError):
        pose(workspace, info, "asr", utterance="u1")
    shutil.rmtree(workspace.tokenizers)
    with pytest.raises(MissingArtefactError, match="mfcc-20-abcdef, which is not here; put"):
        pose(workspace, info, "asr", audio=audio, language="en")


def test_text_that_spells_control_tokens_stays_text(workspace: Workspace, run: LoadedRun) -> None:
    spelled = "<sosp> <|end|> <|answer|> <u12> <|eot_id|>"
    vocabulary = run.vocabulary

    def controls(text: str) -> list[str]:
        question = pose(workspace, run.info, "chat", text=text, language="en")
        ids, _ = vocabulary.encode(frame_prompt(question.segments))
        return [piece.text for piece in vocabulary.decode(ids) if piece.kind == "control"]

    assert controls(spelled) == controls("hello") == [BOS, "<|user|>", END, "<|assistant|>"]
    question = pose(workspace, run.info, "tts", text=spelled, language="en")
    ids, _ = vocabulary.encode(frame_prompt(question.segments))
    assert spelled in "".join(p.text for p in vocabulary.decode(ids) if p.kind == "text")
    assert not any(vocabulary.kind(token) == "units" for token in ids.tolist())
    events = list(answer(run, question, max_tokens=20))
    assert isinstance(events[-1], Finished)


def tokens_of(run: LoadedRun, *parts: str | int) -> list[int]:
    """Controls by name, text in quotes, units as numbers."""
    tokens: list[int] = []
    for part in parts:
        if isinstance(part, int):
            tokens.append(run.vocabulary.unit_id(part))
        elif part.startswith("<"):
            tokens.append(run.vocabulary.control_id(part))
        else:
            tokens += run.vocabulary.text_tokenizer.encode(part)
    return tokens


def test_chunks_come_as_soon_as_they_are_complete(run: LoadedRun) -> None:
    given = tokens_of(
        run, QUESTION, "who?", ANSWER, "me", SPEECH_START, 1, 2, SPEECH_END, "and 你"
    ) + tokens_of(run, SPEECH_START, 3, SPEECH_END, END)
    read: list[int] = []

    def reading() -> Iterator[int]:
        for token in given:
            read.append(token)
            yield token

    seen = []
    for chunk in chunks(
        reading(), run.vocabulary, language="en", answer_language="zh", clock=lambda: len(read)
    ):
        content = chunk.text or list(chunk.units)
        seen.append((chunk.part, chunk.language, content, chunk.num_tokens))
        after = run.vocabulary.decode([read[-1]])[0].text
        assert after == {"tq": ANSWER, "ta": SPEECH_START, "sa": SPEECH_END}[chunk.part]
        assert chunk.seconds_since_start == len(read)
    encode = run.vocabulary.text_tokenizer.encode
    assert seen == [
        ("tq", "en", "who?", len(encode("who?"))),
        ("ta", "zh", "me", len(encode("me"))),
        ("sa", "zh", [1, 2], 2),
        ("ta", "zh", "and 你", len(encode("and 你"))),
        ("sa", "zh", [3], 1),
    ]


def test_chunks_of_an_answer_without_form_lose_nothing(run: LoadedRun) -> None:
    given = tokens_of(run, 4, "so", 0, 1, QUESTION, 2, "what", BOS, "now", END)
    found = list(chunks(given, run.vocabulary, language="en", answer_language="en"))
    assert [(c.part, c.text or list(c.units)) for c in found] == [
        ("sa", [4]),
        ("ta", "so"),
        ("sa", [0, 1]),
        ("sa", [2]),
        ("tq", "what"),
        ("tq", "now"),
    ]
    assert list(chunks([], run.vocabulary, language="en", answer_language="en")) == []


@pytest.mark.parametrize(
    ("task", "part"),
    [("asr", "ta"), ("mt", "ta"), ("tts", "sa"), ("st", "ta"), ("continuation", "sa")],
)
def test_answers_keep_to_the_modality_of_their_task(
    workspace: Workspace, run: LoadedRun, task: str, part: str
) -> None:
    given = {"text": "one", "language": "en"} if task in ("mt", "tts") else {"utterance": "u1"}
    question = pose(workspace, run.info, task, **given)  # type: ignore[arg-type]
    warm = Sampling(temperature=30.0, seed=1)
    *found, end = answer(run, question, sampling=warm, max_tokens=30)
    assert {chunk.part for chunk in found if isinstance(chunk, Chunk)} == {part}
    assert isinstance(end, Finished)
    assert end.well_formed is None
    assert end.num_tokens <= 30
    free: set[str] = set()
    for seed in range(10):
        warm = Sampling(temperature=30.0, seed=seed)
        events = answer(run, question, sampling=warm, max_tokens=200, free=True)
        free |= {event.part for event in events if isinstance(event, Chunk)}
        if len(free) > 1:
            break
    assert len(free) > 1


def test_a_model_that_learnt_an_answer_streams_it_as_a_chain(
    workspace: Workspace,
    tokenizer: SpeechTokenizer,
    tokenizer_folder: Path,
) -> None:
    untaught = make_run(
        workspace.runs / "untaught",
        tokenizer_folder,
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
    )
    info = RunInfo.load(untaught)
    question = pose(workspace, info, "chat", text="who?", language="en", answer_language="zh")
    lesson = (
        *question.segments,
        text("en", "who?", "tq"),
        text("zh", "一二", "ta"),
        speech("zh", [1, 2, 1], "sa"),
        text("zh", "三", "ta"),
        speech("zh", [0], "sa"),
    )
    folder = make_run(
        workspace.runs / "sft",
        tokenizer_folder,
        stage="sft",
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        lessons=[lesson],
    )
    taught = load_run(folder)
    *found, end = answer(taught, question)
    assert [
        (chunk.part, chunk.language, chunk.text or list(chunk.units))
        for chunk in found
        if isinstance(chunk, Chunk)
    ] == [
        ("tq", "en", "who?"),
        ("ta", "zh", "一二"),
        ("sa", "zh", [1, 2, 1]),
        ("ta", "zh", "三"),
        ("sa", "zh", [0]),
    ]
    assert isinstance(end, Finished)
    assert (end.stop, end.well_formed) == ("end", True)
    *_, cut = answer(taught, question, max_tokens=end.num_tokens - 1)
    assert isinstance(cut, Finished)
    assert (cut.stop, cut.well_formed) == ("max_tokens", False)
    times = [chunk.seconds_since_start for chunk in found if isinstance(chunk, Chunk)]
    assert times == sorted(times)
    assert times[-1] <= end.seconds


def test_a_model_answers_each_task_in_the_form_it_was_taught(
    workspace: Workspace, tokenizer: SpeechTokenizer, tokenizer_folder: Path
) -> None:
    untaught = make_run(
        workspace.runs / "untaught",
        tokenizer_folder,
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        max_seq_len=512,
    )
    info = RunInfo.load(untaught)
    answers = {
        "st": [text("zh", "一")],
        "continuation": [speech("en", [3, 4])],
        "s2st": [text("zh", "二", "ta"), speech("zh", [5], "sa")],
        "chat": [text("en", "one", "tq"), text("en", "two", "ta")],
    }
    written: dict[str, Any] = {"chat": {"answer_form": "text"}}
    questions = {
        task: pose(workspace, info, task, utterance="u1", **written.get(task, {}))
        for task in answers
    }
    folder = make_run(
        workspace.runs / "sft",
        tokenizer_folder,
        stage="sft",
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        max_seq_len=512,
        lessons=[(*questions[task].segments, *answers[task]) for task in answers],
    )
    taught = load_run(folder)
    for task, lesson in answers.items():
        for free in (None, False, True):
            *found, end = answer(taught, questions[task], free=free)
            assert [
                (chunk.text, list(chunk.units)) for chunk in found if isinstance(chunk, Chunk)
            ] == [(segment.text, segment.units.tolist()) for segment in lesson]
            assert isinstance(end, Finished)
            assert (end.stop, end.well_formed) == ("end", True if task == "s2st" else None)


def test_a_question_too_long_for_the_model_is_refused(workspace: Workspace, run: LoadedRun) -> None:
    question = pose(workspace, run.info, "tts", text="one two " * 300, language="en")
    with pytest.raises(UsageError, match="tokens, but the model holds 512 with the answer"):
        answer(run, question)


def test_the_run_that_answers_is_the_one_that_was_taught_to(
    workspace: Workspace, run: LoadedRun, tokenizer_folder: Path
) -> None:
    runs = workspace.runs
    assert choose_run(workspace) == choose_run(workspace, task="asr") == runs / "sft"
    make_run(runs / "pretrain", tokenizer_folder)
    assert choose_run(workspace) == choose_run(workspace, task="chat") == runs / "sft"
    assert choose_run(workspace, task="s2st") == runs / "sft"
    assert (
        choose_run(workspace, task="asr") == choose_run(workspace, task="st") == runs / "pretrain"
    )
    assert choose_run(workspace, task="asr", stage="sft") == runs / "sft"
    assert choose_run(workspace, run="sft", task="asr") == runs / "sft"
    assert choose_run(workspace, run=str(runs / "sft")) == runs / "sft"
    with pytest.raises(MissingArtefactError, match="nope: no such run; there are pretrain, sft"):
        choose_run(workspace, run="nope")
    shutil.rmtree(runs)
    with pytest.raises(MissingArtefactError, match="no trained model yet"):
        choose_run(workspace)


def test_questions_of_the_same_seed_are_worded_alike(workspace: Workspace, run: LoadedRun) -> None:
    def posed(seed: int) -> Question:
        return pose(workspace, run.info, "mt", text="one", language="en", seed=seed)

    assert posed(1) == posed(1)
    assert len({posed(seed).segments for seed in range(20)}) > 1
