"""Real speech and a HuBERT-base with random weights, for the benchmarks of extractors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import faiss
import numpy as np
import torch
import transformers

from cslm_data.audio import decode

CORPORA = ("ljspeech", "aishell_sample", "librispeech_test_other", "nathalie")
"""English and Mandarin, read and found, clips of 1 to 23 s."""

NUM_UNITS = 500


def load_clips(seconds: float) -> list[np.ndarray]:
    """Clips of several corpora in turn, until they last so long."""
    data = Path(os.environ.get("CSLM_SHARED_DATA", "../shared/data")) / "real"
    if not data.is_dir():
        raise SystemExit(f"{data}: no speech there; point CSLM_SHARED_DATA at the shared data")
    lists = []
    for corpus in CORPORA:
        lines = (data / f"{corpus}.jsonl").read_text(encoding="utf-8").splitlines()
        lists.append([json.loads(line)["audio"] for line in lines])
    clips: list[np.ndarray] = []
    for index in range(max(map(len, lists))):
        for names in lists:
            if index < len(names) and sum(map(len, clips)) < seconds * 16_000:
                clips.append(decode(str(data / names[index])))
    return clips


def save_random_hubert(folder: Path) -> transformers.HubertModel:
    """HuBERT-base in the directory form that real ones are published in."""
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig()).eval()
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return model


def fit_centroids(frames_ND: np.ndarray) -> faiss.IndexFlatL2:
    """K-means on all frames; an index that finds a frame's unit."""
    kmeans = faiss.Kmeans(
        frames_ND.shape[1],
        NUM_UNITS,
        niter=15,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=len(frames_ND),
    )
    kmeans.train(frames_ND)
    return kmeans.index


def units_of(index: faiss.IndexFlatL2, features: list[np.ndarray]) -> np.ndarray:
    """Unit of every frame of all clips."""
    return index.search(np.concatenate(features), 1)[1][:, 0]
