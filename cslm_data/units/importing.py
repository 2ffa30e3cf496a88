"""Files of other toolkits → units. Reads the files and the catalog, writes units/<tokenizer_id>/.

Step 1  read the files, line by line, into one Parquet file; what cannot be read is refused
Step 2  find the utterance of each line, and judge whether its units can be that utterance's
Step 3  compare a few with what the tokenizer itself makes of their audio
Step 4  plan what no plan holds, as quantize does
Step 5  write every planned part whose utterances are all given; in = out + already + rejected

A kill between parts leaves a plan with parts missing: the same command writes them, and so does
quantize, by encoding the audio.
"""

# R runs of units

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cslm_data.audio import decode
from cslm_data.catalog import Connection, look_again, open_catalog, read_sql, run_over_files
from cslm_data.errors import AudioError, CslmError, TokenizerMismatchError, UsageError
from cslm_data.exporting.folders import DESCRIPTION
from cslm_data.keys import key64
from cslm_data.progress import progress
from cslm_data.quality.robustness import edit_distance
from cslm_data.records import Reject
from cslm_data.reject_files import open_rejects
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.storage import Folder, require_units_folder
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.units.encoding import UNIT_COLUMNS
from cslm_data.units.formats import Source, load_format
from cslm_data.units.parts import (
    list_parts,
    missing_parts,
    part_name,
    write_part,
)
from cslm_data.units.planning import plan_rest, show_planned
from cslm_data.units.staging import LineKind, stage_lines
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

STAGE = "import-units"
DEFAULT_CHECKED = 5
"""Utterances compared with the tokenizer's own units."""

_ROWS = 2000
_PART_S, _PARTS_AT_MOST = 3600.0, 4096
_OTHER_UNITS, _USUAL_UNITS = 0.5, 0.95
"""Share of equal frames under which units are another tokenizer's, and under which it is told."""


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """What the workspace took. in = out + already + rejected."""

    tokenizer_id: str
    name: str
    sources: tuple[str, ...]
    num_in: int
    """Lines of the files."""
    num_out: int
    num_already: int
    """Lines whose units the workspace had."""
    num_rejected: int
    reject_reasons: dict[str, int]
    num_compared: int
    """Utterances compared with the tokenizer's own units."""
    equal_share: float | None
    """Of their frames (of their runs, where durations were spread); None where none was."""


def import_units(
    workspace: Workspace,
    path: Path,
    *,
    format: str,
    tokenizer: str | None = None,
    dedup: bool | None = None,
    even_durations: bool = False,
    corpus: str | None = None,
    by_stem: bool = False,
    num_checked: int = DEFAULT_CHECKED,
) -> ImportSummary:
    """Take the units of a file, or of the files of a folder, for utterances of the catalog.

    `dedup` says whether a file without durations holds runs, where its format leaves that open.
    Runs without durations are refused unless `even_durations`: an utterance's frames are then
    spread evenly. An utterance is found by its id, or the path of its recording, or with `by_stem`
    by the recording's name alone. Raises UsageError, TokenizerMismatchError when the files are of
    another tokenizer, MissingArtefactError, CorruptArtefactError, LockedError.
    """
    used = find_tokenizer(workspace, tokenizer)
    where = path.expanduser().absolute()
    sources = load_format(format).find(where)
    kinds = [_kind(source, _description(where, used), dedup) for source in sources]
    if "runs" in kinds and not even_durations:
        source = sources[kinds.index("runs")]
        raise UsageError(
            f"{source.label}: holds runs of units, but not how long they last, which alignment and "
            "interleaving need. Import a file with durations, or spread each utterance's frames "
            "evenly over its runs with --even-durations"
        )
    folder = require_units_folder(workspace).child(used.tokenizer_id)
    refused_path = workspace.rejects / f"{STAGE}-{key64(str(where)):016x}.parquet"
    with (
        workspace.lock(f"units-{used.tokenizer_id}", "import-units"),
        _staging(workspace, used) as staged,
    ):
        folder.prepare()
        stage_lines(staged, zip(sources, kinds, strict=True), used.num_units)
        with open_catalog(workspace, doing="import units") as connection:
            _match(connection, staged, folder, used, corpus=corpus, by_stem=by_stem)
            compared = _compare(connection, used, num_checked)
            _require_own(where, used, *compared)
            _refuse_uncovered(connection, folder)
            _plan(connection, folder)
            look_again(connection, workspace)
            num_out = _write_parts(connection, folder)
            with open_rejects(refused_path) as refused:
                rows = connection.execute(read_sql("import_rejects"))
                for row in iter(rows.fetchone, None):
                    refused.add(_reject(*row))
            ((num_in, num_already),) = connection.execute(read_sql("import_counts")).fetchall()
    return ImportSummary(
        tokenizer_id=used.tokenizer_id,
        name=used.name,
        sources=tuple(source.label for source in sources),
        num_in=num_in,
        num_out=num_out,
        num_already=num_already,
        num_rejected=refused.reasons.total(),
        reject_reasons=dict(sorted(refused.reasons.items())),
        num_compared=compared[0],
        equal_share=compared[1],
    )


def _reject(corpus: str, key: str, reason: str, detail: str) -> Reject:
    return Reject(stage=STAGE, corpus=corpus, key=key, reason=reason, detail=detail)


# ----------------------------------------------------------------------------- step 1: the files
def _description(path: Path, tokenizer: SpeechTokenizer) -> dict[str, Any]:
    """What export-units left beside the files. Raises TokenizerMismatchError for another's."""
    beside = (path if path.is_dir() else path.parent) / DESCRIPTION
    if not beside.is_file():
        return {}
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    if said.get("tokenizer_id", tokenizer.tokenizer_id) != tokenizer.tokenizer_id:
        raise TokenizerMismatchError(
            f"{path}: units of {said['tokenizer_id']} ({beside.name}), not of {tokenizer.name} "
            f"({tokenizer.tokenizer_id}); name that tokenizer with --tokenizer"
        )
    return said


def _kind(source: Source, description: dict[str, Any], dedup: bool | None) -> LineKind:
    """What the units of a file are. Raises UsageError where nobody says."""
    if source.kind == "durations":
        return "durations"
    joined = dedup if dedup is not None else description.get("dedup")
    if joined is None and source.kind == "unknown":
        raise UsageError(
            f"{source.label}: has no durations beside it, so it may hold a unit for each frame or "
            "runs of them; say which with --no-dedup or --dedup"
        )
    if joined is None:
        joined = source.kind == "runs"
    return "runs" if joined else "frames"


@contextlib.contextmanager
def _staging(workspace: Workspace, tokenizer: SpeechTokenizer) -> Iterator[Path]:
    """A file for what is read; what a killed run left is removed. Hold the tokenizer's lock."""
    folder = workspace.root / "imports" / tokenizer.tokenizer_id
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder / "lines.parquet"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ----------------------------------------------------------------------------- step 2: utterances
def _match(
    connection: Connection,
    staged: Path,
    folder: Folder,
    tokenizer: SpeechTokenizer,
    *,
    corpus: str | None,
    by_stem: bool,
) -> None:
    """Make the views `staged` and `existing` and the table `matched`."""
    run_over_files(connection, "import_staged", str(staged))
    if list_parts(folder):
        run_over_files(connection, "import_existing", f"{folder.sql_address}/part-*.parquet")
    else:
        connection.execute(read_sql("import_existing_none"))
    values = {"corpus": corpus, "by_stem": by_stem, "frame_rate_hz": tokenizer.frame_rate_hz}
    connection.execute(read_sql("import_match"), values)


# ----------------------------------------------------------------------------- step 3: a comparison
def _compare(
    connection: Connection, tokenizer: SpeechTokenizer, num_checked: int
) -> tuple[int, float | None]:
    """Utterances compared with the tokenizer's own units, and the share that is equal."""
    values = {"mask": key64("import", "probe"), "limit": num_checked}
    rows = connection.execute(read_sql("import_probe"), values).fetchall()
    num_compared = num_frames = num_equal = 0
    unread = ""
    for audio, offset_s, duration_s, units, durations in rows:
        try:
            wave_T = decode(audio, offset_s=offset_s, duration_s=duration_s)
            own = tokenizer.encode(wave_T)
        except AudioError as error:
            unread = str(error)
            continue
        except CslmError as error:
            raise type(error)(
                f"{error}; or take the units without comparing them: --check 0"
            ) from None
        ours = np.asarray(units, np.uint16)
        num_compared += 1
        if durations is None:
            longest = max(len(ours), len(own.units))
            num_frames += longest
            num_equal += longest - edit_distance(ours, own.units)
        else:
            ours_N, own_N = expand(ours, np.asarray(durations)), expand(own.units, own.durations)
            shared = min(len(ours_N), len(own_N))
            num_frames += max(len(ours_N), len(own_N))
            num_equal += int((ours_N[:shared] == own_N[:shared]).sum())
    if rows and not num_compared:
        log.warning("none of %d recordings could be read to compare units: %s", len(rows), unread)
    return num_compared, num_equal / num_frames if num_frames else None


def _require_own(
    path: Path, tokenizer: SpeechTokenizer, num_compared: int, share: float | None
) -> None:
    """Raise TokenizerMismatchError when the units are surely another tokenizer's."""
    if share is None or share >= _USUAL_UNITS:
        return
    what = f"{share:.1%} of the units of {num_compared} utterances are those of {tokenizer.name}"
    if share < _OTHER_UNITS:
        raise TokenizerMismatchError(
            f"{path}: only {what} ({tokenizer.tokenizer_id}), so they are of another one; name it "
            "with --tokenizer, or take them nevertheless with --check 0"
        )
    log.warning("%s: only %s; were they made with other weights, padding or rates?", path, what)


# ----------------------------------------------------------------------------- steps 4 and 5: parts
def _refuse_uncovered(connection: Connection, folder: Folder) -> None:
    if _make_waiting(connection, folder):
        connection.execute(read_sql("import_uncovered")).fetchall()


def _plan(connection: Connection, folder: Folder) -> None:
    """Plan what is taken and in no plan yet."""

    def size(total_s: float) -> float:
        return max(_PART_S, total_s / _PARTS_AT_MOST)

    show_planned(connection, folder)
    plan_rest(connection, folder, read_sql("import_new"), part_seconds=size)


def _write_parts(connection: Connection, folder: Folder) -> int:
    """Write the parts whose utterances are all given; the number of these."""
    if not _make_waiting(connection, folder):
        return 0
    num_written = 0
    result: Any = connection.sql(read_sql("import_parts"))
    with (
        result.to_arrow_reader(_ROWS) as reader,
        progress("import", total=None, unit="utt") as bar,
    ):
        rows = (row for batch in reader for row in _part_rows(batch))
        for name, group in itertools.groupby(rows, key=lambda row: row[0]):
            part = [row for _, row in group]
            write_part(folder, name, part, UNIT_COLUMNS)
            num_written += len(part)
            bar.advance(len(part))
    return num_written


def _part_rows(batch: pa.RecordBatch) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of parts, each with the name of its part."""
    for row in batch.to_pylist():
        units, durations = row["units"], row["durations"]
        if durations is None:
            durations = _spread(len(units), row["expected_frames"])
        num_frames = int(np.sum(durations, dtype=np.int64))
        columns = units, durations, num_frames, row["audio_version"], None, None
        yield row["name"], (row["utt_id"], *columns)


def _spread(num_runs: int, num_frames: int) -> Any:
    """As many frames for each run as for the others, or one more: uint16 (R,)."""
    total = max(num_runs, num_frames)
    return np.diff(np.arange(num_runs + 1) * total // num_runs)


def _make_waiting(connection: Connection, folder: Folder) -> bool:
    """Make the view `waiting`; False when no planned part is without its file."""
    missing = missing_parts(folder)
    rows = [(p, i, part_name(p, i)) for p, indices in missing.items() for i in indices]
    if not rows:
        return False
    columns = map(list, zip(*rows, strict=True))
    table = pa.table(dict(zip(("plan", "part", "name"), columns, strict=True)))
    connection.register("waiting_parts", table)
    run_over_files(connection, "import_waiting", f"{folder.sql_address}/plan-*.parquet")
    return True
