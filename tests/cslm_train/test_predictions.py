from __future__ import annotations

import numpy as np
import pytest

from cslm_train.evaluating.predictions import GENERATED, Answer, _content, score
from cslm_train.generate import CHAINS, RULES


def answer(text: str, question: str = "", *, well_formed: bool = True) -> Answer:
    units = np.array([1, 2], np.uint16)
    return Answer(question=question, text=text, units=units, well_formed=well_formed)


def test_what_is_scored_has_a_form() -> None:
    assert set(GENERATED) | {"instruct", "continuation"} == set(RULES)
    assert set(GENERATED) >= CHAINS


@pytest.mark.parametrize("task", ["mt", "st"])
def test_translations_of_text_and_of_speech_are_scored_alike(task: str) -> None:
    references = [answer("the cat sleeps on the mat"), answer("a dog runs in the old park")]
    found = [references[0], answer("一只狗")]
    measured = score(task, references, found, source="zh", target="en")
    assert set(measured) == {"chrf", "bleu", "off_target"}
    assert measured["off_target"] == 0.5
    perfect = score(task, references, references, source="zh", target="en")
    assert perfect["bleu"] == pytest.approx(100)
    assert perfect["chrf"] == pytest.approx(100)


def test_spoken_translations_are_scored_as_translations_and_as_chains() -> None:
    references = [answer("the cat sleeps on the mat", "猫在睡觉"), answer("a dog", "狗在")]
    found = [references[0], answer("a dog", "狗", well_formed=False)]
    measured = score("s2st", references, found, source="zh", target="en")
    assert measured["well_formed"] == 0.5
    # One of six characters of the questions is missing.
    assert measured["question_cer"] == pytest.approx(1 / 6)
    assert measured["bleu"] == pytest.approx(100)
    assert measured["off_target"] == 0


def test_written_answers_to_speech_are_scored_by_question_and_text() -> None:
    references = [answer("yes of course", "is it true")]
    measured = score("s2t", references, [answer("yes", "is it new")], source="en", target="en")
    assert set(measured) == {"off_target", "chrf", "question_wer"}
    assert measured["question_wer"] == pytest.approx(1 / 3)
    without = score("s2t", [answer("yes")], [answer("yes")], source="en", target="en")
    assert without["question_wer"] is None
    assert _content("s2t", references[0]) == {"question": "is it true", "answer": "yes of course"}
    assert _content("st", references[0]) == "yes of course"
    assert _content("s2st", references[0])["units"] == [1, 2]
