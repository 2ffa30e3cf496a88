from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from spoken_corpus import write_speech
from tiny_run import make_run

from cslm_data.audio import decode
from cslm_data.errors import (
    AudioError,
    MissingArtefactError,
    NoDataError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.framing import SPEECH_START, frame_prompt
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.templates import load_prompts
from cslm_data.workspace import Workspace, write_json
from cslm_train.generating.questions import Question, pose, seconds_per_unit
from cslm_train.models.loading import LoadedRun
from cslm_train.run_folder import InitialRun, RunInfo


@pytest.fixture
def workspace(spoken: Workspace) -> Workspace:
    """The one with speech and units."""
    return spoken


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


def test_questions_of_the_same_seed_are_worded_alike(workspace: Workspace, run: LoadedRun) -> None:
    def posed(seed: int) -> Question:
        return pose(workspace, run.info, "mt", text="one", language="en", seed=seed)

    assert posed(1) == posed(1)
    assert len({posed(seed).segments for seed in range(20)}) > 1


def write_mix(workspace: Workspace, name: str, counts: dict[str, int]) -> None:
    """`mix.json` of a mix of some tasks."""
    row = {
        "mix_id": name,
        "name": name,
        "stage": name,
        "languages": ["en"],
        "seed": 0,
        "recipe": {},
        "tokenizer_id": "x",
        "num_units": 20,
        "frame_rate_hz": 50.0,
        "text_tokenizer_id": "x",
        "text_tokenizer": "x",
        "template_version": "1",
        "splits": {},
        "realised": [{"task": task, "num_samples": count} for task, count in counts.items()],
        "shards": [],
        "counts": {},
    }
    write_json(workspace.mixes / name / "mix.json", row)


def test_a_task_that_a_run_was_not_taught_is_said(
    workspace: Workspace, run: LoadedRun, caplog: pytest.LogCaptureFixture
) -> None:
    first = dataclasses.replace(
        run.info, run="pretrain", stage="pretrain", mix="pretrain", mix_id="pretrain"
    )
    first.save(workspace.runs / "pretrain")
    start = InitialRun(run="pretrain", run_id=first.run_id, step=1)
    second = dataclasses.replace(run.info, mix_id="sft", init_from=start)

    def warned(info: RunInfo, task: str) -> list[str]:
        caplog.clear()
        pose(workspace, info, task, utterance="u1")
        return [record.getMessage() for record in caplog.records]

    write_mix(workspace, "sft", {"s2s": 3, "st": 0})
    # What the run began with may have been taught anything: its mix is gone.
    assert warned(second, "st") == []
    write_mix(workspace, "pretrain", {"asr": 2, "tts": 2})
    assert warned(second, "asr") == warned(second, "chat") == warned(first, "asr") == []
    assert warned(second, "st") == [
        "sft was not taught st, only asr, s2s, tts; build a mix with a source of that task and "
        "train on it"
    ]
    assert warned(first, "chat") == [
        "pretrain was not taught s2s, only asr, tts; train the second stage: cslm-train run"
    ]
    # Another mix of the same name says nothing of the run.
    assert warned(dataclasses.replace(first, mix_id="older"), "chat") == []


def test_how_long_a_unit_plays_is_the_mean_of_the_workspace(
    workspace: Workspace,
    run: LoadedRun,
    tokenizer: SpeechTokenizer,
    corpus: Path,
    tmp_path: Path,
) -> None:
    # The four utterances that have units, encoded again from their sound.
    encoded = [tokenizer.encode(decode(str(corpus.parent / f"u{n}.wav"))) for n in range(4)]
    frames = sum(int(each.durations.sum()) for each in encoded)
    mean_s = frames / sum(len(each.units) for each in encoded) / tokenizer.frame_rate_hz
    assert seconds_per_unit(workspace, run.info, "en") == pytest.approx(mean_s)
    assert seconds_per_unit(workspace, run.info, "zh") is None
    assert seconds_per_unit(Workspace(tmp_path / "nowhere"), run.info, "en") is None
