"""A source of a mix → its rows in the catalog, as Arrow batches; of very many a keyed sample."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.catalog import Connection, read_sql
from cslm_data.errors import UsageError
from cslm_data.keys import key64
from cslm_data.mixing.recipes import Recipe
from cslm_data.records import Word
from cslm_data.samples import SourceTurn, prompt_kind

if TYPE_CHECKING:
    import pyarrow

_QUERIES = {
    "asr": "mix_utterances",
    "tts": "mix_utterances",
    "mt": "mix_bitext",
    "instruct": "mix_instruct",
    "s2s": "mix_chat",
    "t2s": "mix_chat",
}
_BATCH_ROWS = 1024
_ALL = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class MixSource:
    """One task in one language, or from one to another."""

    index: int
    rule: int
    """Which of the recipe's sources it comes from."""
    task: str
    language: str
    answer_language: str
    share: float
    """Of the training tokens, as the recipe asks."""
    max_epochs: float
    where: str | None
    optional: bool

    @property
    def languages(self) -> str:
        """Label of the languages: `en`, or `en-zh` from English to Mandarin."""
        if self.language == self.answer_language:
            return self.language
        return f"{self.language}-{self.answer_language}"

    @property
    def prompt_kind(self) -> str | None:
        """Which wordings its samples take."""
        return prompt_kind(self.task, self.language, self.answer_language)


@contextlib.contextmanager
def open_rows(
    connection: Connection, source: MixSource, *, tokenizer_id: str, recipe: Recipe, threshold: int
) -> Iterator[pyarrow.RecordBatchReader]:
    """The rows of a source as Arrow batches."""
    name = _QUERIES[source.task]
    values: dict[str, Any] = {"language": source.language}
    if name in ("mix_bitext", "mix_chat"):
        values["answer_language"] = source.answer_language
    if name in ("mix_utterances", "mix_chat"):
        values["tokenizer_id"] = tokenizer_id
    if name == "mix_chat":
        values["spoken"] = source.task == "s2s"
    else:
        values |= {"mask": _mask(recipe), "threshold": threshold}
    result = _ask(connection, source, name, values)
    with result.to_arrow_reader(_BATCH_ROWS) as reader:
        yield reader


def choose_sample(connection: Connection, source: MixSource, recipe: Recipe) -> tuple[int, int]:
    """Rows of a source in the catalog, and the largest keyed hash of those to look at."""
    name = _QUERIES[source.task].replace("mix_", "mix_count_")
    if recipe.max_candidates is None or name == "mix_count_chat":
        return -1, _ALL
    values = {"language": source.language}
    if name == "mix_count_bitext":
        values["answer_language"] = source.answer_language
    [(population,)] = _ask(connection, source, name, values).fetchall()
    if population <= recipe.max_candidates:
        return population, _ALL
    return population, _ALL * recipe.max_candidates // population


def _mask(recipe: Recipe) -> int:
    return key64("max_candidates", str(recipe.selection_seed))


def _ask(connection: Connection, source: MixSource, name: str, values: dict[str, Any]) -> Any:
    """A query over the rows of a source; mistakes in `where` are the recipe's."""
    import duckdb

    text = read_sql(name).replace("({where})", f"({source.where or 'true'})")
    try:
        return connection.sql(text, params=values)
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        if source.where is None:
            raise
        raise UsageError(
            f"recipe: sources[{source.rule}].where {source.where!r}: {error}"
        ) from None


def read_turns(column: Any) -> list[list[SourceTurn]]:
    """Turns of each row of an Arrow column; units are views of its memory."""
    offsets = column.offsets.to_numpy()
    flat = column.values
    values = {name: flat.field(name).to_pylist() for name in ("role", "language", "text", "words")}
    units = _lists(flat.field("units"))
    durations = _lists(flat.field("durations"))

    def turn(index: int) -> SourceTurn:
        words = values["words"][index]
        return SourceTurn(
            role=values["role"][index],
            language=values["language"][index],
            text=values["text"][index],
            units=units[index],
            durations=durations[index],
            words=None if words is None else tuple(Word(**word) for word in words),
        )

    return [
        [turn(index) for index in range(start, end)]
        for start, end in itertools.pairwise(offsets.tolist())
    ]


def _lists(column: Any) -> list[NDArray[np.uint16] | None]:
    """Each list of an Arrow column of lists of uint16, None for null."""
    offsets = column.offsets.to_numpy().tolist()
    values = column.values.to_numpy(zero_copy_only=False).astype(np.uint16, copy=False)
    valid: Iterator[bool] = iter(column.is_valid().to_pylist())
    return [
        values[start:end] if is_valid else None
        for (start, end), is_valid in zip(itertools.pairwise(offsets), valid, strict=True)
    ]
