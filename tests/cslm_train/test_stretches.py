"""Whatever the number of processes from start to start, packs follow one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.errors import UsageError
from cslm_train.packing.stretches import (
    Stretch,
    accumulation_of,
    go_on,
    last_step,
    moved_to,
    schedule_place,
)


def stretch(step: int, pack: int, processes: int, accumulation: int) -> Stretch:
    return Stretch(
        first_step=step, first_pack=pack, num_processes=processes, accumulation=accumulation
    )


def test_a_run_goes_on_where_it_was_with_more_processes() -> None:
    begun = go_on((), step=None, num_processes=1, accumulation=2)
    assert begun == (stretch(0, 0, 1, 2),)
    assert last_step(begun, 21) == 11
    wider = go_on(begun, step=4, num_processes=3, accumulation=2)
    assert wider == (stretch(0, 0, 1, 2), stretch(4, 8, 3, 2))
    assert last_step(wider, 21) == 4 + 3  # 13 packs left, 6 a step


def test_a_start_with_as_many_processes_changes_nothing() -> None:
    begun = go_on((), step=None, num_processes=2, accumulation=1)
    assert go_on(begun, step=5, num_processes=2, accumulation=1) == begun


def test_a_start_that_left_no_checkpoint_is_forgotten() -> None:
    begun = go_on((), step=None, num_processes=1, accumulation=1)
    tried = go_on(begun, step=4, num_processes=3, accumulation=1)
    assert go_on(tried, step=4, num_processes=1, accumulation=1) == begun
    assert go_on(tried, step=4, num_processes=2, accumulation=1) == (*begun, stretch(4, 4, 2, 1))
    assert go_on(begun, step=None, num_processes=2, accumulation=1) == (stretch(0, 0, 2, 1),)


def test_the_learning_rate_goes_on_at_the_share_of_packs_that_are_read() -> None:
    """Of 100 packs one by one, 40 are read; with 4 a step the run is as one of 25, at step 10."""
    begun = go_on((), step=None, num_processes=1, accumulation=1)
    wider = go_on(begun, step=40, num_processes=4, accumulation=1)
    num_steps = last_step(wider, 100)
    place = schedule_place(wider, num_steps)
    assert (num_steps, place.num_steps, place.ahead) == (55, 25, -30)
    assert moved_to(wider, 40, place) == 10
    assert moved_to(wider, 44, place) is None  # a later resume: where it was saved
    assert schedule_place(begun, 100).ahead == 0


def test_processes_that_cannot_share_a_step_are_told_who_can() -> None:
    assert accumulation_of(4, grad_accumulation=9, packs_per_step=12) == 3
    assert accumulation_of(4, grad_accumulation=9, packs_per_step=None) == 9
    with pytest.raises(UsageError, match=r"5 processes cannot share 12 packs .* 1, 2, 3, 4, 6, 12"):
        accumulation_of(5, grad_accumulation=1, packs_per_step=12)
    with pytest.raises(UsageError, match="start 1, 2 processes"):
        accumulation_of(4, grad_accumulation=1, packs_per_step=2)


starts = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=6
)


@given(starts)
def test_every_pack_is_read_once_by_the_steps_that_count(
    starts: list[tuple[int, int, int]],
) -> None:
    """Each start takes some steps to a checkpoint; the next begins there."""
    stretches: tuple[Stretch, ...] = ()
    step: int | None = None
    read: list[int] = []
    for more, processes, accumulation in starts:
        stretches = go_on(stretches, step=step, num_processes=processes, accumulation=accumulation)
        for number in range((step or 0) + 1, (step or 0) + more + 1):
            first = stretches[-1].packs_before(number - 1)
            read += range(first, first + processes * accumulation)
        step = (step or 0) + more or None
    assert read == list(range(len(read)))
