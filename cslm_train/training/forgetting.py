"""What the base model could do, written instructions, measured from before the first step on.

The valid split of a mix with replay has such samples. For one without, `validation.text_mix`
names another mix, whose valid split is measured beside it into metrics/valid/text.jsonl.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq2.gang import Gang

from cslm_data.errors import MissingArtefactError, NoDataError
from cslm_data.shards import MixInfo
from cslm_train.packing.plan import PackPlan, load_or_make_plan
from cslm_train.training.metrics import TEXT_PERPLEXITY, read_rows
from cslm_train.training.together import first_alone

if TYPE_CHECKING:
    from cslm_train.training.prepare import Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HeldOutText:
    """Where written instructions lie that the run does not train on."""

    plan: PackPlan
    shards_dir: Path

    @property
    def groups(self) -> list[str]:
        """Task and languages of all its samples, in order."""
        return sorted(set(self.plan.groups))


def held_out_text(prepared: Prepared, gang: Gang) -> HeldOutText | None:
    """The valid split of `validation.text_mix`; None when there is none.

    Its packs are planned by one process. Raises MissingArtefactError for no such mix, NoDataError
    for one that holds out no instruction, TokenizerMismatchError for one of another vocabulary.
    """
    info, config = prepared.info, prepared.info.config
    name = config.validation.text_mix
    if not name:
        return None
    folder = prepared.workspace.mixes / name
    if not (folder / "mix.json").exists():
        raise MissingArtefactError(
            f"validation.text_mix: {folder}: no such mix; build it with: cslm-data build-mix"
        )
    mix = MixInfo.load(folder)
    mix.require(
        tokenizer_id=info.tokenizer_id,
        text_tokenizer_id=info.text_tokenizer_id,
        template_version=info.template_version,
    )
    path = prepared.run_dir / "text" / "packs-valid.parquet"

    def plan() -> PackPlan:
        path.parent.mkdir(exist_ok=True)
        return load_or_make_plan(
            path,
            mix,
            prepared.vocabulary,
            split="valid",
            pack_length=config.data.pack_length,
            window=config.data.window,
        )

    first_alone(gang, plan)
    found = plan()
    if not any(group.startswith("instruct/") for group in found.groups):
        raise NoDataError(
            f"validation.text_mix: mixes/{name}: its valid split has no sample of task instruct; "
            "name a mix with some"
        )
    return HeldOutText(plan=found, shards_dir=folder / "shards")


class ForgettingWatch:
    """Warns when the perplexity of written instructions has risen too far since before step 1."""

    def __init__(self, run_dir: Path, limit: float | None) -> None:
        self._run_dir = run_dir
        self._limit = limit

    def show(self, category: str, row: Mapping[str, Any]) -> None:
        """Look at a row of metrics, which is already in its file."""
        if self._limit is None or not category.startswith("valid"):
            return
        first = next(read_rows(self._run_dir / "metrics" / f"{category}.jsonl"), {})
        for name in sorted(name for name in row if name.startswith(TEXT_PERPLEXITY)):
            if name in first and row[name] > self._limit * first[name]:
                log.warning(
                    "the perplexity of held-out written instructions (%s) is %.4g, %.2f times "
                    "that before the first step; more replay (instruct) in the mix, or a lower "
                    "optimizer.lr, keeps it",
                    name.removeprefix(TEXT_PERPLEXITY),
                    row[name],
                    row[name] / first[name],
                )
