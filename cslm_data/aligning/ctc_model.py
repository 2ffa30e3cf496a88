"""The embedded acoustic model: waveform → symbols, 100 times a second. Files: aligners/<name>/.

Small enough for a core: 40 log mel energies every 10 ms, normalised over the utterance, two frames
at a time; layers that see some frames on either side (a TDNN, 180 ms in all), so that a symbol is
where its sound is; the letters a to z for every language, so that languages share what they have.
Trained by train_ctc.py to say a letter as long as it lasts, and blank for silence alone: what the
network says is divided by how often it says it, so that rare letters are not passed over.
"""

# B utterances, T samples, F frames of 10 ms, M pairs of them, D features, V symbols

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from cslm_data.aligning.acoustic import Spelling
from cslm_data.aligning.forced import Boundaries
from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.features.kaldi import FRAME, HOP, LogMel
from cslm_data.keys import content_id

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SYMBOLS = ("<blank>", *string.ascii_lowercase)
SPELLING: Spelling = "romanised"
NUM_BINS = 40
PRIOR_WEIGHT = 0.7
"""Power of the priors that the network's probabilities are divided by."""

_FORMAT = 1
_TEMPORARY = ".tmp"
_JSON, _WEIGHTS = "model.json", "model.safetensors"
_FLOOR = 1e-6
_LEAST_SPREAD = 0.3
_PAIR = 2 * HOP
_BEFORE = (FRAME - HOP) // 2
"""Samples of silence before the first, so that a frame lies in the middle of what it is made of."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of the network."""

    width: int = 192
    steps: tuple[int, ...] = (1, 1, 2, 3)
    """Of each layer, the pairs of frames from its middle to the ones it sees beside it."""
    dropout: float = 0.1


class Network(nn.Module):
    """Pairs of frames (B, M, D) → log-probabilities of each frame (B, 2 M, V)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self._steps = (1, *shape.steps)
        inputs = (2 * NUM_BINS, *(width for _ in shape.steps))
        self.layers = nn.ModuleList(nn.Linear(3 * dim, width) for dim in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs)
        self.output = nn.Linear(width, 2 * len(SYMBOLS))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, pairs_BMD: torch.Tensor, mask_BM1: torch.Tensor) -> torch.Tensor:
        """`mask_BM1` is 1 where there is speech, 0 where an utterance is padded."""
        hidden = pairs_BMD
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            found = norm(functional.relu(layer(_with_neighbours(hidden, self._steps[index]))))
            hidden = (hidden + self.dropout(found) if index else found) * mask_BM1
        scores = self.output(hidden).reshape(len(pairs_BMD), -1, len(SYMBOLS))
        return torch.log_softmax(scores, dim=-1)


def _with_neighbours(hidden_BMD: torch.Tensor, step: int) -> torch.Tensor:
    """Each place with those `step` before and after it; silence beyond the ends: (B, M, 3 D)."""
    num = hidden_BMD.shape[1]
    padded = functional.pad(hidden_BMD, (0, 0, step, step))
    parts = [padded[:, :num], hidden_BMD, padded[:, 2 * step : 2 * step + num]]
    return torch.cat(parts, dim=-1)


@functools.cache
def _log_mel() -> LogMel:
    return LogMel(NUM_BINS, floor=_FLOOR)


def front_end(waveform_T: Floats) -> Floats:
    """Log mel energies of 16 kHz mono audio: float32 (T,) → (F, 40), F even and at least 2.

    Frame f lies around 10 f + 5 ms; the last ones reach beyond the end into silence.
    """
    num_pairs = max(1, -(-len(waveform_T) // _PAIR))
    num_samples = (2 * num_pairs - 1) * HOP + FRAME
    padded_T = np.zeros(num_samples, np.float32)
    padded_T[_BEFORE : _BEFORE + len(waveform_T)] = waveform_T
    return _log_mel()(padded_T)


def normalise(mel_FD: Floats) -> Floats:
    """Mean 0 and spread 1 of each bin over the utterance, in pairs of frames: → (M, 80)."""
    spread_D = mel_FD.std(axis=0) + np.float32(_LEAST_SPREAD)
    normal_FD = (mel_FD - mel_FD.mean(axis=0)) / spread_D
    return np.ascontiguousarray(normal_FD.reshape(len(mel_FD) // 2, -1))


@dataclass(frozen=True, kw_only=True, eq=False)
class CtcModel:
    """A trained network; see AcousticModel."""

    name: str
    network: Network
    shape: Shape
    prior_V: Doubles
    """Log of how often each symbol is said."""
    training: dict[str, Any] = field(default_factory=dict)
    """How it was trained: hours per language, epochs, seed. No part of the identity."""

    symbols = SYMBOLS
    spelling = SPELLING
    frame_rate_hz = SAMPLE_RATE_HZ / HOP
    boundaries = Boundaries(join_s=0.03, share=0.5, lead_s=0.0, trail_s=0.0)
    """Symbols last as long as their sounds do, so words begin and end with theirs."""

    @functools.cached_property
    def aligner_id(self) -> str:
        """See AcousticModel."""
        front = [NUM_BINS, HOP, FRAME, _FLOOR, _LEAST_SPREAD]
        return content_id(
            {
                "kind": "embedded-ctc",
                "format": _FORMAT,
                "front": front,
                "symbols": SYMBOLS,
                "steps": self.shape.steps,
                "prior_weight": PRIOR_WEIGHT,
                "weights": _weights_hash(_tensors(self)),
            }
        )

    def emissions(self, waveform_T: Floats) -> Floats:
        """See AcousticModel; frames may reach beyond the end, by less than two."""
        pairs = torch.from_numpy(normalise(front_end(waveform_T)))[None]
        with torch.inference_mode():
            found_NV = self.network(pairs, torch.ones(1, pairs.shape[1], 1))[0].double().numpy()
        found_NV -= PRIOR_WEIGHT * self.prior_V
        found_NV -= np.logaddexp.reduce(found_NV, axis=1, keepdims=True)
        return np.asarray(found_NV, np.float32)

    def save(self, folder: Path) -> None:
        """Write it as a folder that appears whole; one that is there is replaced."""
        from safetensors.torch import save_file

        temporary = folder.parent / _TEMPORARY / folder.name
        old = temporary.with_name(f"{folder.name}.old")
        for path in (temporary, old):
            shutil.rmtree(path, ignore_errors=True)
        temporary.mkdir(parents=True)
        document = {
            "kind": "embedded-ctc",
            "format": _FORMAT,
            "aligner_id": self.aligner_id,
            "symbols": SYMBOLS,
            "spelling": SPELLING,
            "frame_rate_hz": self.frame_rate_hz,
            "width": self.shape.width,
            "steps": self.shape.steps,
            "training": self.training,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (temporary / _JSON).write_text(text, encoding="utf-8")
        save_file(_tensors(self), temporary / _WEIGHTS)
        for path in temporary.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def load_ctc_model(folder: Path) -> CtcModel:
    """The model of a folder, ready to run on a core.

    Raises MissingArtefactError where there is none, CorruptArtefactError where it is not what its
    id says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (_JSON, _WEIGHTS):
        if not (folder / name).is_file():
            raise MissingArtefactError(
                f"{folder}: no {name}, so no embedded aligner; train one with: cslm-data align"
            )
    try:
        document = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or document["symbols"] != list(SYMBOLS):
            raise ValueError(f"format {document['format']} with {len(document['symbols'])} symbols")
        shape = Shape(width=int(document["width"]), steps=tuple(map(int, document["steps"])))
        tensors = load_file(folder / _WEIGHTS)
        prior_V = tensors.pop("prior").numpy().astype(np.float64)
        network = Network(shape)
        network.load_state_dict(tensors)
        said, training = document["aligner_id"], dict(document["training"])
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        detail = str(error).strip().splitlines() or [""]
        raise CorruptArtefactError(
            f"{folder}: cannot be read as an embedded aligner ({type(error).__name__}: "
            f"{detail[0]}); restore it, or train it anew: cslm-data align --retrain"
        ) from None
    model = CtcModel(
        name=folder.name,
        network=network.eval(),
        shape=shape,
        prior_V=prior_V,
        training=training,
    )
    if model.aligner_id != said:
        raise CorruptArtefactError(
            f"{folder}: says {said}, but holds {model.aligner_id}; restore it, or train it anew: "
            "cslm-data align --retrain"
        )
    return model


def _tensors(model: CtcModel) -> dict[str, torch.Tensor]:
    weights = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    return {**weights, "prior": torch.from_numpy(model.prior_V)}


def _weights_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
