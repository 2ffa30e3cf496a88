"""Texts that nobody has spoken → speech. Reads the catalog, writes synthesized/, and the catalog.

Step 1  choose rows: text-only dialogues, translations or transcripts; and voices
Step 2  plan those that no plan of the job holds, cut into parts, written first
Step 3  speak the parts that are missing, of this plan and of earlier ones: each a pack of FLAC,
        written under a temporary name and renamed when whole
Step 4  write all that was spoken as a manifest, and ingest it; count: in = out + rejected + already

A job is a folder, named by the hash of all that decides how a text sounds. The same settings go on
with the same job: what it holds is not spoken again, whichever rows are chosen next. The rows that
were spoken stay as they are; their speech is beside them, `kind` synthetic, in corpora of its own.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cslm_data.engines import RunParts, load_engine
from cslm_data.errors import StorageError, UsageError
from cslm_data.keys import content_id
from cslm_data.progress import progress
from cslm_data.storage import LocalFolder
from cslm_data.synthesis import load_backend
from cslm_data.synthesis.backend import Backend, BackendOptions
from cslm_data.synthesis.choosing import TABLES, Selection, What, find_voices, plan_new
from cslm_data.synthesis.parts import unfinished_speech
from cslm_data.synthesis.publishing import Published, publish
from cslm_data.synthesis.speakable import UNFIT
from cslm_data.synthesis.speaking import SpeakingOptions, make_speaker
from cslm_data.units.parts import count_unfinished, forget_rejected, list_parts
from cslm_data.workspace import Workspace, write_json

log = logging.getLogger(__name__)

DEFAULT_MAX_SECONDS = 30.0
DEFAULT_PART_SECONDS = 600.0

_SPOKEN_FORM = 1
"""Counted up when speakable.py or a backend comes to speak the same text otherwise."""


@dataclass(frozen=True, kw_only=True)
class SynthesizedGroup:
    """The speech of a job in one corpus and language."""

    corpus: str
    """Whose texts were spoken."""
    language: str
    num_texts: int
    seconds: float
    num_voices: int
    num_rejected: int
    """Texts of rows that were refused."""


@dataclass(frozen=True, kw_only=True)
class SynthesizeSummary:
    """What a job now holds. Rows of the catalog: in = out + rejected + already."""

    job: str
    folder: str
    backend: str
    made_by: str
    num_chosen: int
    """Rows that were asked for this time."""
    num_in: int
    """Rows of the job: of this run and of earlier ones with the same settings."""
    num_out: int
    """Spoken by this run."""
    num_rejected: int
    """Refused, by this run or an earlier one."""
    num_already: int
    """Spoken by an earlier run."""
    reject_reasons: dict[str, int]
    groups: tuple[SynthesizedGroup, ...]
    new_seconds: float
    """Speech of this run."""
    not_ingested: int
    """Rows of the manifest that the catalog refused."""
    elapsed_s: float

    @property
    def num_failed(self) -> int:
        """Refused for another reason than that nobody could say the text."""
        return sum(number for why, number in self.reject_reasons.items() if why not in UNFIT)


def synthesize(
    workspace: Workspace,
    *,
    what: What = "dialogues",
    languages: Sequence[str],
    backend: str = "espeak",
    command: str | None = None,
    voices: int | Sequence[str] | None = None,
    corpus: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    exchanges: int = 1,
    max_seconds: float = DEFAULT_MAX_SECONDS,
    time_limit_s: float = 60.0,
    seed: int = 0,
    num_workers: int | None = None,
    part_seconds: float = DEFAULT_PART_SECONDS,
    engine: str = "local",
    retry_rejected: bool = False,
) -> SynthesizeSummary:
    """Speak texts of the catalog that have no speech, and add the speech to it.

    `what` says which: `dialogues` (their first `exchanges`, questions and answers), of those
    `instructions` alone (one exchange), both sides of `bitext`, transcripts of `utterances`. Rows
    are chosen by `languages`, `corpus`, `where` (SQL) and `limit`. `voices`: how many of each
    language, or which. What was refused is tried again only with `retry_rejected`. Raises
    UsageError, NoDataError, MissingArtefactError, LockedError, StorageError.
    """
    start = time.monotonic()
    _check(what, languages, limit, exchanges, max_seconds, time_limit_s, part_seconds, num_workers)
    selection = Selection(
        what=what, languages=tuple(languages), corpus=corpus, where=where, limit=limit
    )
    options = BackendOptions(command=command, time_limit_s=time_limit_s)
    speaker = load_backend(backend, options)
    # In one order: who speaks a row does not depend on that in which voices are named.
    wanted = voices if voices is None or isinstance(voices, int) else sorted(set(voices))
    spoken_by = find_voices(speaker, selection.languages, wanted)
    _warn_of_one_voice(what, speaker, spoken_by)
    run_parts = load_engine(engine)
    settings: dict[str, object] = {
        "table": TABLES[what],
        "backend": speaker.identity,
        "voices": wanted,
        "seed": seed,
        "max_seconds": max_seconds,
        "spoken_form": _SPOKEN_FORM,
    }
    if TABLES[what] == "dialogues":
        settings["exchanges"] = exchanges
    job = content_id(settings, length=12)
    folder = LocalFolder(workspace.synthesized / f"{speaker.name}-{job}")
    with workspace.lock(f"synthesized-{folder.path.name}", "cslm-data synthesize"):
        num_chosen = _plan(
            workspace,
            folder,
            selection,
            spoken_by,
            exchanges=exchanges,
            seed=seed,
            part_seconds=part_seconds,
        )
        write_json(folder.path / "job.json", settings)
        if retry_rejected:
            log.info("%d parts with refused rows are done again", forget_rejected(folder))
        earlier = list_parts(folder)
        speaking = SpeakingOptions(
            backend=backend, options=options, seed=seed, max_seconds=max_seconds
        )
        new_seconds = _speak(folder, run_parts, speaking, num_workers)
        folder.remove_leftovers()
        published = publish(
            workspace,
            folder,
            table=TABLES[what],
            backend=speaker.name,
            job=job,
            max_seconds=max_seconds,
            earlier=earlier,
        )
    return _summarise(
        published,
        folder,
        job=job,
        backend=speaker,
        num_chosen=num_chosen,
        new_seconds=new_seconds,
        start=start,
    )


def _check(
    what: str,
    languages: Sequence[str],
    limit: int | None,
    exchanges: int,
    max_seconds: float,
    time_limit_s: float,
    part_seconds: float,
    num_workers: int | None,
) -> None:
    """Raise UsageError for what makes no sense."""
    if what not in TABLES:
        raise UsageError(f"{what}: cannot be spoken; there are {', '.join(TABLES)}")
    if not languages:
        raise UsageError("--langs: say which languages are spoken, e.g. --langs en,zh")
    least = {
        "--limit": (limit, 1),
        "--exchanges": (exchanges, 1),
        "--max-seconds": (max_seconds, 0.1),
        "--time-limit": (time_limit_s, 0.1),
        "--part-seconds": (part_seconds, 0.1),
        "--num-workers": (num_workers, 1),
    }
    for option, (value, at_least) in least.items():
        if value is not None and value < at_least:
            raise UsageError(f"{option} {value}: must be {at_least} or more")


def _warn_of_one_voice(what: str, backend: Backend, voices: dict[str, tuple[str, ...]]) -> None:
    alone = sorted(language for language, names in voices.items() if len(names) == 1)
    if alone and TABLES[what] == "dialogues":  # type: ignore[index]
        log.warning(
            "%s has one voice of %s: questions and answers sound alike; see --voices",
            backend.name,
            ", ".join(alone),
        )


def _plan(
    workspace: Workspace,
    folder: LocalFolder,
    selection: Selection,
    voices: dict[str, tuple[str, ...]],
    *,
    exchanges: int,
    seed: int,
    part_seconds: float,
) -> int:
    """Step 2. A job that would be empty leaves no folder."""
    is_new = not folder.path.exists()
    folder.prepare()
    try:
        return plan_new(
            workspace,
            folder,
            selection,
            voices,
            exchanges=exchanges,
            seed=seed,
            part_seconds=part_seconds,
        )
    except BaseException:
        if is_new and not any(folder.path.iterdir()):
            folder.path.rmdir()
        raise


def _speak(
    folder: LocalFolder,
    run_parts: RunParts,
    speaking: SpeakingOptions,
    num_workers: int | None,
) -> float:
    """Step 3: write every planned part that is missing; returns seconds of speech."""
    waiting = count_unfinished(folder)
    seconds = 0.0
    make_worker = functools.partial(make_speaker, folder, speaking)
    with progress("synthesize", total=waiting, unit="rows") as bar:
        for _, spoken in run_parts(unfinished_speech(folder), make_worker, num_workers):
            seconds += spoken.seconds
            bar.advance(spoken.num_items)
    if left := count_unfinished(folder):
        raise StorageError(
            f"{folder.address}: {left} of {waiting} rows were spoken, but their parts are not "
            "here: the machines of the cluster do not share this folder; mount it on all of them"
        )
    return seconds


def _summarise(
    published: Published,
    folder: LocalFolder,
    *,
    job: str,
    backend: Backend,
    num_chosen: int,
    new_seconds: float,
    start: float,
) -> SynthesizeSummary:
    reasons: dict[str, int] = {}
    num_out = num_already = 0
    for reason, is_earlier, number in published.counts:
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + number
        elif is_earlier:
            num_already += number
        else:
            num_out += number
    num_rejected = sum(reasons.values())
    names = SynthesizedGroup.__dataclass_fields__
    return SynthesizeSummary(
        job=job,
        folder=folder.address,
        backend=backend.name,
        made_by=backend.made_by,
        num_chosen=num_chosen,
        num_in=num_out + num_rejected + num_already,
        num_out=num_out,
        num_rejected=num_rejected,
        num_already=num_already,
        reject_reasons=dict(sorted(reasons.items())),
        groups=tuple(
            SynthesizedGroup(**dict(zip(names, row, strict=True))) for row in published.groups
        ),
        new_seconds=new_seconds,
        not_ingested=published.not_ingested,
        elapsed_s=time.monotonic() - start,
    )
