"""What every command shares: options, logging, and errors as one clear message."""

from __future__ import annotations

import errno
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cslm_data.errors import CslmError, EndedByFirstError, RejectRateError
from cslm_data.plain_text import visible
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


_NOISY = (
    *("fairseq2", "transformers", "urllib3", "numba", "fsspec", "torio", "faiss"),
    *("botocore", "aiobotocore", "s3fs", "ray", "wandb"),
)
"""Libraries whose everyday messages are not ours to print."""
_FULL_DISK = (
    "no space left on the disk of the workspace; nothing half-written was kept: free some space "
    "and run the same command again"
)
_INTERRUPTED = "interrupted; nothing half-written was kept: run the same command to go on"
EXIT_ERROR = 2
EXIT_FINDING = 1
EXIT_INTERRUPTED = 130


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
            handlers=[_make_handler()],
            force=True,
        )
        for noisy in _NOISY:
            logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)

    return app


class _Visible(logging.Formatter):
    """Messages name files and ids, which may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _make_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Visible("%(message)s"))
    return handler


def run(app: typer.Typer) -> None:
    """Run an app; a user's mistake or a full disk is one message on stderr, never a traceback."""
    try:
        app()
    except EndedByFirstError:
        sys.exit(EXIT_ERROR)
    except CslmError as error:
        if error.rank is None and not is_first_here():
            sys.exit(EXIT_ERROR)  # all fail alike: one of each host says it
        _fail(str(error) if error.rank is None else f"process {error.rank}: {error}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or _is_full_disk(error):
            _fail(_FULL_DISK)
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_FINDING)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            _fail(f"{error.filename}: {error.strerror}; choose a folder that you may write to")
        raise
    except (KeyboardInterrupt, typer.Abort):
        _fail(_INTERRUPTED, EXIT_INTERRUPTED)
    except Exception as error:
        if _is_full_disk(error):
            _fail(_FULL_DISK)
        if "query interrupted" in str(error).lower():  # what DuckDB makes of Ctrl-C
            _fail(_INTERRUPTED, EXIT_INTERRUPTED)
        raise


def is_first() -> bool:
    """Whether this process speaks for all that torchrun or SLURM started."""
    return os.environ.get("RANK", "0") == "0"


def is_first_here() -> bool:
    """Whether this process speaks for those of its host."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _is_full_disk(error: Exception) -> bool:
    """DuckDB, Arrow and torch say it each in an exception of their own."""
    return os.strerror(errno.ENOSPC).lower() in str(error).lower()


def languages_of(option: str) -> list[str]:
    """`en, zh` as a list."""
    return [lang.strip() for lang in option.split(",") if lang.strip()]


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


def _fail(message: str, code: int = EXIT_ERROR) -> None:
    typer.secho(f"error: {visible(message)}", err=True, fg=typer.colors.RED)
    sys.exit(code)
