"""Units → files of other toolkits. Reads the catalog, units, headers of audio; writes a folder.

The folder appears whole or not at all, and says in export.json of which tokenizer its units are.
What a format cannot say is refused: a toolkit that names recordings cannot be given a part of one,
unless that part is cut out to be a recording of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import probe
from cslm_data.audio_store import split_range
from cslm_data.catalog import Connection, confine, open_catalog, read_sql
from cslm_data.errors import AudioError, NoDataError, UsageError
from cslm_data.exporting.folders import DESCRIPTION, check_free, cut_out, made_whole
from cslm_data.file_names import file_stem
from cslm_data.keys import key64
from cslm_data.progress import Progress, progress
from cslm_data.records import Reject
from cslm_data.reject_files import RejectFile, open_rejects
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.statements import parse_predicate
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.units.formats import ExportLine, NameBy, UnitFormat, Writer, load_format, one_line
from cslm_data.workspace import Workspace, write_json

STAGE = "export-units"
_ROWS = 256
_READERS = 8
_MISSED_S = 0.1
"""An utterance that misses so much of its recording still stands for it: fairseq lets it pass."""


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What was written. in = out + rejected."""

    tokenizer_id: str
    name: str
    format: str
    folder: Path
    dedup: bool
    num_in: int
    """Utterances chosen, with units or without."""
    num_out: int
    num_rejected: int
    reject_reasons: dict[str, int]
    num_cut: int
    """Of those written: as recordings of their own."""
    num_units: int
    splits: dict[str, int]
    """Utterances written of each split."""


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """How utterances are named and written."""

    format: UnitFormat
    name_by: NameBy
    cut: bool
    dedup: bool
    num_shards: int
    temporary: Path
    """Where the folder is made."""
    out: Path
    """Where it will be."""


class _Row(NamedTuple):
    """A row of export_rows.sql."""

    utt_id: str
    corpus: str
    audio: str
    offset_s: float
    duration_s: float
    units: NDArray[np.uint16] | None
    durations: NDArray[np.uint16] | None


class _Address(NamedTuple):
    """What names an utterance in the export."""

    name: str
    num_samples: int
    is_cut: bool


@dataclass
class _Counts:
    units_K: NDArray[np.int64]
    num_cut: int = 0


def export_units(
    workspace: Workspace,
    out: Path,
    *,
    format: str,
    tokenizer: str | None = None,
    dedup: bool | None = None,
    name_by: NameBy | None = None,
    cut: bool = False,
    split: str | None = None,
    languages: list[str] | None = None,
    where: str | None = None,
    num_shards: int = 1,
    overwrite: bool = False,
) -> ExportSummary:
    """Write the units of the utterances that split, languages and SQL over `utterances` choose.

    `dedup` and `name_by` default to what the toolkit of `format` does itself. With `cut` an
    utterance that its files could not name is written as a recording of its own, 16 kHz FLAC.
    `num_shards` is of fairseq's labels. Raises UsageError, NoDataError when nothing is chosen,
    AlreadyExistsError, MissingArtefactError without tokenizer.
    """
    chosen = load_format(format)
    if name_by is not None and name_by not in chosen.name_by:
        raise UsageError(f"--name-by {name_by}: {format} can do {', '.join(chosen.name_by)} only")
    if where is not None:
        where = parse_predicate(where, where="--where").text
    used = find_tokenizer(workspace, tokenizer)
    target = out.expanduser().absolute()
    check_free(target, overwrite=overwrite)
    refused_path = workspace.rejects / f"{STAGE}-{key64(str(target)):016x}.parquet"
    counts = _Counts(np.zeros(used.num_units, np.int64))
    written: dict[str, int] = {}
    with (
        open_catalog(workspace, doing="export units") as connection,
        made_whole(target) as temporary,
        open_rejects(refused_path) as refused,
    ):
        confine(connection, workspace)
        settings = _Settings(
            format=chosen,
            name_by=name_by or chosen.name_by[0],
            cut=cut,
            dedup=chosen.dedup if dedup is None else dedup,
            num_shards=num_shards,
            temporary=temporary,
            out=target,
        )
        choice = {"languages": languages or None}
        splits = _splits(connection, {"split": split, **choice}, where)
        with progress("export", total=sum(splits.values()), unit="utt") as bar:
            for name in splits:
                values = {"split": name, "tokenizer_id": used.tokenizer_id, **choice}
                rows = _rows(connection, values, where)
                written[name] = _write_split(name, rows, settings, counts, refused, bar)
        if chosen.finish is not None:
            chosen.finish(temporary, counts.units_K)
        write_json(temporary / DESCRIPTION, _describe(used, format, settings, written))
    return ExportSummary(
        tokenizer_id=used.tokenizer_id,
        name=used.name,
        format=format,
        folder=target,
        dedup=settings.dedup,
        num_in=sum(splits.values()),
        num_out=sum(written.values()),
        num_rejected=refused.reasons.total(),
        reject_reasons=dict(sorted(refused.reasons.items())),
        num_cut=counts.num_cut,
        num_units=int(counts.units_K.sum()),
        splits=written,
    )


def _describe(
    tokenizer: SpeechTokenizer, format: str, settings: _Settings, written: dict[str, int]
) -> dict[str, Any]:
    return {
        "format": format,
        "tokenizer_id": tokenizer.tokenizer_id,
        "num_units": tokenizer.num_units,
        "frame_rate_hz": tokenizer.frame_rate_hz,
        "dedup": settings.dedup,
        "name_by": settings.name_by,
        "splits": written,
    }


# ----------------------------------------------------------------------------- what is exported
def _splits(connection: Connection, values: dict[str, Any], where: str | None) -> dict[str, int]:
    """Utterances chosen of each split. Raises UsageError for wrong SQL, NoDataError for none."""
    import duckdb

    text = read_sql("export_splits").replace("({where})", f"({where or 'true'})")
    try:
        rows = connection.execute(text, values).fetchall()
    except duckdb.Error as error:
        if where is None:
            raise
        raise UsageError(f"--where {where!r}: {str(error).strip()}") from None
    if not rows:
        raise NoDataError(
            "no utterance of the catalog is of these splits, languages and --where; see what there "
            'is: cslm-data sql "select split, language, count(*) from utterances group by all"'
        )
    return dict(rows)


def _rows(connection: Connection, values: dict[str, Any], where: str | None) -> Iterator[_Row]:
    text = read_sql("export_rows").replace("({where})", f"({where or 'true'})")
    result: Any = connection.sql(text, params=values)
    with result.to_arrow_reader(_ROWS) as reader:
        for batch in reader:
            plain = [batch[name].to_pylist() for name in _Row._fields[:5]]
            for index, row in enumerate(zip(*plain, strict=True)):
                yield _Row(*row, *(_numbers(batch[name][index]) for name in _Row._fields[5:]))


def _numbers(scalar: Any) -> NDArray[np.uint16] | None:
    if not scalar.is_valid:
        return None
    return np.asarray(scalar.values.to_numpy(zero_copy_only=False), np.uint16)


# ----------------------------------------------------------------------------- how it is written
def _write_split(
    split: str,
    rows: Iterator[_Row],
    settings: _Settings,
    counts: _Counts,
    refused: RejectFile,
    bar: Progress,
) -> int:
    """Write the files of a split; the number of its utterances. Headers are read ahead."""
    address = _make_address(settings)
    num_written = 0
    with (
        settings.format.open_writer(
            settings.temporary, file_stem(split.replace("/", "_")), num_shards=settings.num_shards
        ) as writer,
        ThreadPoolExecutor(_READERS, thread_name_prefix="read") as readers,
    ):
        while batch := list(itertools.islice(rows, _ROWS)):
            for row, found in zip(batch, readers.map(address, batch), strict=True):
                bar.advance()
                if isinstance(found, Reject):
                    refused.add(found)
                    continue
                _write(row, found, settings.dedup, writer, counts)
                num_written += 1
    return num_written


def _write(row: _Row, found: _Address, dedup: bool, writer: Writer, counts: _Counts) -> None:
    assert row.units is not None
    assert row.durations is not None
    units, durations = row.units, row.durations
    if not dedup:
        units = expand(units, durations)
        durations = np.ones(len(units), np.uint16)
    writer.add(
        ExportLine(row.utt_id, found.name, found.num_samples, units.tolist(), durations.tolist())
    )
    counts.units_K += np.bincount(units, minlength=len(counts.units_K))
    counts.num_cut += found.is_cut


def _make_address(settings: _Settings) -> Callable[[_Row], _Address | Reject]:
    """What finds the name of an utterance, and makes its recording where need be."""

    def address(row: _Row) -> _Address | Reject:
        def refuse(reason: str, detail: str) -> Reject:
            return Reject(
                stage=STAGE, corpus=row.corpus, key=row.utt_id, reason=reason, detail=detail
            )

        if row.units is None:
            return refuse("no_units", "has no units that are up to date; run: cslm-data quantize")
        if settings.format.plain_names and not one_line(row.utt_id):
            return refuse("bad_name", "its id has blanks at its ends, tabs or line ends; change it")
        if settings.name_by == "id":
            return _Address(row.utt_id, 0, False)
        try:
            problem, num_samples = _why_not_whole(row, settings.format)
            if not problem:
                return _Address(row.audio.removeprefix("file://"), num_samples, False)
            if settings.cut:
                return _cut(row, settings)
        except AudioError as error:
            return refuse(error.reason, error.detail)
        named = ", or name utterances with --name-by id" if "id" in settings.format.name_by else ""
        return refuse(
            problem.split(":")[0],
            f"{problem}; write such utterances as recordings of their own with --cut{named}",
        )

    return address


def _why_not_whole(row: _Row, format: UnitFormat) -> tuple[str, int]:
    """Why the path of its recording cannot stand for an utterance ('' if it can), its samples."""
    path = row.audio.removeprefix("file://")
    if split_range(path)[1] is not None:
        return f"inside: its recording lies inside of {split_range(path)[0]}", 0
    if format.sample_rate_hz is not None and "://" in path:
        return "remote: its recording lies on another machine", 0
    if format.plain_names and not one_line(path):
        return "bad_name: its path has blanks at its ends, tabs or line ends", 0
    header = probe(row.audio)
    if row.offset_s > 0 or abs(row.duration_s - header.duration_s) > _MISSED_S:
        return f"segment: it is a part of {path}, which lasts {header.duration_s:.3f} s", 0
    if format.sample_rate_hz not in (None, header.sample_rate_hz):
        return f"sample_rate: {path} is at {header.sample_rate_hz} Hz", 0
    return "", header.num_frames


def _cut(row: _Row, settings: _Settings) -> _Address:
    """Write an utterance as a recording; what the tokenizer heard, at 16 kHz."""
    inner, num_samples = cut_out(
        settings.temporary,
        row.utt_id,
        audio=row.audio,
        offset_s=row.offset_s,
        duration_s=row.duration_s,
        suffix=".flac",
    )
    return _Address(str(settings.out / inner), num_samples, True)
