from __future__ import annotations

import json
import random
import sys
import unicodedata
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.keys import md5_key
from cslm_data.text import TextRules, normalise, normalise_column, text_key, text_keys_column
from cslm_data.text.columns import md5_keys_column

LANGUAGES = ["en", "de", "zh", "ja", "th", "hi", "ko", "ar", "sr", "am"]
NASTY = (
    "aA' ’.-_ß ẞσςΣŉİıǅﬁﾞｶガ각ᅡᆨ\u0301\u0323\u0338<ا\u0651\u064bक्षเก้ำ½²Ⅷ①٣7９%$…№℃漢汉"
    "\u200d\u3000\x00\n"
)

TEXTS = st.text(st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=["Cs"])))
RULES = st.builds(
    TextRules,
    numbers=st.booleans(),
    chinese=st.sampled_from(["keep", "simplified", "traditional"]),
)


def one_by_one(rows, rules):
    return [None if text is None else normalise(text, code, rules) for text, code in rows]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.none() | TEXTS, st.sampled_from(LANGUAGES)), max_size=8), RULES)
def test_a_column_is_what_its_rows_are(rows, rules) -> None:
    texts = pa.array([text for text, _ in rows], pa.string())
    languages = pa.array([code for _, code in rows], pa.string())
    assert normalise_column(texts, languages, rules).to_pylist() == one_by_one(rows, rules)


def test_every_character_of_unicode_alone_and_between_letters() -> None:
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    for before, after in [("", ""), ("a", "'b")]:
        texts = [before + character + after for character in characters]
        for language, rules in [("sr", TextRules()), ("en", TextRules(numbers=False))]:
            found = normalise_column(pa.array(texts), language, rules).to_pylist()
            expected = [normalise(text, language, rules) for text in texts]
            assert found == expected


def test_marks_that_compose_are_all_known_below_the_last_planes() -> None:
    beyond = range(0x20000, sys.maxunicode + 1)
    assert all(len(unicodedata.normalize("NFD", chr(c))) == 1 for c in beyond)


def test_random_rows_of_many_scripts_and_lengths() -> None:
    draw = random.Random(5)
    alphabets = [NASTY, "abc DE, '", "שָׁלוֹם", "Привет, мир", "สวัสดี", "한국어", "日本語ガ。", "éÀñ’"]
    rows = [
        (
            "".join(draw.choices(draw.choice(alphabets), k=draw.randrange(20))),
            draw.choice(LANGUAGES),
        )
        for _ in range(30000)
    ]
    texts, languages = (pa.array(column) for column in zip(*rows, strict=True))
    assert normalise_column(texts, languages).to_pylist() == one_by_one(rows, TextRules())


def test_slices_chunks_and_large_strings_are_read_as_they_are() -> None:
    texts = ["zero", "Ünë!", None, "", "  two  words ", "3"]
    expected = ["ünë", None, "", "two words", "three"]
    column = pa.array(texts)
    assert normalise_column(column.slice(1), "en").to_pylist() == expected
    chunks = pa.chunked_array([column.slice(1, 2), column.slice(3)])
    languages = pa.chunked_array([["en"], ["en"] * 4])
    assert normalise_column(chunks, languages).to_pylist() == expected
    assert normalise_column(column.cast(pa.large_string()).slice(1), "en").to_pylist() == expected
    assert normalise_column(pa.array([], pa.string()), "en").to_pylist() == []
    assert normalise_column(pa.chunked_array([], pa.string()), "en").to_pylist() == []
    assert normalise_column(pa.nulls(2, pa.string()), "en").to_pylist() == [None, None]


def test_more_text_than_one_stretch_holds_keeps_its_order() -> None:
    texts = [f"Row {'x' * (i % 7)}, {'é' * (i % 3)}!" for i in range(150_000)]
    texts[70_000] = "Big " * 5_000_000
    expected = ["row " + f"{'x' * (i % 7)} {'é' * (i % 3)}".strip() for i in range(150_000)]
    expected[70_000] = ("big " * 5_000_000).strip()
    found = normalise_column(pa.array(texts), "en").to_pylist()
    assert found == [text.strip() for text in expected]


def test_columns_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="2 texts, but 1 languages"):
        normalise_column(pa.array(["a", "b"]), pa.array(["en"]))
    with pytest.raises(ValueError, match="without a language"):
        normalise_column(pa.array(["a"]), pa.array([None], pa.string()))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_sql_computes_the_same_key(text: str) -> None:
    with duckdb.connect() as connection:
        query = "select md5_number_lower(?)"
        assert connection.execute(query, [text]).fetchall() == [(md5_key(text),)]


def test_keys_of_a_column_are_the_keys_of_its_rows() -> None:
    texts = ["Hi there!", None, "hi THERE", "", "23", "二十三\x00", "x" * 100_000]
    found = text_keys_column(pa.array(texts), "en")
    assert found.type == pa.uint64()
    assert found.to_pylist() == [None if t is None else text_key(t, "en") for t in texts]
    assert md5_keys_column(pa.array([], pa.string())).to_pylist() == []
    many = pa.array([str(i) for i in range(300_000)])
    assert md5_keys_column(many).to_pylist() == [md5_key(str(i)) for i in range(300_000)]


def texts_of(folder: Path) -> list[tuple[str, str]]:
    rows = []
    for path in sorted(folder.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "src" in row:
                rows += [(row["src"], row["src_lang"]), (row["tgt"], row["tgt_lang"])]
            elif row.get("text") and row.get("language"):
                rows.append((row["text"], row["language"]))
            elif isinstance(row.get("response"), str):
                rows.append((row["response"], row.get("language", "en")))
    return rows


def test_real_texts_of_all_languages_are_the_same_in_a_column(shared_data: Path) -> None:
    rows = texts_of(shared_data)
    assert {code for _, code in rows} >= {
        "en",
        "zh",
        "de",
        "es",
        "fr",
        "ja",
        "nl",
        "ko",
        "pt",
        "it",
        "sv",
    }
    texts, languages = (pa.array(column) for column in zip(*rows, strict=True))
    for rules in [TextRules(), TextRules(numbers=False, chinese="simplified")]:
        assert normalise_column(texts, languages, rules).to_pylist() == one_by_one(rows, rules)
