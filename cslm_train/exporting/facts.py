"""Everything a model card states, from run.json, metrics, evaluations, mixes and the catalog."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.catalog import read_sql
from cslm_data.errors import CslmError
from cslm_data.query import run_query
from cslm_data.shards import MixInfo
from cslm_data.workspace import Workspace
from cslm_train.run_folder import RunInfo
from cslm_train.training.metrics import TEXT_PERPLEXITY, read_rows

log = logging.getLogger(__name__)

_NLL = "nll"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What of a corpus was trained on."""

    name: str
    licence: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """One run of those that led to the model, the first one first."""

    info: RunInfo
    step: int
    """Last step whose weights went on."""
    realised: tuple[dict[str, Any], ...] | None
    """Rows of the train split, as in mix.json; None: the mix is gone, or was built again."""
    corpora: tuple[Corpus, ...] | None
    """None where the catalog is not here."""


@dataclass(frozen=True, kw_only=True)
class GroupLoss:
    """What was measured of a task and languages: a loss in nats for each trained token."""

    group: str
    first: float | None
    """Before the first step."""
    last: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a model."""

    stages: tuple[StageFacts, ...]
    losses: tuple[GroupLoss, ...]
    """At the exported step; `all` is over all groups."""
    perplexities: tuple[GroupLoss, ...]
    """Of held-out written instructions, by language: what is forgotten of text."""
    tokens: int
    """That the last stage read until that step."""
    trained_tokens: int
    evaluations: tuple[dict[str, Any], ...]
    """Those of this step, as `cslm-train evaluate` wrote them."""

    @property
    def info(self) -> RunInfo:
        """The exported run."""
        return self.stages[-1].info

    @property
    def step(self) -> int:
        """The exported step."""
        return self.stages[-1].step

    @property
    def languages(self) -> list[str]:
        """Of all stages."""
        return list(dict.fromkeys(code for stage in self.stages for code in stage.info.languages))

    @property
    def base(self) -> str:
        """Folder of the base model; empty: from scratch."""
        return self.info.config.model.base.removeprefix("hf:")


def gather(workspace: Workspace, run_dir: Path, info: RunInfo, step: int) -> Facts:
    """The facts of a run at a step; what cannot be found is left out with a warning."""
    stages = (_stage(workspace, each, at) for each, at in _runs(workspace, info, step))
    train = _rows(run_dir, "train", step)
    last = train[-1] if train else {}
    return Facts(
        stages=tuple(stages)[::-1],
        losses=tuple(_losses(_rows(run_dir, "valid", step))),
        perplexities=tuple(_perplexities(run_dir, step)),
        tokens=round(last.get("total_num_elements", 0)),
        trained_tokens=round(last.get("total_num_targets", 0)),
        evaluations=tuple(_evaluations(run_dir, info, step)),
    )


def _runs(workspace: Workspace, info: RunInfo, step: int) -> Iterator[tuple[RunInfo, int]]:
    """The run, the one it began with, and so on."""
    yield info, step
    while (begun := info.init_from) is not None:
        try:
            before = RunInfo.load(workspace.runs / begun.run)
        except CslmError as error:
            log.warning("the card says nothing of the run before %s: %s", info.run, error)
            return
        if before.run_id != begun.run_id:
            log.warning(
                "the card says nothing of the run before %s: %s was trained again since",
                info.run,
                begun.run,
            )
            return
        yield before, begun.step
        info = before


def _stage(workspace: Workspace, info: RunInfo, step: int) -> StageFacts:
    try:
        mix = MixInfo.load(workspace.mixes / info.mix)
    except CslmError as error:
        log.warning("the card says nothing of the mix of %s: %s", info.run, error)
        return StageFacts(info=info, step=step, realised=None, corpora=None)
    if mix.mix_id != info.mix_id:
        log.warning(
            "the card says nothing of the mix of %s: mixes/%s was built again since",
            info.run,
            info.mix,
        )
        return StageFacts(info=info, step=step, realised=None, corpora=None)
    realised = tuple(row for row in mix.realised if row["split"] == "train" and row["num_samples"])
    return StageFacts(
        info=info, step=step, realised=realised, corpora=_corpora(workspace, info.mix)
    )


def _corpora(workspace: Workspace, mix: str) -> tuple[Corpus, ...] | None:
    try:
        found = run_query(workspace, read_sql("card_corpora"), parameters={"mix": mix})
    except CslmError as error:
        log.warning("the card says nothing of the corpora of mixes/%s: %s", mix, error)
        return None
    return tuple(
        Corpus(name=name, licence=licence, num_rows=rows) for name, licence, rows in found.rows
    )


def _losses(rows: list[dict[str, Any]]) -> Iterator[GroupLoss]:
    names = sorted(rows[-1]) if rows else ()
    for name in names:
        if name == _NLL or name.startswith(f"{_NLL}/"):
            yield _measured(rows, name, name.removeprefix(_NLL).removeprefix("/") or "all")


def _perplexities(run_dir: Path, step: int) -> Iterator[GroupLoss]:
    """Of `validation.text_mix` where there is one, else of the run's own mix."""
    for category in ("valid/text", "valid"):
        rows = _rows(run_dir, category, step)
        names = [n for n in sorted(rows[-1] if rows else ()) if n.startswith(TEXT_PERPLEXITY)]
        for name in names:
            yield _measured(rows, name, name.removeprefix(TEXT_PERPLEXITY))
        if names:
            return


def _measured(rows: list[dict[str, Any]], name: str, group: str) -> GroupLoss:
    first = rows[0].get(name) if rows[0]["Step"] == 0 else None
    return GroupLoss(group=group, first=first, last=rows[-1][name])


def _rows(run_dir: Path, category: str, step: int) -> list[dict[str, Any]]:
    """Rows of metrics up to a step."""
    rows = read_rows(run_dir / "metrics" / f"{category}.jsonl")
    return [row for row in rows if row["Step"] <= step]


def _evaluations(run_dir: Path, info: RunInfo, step: int) -> Iterator[dict[str, Any]]:
    for path in sorted(run_dir.glob("evaluation-*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            same = (found["run_id"], found["step"]) == (info.run_id, step)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is not an evaluation (%s): left out of the card", path, error)
            continue
        if same:
            yield found
        else:
            log.warning("%s is of another step or run: left out of the card", path)


def settings_of(info: RunInfo) -> dict[str, Any]:
    """What of the configuration of a run makes the model, without paths of this machine."""
    settings = json.loads(json.dumps(dataclasses.asdict(info.config)))
    for of_the_machine in ("parallel", "metrics"):
        del settings[of_the_machine]
    base = settings["model"]["base"]
    if base:
        settings["model"]["base"] = Path(base).name
    return settings  # type: ignore[no-any-return]
