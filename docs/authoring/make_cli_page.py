"""Write docs/cli.md from the Typer apps; `--check` only says whether it is current."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "cli.md"
APPS = (("cslm_cli.data", "cslm-data"), ("cslm_cli.train", "cslm-train"))
HEADER = "<!-- Made by `make docs` from the Typer apps in cli/. Do not edit. -->\n\n"


def render() -> str:
    """The page as it should be."""
    environment = {**os.environ, "TERMINAL_WIDTH": "100", "COLUMNS": "100"}
    pages = []
    for module, name in APPS:
        command = [sys.executable, "-m", "typer", module, "utils", "docs", "--name", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        pages.append(html.unescape(done.stdout).strip())
    return HEADER + "\n\n".join(pages) + "\n"


def main() -> None:
    """Write the page, or exit with 1 if it is not current."""
    page = render()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            sys.exit("docs/cli.md is not current; run: make docs")
        return
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
