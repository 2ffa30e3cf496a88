from __future__ import annotations

import pytest
from cslm_cli.tables import print_table


def test_numbers_are_rounded_for_a_person_and_exact_for_a_query(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["n", "x", "none"], [(12345, 0.123456789, None)])
    assert "│ 12,345 │ 0.1235 │      │" in capsys.readouterr().out
    print_table(["n", "x"], [(12345, 0.123456789)], exact=True)
    assert "│ 12345 │ 0.123456789 │" in capsys.readouterr().out


def test_a_table_into_a_pipe_is_as_wide_as_it_needs_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = [f"column_{number:02d}" for number in range(30)]
    print_table(columns, [[f"value-{number:04d}" for number in range(30)]])
    out = capsys.readouterr().out
    assert all(f"value-{number:04d}" in out for number in range(30))
    assert len(out.splitlines()) == 5
