"""Utterances + transcripts → word times. Reads catalog and audio, writes alignments/<name>/.

Step 1  load the acoustic model, or train the embedded one where the workspace has none
Step 2  plan the utterances that no plan of it holds: cut into parts by seconds of audio
Step 3  align the parts that are missing, of this plan and of earlier ones: each a Parquet file
        under a temporary name, renamed when whole
Step 4  count: in = out + rejected + already

Workers align; what they found comes back and is written here, so that the alignments lie in the
workspace wherever the workers are.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from cslm_data.aligning.acoustic import AcousticModel, Spelling
from cslm_data.aligning.folders import check_name, claim, empty
from cslm_data.aligning.models import (
    EMBEDDED,
    AlignerOptions,
    is_embedded,
    load_aligner,
    train_embedded,
)
from cslm_data.aligning.timing import ALIGNMENT_COLUMNS, NO_TEXT, Timing, make_timer, timing_of
from cslm_data.catalog import Connection, open_catalog, read_sql, run_over_files, scalar
from cslm_data.engines import RunParts
from cslm_data.engines.placement import place_workers
from cslm_data.errors import NoDataError, UsageError
from cslm_data.progress import progress
from cslm_data.storage import LocalFolder
from cslm_data.units.parts import (
    PARTS,
    PLANS,
    count_unfinished,
    forget_rejected,
    list_parts,
    list_plans,
    unfinished_parts,
    write_part,
)
from cslm_data.units.planning import check_work, default_part_s, plan_rest, require_speech
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_MIN_SCORE = 0.1
_ELSEWHERE = "elsewhere"


@dataclass(frozen=True, kw_only=True)
class AlignedLanguage:
    """The word times of one language."""

    language: str
    num_utterances: int
    """With words of this aligner."""
    num_words: int
    mean_score: float | None
    """Over words, 0 to 1; None without any."""
    num_rejected: int
    num_elsewhere: int
    """Left alone: they have word times of another aligner, or of their corpus."""


@dataclass(frozen=True, kw_only=True)
class AlignSummary:
    """What the workspace now holds of an aligner. in = out + rejected + already."""

    aligner_id: str
    name: str
    trained: bool
    """True if this run trained the aligner."""
    min_score: float
    num_in: int
    """Utterances of the catalog, of the languages and corpora asked for."""
    num_out: int
    """Aligned by this run."""
    num_rejected: int
    """Refused with recording and transcript as they are, by this run or an earlier one."""
    num_already: int
    """Aligned by an earlier run, or by others."""
    reject_reasons: dict[str, int]
    languages: tuple[AlignedLanguage, ...]
    elapsed_s: float

    @property
    def num_without_text(self) -> int:
        """Of the refused: those that have no transcript, which surprises nobody."""
        return self.reject_reasons.get(NO_TEXT, 0)


def align(
    workspace: Workspace,
    *,
    aligner: str = EMBEDDED,
    languages: Sequence[str] | None = None,
    corpora: Sequence[str] | None = None,
    min_score: float | None = None,
    spelling: Spelling | None = None,
    align_all: bool = False,
    num_workers: int | None = None,
    part_seconds: float | None = None,
    engine: str = "local",
    device: str = "auto",
    overwrite: bool = False,
    retry_rejected: bool = False,
    retrain: bool = False,
    train_options: Mapping[str, Any] | None = None,
) -> AlignSummary:
    """Find when each word is said, in the speech that has a transcript and no word times yet.

    `aligner`: `ctc` (trained on this speech where the workspace has none; with `retrain` anew, by
    `train_options`), `mms_fa`, or a folder with a model, which `spelling` says how to write for.
    Those who have times of another aligner, or of their corpus, are aligned only with `align_all`.
    `min_score`: utterances whose words score less on average are refused; None: 0.1, or as the
    aligner's alignments so far. `overwrite`: these are thrown away first. Raises
    MissingArtefactError, NoDataError, UsageError, LockedError, AlreadyExistsError where there are
    alignments of another model of that name, or made with other options.
    """
    start = time.monotonic()
    check_work(part_seconds, num_workers)
    _check(min_score, aligner, device, retrain=retrain, train_options=train_options)
    require_speech(workspace, "align")
    options = AlignerOptions(
        workspace=workspace,
        device=device,
        spelling=spelling,
        languages=tuple(languages) if languages else None,
        train_options=dict(train_options or {}),
    )
    with workspace.lock("aligner-models", "align"):
        model, trained = _load(aligner, options, retrain=retrain, overwrite=overwrite)
    asked, timing = (
        min_score,
        timing_of(model, DEFAULT_MIN_SCORE if min_score is None else min_score),
    )
    del model
    check_name(timing.name)
    # The embedded model is small, and gets through more on the cores than on a GPU.
    where = "cpu" if is_embedded(aligner) else device
    run_parts, workers = place_workers(
        engine, extractor=aligner, device=where, num_workers=num_workers
    )
    with workspace.lock(f"alignments-{timing.name}", "align"):
        folder = LocalFolder(workspace.alignments / timing.name)
        folder.prepare()
        if overwrite:
            empty(folder)
        timing = claim(folder, timing, asked, aligner)
        if retry_rejected:
            log.info("%d parts with refused utterances are done again", forget_rejected(folder))
        earlier = list_parts(folder)
        chosen = _Choice(timing.name, languages, corpora)
        _plan(workspace, folder, chosen, part_seconds, align_all=align_all)
        recipe = replace(options, may_train=False)
        make_worker = functools.partial(make_timer, aligner, recipe, timing)
        _do_parts(folder, run_parts, make_worker, workers)
        folder.remove_leftovers()
        return _summarise(workspace, folder, chosen, timing, earlier, trained=trained, start=start)


@dataclass(frozen=True)
class _Choice:
    """Which speech is asked for."""

    aligner: str
    languages: Sequence[str] | None
    corpora: Sequence[str] | None

    def show(self, connection: Connection) -> None:
        """Make the table `chosen`. Raises NoDataError where nothing is."""
        values = {
            "aligner": self.aligner,
            "languages": list(self.languages) if self.languages else None,
            "corpora": list(self.corpora) if self.corpora else None,
        }
        connection.execute(read_sql("align_chosen"), values)
        if not scalar(connection, "select count(*) from chosen"):
            asked = [
                f"{option} {','.join(said)}"
                for option, said in (("--langs", self.languages), ("--corpus", self.corpora))
                if said
            ]
            raise NoDataError(
                f"{' '.join(asked)}: the catalog has no such speech; see what there is: "
                'cslm-data sql "from corpora"'
            )


def _check(
    min_score: float | None,
    aligner: str,
    device: str,
    *,
    retrain: bool,
    train_options: Mapping[str, Any] | None,
) -> None:
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"--min-score {min_score}: must be from 0 to 1")
    if is_embedded(aligner) and device not in ("auto", "cpu"):
        raise UsageError(
            f"--device {device}: the embedded aligner runs on the cores of the machine; leave "
            "--device out"
        )
    if (retrain or train_options) and not is_embedded(aligner):
        raise UsageError(
            f"--aligner {aligner}: only the embedded aligner is trained here; leave --retrain and "
            "--epochs out, or use --aligner ctc"
        )


def _load(
    aligner: str, options: AlignerOptions, *, retrain: bool, overwrite: bool
) -> tuple[AcousticModel, bool]:
    """The model, and whether it was trained just now."""
    if not is_embedded(aligner):
        return load_aligner(aligner, options), False
    name = aligner.partition(":")[2] or EMBEDDED
    there = (options.workspace.aligners / name).is_dir()
    if there and retrain:
        if not overwrite and (options.workspace.alignments / name).is_dir():
            raise UsageError(
                f"--retrain: the alignments in {options.workspace.alignments / name} are of the "
                "aligner as it is; add --overwrite to replace them, too"
            )
        return train_embedded(name, options), True
    if there and options.train_options:
        raise UsageError(
            f"--aligner {aligner}: it is trained already; add --retrain to train it anew"
        )
    return load_aligner(aligner, options), not there


def _plan(
    workspace: Workspace,
    folder: LocalFolder,
    chosen: _Choice,
    part_seconds: float | None,
    *,
    align_all: bool,
) -> None:
    with open_catalog(workspace, doing="align") as connection:
        chosen.show(connection)
        if list_plans(folder):
            run_over_files(connection, "align_planned", f"{folder.sql_address}/{PLANS}")
        else:
            connection.execute(read_sql("align_planned_none"))
        plan_rest(
            connection,
            folder,
            read_sql("align_order").replace("{all}", str(align_all).lower()),
            part_seconds=lambda total_s: part_seconds or default_part_s(total_s),
            with_text=True,
        )


def _do_parts(
    folder: LocalFolder,
    run_parts: RunParts,
    make_worker: functools.partial[Any],
    num_workers: int | None,
) -> None:
    """Write every planned part that has no file yet, whichever run planned it."""
    with progress("align", total=count_unfinished(folder), unit="utt") as bar:
        for part, rows in run_parts(unfinished_parts(folder), make_worker, num_workers):
            write_part(folder, part.name, rows, ALIGNMENT_COLUMNS)
            bar.advance(len(rows))


def _summarise(
    workspace: Workspace,
    folder: LocalFolder,
    chosen: _Choice,
    timing: Timing,
    earlier: list[str],
    *,
    trained: bool,
    start: float,
) -> AlignSummary:
    with open_catalog(workspace, doing="align") as connection:
        chosen.show(connection)
        _show_parts(connection, folder)
        connection.register("earlier", pa.table({"part": pa.array(earlier, pa.string())}))
        rows = connection.execute(read_sql("align_summary")).fetchall()
    reasons: dict[str, int] = {}
    sums: dict[str, list[float]] = {}
    num_out = num_already = 0
    for language, reason, is_earlier, num_utterances, num_words, sum_scores in rows:
        # Utterances and words aligned, their scores, refused, elsewhere.
        row = sums.setdefault(language, [0, 0, 0.0, 0, 0])
        if reason == _ELSEWHERE:
            num_already += num_utterances
            row[4] += num_utterances
        elif reason:
            reasons[reason] = reasons.get(reason, 0) + num_utterances
            row[3] += num_utterances
        else:
            num_already += num_utterances if is_earlier else 0
            num_out += 0 if is_earlier else num_utterances
            row[0] += num_utterances
            row[1] += num_words
            row[2] += sum_scores
    num_rejected = sum(reasons.values())
    return AlignSummary(
        aligner_id=timing.aligner_id,
        name=timing.name,
        trained=trained,
        min_score=timing.min_score,
        num_in=num_out + num_rejected + num_already,
        num_out=num_out,
        num_rejected=num_rejected,
        num_already=num_already,
        reject_reasons=dict(sorted(reasons.items())),
        languages=tuple(
            AlignedLanguage(
                language=language,
                num_utterances=int(aligned),
                num_words=int(words),
                mean_score=scores / words if words else None,
                num_rejected=int(rejected),
                num_elsewhere=int(elsewhere),
            )
            for language, (aligned, words, scores, rejected, elsewhere) in sorted(sums.items())
        ),
        elapsed_s=time.monotonic() - start,
    )


def _show_parts(connection: Connection, folder: LocalFolder) -> None:
    """Make the view `parts`, also where every utterance had its times elsewhere."""
    if list_parts(folder):
        run_over_files(connection, "align_parts", f"{folder.sql_address}/{PARTS}")
    else:
        connection.execute(read_sql("align_parts_none"))
