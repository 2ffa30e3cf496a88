"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = [
    path
    for folder in ("cslm_data", "cslm_train", "cli", "benchmarks", "docs", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_about_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_module_is_named_after_nothing() -> None:
    banned = {"utils.py", "common.py", "helpers.py", "misc.py"}
    assert [path for path in CODE if path.name in banned] == []


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("cslm_data", {"cslm_train", "cslm_cli", "fairseq2"}),
        ("cslm_train", {"cslm_cli"}),
    ],
)
def test_imports_go_one_way(folder: str, forbidden: set[str]) -> None:
    found = {
        str(path.relative_to(ROOT)): imported_modules(path) & forbidden
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_every_package_travels_in_the_wheel() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    folders = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for folder in ("cslm_data", "cslm_train")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert folders <= listed


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    import subprocess
    import sys

    page = ROOT / "docs" / "authoring" / "make_cli_page.py"
    done = subprocess.run([sys.executable, page, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
