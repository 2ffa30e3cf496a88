"""HuBERT-base on one CPU thread: ours in bfloat16 to layer 6 against torchaudio in float32.

Random weights, the same on both sides (a transformers directory, converted by torchaudio's own
importer); real speech, clip by clip. Beside the times stand the units: k-means with K = 500 on
torchaudio's features of layer 6, and the share of frames whose unit another arithmetic changes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch
from paired import median_ratio, report
from speech_clips import fit_centroids, load_clips, save_random_hubert, units_of
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from cslm_data.features import load_extractor

LAYER = 6
LARGEST_SHARE = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="of audio for the units")
    parser.add_argument("--timed", type=float, default=16, help="seconds of audio in a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    clips = load_clips(options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        theirs = import_huggingface_model(save_random_hubert(Path(folder))).eval()
        float32, bfloat16 = (
            load_extractor(f"hf:{folder}", layer=LAYER, device="cpu", dtype=dtype)
            for dtype in ("float32", "bfloat16")
        )

    def torchaudio_features(wave: np.ndarray, layer: int = LAYER) -> np.ndarray:
        with torch.inference_mode():
            outputs, _ = theirs.extract_features(torch.from_numpy(wave)[None], num_layers=layer)
            return outputs[-1][0].numpy()

    with_amx = "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    print(f"{len(clips)} clips, one thread, AMX: {'yes' if with_amx else 'no'}")
    features = [torchaudio_features(wave) for wave in clips]
    index = fit_centroids(np.concatenate(features))
    units = units_of(index, features)
    ours = [float32(wave) for wave in clips]
    difference = max(np.abs(a - b).max() for a, b in zip(ours, features, strict=True))
    print(f"float32: largest difference of a feature {difference:.1e}", end=", ")
    print(f"units changed {np.mean(units_of(index, ours) != units):.3%}")
    changed = np.mean(units_of(index, [bfloat16(wave) for wave in clips]) != units)
    print(f"bfloat16: units changed {changed:.3%} (at most {LARGEST_SHARE:.1%})")
    assert difference < 1e-4
    assert changed <= LARGEST_SHARE

    timed = [wave for wave in clips if len(wave) > 16_000]
    timed = timed[
        : 1 + int(np.searchsorted(np.cumsum(list(map(len, timed))), options.timed * 16e3))
    ]

    def run(extract: object, *layer: int) -> None:
        for wave in timed:
            extract(wave, *layer)  # type: ignore[operator]

    for name, extractor, layer, bar in (
        ("bfloat16 to layer 6, against torchaudio float32 to layer 6", bfloat16, 6, 2),
        ("bfloat16 to layer 6, against torchaudio float32 to layer 12", bfloat16, 12, 3),
    ):
        ratio = median_ratio(
            lambda: run(extractor),  # noqa: B023
            lambda: run(torchaudio_features, layer),  # noqa: B023
            rounds=3,
        )
        report(name, ratio, bar)


if __name__ == "__main__":
    main()
