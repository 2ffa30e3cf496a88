"""Hostile SQL through the real command, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_files import write_rows, write_tone

COMMAND = [sys.executable, "-m", "cslm_cli.data"]
SECRET = "the-secret-word"


def cslm_data(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, input=stdin)


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, but for the locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and "locks" not in path.parts:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace `ws` of one utterance, secrets around it, links within it."""
    place = tmp_path_factory.mktemp("place")
    write_tone(place / "corpus" / "a.wav")
    row: dict[str, object] = {"id": "u", "audio": "a.wav", "text": "Hi.", "language": "en"}
    write_rows(place / "corpus" / "speech.jsonl", [row])
    done = cslm_data("ingest", place / "corpus", "--workspace", place / "ws")
    assert done.returncode == 0, done.stderr
    (place / "secret.csv").write_text(f"a,b\n{SECRET},2\n")
    (place / "secret.json").write_text(json.dumps({"a": SECRET}))
    (place / "ws" / "link.csv").symlink_to(place / "secret.csv")
    (place / "ws" / "folder").symlink_to(place)
    (place / "ws" / "units").mkdir(exist_ok=True)
    (place / "ws" / "units" / "deep").symlink_to(place)
    return place


ATTACKS = [
    "copy (select 1) to '{ws}/stolen.csv'",
    "copy utterances to '{place}/stolen.csv'",
    "with a as (copy (select 1) to '{ws}/stolen.csv') from a",
    "with a as (copy (select 1) to '{ws}/units/part-0.parquet') from a",
    "explain analyze copy (select 1) to '{ws}/stolen.csv'",
    "explain analyze with a as (copy (select 1) to '{ws}/stolen.csv') from a",
    "from query('with a as (copy (select 1) to ''{ws}/stolen.csv'') from a')",
    "export database '{place}/stolen'",
    "attach '{place}/stolen.duckdb'",
    "attach ':memory:' as other",
    "install httpfs",
    "load httpfs",
    "select * from read_text('/etc/passwd')",
    "select * from read_text('{ws}/../secret.csv')",
    "select * from read_csv('{place}/secret.csv')",
    "select * from read_csv('{ws}/link.csv')",
    "select * from read_csv('{ws}/folder/secret.csv')",
    "select * from read_csv('{ws}/units/deep/secret.csv')",
    "select * from read_csv(['{ws}/none.csv', '{place}/secret.csv'])",
    "select * from read_json('{place}/secret.json')",
    "select * from read_blob('file://{place}/secret.csv')",
    "select * from '{place}/secret.csv'",
    "select * from query_table('{place}/secret.csv')",
    "select * from sniff_csv('{place}/secret.csv')",
    "select * from read_duckdb('{place}/other.duckdb')",
    "select * from glob('{place}/*')",
    "select * from glob('{ws}/folder/*')",
    "select * from glob('/*')",
    "select * from 'https://example.com/{secret}.csv'",
    "select * from 's3://bucket/a.parquet'",
    "select getenv('HOME')",
    "select * from read_text('/proc/self/environ')",
    "select * from duckdb_secrets()",
    "create secret s (type s3, key_id 'x', secret 'y')",
    "set enable_external_access = true",
    "set allowed_directories = ['/']",
    "set lock_configuration = false",
    "set temp_directory = '{place}/stolen'",
    "set memory_limit = '1TB'",
    "pragma enable_profiling; select 1",
    "select 1; insert into sources values ('a', 'b', 'c', 1, 0)",
    "select 1;;; drop table all_utterances",
    "/* select */ delete from all_utterances",
    "prepare a as select 1; execute a",
    "create temp view v as select * from read_text('/etc/passwd')",
    "checkpoint",
    "from workspace",
    "from statements",
    "from connection",
    "from sys",
    "select * from pandas_scan(1::pointer)",
    "selec 1",
    " ",
    "/* nothing */",
    ";",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_neither_writes_nor_sees_what_is_outside(place: Path, attack: str) -> None:
    ws = place / "ws"
    before = listing(place)
    query = attack.format(ws=ws, place=place, secret=SECRET)
    done = cslm_data("sql", query, "--workspace", ws)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert SECRET not in done.stdout.replace(query, "")
    assert "root:" not in done.stdout + done.stderr
    assert listing(place) == before


def test_unrestricted_lifts_statements_and_files_but_the_catalog_stays(place: Path) -> None:
    ws = place / "ws"
    read = cslm_data(
        *("sql", f"select a from '{place}/secret.csv'", "-o", "csv"),
        *("--unrestricted", "--workspace", ws),
    )
    assert read.stdout == f"a\n{SECRET}\n", read.stderr
    out = place / "wanted.csv"
    copied = cslm_data(
        "sql", f"copy (select 1 as x) to '{out}'", "--unrestricted", "--workspace", ws
    )
    assert copied.returncode == 0, copied.stderr
    assert out.read_text() == "x\n1\n"
    out.unlink()
    for query in ("delete from all_utterances", "insert into sources values ('a','b','c',1,0)"):
        refused = cslm_data("sql", query, "--unrestricted", "--workspace", ws)
        assert refused.returncode == 2 and "read-only" in refused.stderr
    count = cslm_data("sql", "select count(*) as n from utterances", "-o", "csv", "--workspace", ws)
    assert count.stdout == "n\n1\n"


def test_files_of_the_workspace_can_be_read_and_folders_of_it_may_be_links(place: Path) -> None:
    elsewhere = place / "big-disk"
    elsewhere.mkdir()
    (elsewhere / "own.csv").write_text("a\n1\n")
    link = place / "ws" / "measures"
    link.symlink_to(elsewhere)
    try:
        query = f"select a from '{link}/own.csv'"
        done = cslm_data("sql", query, "-o", "csv", "--workspace", place / "ws")
        assert done.stdout == "a\n1\n", done.stderr
    finally:
        link.unlink()


def test_a_table_is_cut_and_says_so_and_a_stream_is_not_kept(place: Path) -> None:
    ws = place / "ws"
    endless = "select * from range(1000000000000) as a(x)"
    start = time.monotonic()
    done = cslm_data("sql", endless, "--limit", 3, "--workspace", ws)
    assert done.returncode == 0 and "the first 3 rows; see --limit" in done.stderr
    assert [line for line in done.stdout.splitlines() if "│" in line and "2" in line]
    cut = cslm_data("sql", endless, "--workspace", ws)
    assert "the first 1000 rows" in cut.stderr
    assert time.monotonic() - start < 60
    whole = cslm_data("sql", "select * from range(1500)", "--limit", 0, "--workspace", ws)
    assert "1499" in whole.stdout and whole.stderr == ""
    for output in ("csv", "json"):
        command = [*COMMAND, "sql", endless, "-o", output, "--workspace", str(ws)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            assert running.stdout is not None and running.stderr is not None
            lines = [running.stdout.readline() for _ in range(5000)]
            assert b"4990" in lines[4998] + lines[4992] + lines[4991]
            with Path(f"/proc/{running.pid}/status").open() as status:
                peak = next(line for line in status if line.startswith("VmHWM"))
            assert int(peak.split()[1]) < 600_000, "kB: rows that were printed are forgotten"
            running.stdout.close()
            assert running.wait(30) == 1
            assert b"Traceback" not in running.stderr.read()


def test_a_query_may_take_half_of_the_memory_and_ends_with_ctrl_c(place: Path) -> None:
    ws = place / "ws"
    said = cslm_data(
        *("sql", "select current_setting('memory_limit') as m", "-o", "csv", "--workspace", ws)
    )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    number, unit = said.stdout.splitlines()[1].split()
    assert float(number) / {"GiB": 1, "MiB": 1024}[unit] <= 0.51 * total
    endless = "select sum(sin(x)) from range(1000000000000000) as a(x)"
    running = subprocess.Popen(
        [*COMMAND, "sql", endless, "--workspace", str(ws)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(4)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, said_then = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in said_then


def test_a_query_or_a_row_to_explain_but_not_both(place: Path) -> None:
    for arguments in ([], ["select 1", "--explain-row", "u"]):
        done = cslm_data("sql", *arguments, "--workspace", place / "ws")
        assert done.returncode == 2 and "either a query or --explain-row" in done.stderr
    story = cslm_data("sql", "--explain-row", "u", "--workspace", place / "ws")
    assert story.returncode == 0 and "speech.jsonl:1" in story.stdout
    told = json.loads(
        cslm_data("sql", "--explain-row", "u", "--json", "--workspace", place / "ws").stdout
    )
    assert told["key"] == "u" and told["row"][0]["text"] == "Hi."
    nobody = cslm_data("sql", "--explain-row", "x'; drop", "--workspace", place / "ws")
    assert nobody.returncode == 2 and nobody.stderr.startswith("error: x'; drop: no sample")
