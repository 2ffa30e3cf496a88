"""Numbers → PNG pictures, for pages and drawings that hold all they show. Pure."""

# Y rows, X columns, C colours, V red, green and blue

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def encode_png(pixels_YX: Bytes, palette_CV: Bytes) -> bytes:
    """A picture of palette entries as a PNG file: uint8 (Y, X), uint8 (256, 3) → bytes.

    Source: W3C, Portable Network Graphics, third edition: signature, IHDR, PLTE, IDAT, IEND.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    height, width = pixels_YX.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.pad(pixels_YX, ((0, 0), (1, 0))).tobytes()  # each begins with filter type 0
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", palette_CV.tobytes())
        + chunk(b"IDAT", zlib.compress(rows, 6))
        + chunk(b"IEND", b"")
    )


def make_palette(stops: Sequence[tuple[int, int, int]]) -> Bytes:
    """256 colours from the first to the last of some, equally far apart: → uint8 (256, 3)."""
    at = np.linspace(0, 255, len(stops))
    levels = np.arange(256)
    channels = [np.interp(levels, at, values) for values in zip(*stops, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
