"""mixes/<name> → what is wrong with it, a row each: tars, checksums, content, sums, identities.

Step 1: mix.json and mix.parquet are read; the files that are there must be those they name.
Step 2: every shard is looked through by itself, in parallel: see `cslm_data.verifying.shard_check`.
Step 3: what only all shards together show: keys that come twice, sums of samples and tokens.

Nothing is repaired here: a damaged mix is built again, from the same catalog to the same bytes.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cslm_data.catalog import read_sql
from cslm_data.engines.local import run_parts
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.exporting.energon import ENERGON_FOLDER, energon_index_name
from cslm_data.progress import progress
from cslm_data.shard_index import index_path
from cslm_data.shards import MixInfo
from cslm_data.text_tokenizer import TextTokenizer, load_text_tokenizer
from cslm_data.verifying.findings import Finding
from cslm_data.verifying.shard_check import ShardReport, ShardTask, check_shard
from cslm_data.workspace import Workspace

_MIX_FILES = frozenset({"mix.json", "mix.parquet", "rejects.parquet", "shards", ENERGON_FOLDER})
_MEMORY = "1GB"
"""What DuckDB may hold; the rest of large mixes is sorted on disk."""
_MOST_ROWS = 1000
_OPTIONAL = frozenset({"rejects.parquet", ENERGON_FOLDER})


@dataclass(frozen=True, kw_only=True)
class MixReport:
    """What was looked at, and what is wrong."""

    mix: str
    num_shards: int
    num_samples: int
    num_units: int
    fast: bool
    """Only what headers, indexes and sums say was looked at, not every byte."""
    text_checked: bool
    """Texts went through the text tokenizer and back."""
    findings: tuple[Finding, ...]


def verify_mix(
    workspace: Workspace,
    name: str,
    *,
    fast: bool = False,
    num_workers: int | None = None,
) -> MixReport:
    """Look for damage in a mix of a workspace.

    `fast` reads headers and indexes alone. Raises UsageError where there is no folder of this name.
    """
    folder = workspace.mixes / name
    if not folder.is_dir():
        there = sorted(path.parent.name for path in workspace.mixes.glob("*/mix.json"))
        raise UsageError(f"{name}: no such mix; there is: {', '.join(there) or 'none'}")
    findings: list[Finding] = []
    try:
        info = MixInfo.load(folder)
    except (CorruptArtefactError, MissingArtefactError) as error:
        return _report(name, [_finding("mix_json", str(error))], fast=fast)
    findings += _check_files(info)
    text, why = _load_text(info)
    findings += why
    tasks = [
        ShardTask(
            path=folder / "shards" / entry.shard,
            split=entry.split,
            num_samples=entry.num_samples,
            num_bytes=entry.num_bytes,
            sha256=entry.sha256,
            tokenizer_id=info.tokenizer_id,
            num_units=info.num_units,
            text_tokenizer_id=info.text_tokenizer_id,
            template_version=info.template_version,
            fast=fast,
        )
        for entry in info.entries
        if (folder / "shards" / entry.shard).is_file()
    ]
    make_worker = functools.partial(_make_worker, None if fast or text is None else text.folder)
    reports: dict[str, ShardReport] = {}
    with progress("verify", total=len(tasks), unit="shards") as bar:
        for task, report in run_parts(tasks, make_worker, num_workers):
            reports[task.path.name] = report
            bar.advance()
    for entry in info.entries:
        if entry.shard in reports:
            findings += reports[entry.shard].findings
    findings += _check_json(info)
    indexed = [e.shard for e in info.entries if e.shard in reports and reports[e.shard].is_indexed]
    findings += _check_rows(info, indexed)
    return _report(
        name,
        findings,
        fast=fast,
        num_shards=len(reports),
        num_samples=sum(report.num_samples for report in reports.values()),
        num_units=sum(report.num_units for report in reports.values()),
        text_checked=text is not None and not fast,
    )


def _report(name: str, findings: Sequence[Finding], **counts: Any) -> MixReport:
    numbers = {"num_shards": 0, "num_samples": 0, "num_units": 0, "text_checked": False} | counts
    return MixReport(mix=name, findings=tuple(findings), **numbers)


def _make_worker(text: Path | None) -> Callable[[ShardTask], ShardReport]:
    tokenizer = None if text is None else load_text_tokenizer(text)
    return functools.partial(check_shard, tokenizer=tokenizer)


def _finding(check: str, detail: str, *, shard: str = "", key: str = "") -> Finding:
    return Finding(shard=shard, key=key, check=check, detail=detail)


# --- step 1: files ---------------------------------------------------------------------------


def _check_files(info: MixInfo) -> Iterator[Finding]:
    there = {path.name for path in info.folder.iterdir()}
    for name in sorted(_MIX_FILES - _OPTIONAL - there - {"mix.parquet"}):
        yield _finding("missing_file", f"{name} is not there")
    for name in sorted(there - _MIX_FILES):
        yield _finding("unknown_file", f"{name} is no part of a mix")
    shards = info.folder / "shards"
    known: set[str] = set()
    for entry in info.entries:
        path = shards / entry.shard
        files = (entry.shard, index_path(path).name)
        known |= {*files, energon_index_name(entry.shard)}
        for name in files:
            if not (shards / name).is_file():
                yield _finding("missing_file", f"{name} is not there", shard=entry.shard)
    for path in sorted(shards.iterdir()) if shards.is_dir() else ():
        if path.name not in known:
            yield _finding("unknown_file", f"mix.json knows no shards/{path.name}")


def _load_text(info: MixInfo) -> tuple[TextTokenizer | None, list[Finding]]:
    """The text tokenizer of a mix where it is still there; it is no finding that it is not."""
    try:
        tokenizer = load_text_tokenizer(info.text_tokenizer_path())
    except (CorruptArtefactError, MissingArtefactError):
        return None, []
    if tokenizer.text_tokenizer_id != info.text_tokenizer_id:
        detail = (
            f"{info.text_tokenizer} is {tokenizer.text_tokenizer_id} now, mix.json says "
            f"{info.text_tokenizer_id}"
        )
        return None, [_finding("text_tokenizer", detail)]
    return tokenizer, []


# --- step 3: sums and rows -------------------------------------------------------------------


def _check_json(info: MixInfo) -> Iterator[Finding]:
    """The samples of each split, as mix.json has them in two places."""
    of_shards: Counter[str] = Counter()
    for entry in info.entries:
        of_shards[entry.split] += entry.num_samples
    for split in sorted({*info.splits, *of_shards}):
        said = info.splits.get(split, {}).get("num_samples", 0)
        if said != of_shards[split]:
            yield _finding(
                "mix_json",
                f"mix.json does not agree with itself: {split}: {said} samples by its splits, "
                f"{of_shards[split]} by its shards",
            )


def _check_rows(info: MixInfo, indexed: list[str]) -> Iterator[Finding]:
    """Keys twice; sums and rows of mix.parquet. `indexed`: shards whose index can be read."""
    rows = str(info.folder / "mix.parquet")
    indexes = [str(index_path(info.folder / "shards" / shard)) for shard in indexed]
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute("set memory_limit = ?", [_MEMORY])
        connection.execute("set temp_directory = ?", [spill])
        if indexes:
            for shard, key, detail in connection.execute(
                read_sql("verify_keys"), {"indexes": indexes}
            ).fetchall():
                yield _finding("duplicate_key", detail, shard=shard, key=key)
        if not Path(rows).is_file():
            yield _finding("missing_file", "mix.parquet is not there")
            return
        try:
            sums = connection.execute(read_sql("verify_sums"), {"rows": rows}).fetchall()
            yield from _compare_sums(info, sums)
            if indexes:
                values = {"rows": rows, "indexes": indexes, "shards": indexed}
                result = connection.execute(read_sql("verify_rows"), values)
                for shard, key, detail in result.fetchmany(_MOST_ROWS):
                    yield _finding("mix_parquet", detail, shard=shard, key=key)
                more = len(result.fetchall())
                if more:
                    yield _finding("mix_parquet", f"and {more} more")
        except duckdb.Error as error:
            yield _finding("mix_parquet", f"mix.parquet cannot be read: {error}")


def _compare_sums(info: MixInfo, sums: Sequence[tuple[Any, ...]]) -> Iterator[Finding]:
    found = {split: (samples, tokens) for split, samples, tokens, _ in sums}
    for split in sorted({*info.splits, *found}):
        said = info.splits.get(split, {})
        for name, number in zip(("samples", "tokens"), found.get(split, (0, 0)), strict=True):
            if said.get(f"num_{name}", 0) != number:
                detail = f"{said.get(f'num_{name}', 0)} {name} by mix.json, {number} by mix.parquet"
                yield _finding("sums", f"{split}: {detail}")
    for split, _, _, is_counted in sums:
        if not is_counted:
            yield _finding("order", f"{split}: positions in mix.parquet are not 0, 1, 2, …")
