"""Statistics of recordings in the decode pass: against separate passes, and their cost in quantize.

The usual way is a script that reads each file with soundfile and asks NumPy and SciPy for one
figure after the other: level, peak, clipped samples, offset, levels of frames for silence and
noise, Welch's spectrum, a SHA-256. Ours gives more (all channels, runs of clipping, bandwidth) and
reads files of any length in bounded memory. Both read the same FLAC files.

Then `quantize` with MFCC, the fastest extractor there is, with and without measuring: one process,
CPU seconds, planning and writing included. The units must be the same bytes.

    python benchmarks/bench_measure.py --data SHARED_DATA [--minutes 10]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
from paired import cpu_s, median_ratio, report

from cslm_data.corpora import Defaults
from cslm_data.ingest import ingest
from cslm_data.measuring.hearing import Hearing, measure_row
from cslm_data.quantize import quantize
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

CORPORA = ("ljspeech", "arctic_kathleen", "librispeech_test_other", "aishell_sample", "nathalie")


def choose(data: Path, minutes: float) -> list[dict[str, object]]:
    """Rows of real speech until they last so long."""
    rows, left_s = [], minutes * 60
    for corpus in CORPORA:
        for line in (data / "real" / f"{corpus}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if left_s > 0:
                rows.append({**row, "audio": str(data / "real" / row["audio"])})
                left_s -= row["duration"]
    return rows


def usual(paths: list[str]) -> list[float]:
    """One figure after the other, each over the whole waveform; returns the levels."""
    levels = []
    for path in paths:
        wave, rate_hz = soundfile.read(path)
        levels.append(20 * np.log10(np.sqrt(np.mean(wave**2)) + 1e-12))
        np.abs(wave).max()
        np.mean(np.abs(wave) >= 0.999)
        np.mean(wave)
        frames = np.lib.stride_tricks.sliding_window_view(wave, 2048)[::512]
        frame_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
        np.mean(frame_db < frame_db.max() - 40)
        np.percentile(frame_db, 95) - np.percentile(frame_db, 5)
        scipy.signal.welch(wave, rate_hz, nperseg=512)
        hashlib.sha256(wave.tobytes()).hexdigest()
    return levels


def ours(stretches: list[Stretch]) -> list[float]:
    return [measure_row(stretch, Hearing())[6] for stretch in stretches]


def decode_alone(paths: list[str]) -> None:
    for path in paths:
        soundfile.read(path, dtype="float32")


def unit_bytes(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workspace.units.glob("*/*.parquet")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with real/*.jsonl")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = choose(options.data.resolve(), options.minutes)
    paths = [str(row["audio"]) for row in rows]
    seconds = sum(float(str(row["duration"])) for row in rows)
    stretches = [
        Stretch(str(row["id"]), str(row["audio"]), 0.0, float(str(row["duration"])), "en", "v")
        for row in rows
    ]
    np.testing.assert_allclose(ours(stretches), usual(paths), atol=0.01)
    ratio = median_ratio(lambda: ours(stretches), lambda: usual(paths), rounds=options.rounds)
    decode_s, ours_s = cpu_s(lambda: decode_alone(paths)), cpu_s(lambda: ours(stretches))
    print(f"{len(rows)} files, {seconds / 60:.1f} minutes")
    print(
        f"seconds of audio per CPU second: {seconds / ours_s:.0f}, decode {seconds / decode_s:.0f}"
    )
    report("statistics in one pass, soundfile + NumPy + SciPy one by one", ratio, 2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = folder / "speech.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        workspace = Workspace(folder / "workspace")
        assert not ingest(workspace, [manifest], defaults=Defaults()).num_rejected
        quantize(workspace, num_units=500, num_workers=1)
        made: list[dict[str, bytes]] = []

        def run(measure: bool) -> None:
            shutil.rmtree(workspace.units)
            shutil.rmtree(workspace.measures, ignore_errors=True)
            summary = quantize(workspace, num_workers=1, measure=measure)
            assert summary.num_measured == (len(rows) if measure else 0)
            made.append(unit_bytes(workspace))

        ratio = median_ratio(lambda: run(True), lambda: run(False), rounds=options.rounds)
        assert all(each == made[0] for each in made), "measuring changed units"
    print(f"quantize with MFCC takes {1 / ratio - 1:.1%} more with measures")
    report("quantize without measures / with them", ratio, 0.75)


if __name__ == "__main__":
    main()
