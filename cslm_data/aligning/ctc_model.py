"""The embedded acoustic model: log-mel → a small stack of convolutions → letters of the alphabet.

It is trained on the corpus itself (train_ctc.py) and knows no more than when which letter sounds.
All languages share the 26 letters and the apostrophe, Mandarin in pinyin, so an hour of speech is
enough. Its context is short (half a second), for what is far away cannot tell where a word begins.
Scores are posteriors over priors, as in hybrid recognisers: a plain CTC model says a letter in one
frame and blank in all others, and where it says it is anywhere inside of the sound (arXiv:2406.02560).
"""

# B utterances, T samples, M mel bands, F frames of 10 ms, N frames of 20 ms, C channels, V symbols

from __future__ import annotations

import functools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cslm_data.aligning.acoustic import Spelling
from cslm_data.aligning.forced import Boundaries
from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.keys import content_id, file_sha256
from cslm_data.workspace import write_json

SYMBOLS: tuple[str, ...] = ("", *string.ascii_lowercase, "'")
"""The blank first."""
HOP = 320
"""Samples of a frame of the emissions."""
FRAME_RATE_HZ = 16_000 / HOP
BOUNDARIES = Boundaries(join_s=0.1, share=0.5, lead_s=0.0, trail_s=0.0)
"""Letters fill the sounds that they stand for, so a word is its letters' frames."""

_NUM_MELS = 40
_WINDOW, _FFT, _MEL_HOP = 400, 512, 160
_WEIGHTS, _DOCUMENT = "model.safetensors", "aligner.json"
_VERSION = 1


class LetterNetwork(nn.Module):
    """Log-mel (B, M, F) → logits (B, N, V): one frame out for two in."""

    def __init__(self, *, channels: int = 192, num_blocks: int = 6) -> None:
        super().__init__()
        self.begin = nn.Conv1d(_NUM_MELS, channels, 5, stride=2)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_blocks + 1))
        self.blocks = nn.ModuleList(
            nn.Conv1d(channels, channels, 5, padding=2) for _ in range(num_blocks)
        )
        self.dropout = nn.Dropout(0.1)
        self.end = nn.Linear(channels, len(SYMBOLS))

    def forward(self, mels_BMF: Tensor) -> Tensor:
        """Frame n of the answer is about the input's frames around 2 n + 1."""
        hidden_BCN = self.begin(nn.functional.pad(mels_BMF, (1, 2)))
        hidden_BNC = self.norms[0](hidden_BCN.transpose(1, 2))
        for block, norm in zip(self.blocks, self.norms[1:], strict=True):
            more_BCN = block(torch.relu(hidden_BNC).transpose(1, 2))
            hidden_BNC = hidden_BNC + self.dropout(norm(more_BCN.transpose(1, 2)))
        logits_BNV: Tensor = self.end(torch.relu(hidden_BNC))
        return logits_BNV


class CtcModel:
    """A trained network as an acoustic model; see aligning/acoustic.py."""

    def __init__(
        self,
        network: LetterNetwork,
        log_priors_V: Tensor,
        *,
        prior_scale: float,
        name: str,
        aligner_id: str = "",
    ) -> None:
        self.network = network.eval()
        self.log_priors_V = log_priors_V
        self.prior_scale = prior_scale
        self.name = name
        self.boundaries = BOUNDARIES
        self._id = aligner_id

    @property
    def aligner_id(self) -> str:
        """Hash of the weights and of how they are used."""
        return self._id

    @property
    def symbols(self) -> tuple[str, ...]:
        """Blank, a to z, apostrophe."""
        return SYMBOLS

    @property
    def spelling(self) -> Spelling:
        """Everything is written in a-z."""
        return "romanised"

    @property
    def frame_rate_hz(self) -> float:
        """50."""
        return FRAME_RATE_HZ

    def emissions(self, waveform_T: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log of posteriors over priors, normalised: float32 (T,) → float32 (N, V)."""
        mels_MF = log_mel(torch.from_numpy(np.ascontiguousarray(waveform_T)))
        if mels_MF.shape[1] < 2:
            return np.zeros((0, len(SYMBOLS)), np.float32)
        with torch.inference_mode():
            logits_NV = self.network(mels_MF[None])[0]
            scaled_NV = logits_NV - self.prior_scale * self.log_priors_V
            return torch.log_softmax(scaled_NV, 1).numpy()

    def save(self, folder: Path) -> None:
        """Write weights and document into a folder that is there."""
        from safetensors.torch import save_file

        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors["log_priors"] = self.log_priors_V
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _WEIGHTS)
        document = {
            "version": _VERSION,
            "name": self.name,
            "channels": self.network.begin.out_channels,
            "num_blocks": len(self.network.blocks),
            "prior_scale": self.prior_scale,
            "weights_sha256": file_sha256(str(folder / _WEIGHTS)),
        }
        write_json(folder / _DOCUMENT, document)


def load_ctc_model(folder: Path) -> CtcModel:
    """The model of a folder that `save` wrote. Raises MissingArtefactError, CorruptArtefactError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    again = "train it again: cslm-data align --retrain"
    try:
        document: dict[str, Any] = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))
        tensors = load_file(folder / _WEIGHTS)
        if document["version"] != _VERSION:
            raise CorruptArtefactError(f"{folder}: an aligner of another version; {again}")
        if document["weights_sha256"] != file_sha256(str(folder / _WEIGHTS)):
            raise CorruptArtefactError(f"{folder}: its weights are not those it was saved with")
        network = LetterNetwork(channels=document["channels"], num_blocks=document["num_blocks"])
        log_priors_V = tensors.pop("log_priors")
        network.load_state_dict(
            {name.removeprefix("network."): value for name, value in tensors.items()}
        )
        return CtcModel(
            network,
            log_priors_V,
            prior_scale=float(document["prior_scale"]),
            name=str(document["name"]),
            aligner_id=content_id(document),
        )
    except FileNotFoundError as error:
        raise MissingArtefactError(f"{error.filename}: no such file; {again}") from None
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CorruptArtefactError(f"{folder}: not an aligner ({error}); {again}") from None


def log_mel(waveform_T: Tensor) -> Tensor:
    """Log-mel energies, each band with mean 0 and all with variance 1: (T,) → (M, F).

    F is 2 N, two frames of 10 ms for each whole frame of the emissions.
    """
    num_frames = 2 * (len(waveform_T) // HOP)
    if num_frames == 0:
        return torch.zeros(_NUM_MELS, 0)
    padded = nn.functional.pad(waveform_T, (_FFT // 2, _FFT // 2))
    spectrum = torch.stft(
        padded,
        _FFT,
        hop_length=_MEL_HOP,
        win_length=_WINDOW,
        window=_window(),
        center=False,
        return_complex=True,
    )[:, :num_frames]
    mels_MF = torch.log(_mel_bank() @ spectrum.abs().square() + 1e-6)
    mels_MF = mels_MF - mels_MF.mean(1, keepdim=True)
    return mels_MF / (mels_MF.std() + 1e-3)


@functools.cache
def _window() -> Tensor:
    return torch.hann_window(_WINDOW)


@functools.cache
def _mel_bank() -> Tensor:
    """Triangles over the spectrum: (M, bins)."""
    from torchaudio.functional import melscale_fbanks

    bank: Tensor = melscale_fbanks(_FFT // 2 + 1, 40.0, 7600.0, _NUM_MELS, 16_000)
    return bank.T.contiguous()
