"""torchaudio's MMS_FA: one CTC model over a-z for more than a thousand languages, romanised.

Source: Pratap et al., arXiv:2305.13516; torchaudio.pipelines.MMS_FA. Its weights (1.2 GB, CC-BY-NC
4.0) come from torchaudio's own download into torch's cache (`TORCH_HOME`), or from a file.
"""

# T samples, N frames, V symbols

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.aligning.acoustic import Spelling
from cslm_data.aligning.networks import CtcNetwork, hop_of, normalised
from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.features import choose_device
from cslm_data.features.hf_ssl import weights_hash
from cslm_data.keys import content_id

NAME = "mms_fa"
_SPELLING: Spelling = "romanised"
_NORMALISE_EPS = 1e-5
"""That of torch's layer norm, which the bundle puts before the network."""


def load_mms_fa(
    weights: Path | None = None,
    *,
    device: str = "auto",
    parameters: Mapping[str, Any] | None = None,
) -> CtcNetwork:
    """MMS_FA, from a file with its weights or from torchaudio's download.

    `parameters`: those of torchaudio.models.wav2vec2_model, where they are not the bundle's. Raises
    MissingArtefactError where the weights are neither here nor to be fetched, CorruptArtefactError
    where they do not fit.
    """
    import torchaudio

    bundle = torchaudio.pipelines.MMS_FA
    settings = dict(bundle._params if parameters is None else parameters)
    symbols: tuple[str, ...] = tuple(bundle.get_labels(star=None))
    network = torchaudio.models.wav2vec2_model(**settings)
    state = _fetch(bundle) if weights is None else _read(weights)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise CorruptArtefactError(
            f"{weights or bundle._path}: not the weights of MMS_FA "
            f"({str(error).strip().splitlines()[0]}); fetch {bundle._path} again"
        ) from None
    parts = {name: value for name, value in sorted(settings.items()) if "drop" not in name}
    identity = content_id(
        {
            "kind": NAME,
            "parameters": parts,
            "symbols": symbols,
            "weights": weights_hash(network, prefixes=("",)),
        }
    )
    where = choose_device(device)
    network = network.eval().to(where)
    layers = settings["extractor_conv_layer_config"]
    hop, field = hop_of([layer[1] for layer in layers], [layer[2] for layer in layers])

    def logits(waveform_T: NDArray[np.float32]) -> torch.Tensor:
        wave_T = normalised(waveform_T, _NORMALISE_EPS)
        found, _ = network(torch.from_numpy(wave_T)[None].to(where))
        logits_NV: torch.Tensor = found[0]
        return logits_NV

    return CtcNetwork(
        aligner_id=identity,
        name=NAME,
        symbols=symbols,
        spelling=_SPELLING,
        hop=hop,
        field=field,
        columns=tuple(range(len(symbols))),
        logits=logits,
    )


def _read(weights: Path) -> Mapping[str, torch.Tensor]:
    """Weights of a file of torch, or of safetensors; nothing in it is run."""
    if not weights.is_file():
        raise MissingArtefactError(
            f"--aligner mms_fa:{weights}: no such file; it is the model.pt that torchaudio "
            "downloads for MMS_FA"
        )
    if weights.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            loaded: Mapping[str, torch.Tensor] = load_file(str(weights))
        except SafetensorError as error:
            raise _not_weights(weights, error) from None
        return loaded
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers do
        raise _not_weights(weights, error) from None
    if not isinstance(state, Mapping):
        raise _not_weights(weights, TypeError("no weights by name"))
    return state


def _not_weights(weights: Path, error: Exception) -> CorruptArtefactError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return CorruptArtefactError(
        f"--aligner mms_fa:{weights}: no weights of torch ({lines[0]}); fetch the file again"
    )


def _fetch(bundle: Any) -> Mapping[str, torch.Tensor]:
    from torchaudio._internal import load_state_dict_from_url

    try:
        state: Mapping[str, torch.Tensor] = load_state_dict_from_url(
            bundle._path, weights_only=True, progress=False, map_location="cpu"
        )
    except (URLError, ConnectionError, TimeoutError) as error:
        raise MissingArtefactError(
            f"--aligner mms_fa: its weights are not in torch's cache and cannot be fetched "
            f"({error}); connect to the internet once, or fetch {bundle._path} elsewhere and use "
            "--aligner mms_fa:FILE"
        ) from None
    return state
