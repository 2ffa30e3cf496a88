from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.framing import CONTROLS, count_controls, frame, frame_prompt
from cslm_data.records import Segment


def text(words, role="user", part=""):
    return Segment(
        modality="text",
        language="en",
        role=role,
        trained=role == "assistant",
        part=part,
        text=words,
    )


def speech(units, role="user", part=""):
    return Segment(
        modality="speech",
        language="en",
        role=role,
        trained=role == "assistant",
        part=part,
        units=np.array(units, np.uint16),
    )


def spell(pieces):
    """Tokens as words, trained ones with a star."""
    words = []
    for piece in pieces:
        word = str(piece.units.tolist()) if piece.kind == "units" else piece.text
        words.append(word + "*" * piece.trained)
    return words


CHAIN = [
    text("Answer:"),
    speech([1, 2]),
    text("Why?", "assistant", "tq"),
    text("So", "assistant", "ta"),
    speech([3], "assistant", "sa"),
    text("it is", "assistant", "ta"),
    speech([4, 5], "assistant", "sa"),
]


def test_a_chain_of_modality_reads_question_then_text_and_speech_in_turn():
    assert spell(frame(CHAIN)) == [
        "<|bos|>",
        "<|user|>",
        "Answer:",
        "<sosp>",
        "[1, 2]",
        "<eosp>",
        "<|end|>",
        "<|assistant|>",
        "<|question|>*",
        "Why?*",
        "<|answer|>*",
        "So*",
        "<sosp>*",
        "[3]*",
        "<eosp>*",
        "it is*",
        "<sosp>*",
        "[4, 5]*",
        "<eosp>*",
        "<|end|>*",
    ]
    assert count_controls(CHAIN) == 5 + 2 + 2 + 4


def test_turns_are_runs_of_one_role_and_end_is_trained_with_the_last_segment():
    dialogue = [text("Be kind.", "system"), text("Hi"), text("Hello", "assistant"), text("Bye")]
    assert spell(frame(dialogue)) == [
        "<|bos|>",
        "<|system|>",
        "Be kind.",
        "<|end|>",
        "<|user|>",
        "Hi",
        "<|end|>",
        "<|assistant|>",
        "Hello*",
        "<|end|>*",
        "<|user|>",
        "Bye",
        "<|end|>",
    ]


def test_text_that_spells_a_control_is_a_piece_of_text():
    pieces = frame([text("<sosp> <|end|>")])
    assert [piece.text for piece in pieces if piece.kind == "text"] == ["<sosp> <|end|>"]
    assert all(piece.text in CONTROLS for piece in pieces if piece.kind == "control")


SEGMENT = st.one_of(
    st.builds(text, st.text(max_size=5), st.sampled_from(["system", "user", "assistant"])),
    st.builds(
        speech, st.lists(st.integers(0, 9), max_size=4), st.sampled_from(["user", "assistant"])
    ),
)


@given(st.lists(SEGMENT, max_size=8))
def test_the_prompt_is_all_turns_before_the_answer_at_the_end(segments):
    whole, prompt = spell(frame(segments)), spell(frame_prompt(segments))
    assert prompt[-1] == "<|assistant|>"
    if segments and segments[-1].role == "assistant":
        assert whole[: len(prompt)] == prompt
        assert "<|assistant|>" not in whole[len(prompt) :]
    else:
        assert prompt == [*whole, "<|assistant|>"]
