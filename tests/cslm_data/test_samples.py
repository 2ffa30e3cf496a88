from __future__ import annotations

import duckdb
import numpy as np

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


HASHES = """
create macro times(a, b) as
    ((a::uhugeint * b::uhugeint) % 18446744073709551616::uhugeint)::ubigint;
create macro spread(z, n) as xor(z, z >> n);
create macro finalise(z) as
    spread(times(spread(times(spread(z, 30), 13787848793156543929::ubigint), 27),
        10723151780598845931::ubigint), 31);
with named as (
    select finalise(xor(md5_number_lower(array_to_string(ids, chr(0))), $task::ubigint)) as h
    from (select unnest($ids) as ids)
)
select h, finalise(xor(h, $epoch::ubigint)) from named
"""


def test_sql_computes_the_hashes_of_a_source_and_of_its_epochs():
    sources = [["x"], [""], ["a", "b"], ["你好", "é 'quoted'"], *([str(i)] for i in range(200))]
    values = {"ids": sources, "task": key64("s2s", "en-zh"), "epoch": key64("epoch", "1")}
    with duckdb.connect() as db:
        found = db.execute(HASHES, values).fetchall()
    hashes = [source_hash("s2s", "en-zh", ids) for ids in sources]
    assert found == [(of_source, epoch_hash(of_source, 1)) for of_source in hashes]


def test_tokens_are_controls_units_and_encoded_pieces():
    sample = make("mt", "en-zh", TRANSLATED)
    # bos user … end assistant … end, and every text piece by characters here
    characters = sum(len(s.text) for s in sample.segments)
    assert count_tokens([sample], lambda texts: [list(t) for t in texts]) == [5 + characters]
    heard = make("asr", "en", SPOKEN)
    texts = sum(s.modality == "text" for s in heard.segments)
    assert count_tokens([heard] * 2, lambda texts: [[0]] * len(texts)) == [5 + 2 + 4 + texts] * 2
