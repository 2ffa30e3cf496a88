from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_run import make_run, speech, text

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.framing import ANSWER, BOS, END, QUESTION, SPEECH_END, SPEECH_START, frame_prompt
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.workspace import Workspace
from cslm_train.generate import Finished, answer
from cslm_train.generating.chunks import Chunk, chunks
from cslm_train.generating.questions import pose
from cslm_train.generating.sampling import Sampling
from cslm_train.models.loading import LoadedRun, load_run
from cslm_train.run_choice import choose_run
from cslm_train.run_folder import RunInfo


@pytest.fixture
def workspace(spoken: Workspace) -> Workspace:
    """The one with speech and units."""
    return spoken


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
        assert chunk.seconds_since_start == chunk.tokens_since_start == len(read)
    encode = run.vocabulary.text_tokenizer.encode
    assert seen == [
        ("tq", "en", "who?", len(encode("who?"))),
        ("ta", "zh", "me", len(encode("me"))),
        ("sa", "zh", [1, 2], 2),
        ("ta", "zh", "and 你", len(encode("and 你"))),
        ("sa", "zh", [3], 1),
    ]


def test_speech_may_come_in_pieces_each_with_its_last_unit(run: LoadedRun) -> None:
    given = tokens_of(run, "me", SPEECH_START, 1, 2, 3, 4, 5, SPEECH_END, "you") + tokens_of(
        run, SPEECH_START, 6, 7, SPEECH_END, END
    )
    found = list(chunks(given, run.vocabulary, language="en", answer_language="en", piece_units=2))
    speech = [(list(c.units), c.tokens_since_start) for c in found if c.part == "sa"]
    text = len(tokens_of(run, "me"))
    first = text + 1  # and the start of the speech
    second = first + 5 + 1 + len(tokens_of(run, "you")) + 1
    # The fifth unit is known to be the last one by the token that ends the speech.
    assert speech == [
        ([1, 2], first + 2),
        ([3, 4], first + 4),
        ([5], first + 6),
        ([6, 7], second + 2),
    ]
    whole = [c.units for c in chunks(given, run.vocabulary, language="en", answer_language="en")]
    assert [units for units in whole if units] == [(1, 2, 3, 4, 5), (6, 7)]


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
    heard = end.playback
    assert heard is not None
    spoken = [chunk for chunk in found if isinstance(chunk, Chunk) and chunk.part == "sa"]
    assert (heard.first_speech_tokens, heard.num_units) == (spoken[0].tokens_since_start, 4)
    assert heard.speech_s is None
    *_, slow = answer(taught, question, piece_units=1, seconds_per_unit=60.0)
    assert isinstance(slow, Finished)
    assert slow.playback is not None
    assert (slow.playback.speech_s, slow.playback.num_gaps) == (240.0, 0)
    assert slow.playback.first_speech_tokens == heard.first_speech_tokens - 3
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
