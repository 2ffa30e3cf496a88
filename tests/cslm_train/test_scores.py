from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.framing import Piece, frame
from cslm_data.records import Segment
from cslm_train.evaluating.scores import (
    bleu,
    chrf,
    exact_match,
    is_off_target,
    is_well_formed_chain,
    text_error_rate,
    unit_error_rate,
)


def edits(reference: Sequence[object], hypothesis: Sequence[object]) -> int:
    """Levenshtein distance by its textbook recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, found in enumerate(hypothesis, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (expected != found))
    return row[-1]


WORDS = st.lists(st.sampled_from(["one", "two", "three"]), max_size=6)


@settings(deadline=None)  # the first call imports jiwer
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_word_error_rate_is_edits_over_reference_words(rows: list[tuple[list[str], ...]]) -> None:
    total = sum(len(reference) for reference, _ in rows)
    rate = text_error_rate([" ".join(r) for r, _ in rows], [" ".join(h) for _, h in rows], "en")
    if total == 0:
        assert rate is None
    else:
        assert rate == pytest.approx(sum(edits(r, h) for r, h in rows) / total)


def test_error_rates_do_not_see_case_punctuation_or_chinese_spaces() -> None:
    assert text_error_rate(["Hello, World!"], ["hello world"], "en") == 0
    assert text_error_rate(["你好,世界。"], ["你 好 世 界"], "zh") == 0
    # 1 of 4 characters in Chinese, 1 of 3 words in English.
    assert text_error_rate(["你好世界"], ["你好世间"], "zh") == 0.25
    assert text_error_rate(["it's a test"], ["it's the test"], "en") == pytest.approx(1 / 3)
    assert text_error_rate(["one", "two three"], ["", "two three four"], "en") == pytest.approx(
        2 / 3
    )
    assert text_error_rate(["..."], ["x"], "en") is None


def test_exact_match_is_the_share_of_equal_sentences() -> None:
    assert exact_match(["Seven.", "eight", "nine"], ["seven", "ate", "nine"], "en") == 2 / 3


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 3), min_size=1, max_size=8),
            st.lists(st.integers(0, 3), max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_unit_error_rate_is_edits_over_reference_units(
    rows: list[tuple[list[int], list[int]]],
) -> None:
    rate = unit_error_rate(
        [np.array(r, np.uint16) for r, _ in rows], [np.array(h, np.uint16) for _, h in rows]
    )
    expected = sum(edits(r, h) for r, h in rows) / sum(len(r) for r, _ in rows)
    assert rate == pytest.approx(expected)


def test_unit_error_rate_of_no_units_is_nothing() -> None:
    assert unit_error_rate([np.zeros(0, np.uint16)], [np.ones(2, np.uint16)]) is None


def test_bleu_and_chrf_are_100_for_the_reference_and_0_for_something_else() -> None:
    english = ["the cat sat on the mat", "a dog ran in the park"]
    chinese = ["猫坐在垫子上。", "狗在公园里跑。"]
    for references, language in ((english, "en"), (chinese, "zh")):
        assert bleu(references, references, language) == pytest.approx(100)
        assert chrf(references, references) == pytest.approx(100)
        assert chrf(references, ["xyz", "xyz"]) == 0
        assert bleu(references, ["", ""], language) == 0
    # Chinese is compared character by character: 4-grams exist although there is no space.
    assert bleu(["我们今天去学校"], ["我们今天去公园"], "zh") > 30
    assert bleu(["私は学校に行きます"], ["私は学校に行きました"], "ja") > 30


def chain(*parts: tuple[str, object]) -> list[Piece]:
    segments = [
        Segment(
            modality="speech" if part == "sa" else "text",
            language="en",
            role="assistant",
            trained=True,
            part=part,  # type: ignore[arg-type]
            text="" if part == "sa" else str(content),
            units=np.array(content if part == "sa" else [], np.uint16),
        )
        for part, content in parts
    ]
    return frame(segments)[2:]


QUESTION, TEXT, SPEECH = ("tq", "who?"), ("ta", "me"), ("sa", [1, 2])


def test_a_chain_of_the_training_data_is_well_formed() -> None:
    assert is_well_formed_chain(chain(QUESTION, TEXT, SPEECH))
    assert is_well_formed_chain(chain(QUESTION, TEXT, SPEECH, TEXT, SPEECH))
    # Of a recipe that leaves the text of the question out.
    assert is_well_formed_chain(chain(TEXT, SPEECH, TEXT, SPEECH))


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (QUESTION,),
        (TEXT,),
        (SPEECH, TEXT),
        (TEXT, QUESTION, TEXT, SPEECH),
        (QUESTION, TEXT),
        (QUESTION, SPEECH),
        (QUESTION, SPEECH, TEXT),
        (QUESTION, TEXT, SPEECH, TEXT),
        (QUESTION, TEXT, SPEECH, SPEECH),
        (QUESTION, QUESTION, TEXT, SPEECH),
        (("tq", " "), TEXT, SPEECH),
        (QUESTION, ("ta", ""), SPEECH),
        (QUESTION, TEXT, ("sa", [])),
    ],
)
def test_any_other_order_is_not(parts: tuple[tuple[str, object], ...]) -> None:
    assert not is_well_formed_chain(chain(*parts))


def test_a_chain_that_does_not_end_is_not_well_formed() -> None:
    whole = chain(QUESTION, TEXT, SPEECH)
    assert not any(is_well_formed_chain(whole[:count]) for count in range(len(whole)))
    assert not is_well_formed_chain([*whole, whole[-1]])


@pytest.mark.parametrize(
    ("text", "language", "off"),
    [
        ("你好", "zh", False),
        ("hello", "zh", True),
        ("hello", "en", False),
        ("hello", "de", False),
        ("你好", "en", True),
        ("我用 Python", "zh", True),
        ("我今天用电脑写 app", "zh", False),
        ("こんにちは、世界ー", "ja", False),
        ("こんにちは", "zh", True),
        ("안녕", "ko", False),
        ("привет", "ru", False),
        ("привет", "en", True),
        ("zdravo", "sr", False),
        ("123 !", "en", True),
        ("", "en", True),
    ],
)
def test_the_script_tells_whether_an_answer_is_off_target(
    text: str, language: str, off: bool
) -> None:
    assert is_off_target(text, language) is off
