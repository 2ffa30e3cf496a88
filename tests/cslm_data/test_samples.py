from __future__ import annotations

import numpy as np
import pytest

from cslm_data.errors import UsageError
from cslm_data.framing import frame, frame_prompt
from cslm_data.records import Word
from cslm_data.samples import (
    CompileError,
    CompileOptions,
    SourceTurn,
    compile_prompt,
    compile_sample,
    count_tokens,
    sample_key,
)

OPTIONS = CompileOptions(prompts_seed=3, frame_rate_hz=10.0, chunk_words=2)
UNITS = np.array([5, 6, 7, 8], np.uint16)
DURATIONS = np.array([2, 2, 2, 2], np.uint16)
WORDS = tuple(
    Word(word=w, start_s=0.2 * i, end_s=0.2 * i + 0.2)
    for i, w in enumerate(["go", "to", "the", "sea"])
)


def turn(role="user", language="en", text="hello", units=None, words=None):
    return SourceTurn(
        role=role,
        language=language,
        text=text,
        units=units,
        durations=None if units is None else DURATIONS,
        words=words,
    )


ANSWER = turn("assistant", "en", "Go to the sea.", UNITS, WORDS)
SOURCES = {
    "asr": ("en", [turn(units=UNITS)]),
    "tts": ("en", [turn(units=UNITS)]),
    "mt": ("en-zh", [turn(), turn("assistant", "zh", "你好")]),
    "instruct": ("zh", [turn(language="zh"), turn("assistant", "zh", "好")]),
    "s2s": ("zh-en", [turn(language="zh", text="去哪？", units=UNITS), ANSWER]),
    "t2s": ("en", [turn(text="Where?"), ANSWER]),
}


def make(task, epoch=0):
    languages, turns = SOURCES[task]
    return compile_sample(task, languages, turns, ["x"], epoch=epoch, options=OPTIONS)


def tokens(pieces):
    return [(p.kind, p.text, p.units.tolist(), p.trained) for p in pieces]


@pytest.mark.parametrize("task", SOURCES)
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_the_prompt_of_generation_is_the_beginning_of_the_training_sample(task, epoch):
    sample = make(task, epoch)
    languages, turns = SOURCES[task]
    spoken = task in ("asr", "s2s")
    prompt = compile_prompt(
        task,
        language=turns[0].language,
        answer_language=turns[1].language if len(turns) > 1 else None,
        text=None if spoken else turns[0].text,
        units=UNITS if spoken else None,
        seed=3,
        key=sample.key,
    )
    begin = tokens(frame_prompt(prompt))
    assert tokens(frame(sample.segments))[: len(begin)] == begin
    assert tokens(frame_prompt(sample.segments)) == begin


@pytest.mark.parametrize("task", SOURCES)
def test_only_the_assistant_is_trained(task):
    assert all(s.trained == (s.role == "assistant") for s in make(task).segments)


def test_the_chain_of_modality_is_tq_then_ta_and_sa_in_turn():
    chain = [s for s in make("s2s").segments if s.role == "assistant"]
    assert [(s.part, s.language, s.text, s.units.tolist()) for s in chain] == [
        ("tq", "zh", "去哪？", []),
        ("ta", "en", "Go to the sea.", []),
        ("sa", "en", "", [5, 6, 7, 8]),
    ]
    user = "".join(s.text for s in make("s2s").segments if s.role == "user")
    assert "英语" in user


def test_a_repeat_has_another_key_and_often_another_wording():
    samples = [make("asr", epoch) for epoch in range(12)]
    assert len({s.key for s in samples}) == 12
    assert samples[0].key == sample_key("asr", "en", ["x"])
    assert len({s.segments[0].text for s in samples}) > 1


@pytest.mark.parametrize(
    ("task", "turns", "reason"),
    [
        ("asr", [turn()], "no_units"),
        ("asr", [turn(text=" ", units=UNITS)], "no_text"),
        ("s2s", [turn(units=UNITS), turn("assistant", text="a b", units=UNITS)], "no_alignment"),
        ("t2s", [turn(), turn("assistant", text="x", units=UNITS, words=WORDS)], "alignment_mis"),
        ("s2s", [turn(), ANSWER], "no_units"),
        ("instruct", [turn()], "no_answer"),
    ],
)
def test_what_makes_no_sample_says_why(task, turns, reason):
    with pytest.raises(CompileError, match=reason):
        compile_sample(task, "en", turns, ["x"], epoch=0, options=OPTIONS)


def test_prompts_need_what_the_task_needs():
    with pytest.raises(UsageError, match="needs speech"):
        compile_prompt("asr", language="en", text="x")
    with pytest.raises(UsageError, match="language to translate into"):
        compile_prompt("mt", language="en", text="x")
    with pytest.raises(UsageError, match="no task 'sing'"):
        compile_prompt("sing", language="en", text="x")


def test_tokens_are_controls_units_and_encoded_pieces():
    sample = make("mt")
    # bos user … end assistant … end, and every text piece by characters here
    characters = sum(len(s.text) for s in sample.segments)
    assert count_tokens([sample], lambda texts: [list(t) for t in texts]) == [5 + characters]
    assert count_tokens([make("asr")] * 2, lambda texts: [[0]] * len(texts)) == [5 + 2 + 4 + 2] * 2
