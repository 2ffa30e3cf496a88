"""Files → units on all cores: `quantize` against the loop that people write.

The loop is what textlesslib and SlamKit do: load a file, run the full HubertModel of transformers
in float32, take the hidden state of layer 6, predict with scikit-learn's k-means, drop repeats; one
process with all the cores. Ours is `quantize` as a user runs it, processes and their start
included. HuBERT-base has random weights (nothing is downloaded), which changes no time. Both sides
decode and resample the same FLAC files; the centroids are the same.

    python benchmarks/bench_quantize.py --data SHARED_DATA [--minutes 4] [--dtype bfloat16]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import faiss
import numpy as np
import soundfile
import torch
import torchaudio
import transformers
from paired import median_ratio, report, wall_s
from sklearn.cluster import KMeans

from cslm_data.audio import resampler_identity
from cslm_data.catalog import open_catalog
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.corpora import Defaults
from cslm_data.features import load_extractor
from cslm_data.ingest import ingest
from cslm_data.quantize import quantize
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace

LAYER, NUM_UNITS = 6, 500
CORPORA = ("ljspeech", "arctic_kathleen", "kerstin", "aishell_sample", "nathalie")


def choose_files(data: Path, minutes: float) -> list[dict[str, object]]:
    """Rows of real speech, longest corpora first, until they last so long."""
    rows, left_s = [], minutes * 60
    for corpus in CORPORA:
        for line in (data / "real" / f"{corpus}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if left_s > 0 and row["duration"] > 1:
                rows.append({**row, "audio": str(data / "real" / row["audio"])})
                left_s -= row["duration"]
    return rows


def make_tokenizer(workspace: Workspace, model: Path, rows: list[dict[str, object]]) -> str:
    """K centroids on the features of the first minute and a half, one iteration of k-means each."""
    features = load_extractor(f"hf:{model}", layer=LAYER, device="cpu")
    frames, left_s = [], 90.0
    for row in rows:
        if left_s > 0:
            frames.append(features(load(str(row["audio"]))))
            left_s -= float(row["duration"])
    frames_ND = np.concatenate(frames)
    kmeans = faiss.Kmeans(frames_ND.shape[1], NUM_UNITS, niter=10, min_points_per_centroid=1)
    kmeans.train(frames_ND)
    made = SpeechTokenizer(
        extractor=f"hf:{model}",
        extractor_identity=json.loads(json.dumps(features.identity)),
        layer=LAYER,
        frame_rate_hz=features.frame_rate_hz,
        resampler=resampler_identity(),
        normalisation=Normalisation(),
        centroids_KE=np.ascontiguousarray(kmeans.centroids, np.float32),
    )
    return tokenizer_folders.add_to_workspace(workspace, made).name


def load(path: str) -> np.ndarray:
    wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(wave.mean(axis=1))
    return torchaudio.functional.resample(mono, rate_hz, 16_000).numpy()


def usual_loop(model_folder: Path, centroids: np.ndarray, paths: list[str]) -> list[np.ndarray]:
    model = transformers.HubertModel.from_pretrained(model_folder).eval()
    kmeans = KMeans(len(centroids), n_init=1, max_iter=1).fit(centroids)
    kmeans.cluster_centers_ = centroids
    units = []
    for path in paths:
        with torch.inference_mode():
            wave = torch.from_numpy(load(path))[None]
            hidden = model(wave, output_hidden_states=True).hidden_states[LAYER][0]
        frames = kmeans.predict(np.ascontiguousarray(hidden.numpy()))
        units.append(frames)
    return units


def units_of(workspace: Workspace, ids: list[str]) -> list[np.ndarray]:
    with open_catalog(workspace, doing="bench") as connection:
        rows = connection.execute("select utt_id, units, durations from units").fetchall()
    found = {row[0]: expand(np.array(row[1]), np.array(row[2])) for row in rows}
    return [found[each] for each in ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with real/*.jsonl")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.manual_seed(0)
        transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder / "model")
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
        extractor.save_pretrained(folder / "model")
        rows = choose_files(options.data.resolve(), options.minutes)
        manifest = folder / "speech.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        workspace = Workspace(folder / "workspace")
        assert not ingest(workspace, [manifest], defaults=Defaults()).num_rejected
        name = make_tokenizer(workspace, folder / "model", rows)
        centroids = tokenizer_folders.find_tokenizer(workspace, name).centroids_KE
        paths = [str(row["audio"]) for row in rows]
        theirs: list[np.ndarray] = []

        def ours() -> None:
            shutil.rmtree(workspace.units, ignore_errors=True)
            quantize(workspace, tokenizer=name, dtype=options.dtype, device="cpu")

        def loop() -> None:
            theirs[:] = usual_loop(folder / "model", centroids, paths)

        ratio = median_ratio(ours, loop, rounds=options.rounds, clock=wall_s)
        mine = units_of(workspace, [str(row["id"]) for row in rows])
        equal = np.mean(np.concatenate(mine) == np.concatenate(theirs))
        seconds = sum(float(row["duration"]) for row in rows)
        print(f"{len(rows)} files, {seconds / 60:.1f} minutes; {equal:.4f} of the units are equal")
        print(f"AMX: {torch.cpu._is_amx_tile_supported()}, threads: {torch.get_num_threads()}")
        assert equal >= 0.99, "the two sides do not compute the same units"
        report(f"quantize HuBERT-base layer {LAYER}, {options.dtype}", ratio, 5)


if __name__ == "__main__":
    main()
