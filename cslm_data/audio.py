"""Recordings → headers, fingerprints and waveforms. Reads audio files, writes nothing.

soundfile decodes (wav, flac, ogg vorbis, opus, mp3), soxr resamples; paths and fsspec URIs alike,
and a range of either: `x.pack#bytes=START-LENGTH`.
"""

# T samples, C channels

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio_store import Window, find_pack, split_range
from cslm_data.errors import AudioError

SAMPLE_RATE_HZ = 16_000
"""The rate that every feature extractor of the project expects."""

_FINGERPRINT_BYTES = 64 * 1024
_BLOCK_FRAMES = 1 << 20
_WIDE, _WIDE_VALUES = 16, 1 << 22
"""With more channels than this, samples of them all in a block."""
_OVERRUN_S = 0.1
"""How far a manifest's rounded duration may reach beyond the end of its recording."""

_UNKNOWN_SIZE = 0x7FFFF000
"""A wav written to a pipe says 0, or a size from here up: unknown."""

_LONG_FRAMES = 1 << 31
_NO_LENGTH = (1 << 63) - 1
"""What libsndfile says of a flac that was written to a pipe."""
_DENSEST = 8192
"""Samples in a byte: more than any format can say, also flac's constant frames (65 535 in 8)."""


@dataclass(frozen=True, kw_only=True)
class AudioHeader:
    """What a recording says of itself."""

    duration_s: float
    sample_rate_hz: int
    num_channels: int
    num_frames: int


class Listener(Protocol):
    """Hears what is decoded, at the recording's own rate and with all its channels."""

    def begin(self, sample_rate_hz: int, num_channels: int) -> None:
        """A stretch begins."""

    def hear(self, block_TC: NDArray[np.float32]) -> None:
        """Its next samples, not to be changed: float32 (T, C)."""

    def end(self) -> None:
        """It was decoded whole; without this it was not."""


def probe(uri: str) -> AudioHeader:
    """Header of a recording; the sound itself is not decoded.

    Raises AudioError: `missing`, `empty`, `unreadable`, `truncated` (a wav cut short).
    """
    with _open_sound(uri) as sound:
        return AudioHeader(
            duration_s=sound.frames / sound.samplerate,
            sample_rate_hz=int(sound.samplerate),
            num_channels=int(sound.channels),
            num_frames=int(sound.frames),
        )


def audio_version(uri: str) -> str:
    """Fingerprint of a recording's content: BLAKE2b-64 of its size, first and last 64 KiB."""
    with _open_bytes(uri) as stream:
        size = stream.seek(0, io.SEEK_END)
        digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=8)
        for start in (0, max(0, size - _FINGERPRINT_BYTES)):
            stream.seek(start)
            digest.update(stream.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()


def decode(
    uri: str,
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    listener: Listener | None = None,
) -> NDArray[np.float32]:
    """A stretch of a recording, mean over channels, resampled: float32 (T,).

    Reads that stretch alone, so a minute out of an hour costs a minute; memory follows what was
    decoded, not what the header promises. Raises AudioError: `missing`, `empty`, `unreadable`,
    `truncated` (fewer samples than the header promises), `out_of_range` (the stretch lies beyond
    the end), `not_finite`.
    """
    with _open_sound(uri) as sound:
        rate_hz = int(sound.samplerate)
        start, wanted = _find_stretch(sound, uri, offset_s, duration_s)
        blocks = list(_mono_blocks(sound, uri, start, wanted, listener))
    mono_T = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return resample(mono_T, rate_hz, sample_rate_hz)


def decode_blocks(
    uri: str,
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    listener: Listener | None = None,
) -> Iterator[NDArray[np.float32]]:
    """What `decode` gives, the same samples, a block of at most a few MB at a time: float32 (t,).

    For recordings of hours. Raises AudioError as `decode` does, but `truncated` and `not_finite`
    only when the iteration comes to the place.
    """
    with _open_sound(uri) as sound:
        rate_hz = int(sound.samplerate)
        start, wanted = _find_stretch(sound, uri, offset_s, duration_s)
        blocks = _mono_blocks(sound, uri, start, wanted, listener)
        if rate_hz == sample_rate_hz:
            yield from blocks
            return
        import soxr

        stream = soxr.ResampleStream(rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
        done = 0
        for block_T in blocks:
            done += len(block_T)
            resampled_T = stream.resample_chunk(block_T, last=done == wanted)
            if len(resampled_T):
                yield resampled_T


def listen_to(
    uri: str, listener: Listener, *, offset_s: float = 0.0, duration_s: float | None = None
) -> None:
    """Decode a stretch for a listener alone. Raises AudioError as `decode` does."""
    with _open_sound(uri) as sound:
        start, wanted = _find_stretch(sound, uri, offset_s, duration_s)
        for _ in _mono_blocks(sound, uri, start, wanted, listener):
            pass


def resample(mono_T: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Band-limited resampling with soxr at quality HQ: float32 (T,) → float32 (T · to / from,)."""
    if from_hz == to_hz:
        return mono_T
    import soxr

    return np.asarray(soxr.resample(mono_T, from_hz, to_hz, quality="HQ"), np.float32)


def resampler_identity() -> str:
    """Name of the resampler as it enters a tokenizer's identity, e.g. `soxr-hq-1`."""
    import soxr

    return f"soxr-hq-{soxr.__version__.split('.')[0]}"


def _find_stretch(
    sound: Any, uri: str, offset_s: float, duration_s: float | None
) -> tuple[int, int]:
    """First frame and number of frames of a stretch, at the recording's own rate."""
    rate_hz, total = int(sound.samplerate), int(sound.frames)
    start = round(offset_s * rate_hz)
    wanted = total - start if duration_s is None else round(duration_s * rate_hz)
    if start < 0 or start >= total or start + wanted > total + _OVERRUN_S * rate_hz:
        length = "" if duration_s is None else f" for {duration_s:.3f} s"
        raise AudioError(
            "out_of_range",
            f"{uri}: asked for {offset_s:.3f} s{length}, but the recording lasts "
            f"{total / rate_hz:.3f} s; correct offset and duration in the manifest",
        )
    wanted = min(wanted, total - start)
    if wanted <= 0:
        raise AudioError("empty", f"{uri}: a stretch of no samples; correct its duration")
    return start, wanted


def _mono_blocks(
    sound: Any, uri: str, start: int, wanted: int, listener: Listener | None = None
) -> Iterator[NDArray[np.float32]]:
    """`wanted` frames from `start`, block by block so that many channels cost no more memory.

    Always the same blocks: libsndfile's last samples of an opus file depend on how it was read.
    """
    import soundfile

    done, problem = 0, ""
    block = _BLOCK_FRAMES if sound.channels <= _WIDE else _WIDE_VALUES // sound.channels
    if listener is not None:
        listener.begin(int(sound.samplerate), int(sound.channels))
    try:
        if start:
            sound.seek(start)
        while done < wanted:
            block_TC = sound.read(min(block, wanted - done), "float32", always_2d=True)
            if not len(block_TC):
                break
            done += len(block_TC)
            # The mean of one channel, to the last bit (0 + x, so -0 is 0), in a tenth of the time.
            one = sound.channels == 1
            mono_T = np.float32(0) + block_TC[:, 0] if one else block_TC.mean(axis=1)
            if not np.isfinite(mono_T).all():
                raise AudioError(
                    "not_finite", f"{uri}: holds NaN or infinite samples; encode it again"
                )
            if listener is not None:
                listener.hear(block_TC)
            yield mono_T
    except soundfile.SoundFileError as error:
        problem = f" ({_first_line(error)})"
    if done < wanted:
        raise AudioError(
            "truncated",
            f"{uri}: the sound ends before sample {start + wanted} of the {sound.frames} in its "
            f"header{problem}; fetch the file again",
        )
    if listener is not None:
        listener.end()


@contextlib.contextmanager
def _open_sound(uri: str) -> Iterator[Any]:
    """The recording as an open `soundfile.SoundFile`."""
    import soundfile

    path = _local_path(uri)
    with contextlib.ExitStack() as stack:
        # Remote files, ranges of files, and those whose name would be taken for headerless audio
        # are handed over open, so that the content alone decides the format.
        if path is None or path.suffix.lower() == ".raw" or split_range(uri)[1] is not None:
            source: Any = stack.enter_context(_open_bytes(uri))
        else:
            _check_local(uri, path)
            source = str(path)
        try:
            sound = stack.enter_context(soundfile.SoundFile(source))
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise AudioError(
                "unreadable",
                f"{uri}: not a wav, flac, ogg, opus or mp3 file that can be read "
                f"({_first_line(error)}); convert it, or fetch it again",
            ) from None
        if sound.frames <= 0:
            raise AudioError("empty", f"{uri}: holds no samples; remove it from the manifest")
        if sound.frames >= _LONG_FRAMES:
            _check_length(uri, int(sound.frames))
        if sound.format in ("WAV", "WAVEX", "RF64"):
            _check_wav_is_whole(uri)
        yield sound


def _check_length(uri: str, num_frames: int) -> None:
    """Refuse what cannot be: a header is believed as far as the bytes behind it could reach."""
    if num_frames >= _NO_LENGTH:
        raise AudioError(
            "unreadable",
            f"{uri}: its header does not say how long it is; encode it to a file again",
        )
    with _open_bytes(uri) as stream:
        size = stream.seek(0, io.SEEK_END)
    if num_frames > _DENSEST * size:
        raise AudioError(
            "truncated",
            f"{uri}: {size} bytes cannot hold the {num_frames} samples that its header claims; "
            "fetch the file again",
        )


def _check_wav_is_whole(uri: str) -> None:
    """Compare a wav with its header: libsndfile reads one cut short as if it were shorter."""
    with _open_bytes(uri) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if stream.read(12)[:4] != b"RIFF":
            return
        while len(head := stream.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                unknown = length == 0 or length >= _UNKNOWN_SIZE
                if not unknown and stream.tell() + length > size:
                    raise AudioError(
                        "truncated",
                        f"{uri}: {size - stream.tell()} bytes of sound of the {length} in its "
                        "header; fetch the file again",
                    )
                return
            stream.seek(length + length % 2, io.SEEK_CUR)


def _local_path(uri: str) -> Path | None:
    """The local path of a path or `file://` URI, without its range; None for remote ones."""
    uri, _ = split_range(uri)
    for scheme in ("file://", "local://"):
        if uri.startswith(scheme):
            return find_pack(Path(uri.removeprefix(scheme)))
    return None if "://" in uri else find_pack(Path(uri))


def _check_local(uri: str, path: Path) -> None:
    # os.path says no where pathlib raises: names longer than a file can have.
    if not os.path.isfile(path):  # noqa: PTH113
        where = "not a file" if os.path.exists(path) else "no such file"  # noqa: PTH110
        raise AudioError("missing", f"{uri}: {where}; correct the path in the manifest")
    if path.stat().st_size == 0:
        raise AudioError("empty", f"{uri}: the file has no bytes; fetch it again")
    if not os.access(path, os.R_OK):
        raise AudioError("unreadable", f"{uri}: no permission to read it; see: ls -l")


def _check_address(uri: str) -> None:
    """Of `zip://a.wav::file:///b.zip` the last part decides what is read: it must be a file, too.

    A `reference://` file is a list of other addresses, which may lead anywhere.
    """
    links = uri.split("::")
    if any(link.split("://")[0] == "reference" for link in links):
        raise AudioError("unreadable", f"{uri}: reference:// leads elsewhere; name the file itself")
    last = _local_path(links[-1])
    if last is not None:
        _check_local(uri, last)


@contextlib.contextmanager
def _open_bytes(uri: str) -> Iterator[BinaryIO]:
    """The recording's bytes as a seekable stream; what goes wrong in opening is an AudioError."""
    whole, window = split_range(uri)
    if window is not None:
        with _open_bytes(whole) as stream:
            yield _open_window(stream, uri, *window)
        return
    path = _local_path(uri)
    if path is not None:
        _check_local(uri, path)
        with path.open("rb") as local:
            yield local
        return
    import fsspec

    _check_address(uri)
    try:
        stream = fsspec.open(uri, "rb").open()
    except FileNotFoundError:
        raise AudioError("missing", f"{uri}: no such object; correct the manifest") from None
    except ImportError as error:
        raise AudioError("unreadable", f"{uri}: {error}; install it with pip") from None
    except Exception as error:  # the filesystems of fsspec raise whatever their libraries do
        raise AudioError(
            "unreadable", f"{uri}: {_first_line(error)}; check the address and your access to it"
        ) from None
    with stream:
        if stream.seek(0, io.SEEK_END) == 0:
            raise AudioError("empty", f"{uri}: the object has no bytes; fetch it again")
        stream.seek(0)
        yield cast(BinaryIO, stream)


def _open_window(stream: BinaryIO, uri: str, start: int, length: int) -> BinaryIO:
    size = stream.seek(0, io.SEEK_END)
    if length == 0:
        raise AudioError("empty", f"{uri}: a recording of no bytes; correct where it came from")
    if start + length > size:
        raise AudioError("truncated", f"{uri}: the file has {size} bytes; ingest its source again")
    return cast(BinaryIO, io.BufferedReader(Window(stream, start, length)))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
