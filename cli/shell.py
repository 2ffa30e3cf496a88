"""What every command shares: the workspace option, tables, JSON, errors as one clear message."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cslm_data.errors import CslmError, RejectRateError
from cslm_data.workspace import Workspace, find_workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        envvar="CSLM_WORKSPACE",
        help="Folder of catalog, units, mixes and runs. Default: ./workspace.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
RejectRateOption = Annotated[
    float,
    typer.Option(
        "--max-reject-rate",
        min=0.0,
        max=1.0,
        help="Exit with an error when a larger share of the rows is rejected.",
    ),
]
DEFAULT_MAX_REJECT_RATE = 0.01


class StageName(StrEnum):
    """Which of the two alignment stages."""

    PRETRAIN = "pretrain"
    SFT = "sft"


_FULL_DISK = (
    "no space left on the disk of the workspace; nothing half-written was kept: free some space "
    "and run the same command again"
)
EXIT_ERROR = 2
EXIT_FINDING = 1


def make_app(help: str) -> typer.Typer:
    """An app whose errors are ours to print."""
    app = typer.Typer(
        help=help,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _root(
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Log debug messages.")
        ] = False,
    ) -> None:
        logging.basicConfig(
            level=logging.DEBUG if verbose else logging.INFO,
            format="%(message)s",
            stream=sys.stderr,
            force=True,
        )
        for noisy in ("fairseq2", "transformers", "urllib3", "numba", "fsspec", "torio", "faiss"):
            logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)

    return app


def run(app: typer.Typer) -> None:
    """Run an app; a user's mistake or a full disk is one message on stderr, never a traceback."""
    try:
        app()
    except CslmError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or _is_full_disk(error):
            _fail(_FULL_DISK)
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_FINDING)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            _fail(f"{error.filename}: {error.strerror}; choose a folder that you may write to")
        raise
    except Exception as error:
        if _is_full_disk(error):
            _fail(_FULL_DISK)
        raise


def _is_full_disk(error: Exception) -> bool:
    """DuckDB, Arrow and torch say it each in an exception of their own."""
    return os.strerror(errno.ENOSPC).lower() in str(error).lower()


def workspace_of(option: Path | None) -> Workspace:
    """The workspace of a command."""
    return find_workspace(option)


def check_reject_rate(num_rejected: int, num_rows: int, limit: float, what: str) -> None:
    """Raise RejectRateError when more than `limit` of the rows were rejected."""
    if num_rows and num_rejected / num_rows > limit:
        raise RejectRateError(
            f"{what}: {num_rejected} of {num_rows} rows were rejected, over --max-reject-rate "
            f'{limit:g}; see: cslm-data sql "select * from rejects", then mend the source or raise '
            "the limit"
        )


def print_json(value: Any) -> None:
    """Print a record, or any JSON-like value, as JSON on stdout."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None
) -> None:
    """Print a table on stdout: numbers to the right, floats short."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    kept = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(kept) and all(isinstance(r[index], int | float | None) for r in kept)
        table.add_column(
            column, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric
        )
    for row in kept:
        table.add_row(*(Text(_cell(value)) for value in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)


def print_fields(title: str, fields: dict[str, Any]) -> None:
    """Print named values, one a line."""
    print_table(["", title], [(name, _cell(value)) for name, value in fields.items()])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _fail(message: str) -> None:
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)
    sys.exit(EXIT_ERROR)
