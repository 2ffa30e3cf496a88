"""CosyVoice's supervised semantic tokenizers through the package `s3tokenizer`: units directly.

`s3:speech_tokenizer_v2_25hz` names one of the package's models, `s3:PATH` a file of weights or a
directory that holds one: `.onnx` as CosyVoice publishes it, or a state dict as `.safetensors` or
`.pt`. Features are (N, 1), the numbers of codes; there is nothing to cluster. These networks hear
30 s at most: what is longer is met in windows of 30 s that overlap by 4 s, as in the package, whose
own way loses up to 2 s at the end of some recordings. Source: CosyVoice, arXiv:2407.05407.
"""

# B stretches, T samples, F frames of 10 ms, M mel bins, N codes

from __future__ import annotations

import itertools
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import ExtractorOptions, choose_device
from cslm_data.features.hf_ssl import weights_hash
from cslm_data.features.windows import cut

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_HOP = 160
_SHORTEST = 400
_MARGIN = 2
"""Frames of 10 ms beside a cut whose spectrum would see the cut itself."""
_RANGE = 2.0
"""The spectrogram's floor under its loudest point: 8 in log10, in quarters."""
_WINDOW = 3000
_STEP = 2600
_HEAD_DIM = 64
_SUFFIXES = (".onnx", ".safetensors", ".pt")


class _Span(NamedTuple):
    """Frames of 10 ms that the network hears at once, and between which its codes are kept."""

    first: int
    last: int
    keep_from: int
    keep_to: int | None
    """None: to the end."""


class S3Extractor:
    """float32 (T,) → float32 (N, 1): the code of each frame, 25 or 50 a second."""

    dim = 1

    def __init__(self, model: Any, identity: dict[str, object], device: str) -> None:
        """`model`: an S3Tokenizer of any version; `identity` names its weights."""
        self._model = model.eval().to(device)
        self._num_mels = int(model.config.n_mels)
        self._frames_per_code = 2 * int(model.encoder.stride)
        self.device = device
        self.num_codes = int(model.quantizer.codebook_size)
        self.frame_rate_hz = 100 / self._frames_per_code
        self.identity: dict[str, object] = {
            "kind": "s3",
            "codes_per_s": self.frame_rate_hz,
            "num_codes": self.num_codes,
            "window_frames": _WINDOW,
            "window_step": _STEP,
            **identity,
        }

    def __call__(self, waveform_T: Floats) -> Floats:
        """Codes of one utterance; one shorter than 25 ms is padded with zeros."""
        return np.asarray(self.batch([waveform_T])[0].cpu().numpy(), np.float32)

    def batch(self, waveforms: Sequence[Floats]) -> list[Tensor]:
        """Codes of each utterance, float32 (N, 1) on `device`; what is padded is masked."""
        with torch.inference_mode():
            mels = [self._log_mel(wave_T) for wave_T in waveforms]
            plans = [plan_windows(mel_MF.shape[1]) for mel_MF in mels]
            pieces = [
                mel_MF[:, span.first : span.last]
                for mel_MF, plan in zip(mels, plans, strict=True)
                for span in plan
            ]
            codes = iter(self._encode(pieces))
            return [
                torch.cat([self._kept(next(codes), span) for span in plan])[:, None]
                for plan in plans
            ]

    def windows(
        self, open_blocks: Callable[[], Iterator[Floats]], num_samples: int
    ) -> Iterator[Floats]:
        """Codes of a long recording, equal to those of a call with the whole of it.

        In two passes: the level of its loudest point, which sets a floor, then the windows.
        """
        loudest, total = self._scan(open_blocks())
        plan = plan_windows(max(1, total // _HOP))
        firsts = [max(0, span.first - _MARGIN) for span in plan]
        ends = [(span.last + _MARGIN) * _HOP if span.keep_to else total for span in plan]
        spans = zip([first * _HOP for first in firsts], ends, strict=True)
        for span, first, samples_T in zip(plan, firsts, cut(open_blocks(), spans), strict=True):
            with torch.inference_mode():
                mel_MF = self._log_mel(samples_T)[:, span.first - first :]
                mel_MF = mel_MF[:, : span.last - span.first].clamp(min=loudest - _RANGE)
                codes_N = self._kept(self._encode([mel_MF])[0], span)
            yield np.asarray(codes_N[:, None].cpu().numpy(), np.float32)

    def _scan(self, blocks: Iterator[Floats]) -> tuple[float, int]:
        """Level of the loudest point of a recording, and its number of samples."""
        loudest, total = -np.inf, 0
        spans = (
            (max(0, first - _MARGIN) * _HOP, (first + _STEP + _MARGIN) * _HOP)
            for first in itertools.count(0, _STEP)
        )
        for index, samples_T in enumerate(cut(blocks, spans)):
            margin = _MARGIN if index else 0
            total = (index * _STEP - margin) * _HOP + len(samples_T)
            mel_MF = self._log_mel(samples_T)[:, margin : margin + _STEP]
            if mel_MF.shape[1]:
                loudest = max(loudest, float(mel_MF.max()))
        return loudest, total

    def _log_mel(self, samples_T: Floats) -> Tensor:
        """The package's spectrogram on its own scale: (M, F), F = T // 160."""
        import s3tokenizer

        missing = max(0, _SHORTEST - len(samples_T))
        samples_T = np.pad(np.asarray(samples_T, np.float32), (0, missing))
        on_device_T = torch.from_numpy(samples_T).to(self.device)
        mel_MF: Tensor = s3tokenizer.log_mel_spectrogram(on_device_T, self._num_mels)
        return mel_MF

    def _encode(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Codes of each stretch of at most 30 s: (M, F) → float32 (N,)."""
        import s3tokenizer

        mel_BMF, lengths_B = s3tokenizer.padding(list(pieces))
        hidden, counts_B = self._model.encoder(mel_BMF, lengths_B.to(self.device))
        codes_BN = self._model.quantizer.encode(hidden).float()
        counts = counts_B.tolist()
        return [codes_N[:count] for codes_N, count in zip(codes_BN, counts, strict=True)]

    def _kept(self, codes_N: Tensor, span: _Span) -> Tensor:
        start, stop = span.keep_from - span.first, span.keep_to
        every = self._frames_per_code
        return codes_N[start // every : None if stop is None else (stop - span.first) // every]


def plan_windows(num_frames: int) -> list[_Span]:
    """Windows of 30 s every 26 s over frames of 10 ms; the middle of each overlap parts them."""
    spans = []
    for first in range(0, max(1, num_frames), _STEP):
        last = min(num_frames, first + _WINDOW)
        at_end = last == num_frames
        spans.append(
            _Span(
                first,
                last,
                first + (_WINDOW - _STEP) // 2 if first else 0,
                None if at_end else last - (_WINDOW - _STEP) // 2,
            )
        )
        if at_end:
            break
    return spans


# --------------------------------------------------------------------------------------- loading
def load_s3(name: str, options: ExtractorOptions) -> S3Extractor:
    """A tokenizer by the package's name for it or by the path of its weights.

    Raises UsageError without the package, for an unknown name and for options that do not apply,
    MissingArtefactError where weights cannot be had, CorruptArtefactError where they do not fit.
    """
    spec = f"--extractor s3:{name}"
    try:
        import s3tokenizer
    except ImportError:
        raise UsageError(
            f"{spec}: the package s3tokenizer is not installed; run: "
            "pip install 'cslm[s3tokenizer]'"
        ) from None
    if options.layer is not None:
        raise UsageError(f"--layer {options.layer}: S3 tokenizers have no layers; leave it out")
    if options.dtype != "float32":
        raise UsageError(f"--dtype {options.dtype}: S3 tokenizers run in float32; leave it out")
    known = s3tokenizer.available_models()
    path = Path(name).expanduser()
    if name in known:
        path = _fetch(name, spec)
    elif path.is_dir():
        path = _only_weights(path, spec)
    elif not path.is_file():
        raise UsageError(
            f"{spec}: neither a file of weights nor one of {', '.join(known)}; name one of them"
        )
    state, stride = _read_weights(path, spec)
    model = _build(state, stride, spec)
    weights = weights_hash(model, prefixes=("encoder.", "quantizer."))
    return S3Extractor(model, {"weights": weights}, choose_device(options.device))


def _fetch(name: str, spec: str) -> Path:
    """The file of one of the package's models, where the package keeps it; fetched if need be."""
    import s3tokenizer

    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(cache) / "s3tokenizer" / f"{name}.onnx"
    if path.is_file():
        return path
    log.warning("%s: fetching about 500 MB of weights into %s", spec, path.parent)
    incomplete = path.parent / "incomplete"
    try:
        s3tokenizer.load_model(name, str(incomplete))
        (incomplete / path.name).rename(path)
    except (OSError, RuntimeError) as error:
        raise MissingArtefactError(
            f"{spec}: its weights are not at {path} and cannot be fetched ({error}); connect to "
            "the internet once, bring the file there by hand, or name it: --extractor s3:PATH"
        ) from None
    return path


def _only_weights(folder: Path, spec: str) -> Path:
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and "tokenizer" in p.stem)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UsageError(
            f"{spec}: needs one file named *tokenizer* with the suffix {' or '.join(_SUFFIXES)} "
            f"there, found {names}; name the file itself"
        )
    return found[0]


def _read_weights(path: Path, spec: str) -> tuple[dict[str, Tensor], int]:
    """State dict of a tokenizer and the stride of its first convolution."""
    stride = 2 if "25hz" in path.stem else 1
    try:
        if path.suffix == ".onnx":
            return _read_onnx(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path), stride
        return torch.load(path, map_location="cpu", weights_only=True), stride
    except pickle.UnpicklingError:
        reason = "holds Python objects, which are never read"
    except Exception as error:  # every format and both readers have errors of their own
        reason = f"cannot be read as weights ({type(error).__name__}: {str(error)[:200]})"
    raise CorruptArtefactError(f"{spec}: {path} {reason}; fetch it again")


def _read_onnx(path: Path) -> tuple[dict[str, Tensor], int]:
    """The package knows the graphs that CosyVoice publishes; the stride is in the graph itself."""
    import onnx
    import s3tokenizer

    convert = s3tokenizer.onnx2torch_v3 if "v3" in path.stem else s3tokenizer.onnx2torch
    state: dict[str, Tensor] = convert(str(path))
    first = next(n for n in onnx.load(str(path)).graph.node if n.op_type == "Conv")
    strides = [list(a.ints) for a in first.attribute if a.name == "strides"]
    return state, strides[0][0] if strides else 1


def _build(state: dict[str, Tensor], stride: int, spec: str) -> Any:
    """The package's network with these weights, whose shapes tell its size."""
    from s3tokenizer import model, model_v2

    try:
        width, num_mels = state["encoder.conv1.weight"].shape[:2]
        sizes = {
            "n_mels": num_mels,
            "n_audio_state": width,
            "n_audio_head": width // _HEAD_DIM,
            "n_audio_layer": len({k.split(".")[2] for k in state if ".blocks." in k}),
        }
        if "quantizer._codebook.embed" in state:
            found = model.S3Tokenizer(
                "speech_tokenizer_v1_25hz" if stride == 2 else "speech_tokenizer_v1",
                model.ModelConfig(
                    **sizes,
                    n_audio_ctx=len(state["encoder.positional_embedding"]),
                    n_codebook_size=len(state["quantizer._codebook.embed"]),
                ),
            )
        else:
            # Version 3 is this network too, with more blocks.
            found = model_v2.S3TokenizerV2("speech_tokenizer_v2", model_v2.ModelConfig(**sizes))
        missing, unexpected = found.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError) as error:
        raise CorruptArtefactError(
            f"{spec}: not the weights of an S3 tokenizer ({error}); name another file"
        ) from None
    # Version 3's export leaves out biases of norms that are zero.
    missing = [name for name in missing if not name.endswith("_ln.bias")]
    if missing or unexpected:
        raise CorruptArtefactError(
            f"{spec}: the weights do not fit (missing: {', '.join(missing[:3]) or 'none'}, "
            f"unknown: {', '.join(unexpected[:3]) or 'none'}); fetch them again"
        )
    return found
