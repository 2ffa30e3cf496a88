from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.catalog import read_sql
from cslm_data.errors import UsageError
from cslm_data.keys import finalise64, key64, md5_key, mix64, mix64_added
from cslm_data.mixing.candidates import Pool
from cslm_data.mixing.choosing import choose, see_pools, take_stock
from cslm_data.mixing.costs import PromptCosts
from cslm_data.mixing.ordering import cumulative
from cslm_data.mixing.recipes import check_recipe
from cslm_data.mixing.shares import Share, share_out, water_fill
from cslm_data.mixing.sources import expand_recipe


@pytest.mark.parametrize(
    ("weights", "capacities", "total", "expected"),
    [
        ([1, 1, 2], [100, 100, 100], 100, [25, 25, 50]),
        ([1, 1, 2], [10, 100, 100], 100, [10, 30, 60]),  # 90 left, shared 1 : 2
        ([1, 1, 2], [10, 100, 20], 100, [10, 70, 20]),
        ([1, 1], [10, 20], 100, [10, 20]),  # all is given
        ([1, 3], [0, 100], 40, [0, 40]),
        ([1], [0], 10, [0]),
    ],
)
def test_a_shortfall_is_shared_in_proportion(weights, capacities, total, expected):
    assert water_fill(weights, capacities, total) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.floats(0.01, 9), st.integers(0, 1000)), min_size=1, max_size=8),
    st.integers(0, 5000),
)
def test_nothing_exceeds_capacity_and_the_total_is_reached_where_it_can_be(sources, total):
    weights = [w for w, _ in sources]
    capacities = [c for _, c in sources]
    given_ = water_fill(weights, capacities, total)
    assert all(g <= c + 1e-6 for g, c in zip(given_, capacities, strict=True))
    assert sum(given_) == pytest.approx(min(total, sum(capacities)))


# --- shares of sources -----------------------------------------------------------------------


def shares(sources, available, **fields):
    recipe = check_recipe({"stage": "pretrain", "sources": sources, **fields}, where="r")
    expanded = expand_recipe(recipe, ["en", "zh", "de"])
    return {
        (s.task, s.languages): (round(share.requested), round(share.target))
        for s, share in zip(
            expanded,
            share_out(expanded, [available.get(s.languages, 0) for s in expanded], recipe),
            strict=True,
        )
    }


def test_a_task_is_split_over_the_languages_that_have_data():
    found = shares([{"task": "asr", "weight": 1}], {"en": 500, "de": 500}, total_tokens=300)
    assert found == {("asr", "en"): (150, 150), ("asr", "zh"): (0, 0), ("asr", "de"): (150, 150)}


def test_budgets_are_given_first_and_weights_share_the_rest():
    sources = [
        {"task": "asr", "tokens": 90, "only": ["en"]},
        {"task": "tts", "weight": 1},
        {"task": "instruct", "weight": 2, "only": ["zh"]},
    ]
    found = shares(sources, {"en": 1000, "zh": 1000, "de": 1000}, total_tokens=390)
    assert found["asr", "en"] == (90, 90)
    assert found["tts", "de"] == (33, 33)
    assert found["instruct", "zh"] == (200, 200)
    # what a budget lacks, the weights take over; without a total they do not
    found = shares(sources, {"en": 40, "zh": 1000, "de": 1000}, total_tokens=390)
    assert found["asr", "en"] == (90, 40)
    assert found["instruct", "zh"][1] > 200
    found = shares(sources[:1], {"en": 40})
    assert found["asr", "en"] == (90, 40)
    with pytest.raises(UsageError, match="90 tokens, more than total_tokens 50"):
        shares(sources, {"en": 40}, total_tokens=50)


def test_temperature_lies_between_the_data_and_an_even_split():
    available = {"en": 1600, "zh": 400, "de": 100}
    for temperature, ratio in ((1, 16), (2, 4), (4, 2)):
        found = shares(
            [{"task": "asr", "weight": 1, "temperature": temperature}], available, total_tokens=90
        )
        en, de = found["asr", "en"][0], found["asr", "de"][0]
        assert en / de == pytest.approx(ratio, rel=0.1)
    weights = {"en": 3.0, "zh": 1.0}
    found = shares(
        [{"task": "asr", "weight": 1, "language_weights": weights, "only": ["en", "zh"]}],
        available,
        total_tokens=200,
    )
    assert found["asr", "en"] == (150, 150) and found["asr", "zh"] == (50, 50)


# --- which samples, in SQL -------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path):
    """A thousand candidates of 3 to 22 tokens, a few of them refused or held out."""
    connection = duckdb.connect()
    connection.execute(read_sql("mix_macros"))
    path = tmp_path / "pool.parquet"
    rows = {
        "id_hash": pa.array([md5_key(f"row {i}") for i in range(1000)], pa.uint64()),
        "num_tokens": pa.array([3 + i % 20 for i in range(1000)], pa.uint32()),
        "num_units": pa.array([0] * 1000, pa.uint32()),
        "num_bytes": pa.array([512] * 1000, pa.uint64()),
        "split": pa.array([2 if i % 100 == 7 else 0 for i in range(1000)], pa.uint8()),
        "quality": pa.array([None if i % 10 == 0 else float(i % 7) for i in range(1000)]),
        "reject_reason": pa.array(["no_units" if i == 5 else None for i in range(1000)]),
        "reject_detail": pa.nulls(1000, pa.string()),
    }
    pq.write_table(pa.table(rows), path)

    def make(**fields):
        rules = {"task": "asr", "weight": 1, "max_epochs": 9, **fields}
        recipe = check_recipe({"stage": "pretrain", "sources": [rules]}, where="r")
        [source] = expand_recipe(recipe, ["en"])
        costs = PromptCosts(
            wordings=(5, 9), wording_mask=77, systems=(), system_mask=0, system_share=0.0
        )
        made = Pool(source=source, path=path, costs=costs)
        see_pools([made], connection, recipe)
        return made, recipe

    return make, connection


def tokens_by_hand(i, epoch):
    """What a sample costs, from the formulas of the docstrings."""

    def final(z):
        return int(finalise64(np.array([z], np.uint64))[0])

    sample = final(md5_key(f"row {i}") ^ key64("asr", "en"))
    hashed = sample if epoch == 0 else final(sample ^ key64("epoch", str(epoch)))
    return 3 + i % 20 + (5, 9)[final(hashed ^ 77) % 2]


TRAINED = [i for i in range(1000) if i % 100 != 7 and i != 5]


def test_stock_is_counted_with_the_wordings(pool):
    make, connection = pool
    made, _ = make()
    stock = take_stock(made, connection)
    assert (stock.num_rows, stock.num_usable) == (1000, 999)
    assert stock.reasons == {"no_units": 1}
    assert stock.tokens[0] == sum(tokens_by_hand(i, 0) for i in TRAINED)


@pytest.mark.parametrize("part", [0.0, 0.013, 0.4, 0.77, 0.9999, 1.0, 2.3])
def test_whole_epochs_then_the_nearest_beginning(pool, part):
    make, connection = pool
    made, recipe = make()
    epochs = [sum(tokens_by_hand(i, e) for i in TRAINED) for e in range(3)]
    target = part * epochs[0]
    choose(made, Share(requested=target, target=target), connection, recipe)
    rows = connection.execute(
        "select epoch, id_hash, num_tokens from chosen where split = 0"
    ).fetchall()
    assert abs(sum(tokens for *_, tokens in rows) - target) <= 31 / 2
    names = {md5_key(f"row {i}"): i for i in range(1000)}
    assert all(tokens_by_hand(names[h], epoch) == tokens for epoch, h, tokens in rows)
    assert len({(epoch, h) for epoch, h, _ in rows}) == len(rows)
    for epoch in range(int(part)):
        assert {names[h] for e, h, _ in rows if e == epoch} == set(TRAINED)
    held_out = connection.execute("select count(*) from chosen where split = 2").fetchone()
    assert held_out == (10,)


def test_more_of_a_source_holds_all_that_less_of_it_held(pool):
    make, connection = pool
    found = []
    for target in (900.0, 3000.0):
        made, recipe = make()
        choose(made, Share(requested=target, target=target), connection, recipe)
        found.append(
            {row[0] for row in connection.execute("select id_hash from chosen").fetchall()}
        )
    assert found[0] < found[1]


def test_quality_order_takes_the_best_and_the_unknown_last(pool):
    make, connection = pool
    made, recipe = make(order_by="1.0")
    target = 6000.0
    choose(made, Share(requested=target, target=target), connection, recipe)
    taken = {
        row[0]
        for row in connection.execute("select id_hash from chosen where split = 0").fetchall()
    }
    quality = {i: -1.0 if i % 10 == 0 else float(i % 7) for i in TRAINED}
    inside = [quality[i] for i in TRAINED if md5_key(f"row {i}") in taken]
    outside = [quality[i] for i in TRAINED if md5_key(f"row {i}") not in taken]
    assert inside and outside and min(inside) >= max(outside)


# --- order -----------------------------------------------------------------------------------


def test_hashes_in_sql_are_those_of_the_program():
    connection = duckdb.connect()
    connection.execute(read_sql("mix_macros"))
    keys = [0, 1, 2**63, 2**64 - 1, md5_key("x")]
    [(names,)] = connection.execute("select md5_number_lower('x')").fetchall()
    assert names == keys[-1]
    for key in keys:
        row = connection.execute(
            "select finalise64(?::ubigint), keyed64(?::ubigint, 12345), mix64(?::ubigint, ?)",
            [key, key, key, mix64_added(7)],
        ).fetchone()
        array = np.array([key], np.uint64)
        assert row == (
            int(finalise64(array)[0]),
            int(finalise64(array ^ np.uint64(12345))[0]),
            int(mix64(array, 7)[0]),
        )


def test_a_curriculum_bends_where_a_source_lies():
    connection = duckdb.connect()
    connection.execute(read_sql("mix_macros"))
    steps = ", ".join(map(repr, cumulative([1.0, 0.0])))
    # density 2 (1 - t), so the share before t is 1 - (1 - t)²
    for t in (0.1, 0.5, 0.9):
        [(place,)] = connection.execute(
            f"select along([{steps}], {1 - (1 - t) ** 2!r}::double)"
        ).fetchall()
        assert place == pytest.approx(t, abs=0.01)
    late = ", ".join(map(repr, cumulative([0.0, 0.0, 1.0])))
    [(first, last)] = connection.execute(
        f"select along([{late}], 0.0::double), along([{late}], 0.9999999999999999::double)"
    ).fetchall()
    assert first >= 0.5 and last == pytest.approx(1)
