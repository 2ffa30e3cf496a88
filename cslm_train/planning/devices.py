"""Name of a GPU, or its numbers → its memory and what it computes in a second."""

from __future__ import annotations

from dataclasses import dataclass

from cslm_data.errors import UsageError
from cslm_train.training.flops import PEAK_TFLOPS, peak_flops

_GIB = 1024**3

_MEMORY_GIB = {
    "a10": 22,
    "a10g": 22,
    "a30": 24,
    "a40": 45,
    "a100": 79,
    "a100-40gb": 39,
    "a800": 79,
    "rtx-3090": 24,
    "rtx-4090": 24,
    "rtx-a6000": 48,
    "l4": 22,
    "l40": 45,
    "l40s": 45,
    "h20": 95,
    "h100": 79,
    "h100-nvl": 93,
    "h100-pcie": 79,
    "h800": 79,
    "h200": 140,
    "b200": 179,
    "mi250x": 64,
    "mi300x": 191,
}
"""Memory that a program sees, in GiB: what the driver shows, rounded down."""


@dataclass(frozen=True, kw_only=True)
class GPU:
    """One device."""

    name: str
    memory_bytes: int
    peak_flops: float
    """FLOP/s at most, dense, in the precision of the run."""


def named_gpus() -> list[str]:
    """Names that `find_gpu` knows."""
    return sorted(_MEMORY_GIB)


def find_gpu(
    name: str, precision: str, *, memory_gb: float | None, peak_tflops: float | None
) -> GPU:
    """A device by name, or by its memory (GiB) and peak (TFLOP/s), which win over the name's.

    Raises UsageError that lists the names for one that is not known.
    """
    key = name.lower().replace(" ", "-").replace("_", "-")
    if memory_gb is None and key not in _MEMORY_GIB:
        raise UsageError(
            f"--gpu {name}: not known; there are {', '.join(named_gpus())}; or give "
            "--memory-gb and --peak-tflops"
        )
    memory = memory_gb if memory_gb is not None else _MEMORY_GIB[key]
    peak = peak_flops(key, precision) if peak_tflops is None else peak_tflops * 1e12
    if peak is None:
        raise UsageError(
            f"--gpu {name}: its peak in {precision} is not known; give --peak-tflops, or one of "
            f"{', '.join(sorted(PEAK_TFLOPS))}"
        )
    named = key if key in _MEMORY_GIB or peak_tflops is None else "given"
    return GPU(name=named, memory_bytes=round(memory * _GIB), peak_flops=peak)
