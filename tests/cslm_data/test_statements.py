"""What of a stranger's SQL may run."""

from __future__ import annotations

import pytest

from cslm_data.errors import UsageError
from cslm_data.statements import parse_predicate, reading_statements

WRITING = [
    "copy (select 1) to 'x.csv'",
    "with a as (copy (select 1) to 'x.csv') from a",
    "with a as materialized (insert into sources values (1) returning *) from a",
    "with a as (update sources set format = '' returning *) from a",
    "with a as (delete from sources returning *) from a",
    "select * from (with a as (copy (select 1) to 'x.csv') from a)",
    "select (with a as (copy (select 1) to 'x.csv') select 1 from a)",
    "explain analyze copy (select 1) to 'x.csv'",
    "explain (analyze) copy (select 1) to 'x.csv'",
    "explain analyze with a as (copy (select 1) to 'x.csv') from a",
    "/* a comment */ explain analyze copy (select 1) to 'x.csv'",
    "explain analyze create table a as select 1",
    "from query('with a as (copy (select 1) to ''x.csv'') from a')",
    "from json_execute_serialized_sql('{}')",
    "from pandas_scan(1::pointer)",
    "from python_arrow_scan(1, 2, 3)",
    "from arrow_scan(1::pointer, 2::pointer, 3::pointer)",
    "from copy_database('a', 'b')",
    "select write_log('x')",
    "select 1; drop table utterances",
    "prepare a as select 1",
    "execute a",
    "checkpoint",
    "call pragma_version()",
    "export database 'x'",
    "import database 'x'",
    "install httpfs",
    "load httpfs",
    "attach 'x.duckdb'",
    "detach catalog",
    "use memory",
    "set memory_limit = '1TB'",
    "reset memory_limit",
    "set variable x = 1",
    "pragma enable_profiling",
    "create temp view v as select 1",
    "create macro m() as 1",
    "create secret s (type s3)",
    "begin",
    "vacuum",
]


@pytest.mark.parametrize("query", WRITING)
def test_what_does_more_than_read_is_refused_however_it_is_dressed(query: str) -> None:
    with pytest.raises(UsageError):
        reading_statements(query)


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("select 1", ["SELECT"]),
        ("from utterances", ["SELECT"]),
        ("with recursive r as (select 1 x union all select x + 1 from r where x < 3) from r", None),
        ("values (1), (2)", None),
        ("show tables", None),
        ("describe utterances", None),
        ("summarize utterances", None),
        ("pivot utterances on language in ('en', 'zh') using count(*)", None),
        ("select 1; select 2", ["SELECT", "SELECT"]),
        ("explain select 1", ["EXPLAIN"]),
        ("explain analyze select 1", ["EXPLAIN"]),
        ("select * from read_parquet('units/x/part-0.parquet')", None),
        ("select unnest([1, 2]), x from range(3) as r(x)", None),
        ("select 'copy (select 1) to x; drop table y' as text", None),
    ],
)
def test_what_reads_is_let_through(query: str, kinds: list[str] | None) -> None:
    found = [statement.type.name for statement in reading_statements(query)]
    assert found == (kinds or ["SELECT"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "true; drop table utterances",
        "true) or (false",
        "true) union all select * from read_text('/etc/passwd') where (true",
        "duration_s > 1 from read_text('/etc/passwd')",
        "duration_s > 1 group by all",
        "duration_s > 1 order by 1",
        "a, b",
        "select 1",
        "x in (select content from read_text('/etc/passwd'))",
        "x in (select * from glob('/*'))",
        "x in (with a as (copy (select 1) to 'x.csv') from a)",
        "exists (from query('select 1'))",
        "row_number() over () < 10",
        "x = $secret",
        "x = ?",
        "(" * 50_000,
        "(" * 300 + "true" + ")" * 300,
        "x or " * 50_000 + "x",
    ],
)
def test_a_predicate_is_one_expression_that_reads_no_file(text: str) -> None:
    with pytest.raises(UsageError, match=r"^where"):
        parse_predicate(text, where="where")


def test_a_predicate_names_its_columns_and_loses_its_comments() -> None:
    found = parse_predicate("u.Duration_s < 3 and lower(text) = 'a' -- or not", where="where")
    assert found.text == "u.Duration_s < 3 and lower(text) = 'a'"
    assert found.columns == {"duration_s", "text"}
    inner = parse_predicate("utt_id in (select utt_id from units where num_frames > 3)", where="w")
    assert inner.columns == {"utt_id", "num_frames"}
