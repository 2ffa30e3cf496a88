"""Peak memory of fitting and of quantizing when the corpus grows tenfold: it must stay flat.

The same recordings are listed once and ten times under other ids; each command runs in a process
of its own, one worker, so that the peak of the process is that of the work.

    python benchmarks/bench_memory.py --data SHARED_DATA
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from paired import report

MEASURED = """
import resource, sys
from cslm_cli.data import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(*arguments: str) -> float:
    """Peak resident memory of one command, in megabytes."""
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split("peak ")[1]) / 1024


def write_manifest(path: Path, data: Path, corpora: list[str], times: int) -> float:
    """List every recording so many times; returns the hours that makes."""
    seconds = 0.0
    with path.open("w", encoding="utf-8") as stream:
        for corpus in corpora:
            lines = (data / "real" / f"{corpus}.jsonl").read_text(encoding="utf-8").splitlines()
            for number in range(times):
                for line in lines:
                    row = json.loads(line)
                    row["id"] = f"{row['id']}-{number}"
                    row["audio"] = str(data / "real" / row["audio"])
                    seconds += row["duration"]
                    stream.write(json.dumps(row) + "\n")
    return seconds / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with real/*.jsonl")
    parser.add_argument("--max-frames", type=int, default=20_000)
    options = parser.parse_args()
    corpora = ["ljspeech", "arctic_kathleen", "kerstin", "aishell_sample", "nathalie"]
    peaks: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for times in (1, 10):
            manifest, place = Path(temporary, f"{times}.jsonl"), f"{temporary}/workspace-{times}"
            hours = write_manifest(manifest, options.data.resolve(), corpora, times)
            peak_mb("ingest", str(manifest), "-w", place)
            common = ["-w", place, "--num-workers", "1"]
            frames = ["--max-frames", str(options.max_frames), "--num-units", "500"]
            peaks["fit-tokenizer", times] = peak_mb("fit-tokenizer", *common, *frames)
            peaks["quantize", times] = peak_mb("quantize", *common)
            for command in ("fit-tokenizer", "quantize"):
                print(f"{command:14} {hours:5.2f} h  peak {peaks[command, times]:6.0f} MB")
    for command in ("fit-tokenizer", "quantize"):
        report(
            f"peak memory of {command}, corpus ×1 / ×10",
            peaks[command, 1] / peaks[command, 10],
            0.9,
        )


if __name__ == "__main__":
    main()
