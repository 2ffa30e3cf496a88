"""What a user asks audits for (a use, languages, a benchmark) as small tables beside the views."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from cslm_data.audio import audio_version
from cslm_data.catalog import Connection, read_sql, scalar
from cslm_data.corpora.source import Source, find_source
from cslm_data.corpora.tables import SUFFIXES, Row, read_rows
from cslm_data.errors import AudioError, NoDataError, UsageError
from cslm_data.languages import check_language
from cslm_data.mixing.recipes import load_recipe
from cslm_data.mixing.shares import asked_shares
from cslm_data.mixing.sources import expand_recipe
from cslm_data.text import UNSPACED

log = logging.getLogger(__name__)

_BATCH_ROWS = 10_000
_TEXT_FIELDS = (
    *("text", "sentence", "transcript", "transcription", "src", "tgt", "source", "target"),
    *("prompt", "response", "question", "answer", "instruction", "input", "output", "query"),
    *("reference", "choices", "turns", "messages", "conversations", "content", "value"),
)
"""Fields of a benchmark's rows that hold text, or objects with such fields."""


def make_words(connection: Connection) -> None:
    """The macros of audit_words.sql, and its tables, still empty."""
    languages = ", ".join(f"'{language}'" for language in sorted(UNSPACED))
    connection.execute(read_sql("audit_words").replace("{unspaced}", f"({languages})"))


def fill_use(connection: Connection, use: str) -> None:
    """What the data is for: `commercial` or `research`. Raises UsageError for another word."""
    if use not in ("commercial", "research"):
        raise UsageError(f"--use {use}: there are commercial, research")
    connection.execute("insert into intended_use values (?)", [use])


def fill_wanted(
    connection: Connection, languages: tuple[str, ...], *, stage: str, recipe: Path | None
) -> None:
    """The tasks that a recipe asks for in some languages. Raises UsageError."""
    for language in languages:
        check_language(language, where="--langs")
    rules = load_recipe(recipe, stage=stage)
    sources = expand_recipe(rules, languages)
    connection.executemany(
        "insert into wanted values (?, ?, ?, ?)",
        [
            (source.task, source.language, source.answer_language, share)
            for source, share in zip(sources, asked_shares(sources, rules), strict=True)
        ],
    )


def fill_benchmark(connection: Connection, against: str) -> None:
    """The texts and recordings of a file, or of a corpus of the catalog.

    Raises UsageError when it is neither, NoDataError when it holds no text that we find.
    """
    if "://" in against or Path(against).expanduser().exists():
        source = find_source(against)
        _fill_from_file(connection, source)
        column, value = "source_uri", source.uri
    else:
        column, value = "corpus", against
        if not scalar(connection, "select count(*) from corpora where corpus = ?", [against]):
            raise UsageError(f"--against {against}: no such file, and no corpus of the catalog")
        connection.execute(
            "insert into benchmark_texts select id, text from texts where corpus = ?", [against]
        )
    for table, key in (
        ("utterances", "utt_id"),
        ("bitext", "pair_id"),
        ("dialogues", "dialogue_id"),
    ):
        connection.execute(
            f"insert into benchmark_own select ?, {key} from {table} where {column} = ?",
            [table, value],
        )


def _fill_from_file(connection: Connection, source: Source) -> None:
    if source.is_folder or source.suffix not in (*SUFFIXES, ".txt"):
        raise UsageError(
            f"--against {source.uri}: give a .jsonl, .json, .csv, .tsv or .txt file; or "
            "ingest it as a corpus, then name the corpus"
        )
    num_texts = num_unreadable = 0
    names: set[str] = set()
    batch: dict[str, list[Any]] = {"ids": [], "texts": []}
    for key, texts, audio, fields in _rows(source):
        names.update(fields)
        for text in texts:
            num_texts += 1
            batch["ids"].append(key)
            batch["texts"].append(text)
        if len(batch["ids"]) >= _BATCH_ROWS:
            _insert(connection, batch)
        if audio is not None:
            num_unreadable += not _insert_audio(connection, key, *audio)
    _insert(connection, batch)
    if num_unreadable:
        log.warning(
            "--against %s: %d recordings cannot be read here; they are compared by text alone",
            source.uri,
            num_unreadable,
        )
    if not num_texts:
        raise NoDataError(
            f"--against {source.uri}: no text in it; looked for the fields "
            f"{', '.join(_TEXT_FIELDS)}, found {', '.join(sorted(names)) or 'no row'}"
        )


def _rows(
    source: Source,
) -> Iterator[tuple[str, list[str], tuple[str, float] | None, list[str]]]:
    """Each row's id, texts, recording with its offset, and names of fields."""
    if source.suffix == ".txt":
        with source.open_text() as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield f"{source.name}:{number}", [_clean(line)], None, []
        return
    for row in read_rows(source):
        if not isinstance(row, Row):
            log.warning("--against: %s", row.detail)
            continue
        audio = row.text("audio")
        recording = None if audio is None else (source.resolve(audio), _offset(row))
        fields = list(row.fields)
        yield row.text("id") or row.place, list(_texts(row.fields)), recording, fields


def _texts(value: Any) -> Iterator[str]:
    """Every text in a row: of the fields that hold text, and of the objects in them."""
    if isinstance(value, str):
        if value.strip():
            yield _clean(value)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in _TEXT_FIELDS:
            yield from _texts(value.get(name))


def _clean(text: str) -> str:
    """Bytes that are no UTF-8, which came as lone surrogates, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _offset(row: Row) -> float:
    try:
        return row.number("offset") or 0.0
    except ValueError:
        return 0.0


def _insert(connection: Connection, batch: dict[str, list[Any]]) -> None:
    rows = pa.table({"ids": pa.array(batch["ids"], pa.string()), "texts": batch["texts"]})
    if len(rows):
        connection.register("incoming_texts", rows)
        connection.execute("insert into benchmark_texts select ids, texts from incoming_texts")
        connection.unregister("incoming_texts")
    batch["ids"].clear()
    batch["texts"].clear()


def _insert_audio(connection: Connection, key: str, uri: str, offset_s: float) -> bool:
    try:
        version = audio_version(uri)
    except AudioError:
        return False
    connection.execute("insert into benchmark_audio values (?, ?, ?)", [key, version, offset_s])
    return True
