"""torchaudio's bundles of HuBERT, wav2vec 2.0 and WavLM, e.g. `torchaudio:HUBERT_BASE`.

Layer k is the output of block k, counted from 1 as in the papers; the forward pass stops there. The
weights come from torchaudio's own download into torch's cache (`TORCH_HOME`).
"""

# T samples, N frames, D features

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.features import ExtractorOptions, choose_device
from cslm_data.features.hf_ssl import weights_hash

Floats = NDArray[np.float32]

_FAMILIES = ("HUBERT_", "WAV2VEC2_", "WAVLM_")
_SHORTEST = 400
_STRIDE = 320


class TorchaudioExtractor:
    """float32 (T,) → float32 (N, D) of one layer, an utterance at a time."""

    frame_rate_hz = SAMPLE_RATE_HZ / _STRIDE

    def __init__(self, name: str, options: ExtractorOptions) -> None:
        bundle = _find_bundle(name)
        if bundle.sample_rate != SAMPLE_RATE_HZ:
            raise UsageError(f"--extractor torchaudio:{name}: made for {bundle.sample_rate} Hz")
        model = _fetch(bundle, name)
        # Bundles that normalise their input wrap the network: the weights lie one level deeper.
        network = getattr(model, "model", model)
        blocks = network.encoder.transformer.layers
        self.layer = len(blocks) if options.layer is None else options.layer
        if not 1 <= self.layer <= len(blocks):
            raise UsageError(f"--layer {options.layer}: {name} has the layers 1 to {len(blocks)}")
        network.encoder.transformer.layers = blocks[: self.layer]
        normalises = bool(getattr(model, "normalize_waveform", False))
        self.dim = int(network.encoder.feature_projection.projection.out_features)
        parameters = {
            key: value for key, value in sorted(bundle._params.items()) if "drop" not in key
        }
        self.identity: dict[str, object] = {
            "kind": "torchaudio",
            "parameters": parameters,
            "layer": self.layer,
            "normalise": normalises,
            "weights": weights_hash(network, prefixes=("feature_extractor.", "encoder.")),
        }
        self._device = choose_device(options.device)
        self._dtype = getattr(torch, options.dtype)
        self._model = model.eval().to(self._device, self._dtype)

    def __call__(self, waveform_T: Floats) -> Floats:
        """Features of one utterance; one too short for a frame is padded with zeros."""
        wave_T = np.ascontiguousarray(waveform_T, np.float32)
        if len(wave_T) < _SHORTEST:
            wave_T = np.pad(wave_T, (0, _SHORTEST - len(wave_T)))
        with torch.inference_mode():
            batch = torch.from_numpy(wave_T)[None].to(self._device, self._dtype)
            outputs, _ = self._model.extract_features(batch, num_layers=self.layer)
            return np.asarray(outputs[-1][0].float().cpu().numpy(), np.float32)


def _find_bundle(name: str) -> Any:
    import torchaudio

    names = [n for n in dir(torchaudio.pipelines) if n.startswith(_FAMILIES)]
    if name not in names:
        raise UsageError(
            f"--extractor torchaudio:{name}: no such bundle; there are {', '.join(names)}"
        )
    return getattr(torchaudio.pipelines, name)


def _fetch(bundle: Any, name: str) -> Any:
    try:
        return bundle.get_model(dl_kwargs={"weights_only": True, "progress": False})
    except (URLError, ConnectionError, TimeoutError) as error:
        raise MissingArtefactError(
            f"--extractor torchaudio:{name}: its weights are not in torch's cache and cannot be "
            f"fetched ({error}); connect to the internet once, or copy {bundle._path} into "
            "$TORCH_HOME/hub/checkpoints, or use --extractor hf:DIRECTORY"
        ) from None
