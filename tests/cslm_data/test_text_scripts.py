from __future__ import annotations

import pytest

from cslm_data.catalog import open_catalog
from cslm_data.languages import known_language
from cslm_data.text.scripts import language_scripts

ROWS = [
    ("en", "Hello, world! 123", 10, 0),
    ("en", "Привет, мир", 9, 9),
    ("en", "café naïve Ærø", 12, 0),
    ("en", "the letter π", 10, 1),
    ("ru", "Привет, мир", 9, 0),
    ("ru", "Privet", 6, 6),
    ("sr", "Добар дан", 8, 0),
    ("sr", "Dobar dan", 8, 0),
    ("kk", "Сәлем salem", 10, 0),
    ("zh", "你好，世界", 4, 0),
    ("zh", "苹果 iPhone", 8, 6),
    ("zh", "こんにちは", 5, 5),
    ("ja", "コーヒーを飲む々", 8, 0),
    ("ja", "안녕", 2, 2),
    ("ko", "안녕하세요 漢字", 7, 0),
    ("hi", "नमस्ते दुनिया", 7, 0),
    ("ar", "مرحبا", 5, 0),
    ("el", "γειά", 4, 0),
    ("th", "สวัสดี", 4, 0),
    ("en", "ＦＵＬＬ", 4, 0),
]
"""Language, text, letters, letters of another script: by hand, where vowel signs are no letters."""


def add(db, number, language, text):
    db.execute(
        "insert into all_bitext values "
        "(?, 'c', ?, 'en', ?, 'Fine', 0, 0, null, null, 0, 's', 's:1', 0)",
        [f"p{number}", language, text],
    )


def test_letters_outside_the_scripts_of_a_language_are_counted(workspace) -> None:
    with open_catalog(workspace, write=True, doing="test") as db:
        for number, (language, text, _, _) in enumerate(ROWS):
            add(db, number, language, text)
    with open_catalog(workspace, doing="test") as db:
        found = db.execute(
            "select language, letters, outside, share_outside from text_scripts "
            "where field = 'src' and table_name = 'bitext' and corpus = 'c' "
            "order by id[2:]::integer"
        ).fetchall()
        others = db.execute(
            "select count(*), max(outside) from text_scripts where field = 'tgt'"
        ).fetchall()
    assert found == [(language, n, out, out / n) for language, _, n, out in ROWS]
    assert others == [(len(ROWS), 0)]


def test_texts_without_letters_or_of_a_language_unknown_to_us_are_not_judged(workspace) -> None:
    with open_catalog(workspace, write=True, doing="test") as db:
        add(db, 1, "en", "123 …!")
        add(db, 2, "pi", "Привет")
        add(db, 3, "en", "")
        count = "select count(*) from text_scripts where field = 'src'"
        assert db.execute(count).fetchall() == [(0,)]


def test_every_language_of_the_table_is_one_and_is_in_sql(workspace) -> None:
    table = language_scripts()
    assert all(known_language(code) for code in table)
    with open_catalog(workspace, write=True, doing="test") as db:
        rows = db.execute("select language, scripts from language_scripts").fetchall()
        for number, code in enumerate(table):
            add(db, number, code, "x")
        judged = db.execute("select language from text_scripts where field = 'src'").fetchall()
    assert {code: tuple(scripts) for code, scripts in rows} == table
    assert len(rows) == len(table) == len(judged)


@pytest.mark.parametrize(
    ("language", "scripts"),
    [("sr", {"Cyrl", "Latn"}), ("ja", {"Hani", "Hira", "Kana"}), ("he", {"Hebr"})],
)
def test_scripts_have_their_iso_names(language: str, scripts: set[str]) -> None:
    assert set(language_scripts()[language]) == scripts
