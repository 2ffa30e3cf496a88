"""Padded batches of HuBERT-base: the share of units equal to those of clips encoded one by one.

Real speech in batches of clips of any length, random weights, k-means with K = 500 on the features
of layer 6. Ours masks what is padded, the group norm included. Beside it stands the naive way:
transformers' HubertModel on the same batches, zeros appended, with its attention mask.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch
from paired import report
from speech_clips import fit_centroids, load_clips, save_random_hubert, units_of

from cslm_data.features import load_extractor

LAYER = 6
BAR = 0.999


def naive_batch(model: torch.nn.Module, waves: list[np.ndarray], counts: list[int]) -> list:
    longest = max(map(len, waves))
    padded = torch.from_numpy(np.stack([np.pad(w, (0, longest - len(w))) for w in waves]))
    lengths = torch.tensor([len(wave) for wave in waves])
    mask = torch.arange(longest) < lengths[:, None]
    with torch.inference_mode():
        hidden = model(padded, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    return [row[:count].numpy() for row, count in zip(hidden[LAYER], counts, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90, help="of audio")
    parser.add_argument("--batch", type=int, default=6, help="clips in a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    clips = load_clips(options.seconds)
    batches = [clips[i : i + options.batch] for i in range(0, len(clips), options.batch)]
    with tempfile.TemporaryDirectory() as folder:
        model = save_random_hubert(Path(folder))
        float32, bfloat16 = (
            load_extractor(f"hf:{folder}", layer=LAYER, device="cpu", dtype=dtype)
            for dtype in ("float32", "bfloat16")
        )
    model.encoder.layers = model.encoder.layers[:LAYER]
    alone = [float32(wave) for wave in clips]
    index = fit_centroids(np.concatenate(alone))
    units = units_of(index, alone)
    counts = iter([len(features) for features in alone])
    naive = [
        features
        for batch in batches
        for features in naive_batch(model, batch, [next(counts) for _ in batch])
    ]
    print(f"{len(clips)} clips, {len(units)} frames, {options.batch} clips in a batch")
    print(f"naive padded batches: {np.mean(units_of(index, naive) == units):.4f} units equal")
    for name, extractor in (("bfloat16", bfloat16), ("float32", float32)):
        expected = units_of(index, [extractor(wave) for wave in clips])
        found = [row.numpy() for batch in batches for row in extractor.batch(batch)]
        share = float(np.mean(units_of(index, found) == expected))
        assert share >= BAR, f"{name}: only {share:.4f} of the units are equal"
        report(f"share of units equal to one by one, {name}: {share:.5f}", share, BAR)


if __name__ == "__main__":
    main()
