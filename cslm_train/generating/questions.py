"""What a user gives → a question in the form of the training samples. Reads units/, tokenizers/.

Speech becomes units by the very speech tokenizer of the run's mix, and the prompt is compiled by
the code that compiled its samples. Nothing here loads a model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cslm_data.audio import decode
from cslm_data.errors import (
    CslmError,
    MissingArtefactError,
    NoDataError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.keys import content_id, md5_key
from cslm_data.languages import check_language
from cslm_data.query import run_query
from cslm_data.records import Segment, Units
from cslm_data.samples import compile_prompt
from cslm_data.shards import MixInfo
from cslm_data.templates import Prompts
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace
from cslm_train.run_folder import RunInfo

log = logging.getLogger(__name__)

AnswerForm = Literal["speech", "text"]
"""`speech`: text and speech by turns; `text`: writing alone."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A user's turn, ready to be answered."""

    task: str
    language: str
    answer_language: str
    segments: tuple[Segment, ...]
    key: str
    """What was asked: it names the stream of random numbers and the wording."""


def pose(
    workspace: Workspace,
    info: RunInfo,
    task: str,
    *,
    text: str | None = None,
    audio: str | None = None,
    utterance: str | None = None,
    language: str | None = None,
    answer_language: str | None = None,
    answer_form: AnswerForm | None = None,
    seed: int = 0,
    prompts: Prompts | None = None,
) -> Question:
    """The question for one of TASKS, from one of text, audio file, utterance id.

    `answer_form` is of `chat` alone, and `speech` unless told otherwise. `prompts` are a team's own
    wordings. Raises UsageError for what the task does not take or lacks, and for a language that is
    unknown or missing; MissingArtefactError or TokenizerMismatchError without the run's speech
    tokenizer.
    """
    _check_given(task, {"--audio": audio, "--utt": utterance, "--text": text}, answer_form)
    for option, code in (("--lang", language), ("--answer-lang", answer_language)):
        if code is not None:
            check_language(code, where=option)
    units = None
    if utterance is not None:
        units, spoken = units_of_utterance(workspace, info, utterance)
        language = language or spoken
    elif audio is not None:
        units = units_of_audio(workspace, info, audio)
    if text is not None and not text.strip():
        raise UsageError("--text is empty")
    language = language or _only(info.languages, "--lang")
    if answer_language is None:
        others = tuple(code for code in info.languages if code != language)
        answer_language = _only(others, "--answer-lang") if task in _TRANSLATIONS else language
    name = task
    if task == "chat":
        written = answer_form == "text"
        name = ("instruct" if written else "t2s") if text else ("s2t" if written else "s2s")
    _check_answer_language(name, language, answer_language)
    for code in dict.fromkeys((language, answer_language)):
        if code not in info.languages:
            log.warning(
                "%s was trained on %s, not on %s", info.run, ", ".join(info.languages), code
            )
    _warn_untaught(workspace, info, name)
    key = text or content_id([] if units is None else units.tolist())
    return Question(
        task=name,
        language=language,
        answer_language=answer_language,
        segments=compile_prompt(
            name,
            language=language,
            answer_language=answer_language,
            text=text,
            units=units,
            seed=seed,
            sample_hash=md5_key(key),
            prompts=prompts,
        ),
        key=key,
    )


_SPOKEN = ("--audio", "--utt")
_TAKES = {
    "asr": _SPOKEN,
    "tts": ("--text",),
    "mt": ("--text",),
    "st": _SPOKEN,
    "s2st": _SPOKEN,
    "continuation": _SPOKEN,
    "chat": (*_SPOKEN, "--text"),
}

TASKS = tuple(_TAKES)
"""What can be asked of `pose`."""

_TRANSLATIONS = ("mt", "st", "s2st")
_OTHERWISE = {
    "asr": "to write a translation of speech: st",
    "tts": "to translate a text: mt",
    "continuation": "to speak a translation of speech: s2st",
    "instruct": "a typed question that is answered in writing is passed on as it is: say in --text "
    "which language you want",
}
"""Tasks that answer in the language they are asked in, and what to do for another."""


def _check_given(task: str, given: dict[str, str | None], answer_form: AnswerForm | None) -> None:
    """Raise UsageError unless a task is given one of what it takes, and no more."""
    takes = _TAKES.get(task)
    if takes is None:
        raise UsageError(f"no task {task!r} to generate; there are {', '.join(_TAKES)}")
    named = [option for option, value in given.items() if value is not None]
    if len(named) != 1 or named[0] not in takes:
        got = " and ".join(named) or "none of them"
        raise UsageError(f"{task} takes one of {', '.join(takes)}; given: {got}")
    if answer_form is not None and task != "chat":
        raise UsageError(f"--answer is of chat: what {task} answers with is settled by its name")


def _check_answer_language(task: str, language: str, answer_language: str) -> None:
    same = language == answer_language
    if task in _TRANSLATIONS and same:
        raise UsageError(f"--answer-lang: {task} is into another language than {language}")
    if task in _OTHERWISE and not same:
        raise UsageError(
            f"--answer-lang: {task} answers in {language}, not in {answer_language}; "
            f"{_OTHERWISE[task]}"
        )


def _warn_untaught(workspace: Workspace, info: RunInfo, task: str) -> None:
    """Say when no mix that a run has learnt from held the task; nothing where that is not known."""
    taught = _tasks_taught(workspace, info)
    if taught and task not in taught:
        second = info.stage == "pretrain" and task in ("s2s", "t2s", "s2st")
        log.warning(
            "%s was not taught %s, only %s; %s",
            info.run,
            task,
            ", ".join(sorted(taught)),
            "train the second stage: cslm-train run"
            if second
            else "build a mix with a source of that task and train on it",
        )


def _tasks_taught(workspace: Workspace, info: RunInfo) -> frozenset[str]:
    """Tasks of the mixes of a run and of the run it began with; empty where that is not known."""
    try:
        mix = MixInfo.load(workspace.mixes / info.mix)
        if mix.mix_id != info.mix_id:
            return frozenset()
        taught = frozenset(str(row["task"]) for row in mix.realised if row["num_samples"])
        if info.init_from is None:
            return taught
        before = RunInfo.load(workspace.runs / info.init_from.run)
    except (CslmError, KeyError):
        return frozenset()
    known = before.run_id == info.init_from.run_id
    earlier = _tasks_taught(workspace, before) if known else frozenset()
    return taught | earlier if earlier else frozenset()


def _only(languages: tuple[str, ...], option: str) -> str:
    if len(languages) != 1:
        among = f"one of {', '.join(languages)}" if languages else "a language code"
        raise UsageError(f"{option} is missing: give {among}")
    return languages[0]


def units_of_utterance(workspace: Workspace, info: RunInfo, utt_id: str) -> tuple[Units, str]:
    """Units of an utterance for a run, and its language; encoded here if quantize has not yet."""
    found = run_query(
        workspace,
        "select u.language, u.audio, u.offset_s, u.duration_s, units.units "
        "from utterances as u left join units on units.utt_id = u.utt_id "
        "and units.tokenizer_id = $tokenizer_id "
        "and units.audio_version is not distinct from u.audio_version "
        "where u.utt_id = $utt_id",
        parameters={"utt_id": utt_id, "tokenizer_id": info.tokenizer_id},
    )
    if not found.rows:
        raise NoDataError(
            f"{utt_id}: no utterance of this id; find one with: "
            'cslm-data sql "select utt_id, language, text from utterances limit 10"'
        )
    language, audio, offset_s, duration_s, units = found.rows[0]
    if units:
        return np.array(units, np.uint16), language
    encoded = units_of_audio(workspace, info, audio, offset_s=offset_s, duration_s=duration_s)
    return encoded, language


_DURATION_SAMPLE = 2000
"""Utterances that tell how long a unit lasts."""


def seconds_per_unit(workspace: Workspace, info: RunInfo, language: str) -> float | None:
    """How long a unit of a run plays on average in a language; None where that is not known here.

    Units are runs of equal frames, so their rate depends on the speech tokenizer and the language.
    """
    query = (
        "select sum(num_frames) / sum(len(units)) from ("
        "select units.num_frames, units.units from utterances as u "
        "inner join units using (utt_id, audio_version) "
        "where units.tokenizer_id = $tokenizer_id and u.language = $language "
        "order by u.key_hash, u.utt_id limit $sample)"
    )
    parameters = {
        "tokenizer_id": info.tokenizer_id,
        "language": language,
        "sample": _DURATION_SAMPLE,
    }
    try:
        ((frames,),) = run_query(workspace, query, parameters=parameters).rows
    except CslmError as error:  # a run may answer where no corpus is, or while another one writes
        log.info("how long a unit plays is not known: %s", error)
        return None
    return None if frames is None else float(frames) / info.frame_rate_hz


def units_of_audio(
    workspace: Workspace,
    info: RunInfo,
    audio: str,
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
) -> Units:
    """Units of a recording by the speech tokenizer that a run was trained with."""
    there = tokenizer_folders.list_tokenizers(workspace)
    ours = [found for found in there if found.tokenizer_id == info.tokenizer_id]
    if not ours:
        what = f"{info.run} was trained on units of the speech tokenizer {info.tokenizer_id}"
        where = f"put its folder under {workspace.tokenizers}"
        if there:
            raise TokenizerMismatchError(
                f"{what}, but here are {tokenizer_folders.describe(there)}; {where}, "
                "or train on a mix of a tokenizer that is here"
            )
        raise MissingArtefactError(f"{what}, which is not here; {where}")
    units = ours[0].encode(decode(audio, offset_s=offset_s, duration_s=duration_s)).units
    if not len(units):
        raise UsageError(f"{audio}: too short to hold a unit of speech")
    return units
