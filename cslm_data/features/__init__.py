"""Feature extractors: waveform (T,) at 16 kHz → features (N, D) at a frame rate.

A spec names one: `mfcc`, `hf:<directory or repository>`, `torchaudio:HUBERT_BASE`,
`s3:speech_tokenizer_v2_25hz`. Third parties add kinds through the entry-point group
`cslm.extractors`: each entry loads a callable like those of `EXTRACTORS`. Beyond a call with one
waveform, an extractor may offer batches and windows of its own: `BatchExtractor`,
`WindowedExtractor`.
"""

# N frames, D features, T samples

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import UsageError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

ENTRY_POINT_GROUP = "cslm.extractors"

LONG_S = 60.0
"""Recordings longer than this are encoded in windows, always; shorter ones never."""


class FeatureExtractor(Protocol):
    """Turns speech into frames. Deterministic: the same waveform gives the same features."""

    @property
    def identity(self) -> dict[str, object]:
        """JSON-like: all that determines the features, weights included; no paths."""

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""

    @property
    def dim(self) -> int:
        """Size D of a frame."""

    def __call__(self, waveform_T: Floats) -> Floats:
        """Features of one utterance at 16 kHz: float32 (T,) → float32 (N, D), N ≥ 1."""


@runtime_checkable
class BatchExtractor(FeatureExtractor, Protocol):
    """One that gains from several utterances at once, as networks do on a GPU."""

    device: str
    """Where it runs, e.g. `cpu`, `cuda:0`."""

    def batch(self, waveforms: Sequence[Floats]) -> list[torch.Tensor]:
        """Features of each utterance: float32 (N, D) tensors on `device`.

        What is padded is masked: neither length nor company changes an utterance's features,
        beyond the rounding of the arithmetic.
        """


@runtime_checkable
class WindowedExtractor(FeatureExtractor, Protocol):
    """One that knows better than plain overlap how to encode a long recording in little memory."""

    def windows(
        self, open_blocks: Callable[[], Iterator[Floats]], num_samples: int
    ) -> Iterator[Floats]:
        """Features of a recording of about that length, stretch after stretch: (n, D) each.

        `open_blocks` opens the recording from its start, as often as it is called.
        """


@runtime_checkable
class CodeExtractor(FeatureExtractor, Protocol):
    """One whose network gives units itself: features are (N, 1), the numbers of codes."""

    num_codes: int
    """Codes are 0 … num_codes - 1."""


@dataclass(frozen=True, kw_only=True)
class ExtractorOptions:
    """How to run an extractor."""

    layer: int | None = None
    """Layer whose output is taken; None: the last. Part of the identity."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes a GPU where there is one."""
    dtype: str = "float32"
    """`float32` or `bfloat16`, of the network's arithmetic."""


Factory = Callable[[str, ExtractorOptions], FeatureExtractor]


def _mfcc(name: str, options: ExtractorOptions) -> FeatureExtractor:
    from cslm_data.features.mfcc import MfccExtractor

    if name:
        raise UsageError(f"--extractor mfcc:{name}: mfcc takes no name; write: --extractor mfcc")
    if options.layer is not None:
        raise UsageError(f"--layer {options.layer}: mfcc has no layers; leave --layer out")
    return MfccExtractor()


def _hf(name: str, options: ExtractorOptions) -> FeatureExtractor:
    from cslm_data.features.hf_ssl import load_hf

    return load_hf(name, options)


def _torchaudio(name: str, options: ExtractorOptions) -> FeatureExtractor:
    from cslm_data.features.torchaudio_ssl import load_torchaudio

    return load_torchaudio(name, options)


def _s3(name: str, options: ExtractorOptions) -> FeatureExtractor:
    from cslm_data.features.s3 import load_s3

    return load_s3(name, options)


EXTRACTORS: dict[str, Factory] = {
    "mfcc": _mfcc,
    "hf": _hf,
    "torchaudio": _torchaudio,
    "s3": _s3,
}
"""The kinds that come with the project: what stands before the colon of a spec."""


def load_extractor(
    spec: str, *, layer: int | None = None, device: str = "auto", dtype: str = "float32"
) -> FeatureExtractor:
    """The extractor that a spec names, ready to run.

    Raises UsageError for an unknown kind, name, layer or dtype, MissingArtefactError where weights
    are neither here nor to be had.
    """
    kind, _, name = spec.partition(":")
    factory = EXTRACTORS.get(kind) or _third_party(kind)
    if factory is None:
        kinds = sorted({*EXTRACTORS, *_entry_points()})
        raise UsageError(
            f"--extractor {spec}: no extractor of kind {kind!r}; the kinds are {', '.join(kinds)}, "
            "e.g. mfcc, hf:facebook/hubert-base-ls960, torchaudio:HUBERT_BASE"
        )
    if dtype not in ("float32", "bfloat16"):
        raise UsageError(f"--dtype {dtype}: choose float32 or bfloat16")
    return factory(name, ExtractorOptions(layer=layer, device=device, dtype=dtype))


def is_network(spec: str) -> bool:
    """Whether a GPU helps, and arithmetic and batches make a difference: all but `mfcc`."""
    return spec != "mfcc"


def normalise_spec(spec: str) -> str:
    """The spec as it is kept in a tokenizer: what lies on this machine under its absolute path."""
    kind, _, name = spec.partition(":")
    path = Path(name).expanduser()
    if (kind == "hf" and path.is_dir()) or (kind == "s3" and name and path.exists()):
        return f"{kind}:{path.resolve()}"
    return spec


def readable_name(spec: str, layer: int | None) -> str:
    """Short name of an extractor, `[a-z0-9-]`, e.g. `mfcc`, `hubert-base-l6`."""
    kind, _, name = spec.partition(":")
    last = (name or kind).rstrip("/").rsplit("/", 1)[-1].lower()
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in last).strip("-") or kind
    return plain if layer is None else f"{plain}-l{layer}"


def choose_device(device: str) -> str:
    """`auto` resolved: `cuda` where torch finds one, else `cpu`."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}


def _third_party(kind: str) -> Factory | None:
    entry = _entry_points().get(kind)
    if entry is None:
        return None
    factory: Factory = entry.load()
    return factory
