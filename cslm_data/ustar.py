"""The bytes of a tar and of an npy array, written fast and always the same.

Plain USTAR: mtime 0, no owner, mode 0644, so that the bytes depend on names and contents alone and
every reader of tars understands them without extension headers.
"""

from __future__ import annotations

import functools
import hashlib
from typing import BinaryIO

NPY_HEADER_BYTES = 128
HEADER_BYTES = 512
"""Of a member of a tar, right before its data."""
NAME_BYTES = 100
"""Of the header, in front: the name, filled up with zeros."""

_BLOCK = 512
_MODE_UID_GID = b"0000644\0" + b"0000000\0" * 2
_MTIME = b"00000000000\0"
_TYPE_TO_PREFIX = b"0" + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2
_TAIL = _TYPE_TO_PREFIX.ljust(_BLOCK - 156, b"\0")
_FIXED_SUM = sum(_MODE_UID_GID) + sum(_MTIME) + 8 * ord(" ") + sum(_TAIL)
_BUFFER_BYTES = 1 << 20


class UstarWriter:
    """Appends members to a stream; knows its size and SHA-256 so far."""

    def __init__(self, stream: BinaryIO) -> None:
        self.num_bytes = 0
        self._stream = stream
        self._digest = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, hexadecimal."""
        return self._digest.hexdigest()

    def add(self, name: str, data: bytes) -> int:
        """Append a member; the offset of its data in the tar. `name` is ASCII, 100 at most."""
        self._put(_header(name.encode("ascii"), len(data)))
        offset = self.num_bytes
        self._put(data + bytes(-len(data) % _BLOCK))
        return offset

    def finish(self) -> None:
        """Write the end of the archive."""
        self._put(bytes(2 * _BLOCK))
        self._flush()

    def _put(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        self.num_bytes += len(data)
        if self._buffered >= _BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._digest.update(data)
        self._stream.write(data)
        self._buffer.clear()
        self._buffered = 0


def member_bytes(num_bytes: int) -> int:
    """What a member of so many bytes takes in a tar: its header, its data in whole blocks."""
    return HEADER_BYTES + num_bytes + -num_bytes % _BLOCK


@functools.lru_cache(65536)
def npy_header(num_units: int) -> bytes:
    """The 128 bytes in front of a uint16 array of `num_units`, as `numpy.save` writes them."""
    text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({num_units},), }}"
    length = NPY_HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + f"{text:<{length - 1}}\n".encode()


def _header(name: bytes, num_bytes: int) -> bytes:
    if len(name) > NAME_BYTES:
        raise ValueError(f"tar member name of {len(name)} bytes, over {NAME_BYTES}: {name!r}")
    size = b"%011o\0" % num_bytes
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(name) + sum(size))
    return b"".join((name.ljust(NAME_BYTES, b"\0"), _MODE_UID_GID, size, _MTIME, checksum, _TAIL))
