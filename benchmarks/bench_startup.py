"""How long a command line takes to say its help, against 0.4 s; the median of some starts."""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from paired import report, wall_s

LIMIT_S = 0.4


def main() -> None:
    for program in ("cslm-data", "cslm-train"):
        command = [str(Path(sys.executable).parent / program), "--help"]
        start = partial(subprocess.run, command, check=True, capture_output=True)
        start()  # bytecode and disk cache
        median_s = statistics.median(wall_s(start) for _ in range(9))
        report(f"{program} --help in {median_s:.2f} s", LIMIT_S / median_s, 1)


if __name__ == "__main__":
    main()
