from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from cslm_data.catalog import open_catalog
from cslm_data.errors import LockedError, MissingArtefactError
from cslm_data.keys import md5_key
from cslm_data.text.language_id import detect_languages, measure_texts, same_language

GERMAN = "Der Zug nach München hat heute leider wieder zwanzig Minuten Verspätung."
ENGLISH = "The train to the city is late again, and nobody told us the reason why."
CHINESE = "今天的火车又晚点了，没有人告诉我们原因。"
DUTCH = "De trein naar de stad heeft vandaag helaas weer vertraging gehad."


def fill(workspace, rows):
    with open_catalog(workspace, write=True, doing="test") as db:
        db.executemany(
            "insert into all_bitext "
            "values (?, 'c', ?, ?, ?, ?, 0, 0, null, null, 0, 's', 's:1', 0)",
            [[f"p{i}", a, b, x, y] for i, (a, x, b, y) in enumerate(rows)],
        )


def answers(workspace):
    with open_catalog(workspace, doing="test") as db:
        return db.execute(
            "select text_hash, language, detected, confidence from text_languages order by all"
        ).fetchall()


def test_languages_are_told_apart() -> None:
    found = detect_languages([GERMAN, ENGLISH, CHINESE, DUTCH])
    assert [language for language, _ in found] == ["de", "en", "zh", "nl"]
    assert all(confidence > 0.9 for _, confidence in found)


@pytest.mark.parametrize("text", ["", " ", "12345678901234567890", "…?!—", "Hi", "你好", "x" * 3])
def test_what_is_too_short_or_has_no_letters_is_not_judged(text: str) -> None:
    assert detect_languages([text]) == [(None, 0.0)]


def test_only_candidates_are_found_and_unknown_ones_are_left_out() -> None:
    assert detect_languages([DUTCH], candidates=["de", "en", "am"])[0][0] in ("de", "en")
    assert detect_languages([DUTCH], candidates=["am"]) == [(None, 0.0)]
    assert detect_languages([DUTCH], candidates=[]) == [(None, 0.0)]
    assert detect_languages([]) == []


def test_what_was_expected_changes_no_clear_answer_and_neither_do_cores() -> None:
    texts = [GERMAN, ENGLISH, CHINESE, DUTCH] * 3
    plain = [language for language, _ in detect_languages(texts)]
    for expected in (plain, ["fr"] * len(texts)):
        found = detect_languages(texts, expected=expected, threads=None)
        assert [language for language, _ in found] == plain


def test_a_long_text_is_judged_by_its_beginning_and_takes_no_longer() -> None:
    text = GERMAN * 6 + ENGLISH * 100_000
    started = time.process_time()
    assert detect_languages([text])[0][0] == "de"
    assert time.process_time() - started < 10


def test_codes_of_one_language_are_the_same() -> None:
    assert same_language("no", "nb") and same_language("zh", "yue") and same_language("sr", "hr")
    assert not same_language("no", "da") and not same_language(None, None)


def test_every_distinct_text_is_judged_once(workspace) -> None:
    fill(
        workspace,
        [
            ("de", GERMAN, "en", ENGLISH),
            ("de", GERMAN, "zh", ENGLISH),
            ("en", "23", "am", ENGLISH),
            ("yue", CHINESE, "nl", DUTCH),
        ],
    )
    summary = measure_texts(workspace)
    assert (summary.num_texts, summary.num_agreed) == (7, 4)
    assert (summary.num_undecided, summary.num_other) == (2, 1)
    assert summary.others == {("zh", "en"): 1}
    rows = answers(workspace)
    assert {row[:3] for row in rows} == {
        (md5_key(GERMAN), "de", "de"),
        (md5_key(ENGLISH), "en", "en"),
        (md5_key(ENGLISH), "zh", "en"),
        (md5_key(ENGLISH), "am", None),
        (md5_key("23"), "en", None),
        (md5_key(CHINESE), "yue", "yue"),
        (md5_key(DUTCH), "nl", "nl"),
    }
    assert measure_texts(workspace).num_texts == 0
    fill(workspace, [("fr", GERMAN, "en", ENGLISH)])
    assert measure_texts(workspace).others == {("fr", "de"): 1}
    assert len(answers(workspace)) == len(rows) + 1
    assert [path.name for path in workspace.text_languages.glob(".*")] == []


def test_without_a_catalog_there_is_nothing_to_judge(workspace) -> None:
    with pytest.raises(MissingArtefactError):
        measure_texts(workspace)
    assert not workspace.root.exists()


def test_two_do_not_judge_at_once(workspace) -> None:
    fill(workspace, [("de", GERMAN, "en", ENGLISH)])
    with workspace.lock("text_languages", "test"), pytest.raises(LockedError):
        measure_texts(workspace)


PROGRAM = """
import sys
from pathlib import Path
from cslm_data.text.language_id import measure_texts
from cslm_data.workspace import Workspace
measure_texts(Workspace(Path(sys.argv[1])), threads=1, texts_per_part=20)
"""


@pytest.mark.slow
def test_a_kill_between_parts_loses_and_repeats_nothing(workspace) -> None:
    rows = [("de", f"{GERMAN} Nummer {i}.", "en", f"{ENGLISH} Number {i}.") for i in range(1500)]
    fill(workspace, rows)
    folder = workspace.text_languages
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(workspace.root)])
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("part-*")) and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = {path: path.read_bytes() for path in folder.glob("part-*.parquet")}
    done = sum(pq.read_metadata(path).num_rows for path in finished)
    assert 0 < done < 3000, "killed neither before the first part nor after the last"
    summary = measure_texts(workspace, texts_per_part=500)
    assert summary.num_texts == 3000 - done
    assert all(path.read_bytes() == content for path, content in finished.items())
    expected = {(md5_key(x), a) for a, x, _, _ in rows} | {(md5_key(y), b) for _, _, b, y in rows}
    found = [row[:2] for row in answers(workspace)]
    assert len(found) == 3000
    assert set(found) == expected
    assert list(folder.glob(".*")) == []
