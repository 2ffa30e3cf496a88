from __future__ import annotations

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.keys import (
    content_id,
    finalise64,
    finalise_key,
    key64,
    keyed_rng,
    md5_key,
    mix64,
)


def test_a_key_is_the_xxhash64_of_length_prefixed_utf8() -> None:
    expected = xxhash.xxh64((2).to_bytes(8, "little") + "é".encode()).intdigest()
    assert key64("é") == expected


def test_where_one_string_ends_and_the_next_begins_matters() -> None:
    assert key64("ab", "c") != key64("a", "bc")


def splitmix64(value: int, seed: int) -> int:
    """The published finaliser in plain Python integers."""
    mask = (1 << 64) - 1
    z = (value + key64("seed", str(seed)) + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 2**40))
def test_mixing_agrees_with_plain_integer_arithmetic(values: list[int], seed: int) -> None:
    mixed = mix64(np.array(values, np.uint64), seed)
    assert mixed.tolist() == [splitmix64(value, seed) for value in values]


@given(st.integers(0, 2**64 - 1))
def test_one_key_is_finalised_like_many(value: int) -> None:
    assert finalise64(np.array([value], np.uint64)).tolist() == [finalise_key(value)]


def test_the_finaliser_is_that_of_the_published_generator() -> None:
    # The first outputs of SplitMix64 seeded with 1234567 (Rosetta Code): state, then finalised.
    states = [(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in (1, 2, 3)]
    assert [finalise_key(state) for state in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_keyed_generator_depends_on_seed_and_key_alone() -> None:
    first = keyed_rng(3, "a").integers(1000, size=5).tolist()
    assert first == keyed_rng(3, "a").integers(1000, size=5).tolist()
    assert first != keyed_rng(3, "b").integers(1000, size=5).tolist()
    assert first != keyed_rng(4, "a").integers(1000, size=5).tolist()


def test_a_content_id_ignores_the_order_of_fields() -> None:
    assert content_id({"a": 1, "b": [2]}) == content_id({"b": [2], "a": 1})
    assert content_id({"a": 1}) != content_id({"a": 2})


def test_text_key_is_the_second_half_of_the_md5() -> None:
    # md5("") = d41d8cd98f00b204 e9800998ecf8427e, RFC 1321
    assert md5_key("") == 0x7E42F8EC980980E9
