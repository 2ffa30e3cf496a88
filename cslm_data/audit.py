"""Audits: `.sql` files asked of a workspace. `check_*` must return no row, `warn_*` should not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.query import Answer, run_query
from cslm_data.workspace import Workspace

Severity = Literal["check", "warn", "info"]


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """An audit's question, from its header, and what it found."""

    name: str
    severity: Severity
    title: str
    """The first sentence of the header."""
    advice: str
    """The rest of the header: why it matters and what to do."""
    answer: Answer

    @property
    def failed(self) -> bool:
        """A check that returned rows."""
        return self.severity == "check" and bool(self.answer.rows)


def run_audits(
    workspace: Workspace, *, folder: Path | None = None, names: Iterable[str] = ()
) -> list[AuditResult]:
    """Run the shipped audits, or those of `folder`, or the named ones, in order of name.

    Raises MissingArtefactError when a named audit or the folder's audits are not there.
    """
    files = _find_audits(folder)
    wanted = list(names) or sorted(files)
    unknown = [name for name in wanted if name not in files]
    if unknown or not wanted:
        raise MissingArtefactError(
            f"no audit {', '.join(unknown) or 'at all'} in {folder or 'the shipped audits'}; "
            f"there are: {', '.join(sorted(files)) or 'none'}"
        )
    return [_run(workspace, name, files[name].read_text(encoding="utf-8")) for name in wanted]


def _find_audits(folder: Path | None) -> dict[str, Path | Traversable]:
    if folder is not None:
        return {path.stem: path for path in folder.glob("*.sql")}
    shipped = resources.files("cslm_manifests").joinpath("audits").iterdir()
    return {file.name.removesuffix(".sql"): file for file in shipped if file.name.endswith(".sql")}


def _run(workspace: Workspace, name: str, sql: str) -> AuditResult:
    header = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        header.append(line.removeprefix("--").strip())
    try:
        answer = run_query(workspace, sql)
    except UsageError as error:
        raise UsageError(f"audit {name}: {error}") from None
    return AuditResult(
        name=name,
        severity=_severity(name),
        title=header[0].split(". ")[0].rstrip(".") if header else name,
        advice=" ".join(header[1:]),
        answer=answer,
    )


def _severity(name: str) -> Severity:
    if name.startswith("check_"):
        return "check"
    return "warn" if name.startswith("warn_") else "info"
