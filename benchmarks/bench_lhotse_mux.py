"""Three sources of speech with units to one mixed set of shards, and back: ours against lhotse.

Comparable is this much: transcribed utterances of three languages with their units, each language a
source of its own, become one seeded mixture in shards, every utterance once; then all of it is read
back, every unit in an array, every text a string.
  lhotse: three Shar folders, lazily read, `CutSet.mux` by weight, `to_shar` with the units as a
  custom array of the cuts (`numpy`) beside the cuts (JSONL, gzip).
  ours: `cslm-data build-mix` from the catalog and the parts of `quantize`, one `asr` source.

Not comparable, and for no bar: `mux` draws the next cut by its weights, so shares are of cuts, as
chance and the lengths of the sources have it, and cuts of a source stay in their order; ours counts
tokens, meets shares of tokens, shuffles all of it, words prompts and writes an index, checksums and
mix.parquet. lhotse's cuts carry recordings and supervisions, which no mix of ours needs, and can be
augmented; its shards are made to be read in order, ours in any. Making the sources is not timed,
for neither. Every run that writes is a process of its own; reading is CPU time in this one.

    python benchmarks/bench_lhotse_mux.py [--utterances 30000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from measured_commands import cslm_data, run_measured, show
from paired import median_ratio, report

LANGUAGES = ("en", "zh", "de")
WEIGHTS = (0.5, 0.3, 0.2)
MEAN_UNITS = 150
SHARD_CUTS = 5000
RECIPE = """
stage: pretrain
temperature: 1
splits: {by: content, valid: 0, test: 0}
sources:
  - {task: asr, weight: 1, languages: each}
"""
WRITE_BAR, READ_BAR = 3.0, 10.0


def make_sources(workspace: Path, out: Path) -> int:
    """A Shar folder per language, of what the catalog holds. Returns the number of cuts."""
    import duckdb
    import numpy as np
    from lhotse import CutSet, MonoCut, SupervisionSegment

    catalog = duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True)
    parts = str(workspace / "units" / "*" / "part-*.parquet").replace("'", "''")
    count = 0
    for language in LANGUAGES:
        found = catalog.execute(
            "select utt_id, text, speaker, duration_s, units from all_utterances "
            f"inner join read_parquet('{parts}') using (utt_id) where language = ? order by utt_id",
            [language],
        ).fetchall()
        cuts = []
        for utt_id, text, speaker, duration_s, units in found:
            segment = SupervisionSegment(
                id=utt_id,
                recording_id=utt_id,
                start=0.0,
                duration=duration_s,
                text=text,
                language=language,
                speaker=speaker,
            )
            cut = MonoCut(
                id=utt_id, start=0.0, duration=duration_s, channel=0, supervisions=[segment]
            )
            cuts.append(cut.attach_tensor("units", np.array(units, np.uint16)))
        count += len(cuts)
        folder = out / language
        folder.mkdir(parents=True)
        CutSet.from_cuts(cuts).to_shar(folder, fields={"units": "numpy"}, shard_size=SHARD_CUTS)
    return count


def open_shar(folder: Path) -> Any:
    """The cuts of a Shar folder, by names: of a folder it keeps a path that no JSON can hold."""
    from lhotse import CutSet

    cuts, units = (sorted(map(str, folder.glob(f"{name}.*"))) for name in ("cuts", "units"))
    return CutSet.from_shar({"cuts": cuts, "units": units})


def write_lhotse(sources: Path, out: Path) -> None:
    from lhotse import CutSet

    found = [open_shar(sources / language) for language in LANGUAGES]
    mixed = CutSet.mux(*found, weights=list(WEIGHTS), seed=0)
    mixed.to_shar(out, fields={"units": "numpy"}, shard_size=SHARD_CUTS)


def read_lhotse(folder: Path) -> tuple[int, int]:
    """Units and characters of all."""
    num_units = num_characters = 0
    for cut in open_shar(folder):
        num_units += len(cut.load_units())
        num_characters += len(cut.supervisions[0].text)
    return num_units, num_characters


def read_ours(shards: list[Path]) -> tuple[int, int]:
    from cslm_data.shards import ShardFile

    num_units = num_characters = 0
    for path in shards:
        shard = ShardFile(path)
        for position in range(len(shard)):
            segments = shard.sample(position).segments
            num_units += sum(len(s.units) for s in segments if s.modality == "speech")
            num_characters += len(segments[-1].text)
    return num_units, num_characters


def read_plain(shards: list[Path]) -> tuple[int, int]:
    """Our shards with webdataset and no code of ours."""
    import webdataset

    num_units = num_characters = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = [str(path) for path in shards]
        for sample in webdataset.WebDataset(paths, shardshuffle=False, empty_check=False).decode():
            num_units += len(sample["units.npy"])
            num_characters += len(sample["json"]["segments"][-1]["text"])
    return num_units, num_characters


def in_process(*words: object) -> list[str]:
    return [sys.executable, __file__, *map(str, words)]


def compare(folder: Path, utterances: int, rounds: int) -> None:
    workspace, sources, muxed = folder / "workspace", folder / "sources", folder / "muxed"
    command = [sys.executable, str(Path(__file__).with_name("large_catalog.py")), str(workspace)]
    command += ["--mean-units", str(MEAN_UNITS), "--utterances", str(utterances)]
    run_measured([*command, "--pairs", "0", "--dialogues", "0"])
    made = run_measured(in_process("--step", "sources", workspace, sources))
    assert int(made.output.splitlines()[-1]) == utterances
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    ratios = []
    for _ in range(rounds):
        shutil.rmtree(muxed, ignore_errors=True)
        muxed.mkdir()
        theirs = show("lhotse mux", run_measured(in_process("--step", "mux", sources, muxed)))
        fresh = folder / "ours"  # a copy, so that nothing is known of the run before
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(workspace, fresh)
        words = ("--langs", ",".join(LANGUAGES), "--recipe", folder / "recipe.yaml", "-w", fresh)
        build = cslm_data("build-mix", *words, "--text-tokenizer", "bpe", "--json")
        ours = show("ours", run_measured(build))
        ratios.append(theirs.wall_s / ours.wall_s)
    for name, run in (("lhotse mux + to_shar", theirs), ("ours, plan + write", ours)):
        print(f"{name}: {utterances / run.wall_s:,.0f} samples/s")
    info = json.loads(ours.output)["info"]
    assert info["counts"]["samples"] == utterances, info["counts"]
    report("mix + write, against lhotse", statistics.median(ratios), WRITE_BAR)
    shards = sorted((folder / "ours" / "mixes" / "pretrain" / "shards").glob("*.tar"))
    same = read_lhotse(muxed)
    assert read_ours(shards) == read_plain(shards) == same, "the mixtures are not of the same"
    size, of_lhotse = (sum(p.stat().st_size for p in all_) for all_ in (shards, muxed.iterdir()))
    print(f"ours {size / 1e6:.1f} MB in tars, lhotse {of_lhotse / 1e6:.1f} MB")
    plain = median_ratio(lambda: read_plain(shards), lambda: read_lhotse(muxed), rounds=rounds)
    print(f"our shards read by plain webdataset, against lhotse: {plain:.2f}")
    ratio = median_ratio(lambda: read_ours(shards), lambda: read_lhotse(muxed), rounds=rounds)
    report("read back, against lhotse", ratio, READ_BAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, source, out = options.step
        if step == "sources":
            print(make_sources(Path(source), Path(out)))
        else:
            write_lhotse(Path(source), Path(out))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        compare(Path(temporary), options.utterances, options.rounds)


if __name__ == "__main__":
    main()
