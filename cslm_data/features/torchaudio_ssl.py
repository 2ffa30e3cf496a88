"""torchaudio's bundles of HuBERT, wav2vec 2.0 and WavLM, e.g. `torchaudio:HUBERT_BASE`.

Layer k is the output of block k, counted from 1 as in the papers; the forward pass stops there. The
weights come from torchaudio's own download into torch's cache (`TORCH_HOME`).
"""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import torch

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.features import ExtractorOptions, choose_device
from cslm_data.features.encoder import Encoder
from cslm_data.features.front_end import FrontEnd
from cslm_data.features.hf_ssl import weights_hash
from cslm_data.features.network import NetworkExtractor

_FAMILIES = ("HUBERT_", "WAV2VEC2_", "WAVLM_")
_NORMALISE_EPS = 1e-5
"""That of torch's layer norm, which the bundles put before the network."""


def load_torchaudio(name: str, options: ExtractorOptions) -> NetworkExtractor:
    """The network of a bundle, ready to run up to a layer.

    Raises UsageError for an unknown bundle or layer, MissingArtefactError where its weights are
    neither in the cache nor to be fetched.
    """
    bundle = _find_bundle(name)
    if bundle.sample_rate != SAMPLE_RATE_HZ:
        raise UsageError(f"--extractor torchaudio:{name}: made for {bundle.sample_rate} Hz")
    model = _fetch(bundle, name).eval()
    # Bundles that normalise their input wrap the network: the weights lie one level deeper.
    network = getattr(model, "model", model)
    transformer = network.encoder.transformer
    num_layers = len(transformer.layers)
    layer = num_layers if options.layer is None else options.layer
    if not 1 <= layer <= num_layers:
        raise UsageError(f"--layer {options.layer}: {name} has the layers 1 to {num_layers}")
    transformer.layers = transformer.layers[:layer]
    normalises = bool(getattr(model, "normalize_waveform", False))
    device, dtype = choose_device(options.device), getattr(torch, options.dtype)
    parameters = {key: value for key, value in sorted(bundle._params.items()) if "drop" not in key}
    weights = weights_hash(network, prefixes=("feature_extractor.", "encoder."))
    return NetworkExtractor(
        identity={
            "kind": "torchaudio",
            "parameters": parameters,
            "normalise": normalises,
            "weights": weights,
        },
        layer=layer,
        dim=int(network.encoder.feature_projection.projection.out_features),
        front=FrontEnd(
            network.feature_extractor.conv_layers,
            normalise_eps=_NORMALISE_EPS if normalises else None,
            device=device,
            dtype=dtype,
        ),
        encoder=Encoder(
            projection=network.encoder.feature_projection,
            positional=transformer.pos_conv_embed,
            blocks=transformer.layers,
            norms_first=bool(transformer.layers[0].layer_norm_first),
            norm_before=transformer.layer_norm if transformer.layer_norm_first else None,
            norm_after=None,
            device=device,
            dtype=dtype,
        ),
        device=device,
    )


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
