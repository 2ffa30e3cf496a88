from __future__ import annotations

import duckdb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.keys import key64
from cslm_data.samples import (
    CompileOptions,
    SourceTurn,
    compile_sample,
    count_tokens,
    epoch_hash,
    sample_key,
    source_hash,
)

UNITS = np.array([5, 6, 7, 8], np.uint16)
SPOKEN = [SourceTurn(role="user", language="en", text="hello", units=UNITS)]
TRANSLATED = [
    SourceTurn(role="user", language="en", text="hello"),
    SourceTurn(role="assistant", language="zh", text="你好"),
]


def make(task, languages, turns, epoch=0):
    options = CompileOptions(prompts_seed=3)
    return compile_sample(task, languages, turns, ["x"], epoch=epoch, options=options)


def test_a_repeat_has_another_key_and_often_another_wording():
    samples = [make("asr", "en", SPOKEN, epoch) for epoch in range(12)]
    assert len({s.key for s in samples}) == 12
    assert samples[0].key == sample_key("asr", "en", ["x"])
    assert len({s.segments[0].text for s in samples}) > 1


def test_the_hash_of_the_first_epoch_is_the_sources_and_every_epoch_has_its_own():
    of_source = source_hash("asr", "en", ["x"])
    hashes = [epoch_hash(of_source, epoch) for epoch in range(1000)]
    assert hashes[0] == of_source and len(set(hashes)) == 1000


def test_the_hash_tells_task_languages_and_ids_apart():
    sources = [
        ("asr", "en", ["a"]),
        ("tts", "en", ["a"]),
        ("asr", "zh", ["a"]),
        ("asr", "en", ["b"]),
        ("asr", "en", ["a", "b"]),
        ("asr", "en", ["b", "a"]),
        ("asr", "en", ["ab"]),
    ]
    assert len({source_hash(*source) for source in sources}) == len(sources)


FINALISED = """
create macro times(a, b) as
    ((a::uhugeint * b::uhugeint) % 18446744073709551616::uhugeint)::ubigint;
create macro spread(z, n) as xor(z, z >> n);
create macro finalise(z) as
    spread(times(spread(times(spread(z, 30), 13787848793156543929::ubigint), 27),
        10723151780598845931::ubigint), 31);
"""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=1, max_size=2))
def test_sql_computes_the_hashes_of_a_source_and_of_its_epochs(ids):
    key, second = key64("s2s", "en-zh"), key64("epoch", "1")
    with duckdb.connect() as db:
        db.execute(FINALISED)
        [(of_source, repeat)] = db.execute(
            "with named as (select finalise(xor(md5_number_lower(array_to_string($ids, chr(0)))"
            ", $key::ubigint)) as of_source) "
            "select of_source, finalise(xor(of_source, $second::ubigint)) from named",
            {"ids": ids, "key": key, "second": second},
        ).fetchall()
    assert of_source == source_hash("s2s", "en-zh", ids)
    assert repeat == epoch_hash(of_source, 1)


def test_tokens_are_controls_units_and_encoded_pieces():
    sample = make("mt", "en-zh", TRANSLATED)
    # bos user … end assistant … end, and every text piece by characters here
    characters = sum(len(s.text) for s in sample.segments)
    assert count_tokens([sample], lambda texts: [list(t) for t in texts]) == [5 + characters]
    heard = make("asr", "en", SPOKEN)
    assert count_tokens([heard] * 2, lambda texts: [[0]] * len(texts)) == [5 + 2 + 4 + 2] * 2
