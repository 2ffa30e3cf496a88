"""The bytes of a shard → its members, header by header, with no help of the index.

Strict on purpose: a shard is a plain USTAR file of regular members with time 0, no owner and zeros
in every gap, so whatever else a header says is damage, or was not written by us.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

_BLOCK = 512
_ZEROS = bytes(_BLOCK)


class Member(NamedTuple):
    """A member of a tar: its name and where its data lies."""

    name: str
    offset: int
    num_bytes: int


class BrokenTarError(Exception):
    """Something in a tar that no writer of ours writes; nothing after it can be trusted."""


def walk(data: mmap.mmap | bytes) -> Iterator[Member]:
    """The members of a tar in order. Raises BrokenTarError."""
    place = 0
    while (header := data[place : place + _BLOCK]) != _ZEROS:
        if len(header) < _BLOCK:
            raise BrokenTarError(f"it ends at byte {len(data)} without the end of an archive")
        name, num_bytes = _read_header(header, place)
        start = place + _BLOCK
        end = start + num_bytes
        place = end + -num_bytes % _BLOCK
        if place > len(data):
            raise BrokenTarError(f"{name} would end at byte {end}, the file at {len(data)}")
        if data[end:place].strip(b"\0"):
            raise BrokenTarError(f"the gap after {name}, byte {end}, is not all zeros")
        yield Member(name, start, num_bytes)
    if data[place:] != _ZEROS * 2:
        raise BrokenTarError(f"from byte {place} on it is not two blocks of zeros and the end")


def _read_header(header: bytes, place: int) -> tuple[str, int]:
    """Name and size. Every other field has one right value."""
    at = f"header at byte {place}"
    try:
        name = header[:100].rstrip(b"\0").decode("ascii")
        num_bytes, said = int(header[124:135], 8), int(header[148:154], 8)
    except ValueError:
        raise BrokenTarError(f"{at}: no name, size and checksum as USTAR has them") from None
    if sum(header) - sum(header[148:156]) + 8 * ord(" ") != said:
        raise BrokenTarError(f"{at}: its checksum is wrong")
    for what, found, right in (
        ("type (a link, a folder or an extension)", header[156:157], b"0"),
        ("time", header[136:148], b"00000000000\0"),
        ("mode and owner", header[100:124], b"0000644\0" + b"0000000\0" * 2),
        ("link", header[157:257], bytes(100)),
        ("magic", header[257:265], b"ustar\00000"),
        ("owner's name", header[265:329], bytes(64)),
        ("device and prefix", header[329:512], (b"0000000\0" * 2).ljust(183, b"\0")),
    ):
        if found != right:
            raise BrokenTarError(f"{at} ({name}): its {what} is not what a shard has")
    return name, num_bytes
