from __future__ import annotations

from itertools import groupby
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.compilers.tasks import MIN_CONTINUATION_RUNS, continuation_cut
from cslm_data.compilers.turns import text_segment
from cslm_data.errors import UsageError
from cslm_data.framing import frame, frame_prompt
from cslm_data.interleave import InterleaveMode
from cslm_data.records import Word
from cslm_data.samples import (
    COMPILERS,
    CompileError,
    CompileOptions,
    SourceTurn,
    compile_prompt,
    compile_sample,
    epoch_hash,
    prompt_kind,
    source_hash,
)

RATE = 10.0
UNITS = np.arange(20, dtype=np.uint16) * 7 % 50
DURATIONS = np.full(20, 2, np.uint16)  # 4 s

SPOKEN = ("asr", "st", "s2st", "continuation", "s2s", "s2t")
DIALOGUES = ("s2s", "s2t", "t2s", "instruct")


def words(text, language="en"):
    parts = [c for c in text if c.isalnum()] if language == "zh" else text.split()
    step = 4.0 / len(parts)
    return tuple(
        Word(word=word.strip(",.?!"), start_s=i * step, end_s=(i + 1) * step)
        for i, word in enumerate(parts)
    )


def said(role, text, language="en", *, first_unit=0, with_words=True):
    """A turn with all that a catalog may have of it."""
    return SourceTurn(
        role=role,
        language=language,
        text=text,
        units=(UNITS + first_unit).astype(np.uint16),
        durations=DURATIONS,
        words=words(text, language) if with_words else None,
    )


SYSTEM = SourceTurn(role="system", language="en", text="You are brief.")
FIRST = [said("user", "Where do we go?"), said("assistant", "We go to the sea, of course.")]
LATER = [
    said("user", "And when?", first_unit=100),
    said("assistant", "At noon.", first_unit=200),
    said("user", "With whom?", first_unit=300),
    said("assistant", "With you and me.", first_unit=400),
]
ACROSS = [said("user", "去哪？", "zh"), said("assistant", "To the sea.")]
SOURCES = {
    "asr": ("en", [said("user", "hello")]),
    "tts": ("en", [said("user", "hello")]),
    "mt": ("zh-en", ACROSS),
    "st": ("zh-en", ACROSS),
    "s2st": ("zh-en", ACROSS),
    "continuation": ("en", [said("user", "hello")]),
    "instruct": ("en", [SYSTEM, *FIRST, *LATER]),
    "s2s": ("en", [SYSTEM, *FIRST, *LATER]),
    "s2t": ("en", [*FIRST, *LATER]),
    "t2s": ("en", [SYSTEM, *FIRST, *LATER]),
}
ALL = [
    *SOURCES.items(),
    *((task, ("zh-en", ACROSS)) for task in ("s2s", "s2t", "t2s")),
    *((task, ("en", FIRST)) for task in DIALOGUES),
]


def make(task, languages, turns, epoch=0, **how):
    options = CompileOptions(prompts_seed=3, frame_rate_hz=RATE, **how)
    return compile_sample(task, languages, turns, ["x"], epoch=epoch, options=options)


def answer(sample):
    """Part, language and content of what the assistant says."""
    return [
        (s.part, s.language, s.text or s.units.tolist())
        for s in sample.segments
        if s.role == "assistant"
    ]


def tokens(pieces):
    return [(p.kind, p.text, p.units.tolist(), p.trained) for p in pieces]


def test_every_task_has_a_compiler_and_a_source_here():
    names = "asr tts mt st s2st continuation instruct s2s s2t t2s"
    assert set(COMPILERS) == set(SOURCES) == set(names.split())


# --- one code for training and generation ----------------------------------------------------


@pytest.mark.parametrize("mode", get_args(InterleaveMode))
@pytest.mark.parametrize("text_question", [True, False])
@pytest.mark.parametrize(("task", "source"), ALL, ids=lambda v: v if isinstance(v, str) else v[0])
def test_every_prompt_of_generation_is_a_beginning_of_the_training_sample(
    task, source, text_question, mode
):
    languages, turns = source
    for epoch in range(3):
        sample = make(task, languages, turns, epoch, interleave=mode, text_question=text_question)
        whole = tokens(frame(sample.segments))
        answers = [s for s in sample.segments if s.role == "assistant"]
        history = [s for s in sample.segments[:1] if s.role == "system"]
        for asked in (turn for turn in turns if turn.role == "user"):
            units = asked.units
            if task == "continuation":
                units = units[: len(units) - len(answers[0].units)]
            prompt = compile_prompt(
                task,
                language=asked.language,
                answer_language=turns[-1].language,
                text=None if task in SPOKEN else asked.text,
                units=units if task in SPOKEN else None,
                seed=3,
                sample_hash=epoch_hash(source_hash(task, languages, ["x"]), epoch),
                history=history,
            )
            assert prompt == sample.segments[: len(prompt)]
            begin = tokens(frame_prompt(prompt))
            assert whole[: len(begin)] == begin
            # What comes next is the answer, and it is trained.
            assert whole[len(begin)][3]
            rest = sample.segments[len(prompt) :]
            size = next((i for i, s in enumerate(rest) if s.role != "assistant"), len(rest))
            history = sample.segments[: len(prompt) + size]
        assert history == sample.segments


@pytest.mark.parametrize("task", SOURCES)
def test_only_the_assistant_is_trained(task):
    assert all(s.trained == (s.role == "assistant") for s in make(task, *SOURCES[task]).segments)


@pytest.mark.parametrize("task", ["s2s", "s2t", "t2s"])
def test_the_instruction_stands_in_the_first_turn_of_the_user_only(task):
    segments = make(task, "en", [SYSTEM, *FIRST, *LATER]).segments
    assert segments[0] == text_segment("You are brief.", language="en", role="system")
    runs = [(role, list(run)) for role, run in groupby(segments, key=lambda s: s.role)]
    first, *later = [
        [s.text or s.units.tolist() for s in run] for role, run in runs if role == "user"
    ]
    asked = [
        turn.text if task == "t2s" else turn.units.tolist()
        for turn in [*FIRST, *LATER]
        if turn.role == "user"
    ]
    assert asked[0] in first and len(first) > 1
    assert later == [[each] for each in asked[1:]]


# --- what each task says ---------------------------------------------------------------------


def test_speech_is_translated_into_text():
    sample = make("st", "zh-en", ACROSS)
    assert answer(sample) == [("", "en", "To the sea.")]
    asked = [s for s in sample.segments if s.role == "user"]
    assert [s.units.tolist() for s in asked if s.modality == "speech"] == [UNITS.tolist()]
    wording = "".join(s.text for s in asked)
    assert "English" in wording or "英语" in wording


def test_speech_is_translated_into_speech_after_its_transcript_where_that_is_known():
    how = {"interleave": "chunk", "chunk_words": 1}
    # 4 s of 3 words; a chunk is 1 to 3 words, the end is in reach.
    spoken = [("ta", "en", "To the sea."), ("sa", "en", UNITS.tolist())]
    assert answer(make("s2st", "zh-en", ACROSS, **how)) == [("tq", "zh", "去哪？"), *spoken]
    assert answer(make("s2st", "zh-en", ACROSS, text_question=False, **how)) == spoken
    untold = [said("user", " ", "zh", with_words=False), ACROSS[1]]
    assert answer(make("s2st", "zh-en", untold, **how)) == spoken


def test_a_spoken_question_is_answered_in_text():
    assert answer(make("s2t", "zh-en", ACROSS)) == [
        ("tq", "zh", "去哪？"),
        ("ta", "en", "To the sea."),
    ]
    assert answer(make("s2t", "zh-en", ACROSS, text_question=False)) == [
        ("ta", "en", "To the sea.")
    ]


def test_every_answer_of_a_dialogue_is_a_chain():
    parts = [part for part, _, _ in answer(make("s2s", "en", [*FIRST, *LATER]))]
    assert parts == ["tq", "ta", "sa"] * 3
    texts = [text for part, _, text in answer(make("s2s", "en", [*FIRST, *LATER])) if part == "tq"]
    assert texts == ["Where do we go?", "And when?", "With whom?"]


@pytest.mark.parametrize(
    ("how", "chunks"),
    [
        # words of 1 s, runs of 0.2 s
        ({"interleave": "chunk", "chunk_words": 3}, [("We go, to the.", 0, 20)]),
        ({"interleave": "chunk", "chunk_words": 1}, [("We go,", 0, 10), (" to the.", 10, 20)]),
        (
            {"interleave": "word"},
            [("We", 0, 5), (" go,", 5, 10), (" to", 10, 15), (" the.", 15, 20)],
        ),
        ({"interleave": "ratio", "ratio": (3, 4)}, [("We go, to", 0, 4), (" the.", 4, 20)]),
        ({"interleave": "full"}, [("We go, to the.", 0, 20)]),
    ],
)
def test_text_and_speech_alternate_as_the_mode_says(how, chunks):
    turns = [said("user", "Where?"), said("assistant", "We go, to the.")]
    expected = [("tq", "en", "Where?")]
    for text, first, last in chunks:
        expected += [("ta", "en", text), ("sa", "en", UNITS[first:last].tolist())]
    assert answer(make("t2s", "en", turns, **how)) == expected


@pytest.mark.parametrize("mode", ["ratio", "full"])
def test_counts_need_neither_word_times_nor_durations(mode):
    untimed = SourceTurn(role="assistant", language="en", text="To the sea.", units=UNITS)
    sample = make("s2s", "zh-en", [ACROSS[0], untimed], interleave=mode, ratio=(1, 4))
    assert "".join(text for part, _, text in answer(sample) if part == "ta") == "To the sea."


# --- continuation ----------------------------------------------------------------------------


def test_a_continuation_is_the_rest_of_what_the_user_began_to_say():
    sample = make("continuation", "en", SOURCES["continuation"][1])
    begin, rest = (s for s in sample.segments if s.modality == "speech")
    assert (begin.role, rest.role) == ("user", "assistant")
    assert [*begin.units, *rest.units] == UNITS.tolist()
    assert [s.text for s in sample.segments if s.role == "assistant"] == [""]


def test_another_epoch_may_cut_elsewhere_and_no_transcript_is_needed():
    turn = SourceTurn(role="user", language="en", units=UNITS, durations=DURATIONS)
    lengths = {
        next(
            len(s.units) for s in make("continuation", "en", [turn], epoch).segments if len(s.units)
        )
        for epoch in range(30)
    }
    assert len(lengths) > 3 and min(lengths) >= 5 and max(lengths) <= 15


@given(st.integers(MIN_CONTINUATION_RUNS, 5000), st.integers(0, 2**64 - 1))
def test_the_place_is_between_a_quarter_and_three_quarters(num_runs, sample_hash):
    assert num_runs / 4 <= continuation_cut(num_runs, sample_hash) <= num_runs * 3 / 4


def test_every_place_is_taken_about_equally_often():
    counts = np.bincount([continuation_cut(17, sample_hash) for sample_hash in range(8000)])
    assert set(np.flatnonzero(counts)) == set(range(5, 13))
    assert counts[5:13].min() > 850 and counts[5:13].max() < 1150


# --- what makes no sample --------------------------------------------------------------------


def without(turn, **fields):
    values = {name: getattr(turn, name) for name in SourceTurn.__dataclass_fields__}
    return SourceTurn(**{**values, **fields})


@pytest.mark.parametrize(
    ("task", "turns", "reason"),
    [
        ("st", [without(ACROSS[0], units=None), ACROSS[1]], "no_units: the speech of the user"),
        ("st", [ACROSS[0], without(ACROSS[1], text="")], "no_text: the turn of the assistant"),
        ("s2st", [ACROSS[0], without(ACROSS[1], units=None)], "no_units: .* assistant"),
        ("s2st", [ACROSS[0], without(ACROSS[1], words=None)], "no_alignment: .*cslm-data align"),
        ("s2st", [without(ACROSS[0], excluded="filter x"), ACROSS[1]], "excluded: .*filter x"),
        ("s2s", [FIRST[0], without(FIRST[1], durations=None)], "no_durations"),
        ("s2s", [FIRST[0], without(FIRST[1], durations=DURATIONS[1:])], "no_durations"),
        ("s2s", [FIRST[0], without(FIRST[1], text="We go.")], "alignment_mismatch"),
        ("s2s", [without(FIRST[0], text=None), FIRST[1]], "no_text: the turn of the user"),
        ("s2s", [*FIRST, LATER[0]], "bad_turns: .*: user assistant user"),
        ("s2s", [FIRST[0], *FIRST], "bad_turns"),
        ("s2t", [FIRST[1]], "bad_turns"),
        ("t2s", [], "bad_turns"),
        ("t2s", [SYSTEM], "bad_turns"),
        ("t2s", [*FIRST, SYSTEM, *LATER], "bad_turns"),
        ("t2s", [*FIRST, *ACROSS], "mixed_languages: .*has 2"),
        ("s2t", [*FIRST, without(LATER[0], units=None), LATER[1]], "no_units"),
        ("instruct", [*FIRST, LATER[0]], "no_answer"),
        (
            "continuation",
            [without(FIRST[0], units=UNITS[: MIN_CONTINUATION_RUNS - 1])],
            "too_short: 15 units are fewer than 16",
        ),
    ],
)
def test_what_makes_no_sample_says_why(task, turns, reason):
    with pytest.raises(CompileError, match=reason):
        make(task, "en", turns)


def test_a_question_that_is_not_repeated_needs_no_transcript():
    untold = [without(FIRST[0], text=None), FIRST[1]]
    for task in ("s2s", "s2t"):
        assert answer(make(task, "en", untold, text_question=False))[0][0] == "ta"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interleave": "chunks"}, "interleave: 'chunks' is not one of chunk, word, ratio, full"),
        ({"chunk_words": 0}, "chunk_words: must be at least 1"),
        ({"ratio": (0, 5)}, "ratio: must be two numbers from 1 on"),
        ({"ratio": (5,)}, "ratio: must be two numbers"),
    ],
)
def test_options_that_make_no_sense_are_errors(options, says):
    with pytest.raises(UsageError, match=says):
        CompileOptions(**options)


def test_prompts_need_what_the_task_needs():
    for task in SPOKEN:
        with pytest.raises(UsageError, match=f"{task} needs speech of the user"):
            compile_prompt(task, language="en", answer_language="zh", text="x")
    for task in ("tts", "mt", "instruct", "t2s"):
        with pytest.raises(UsageError, match=f"{task} needs text of the user"):
            compile_prompt(task, language="en", answer_language="zh", units=UNITS)
    for task in ("mt", "st", "s2st"):
        with pytest.raises(UsageError, match="language to translate into"):
            compile_prompt(task, language="en", text="x", units=UNITS)
    with pytest.raises(UsageError, match="no task 'sing'"):
        compile_prompt("sing", language="en", text="x")


def test_chats_across_languages_take_wordings_that_name_the_language():
    for task, kind in (("s2s", "chat"), ("s2t", "chat_text"), ("t2s", "chat")):
        assert prompt_kind(task, "en", "en") == prompt_kind(task, "en", None) == kind
        assert prompt_kind(task, "en", "zh") == f"{kind}_cross"
    assert prompt_kind("s2st", "en", "zh") == "s2st" and prompt_kind("instruct", "en", "en") is None
