"""Several processes of one command: an error is told once, a process that is gone by the others."""

from __future__ import annotations

import pytest
from cslm_cli import shell

from cslm_data.errors import CorruptArtefactError, CslmError, EndedByFirstError, UsageError


def said(error: CslmError, capsys: pytest.CaptureFixture[str]) -> str:
    def app() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        shell.run(app)  # type: ignore[arg-type]
    assert ended.value.code == shell.EXIT_ERROR
    return capsys.readouterr().err


@pytest.mark.parametrize(("local_rank", "expected"), [("0", "error: no such field\n"), ("1", "")])
def test_what_all_find_alike_one_of_each_host_says(
    local_rank: str, expected: str, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert said(UsageError("no such field"), capsys) == expected


def test_what_one_finds_it_says_with_its_number(monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    error = CorruptArtefactError("train-000001.tar: cut off")
    error.rank = 11
    assert said(error, capsys) == "error: process 11: train-000001.tar: cut off\n"


def test_those_that_end_with_the_first_say_nothing(monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # the first of another host
    assert said(EndedByFirstError("the first process could not begin"), capsys) == ""
