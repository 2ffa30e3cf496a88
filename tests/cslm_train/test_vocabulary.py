"""Text, controls and units share one vocabulary without ever becoming one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cslm_data.framing import CONTROLS, Piece, frame
from cslm_data.records import Segment
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.vocabulary import JointVocabulary


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


def plain(text: str) -> Piece:
    return Piece(kind="text", trained=True, text=text)


def test_ids_are_text_then_controls_then_units(vocabulary: JointVocabulary) -> None:
    num_text = vocabulary.text_tokenizer.vocab_size
    assert [vocabulary.control_id(name) for name in CONTROLS] == list(
        range(num_text, num_text + len(CONTROLS))
    )
    assert vocabulary.unit_id(0) == num_text + len(CONTROLS)
    assert vocabulary.size == num_text + len(CONTROLS) + 20
    assert vocabulary.unit_id(19) == vocabulary.size - 1


@pytest.mark.parametrize(
    "text", [*CONTROLS, "<|eot_id|>", "<Un3>", "<|unit_3|>", "say <sosp> 1 2 <eosp> to <|user|>"]
)
def test_text_that_spells_a_token_stays_text(vocabulary: JointVocabulary, text: str) -> None:
    ids, _ = vocabulary.encode([plain(text)])
    assert ids.max() < vocabulary.text_tokenizer.vocab_size
    assert [(p.kind, p.text) for p in vocabulary.decode(ids.tolist())] == [("text", text)]


def test_encoding_marks_what_the_loss_counts(vocabulary: JointVocabulary) -> None:
    segments = [
        Segment(
            modality="speech",
            language="en",
            role="user",
            trained=False,
            units=np.array([3, 4], np.uint16),
        ),
        Segment(modality="text", language="en", role="assistant", trained=True, text="one"),
    ]
    ids, trained = vocabulary.encode(frame(segments))
    one = vocabulary.text_tokenizer.encode("one")
    c = vocabulary.control_id
    expected = [
        *(c("<|bos|>"), c("<|user|>"), c("<sosp>"), vocabulary.unit_id(3), vocabulary.unit_id(4)),
        *(c("<eosp>"), c("<|end|>"), c("<|assistant|>"), *one, c("<|end|>")),
    ]
    assert ids.tolist() == expected
    assert ids.dtype == np.int32
    assert trained.tolist() == [False] * 8 + [True] * (len(one) + 1)


def test_a_batch_encodes_as_each_of_its_lists(vocabulary: JointVocabulary) -> None:
    lists = [[plain("one two")], [Piece(kind="control", trained=False, text="<|bos|>")], []]
    for pieces, (ids, trained) in zip(lists, vocabulary.encode_batch(lists), strict=True):
        alone, alone_trained = vocabulary.encode(pieces)
        assert ids.tolist() == alone.tolist()
        assert trained.tolist() == alone_trained.tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.builds(
                Piece,
                kind=st.just("text"),
                trained=st.just(False),
                text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1),
            ),
            st.builds(
                Piece,
                kind=st.just("units"),
                trained=st.just(False),
                units=st.lists(st.integers(0, 19), min_size=1).map(
                    lambda units: np.array(units, np.uint16)
                ),
            ),
        ),
    )
)
def test_decoding_gives_back_what_was_encoded(
    vocabulary: JointVocabulary, pieces: list[Piece]
) -> None:
    end = Piece(kind="control", trained=False, text="<|end|>")
    separated = [part for piece in pieces for part in (piece, end)]
    decoded = vocabulary.decode(vocabulary.encode(separated)[0].tolist())
    assert [(p.kind, p.text, p.units.tolist()) for p in decoded] == [
        (p.kind, p.text, p.units.tolist()) for p in separated
    ]


def test_a_unit_or_id_that_does_not_exist_is_an_error(vocabulary: JointVocabulary) -> None:
    foreign = Piece(kind="units", trained=False, units=np.array([20], np.uint16))
    with pytest.raises(ValueError, match="unit 20 is not one of 20"):
        vocabulary.encode([foreign])
    with pytest.raises(ValueError, match="unit 20"):
        vocabulary.unit_id(20)
    with pytest.raises(ValueError, match="is not one of"):
        vocabulary.decode([vocabulary.size])


def test_identity_changes_with_the_number_of_units(vocabulary: JointVocabulary) -> None:
    tokenizer = vocabulary.text_tokenizer
    assert vocabulary.identity == JointVocabulary(tokenizer, 20).identity
    assert vocabulary.identity != JointVocabulary(tokenizer, 21).identity
