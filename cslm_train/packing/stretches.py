"""Starts of a run → which packs each of its steps reads, whatever the number of processes.

A run may be stopped and go on with more or fewer processes. Each number of packs a step makes a
stretch; the packs follow one another through all stretches, so none is left out or read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cslm_data.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps of a run that the same number of processes took."""

    first_step: int
    """Steps taken before."""
    first_pack: int
    """Packs read before."""
    num_processes: int
    """Data-parallel processes."""
    accumulation: int
    """Packs of one step on each."""

    @property
    def packs_per_step(self) -> int:
        """Packs of one step on all processes."""
        return self.num_processes * self.accumulation

    def packs_before(self, step: int) -> int:
        """Packs that the run has read once `step` steps are taken, the last of them in here."""
        return self.first_pack + (step - self.first_step) * self.packs_per_step


Stretches = tuple[Stretch, ...]


def accumulation_of(
    num_processes: int, *, grad_accumulation: int, packs_per_step: int | None
) -> int:
    """Packs of one step on each process. Raises UsageError when they cannot share equally."""
    if packs_per_step is None:
        return grad_accumulation
    accumulation, rest = divmod(packs_per_step, num_processes)
    if rest or not accumulation:
        fitting = [n for n in range(1, packs_per_step + 1) if packs_per_step % n == 0]
        raise UsageError(
            f"trainer.packs_per_step: {num_processes} processes cannot share {packs_per_step} "
            f"packs equally; start {', '.join(map(str, fitting))} processes, or set "
            f"trainer.packs_per_step to a multiple of {num_processes} in a new run"
        )
    return accumulation


def go_on(
    stretches: Stretches, *, step: int | None, num_processes: int, accumulation: int
) -> Stretches:
    """The stretches of a run that starts again after `step` (None: at its beginning).

    Steps that were taken after it are forgotten: they are taken again.
    """
    kept = tuple(s for s in stretches if step is not None and s.first_step < step)
    if not kept or step is None:
        first = Stretch(
            first_step=0, first_pack=0, num_processes=num_processes, accumulation=accumulation
        )
        return (first,)
    last = kept[-1]
    if (last.num_processes, last.accumulation) == (num_processes, accumulation):
        return kept
    following = Stretch(
        first_step=step,
        first_pack=last.packs_before(step),
        num_processes=num_processes,
        accumulation=accumulation,
    )
    return (*kept, following)


def last_step(stretches: Sequence[Stretch], num_packs: int) -> int:
    """The step that reads the last of `num_packs` packs; it may read some more."""
    last = stretches[-1]
    left = max(0, num_packs - last.first_pack)
    return last.first_step + -(-left // last.packs_per_step)


@dataclass(frozen=True, kw_only=True)
class SchedulePlace:
    """Where in a learning rate schedule a run is, counted in steps of its last stretch."""

    num_steps: int
    """Steps of the whole run, had it always read as many packs a step as now."""
    ahead: int
    """What to add to the number of a step."""


def schedule_place(stretches: Sequence[Stretch], num_steps: int) -> SchedulePlace:
    """The schedule of a run follows the share of its packs that are read.

    So the learning rate goes on where it was when the number of packs a step changes.
    """
    last = stretches[-1]
    ahead = round(last.first_pack / last.packs_per_step) - last.first_step
    return SchedulePlace(num_steps=num_steps + ahead, ahead=ahead)


def moved_to(stretches: Sequence[Stretch], step: int, place: SchedulePlace) -> int | None:
    """Where the schedule goes on when `step` is the last before a new stretch; None: it is not."""
    begins = len(stretches) > 1 and stretches[-1].first_step == step
    return step + place.ahead if begins else None
