"""Audits as they lie on disk: `.sql` files with a header of fields, shipped or a user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from cslm_data.auditing.needs import NEEDS
from cslm_data.auditing.results import SEVERITIES, Severity
from cslm_data.errors import MissingArtefactError, UsageError

_FIELDS = ("title", "severity", "why", "fix", "needs")
_OPTIONAL = frozenset({"needs"})
_FIELD = re.compile(r"-- ([A-Za-z_]+):(?: (.*))?$")
_CONTINUED = re.compile(r"--  +\S")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One question: its header and its query."""

    name: str
    """Stem of its file."""
    title: str
    severity: Severity
    why: str
    fix: str
    needs: tuple[str, ...]
    """What must be there for it to be asked: names of NEEDS."""
    sql: str


def find_files(folder: Path | None, *, shipped: bool = True) -> dict[str, Path | Traversable]:
    """Audit files by name: the shipped ones and those of `folder`, which win where names are equal.

    Raises MissingArtefactError for a folder that is none or holds no `.sql` file.
    """
    files: dict[str, Path | Traversable] = {}
    if shipped:
        for file in resources.files("cslm_manifests").joinpath("audits").iterdir():
            if file.name.endswith(".sql"):
                files[file.name.removesuffix(".sql")] = file
    if folder is not None:
        own = sorted(folder.glob("*.sql")) if folder.is_dir() else []
        if not own:
            raise MissingArtefactError(
                f"{folder}: no .sql file here; --audits takes a folder of them (see CONTRIBUTING, "
                '"Add an audit")'
            )
        files.update({path.stem: path for path in own})
    return dict(sorted(files.items()))


def choose(files: Mapping[str, Path | Traversable], names: tuple[str, ...]) -> list[str]:
    """The names asked for, each once, all without any. Raises MissingArtefactError."""
    unknown = [name for name in names if name not in files]
    if unknown:
        raise MissingArtefactError(
            f"no audit {', '.join(unknown)}; there are: {', '.join(files) or 'none'}"
        )
    return list(dict.fromkeys(names)) or list(files)


def read_audit(name: str, file: Path | Traversable) -> Audit:
    """Parse a file. Raises UsageError that names it, and the line where there is one."""
    try:
        data = file.read_bytes()
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{file}: larger than {_MAX_BYTES} bytes; an audit is one query")
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot read this audit ({error})") from None
    return parse_audit(name, text, where=str(file))


def parse_audit(name: str, text: str, *, where: str) -> Audit:
    """A header and a query. Raises UsageError that names the file and the line."""
    fields, body_line = _parse_header(text.splitlines(), where)
    severity = next((known for known in SEVERITIES if known == fields["severity"]), None)
    if severity is None:
        raise UsageError(
            f"{where}: severity: {fields['severity']!r} is not one of {', '.join(SEVERITIES)}"
        )
    needs = tuple(part.strip() for part in fields.get("needs", "").split(",") if part.strip())
    for need in needs:
        if need not in NEEDS:
            raise UsageError(f"{where}: needs: {need!r} is not one of {', '.join(NEEDS)}")
    lines = text.splitlines()
    return Audit(
        name=name,
        title=fields["title"],
        severity=severity,
        why=fields["why"],
        fix=fields["fix"],
        needs=needs,
        # Blank lines for the header, so that a line in an error of the SQL is one of the file.
        sql="\n".join([""] * body_line + lines[body_line:]),
    )


def _parse_header(lines: list[str], where: str) -> tuple[dict[str, str], int]:
    """The fields of the comment that the file begins with, and the number of its lines."""
    fields: dict[str, str] = {}
    current = ""
    number = 0
    for number, line in enumerate(lines):
        if not line.startswith("--"):
            break
        field = _FIELD.match(line)
        if field is not None:
            current = field[1]
            if current not in _FIELDS:
                raise UsageError(
                    f"{where}:{number + 1}: unknown field {current!r}; a header has "
                    f"{', '.join(_FIELDS)}"
                )
            if current in fields:
                raise UsageError(f"{where}:{number + 1}: {current} is there twice")
            fields[current] = (field[2] or "").strip()
        elif _CONTINUED.match(line) and current:
            fields[current] = f"{fields[current]} {line[2:].strip()}".strip()
        else:
            raise UsageError(
                f"{where}:{number + 1}: neither `-- field: …` nor the next line of one, which "
                "begins with two spaces after --; put an empty line between header and comments"
            )
    for field_name in _FIELDS:
        if field_name not in _OPTIONAL and not fields.get(field_name):
            raise UsageError(
                f"{where}:1: the header has no {field_name}; a file begins with lines "
                f"`-- title: …`, `-- severity: {'|'.join(SEVERITIES)}`, `-- why: …`, `-- fix: …`"
            )
    return fields, number
