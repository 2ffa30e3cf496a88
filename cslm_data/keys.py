"""Keyed hashes: every order and every random choice comes from here, never from arrival or time.

xxHash64 and SplitMix64 are fixed by their specifications, so the same key and seed give the same
order on every platform and in every version of every library.
"""

# N keys

from __future__ import annotations

import hashlib
import json

import numpy as np
import xxhash
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

_MASK = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15


def key64(*parts: str) -> int:
    """64-bit key of some strings (xxHash64 of their length-prefixed UTF-8)."""
    digest = xxhash.xxh64()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.intdigest()


def md5_key(text: str) -> int:
    """64-bit key of one string that SQL computes too: DuckDB's `md5_number_lower`.

    The last eight bytes of the MD5 of its UTF-8, little-endian.
    """
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.md5(data, usedforsecurity=False).digest()[8:], "little")


def finalise64(keys_N: U64) -> U64:
    """Pseudo-random uint64 of each key, one to one: uint64 (N,) → uint64 (N,).

    Source: SplitMix64 finaliser, Steele et al., OOPSLA 2014.
    """
    z = (keys_N ^ (keys_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def finalise_key(key: int) -> int:
    """`finalise64` of one key; in plain integers, since an array of one takes 20 times as long."""
    z = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def mix64_added(seed: int) -> int:
    """What `mix64` adds to a key under a seed."""
    return (key64("seed", str(seed)) + _GOLDEN) & _MASK


def mix64(keys_N: U64, seed: int) -> U64:
    """Pseudo-random uint64 of each key under a seed: uint64 (N,) → uint64 (N,). As SplitMix64."""
    return finalise64(keys_N + np.uint64(mix64_added(seed)))


def keyed_rng(seed: int, *parts: str) -> np.random.Generator:
    """A generator whose stream depends on the seed and the key alone."""
    return np.random.Generator(np.random.Philox(key=key64(str(seed), *parts)))


def keyed_choice(seed: int, num_choices: int, *parts: str) -> int:
    """A choice in `range(num_choices)` that depends on the seed and the key alone."""
    return key64(str(seed), *parts) % num_choices


def content_id(value: object, *, length: int = 16) -> str:
    """Hexadecimal identity of a JSON-like value (BLAKE2b of its canonical JSON)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:length]


def file_sha256(path: str) -> str:
    """SHA-256 of a local file, hexadecimal."""
    with open(path, "rb") as stream:  # noqa: PTH123 - file_digest wants a raw file
        return hashlib.file_digest(stream, "sha256").hexdigest()
