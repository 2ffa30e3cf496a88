"""Stretches of recordings → features, or units: read ahead, in batches on a GPU, long in windows.

Features are handed to a function block by block as they come and are not kept, so that neither a
long recording nor a large model fills the memory. On a CPU every utterance is computed by itself;
on a GPU neighbours of like length share a batch, filled up to a number of seconds.
"""

# N frames, D features, T samples

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.errors import AudioError, CslmError
from cslm_data.features import LONG_S, BatchExtractor, FeatureExtractor
from cslm_data.features.windows import stream_features
from cslm_data.records import Units
from cslm_data.speech_tokenizer import Encoded, SpeechTokenizer, dedup
from cslm_data.units.stretches import Stretch

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Block = Union[Floats, "torch.Tensor"]
"""Features (N, D) of some neighbouring frames; a tensor where they were computed on a device."""
Result = TypeVar("Result")

DEFAULT_BATCH_S = 240.0
"""Seconds of audio in a batch on a GPU, padding included."""

_SORTED_BATCHES = 8
"""Recordings of so many batches are read before they are sorted by length."""
_READERS = 4
_AHEAD = 8
"""Recordings read beyond the one at work."""


def map_features(
    extractor: FeatureExtractor,
    stretches: Sequence[Stretch],
    consume: Callable[[Stretch, int, Block], Result],
    *,
    batch_s: float | None = None,
) -> Iterator[list[Result] | AudioError]:
    """Call `consume(stretch, first frame, features)` for each block of each stretch.

    `batch_s`: seconds of audio in a batch, 0 for none, None to let the device decide. Yields, in
    the order of the stretches, what it returned for the blocks of one, or why there are none: what
    audio.decode raises, `empty`, or `not_finite` where features overflow.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as readers:
        read = _read_ahead(stretches, readers)
        filled_s = batch_seconds(extractor, batch_s)
        if filled_s and isinstance(extractor, BatchExtractor):
            yield from _in_batches(extractor, read, consume, filled_s)
        else:
            for stretch, waveform_T in read:
                yield _alone(extractor, stretch, waveform_T, consume)


def encode_stretches(
    tokenizer: SpeechTokenizer, stretches: Sequence[Stretch], *, batch_s: float | None = None
) -> Iterator[Encoded | AudioError]:
    """Units of each stretch, or why there are none, in their order; see map_features."""

    def consume(_stretch: Stretch, _first_frame: int, features_ND: Block) -> Units:
        return tokenizer.units_of(features_ND)

    for found in map_features(tokenizer.features, stretches, consume, batch_s=batch_s):
        if isinstance(found, AudioError):
            yield found
        else:
            units_N = np.concatenate(found)
            yield Encoded(*dedup(units_N), len(units_N))


def batch_seconds(extractor: FeatureExtractor, asked_s: float | None) -> float:
    """Seconds of a batch: as asked, else a default on a GPU and 0 on CPUs, where batches lose.

    0 too for what cannot compute in batches.
    """
    if not isinstance(extractor, BatchExtractor):
        return 0.0
    if asked_s is not None:
        return asked_s
    return 0.0 if extractor.device.startswith("cpu") else DEFAULT_BATCH_S


_Read = tuple[Stretch, Floats | AudioError | None]
"""A stretch with its sound: None for a long one, which is read while it is computed."""


def _read_ahead(stretches: Iterable[Stretch], readers: ThreadPoolExecutor) -> Iterator[_Read]:
    waiting: collections.deque[tuple[Stretch, Future[Floats | AudioError | None]]]
    waiting = collections.deque()
    for stretch in stretches:
        waiting.append((stretch, readers.submit(_read, stretch)))
        if len(waiting) > _AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _read(stretch: Stretch) -> Floats | AudioError | None:
    if stretch.num_samples > LONG_S * SAMPLE_RATE_HZ:
        return None
    try:
        waveform_T = stretch.waveform()
    except AudioError as error:
        return error
    if not len(waveform_T):
        return AudioError("empty", "no samples are left at 16 kHz; correct its duration")
    return waveform_T


def _alone(
    extractor: FeatureExtractor,
    stretch: Stretch,
    waveform_T: Floats | AudioError | None,
    consume: Callable[[Stretch, int, Block], Result],
) -> list[Result] | AudioError:
    """One stretch: in one piece, or window after window."""
    if isinstance(waveform_T, AudioError):
        return waveform_T
    results: list[Result] = []
    first_frame = 0
    try:
        for block_ND in _blocks(extractor, stretch, waveform_T):
            if not np.isfinite(block_ND).all():
                return _not_finite()
            results.append(consume(stretch, first_frame, block_ND))
            first_frame += len(block_ND)
    except AudioError as error:
        return error
    return results


def _blocks(
    extractor: FeatureExtractor, stretch: Stretch, waveform_T: Floats | None
) -> Iterator[Floats]:
    if waveform_T is None:
        yield from stream_features(extractor, stretch.blocks, stretch.num_samples)
    else:
        yield extractor(waveform_T)


def _in_batches(
    extractor: BatchExtractor,
    read: Iterator[_Read],
    consume: Callable[[Stretch, int, Block], Result],
    batch_s: float,
) -> Iterator[list[Result] | AudioError]:
    for group in _groups(read, _SORTED_BATCHES * batch_s):
        results: dict[int, list[Result] | AudioError] = {}
        waves: dict[int, Floats] = {}
        for place, (stretch, waveform_T) in enumerate(group):
            if isinstance(waveform_T, np.ndarray):
                waves[place] = waveform_T
            else:
                results[place] = _alone(extractor, stretch, waveform_T, consume)
        for places in _batches(waves, batch_s):
            features = _compute(extractor, [waves[place] for place in places])
            for place, features_ND in zip(places, features, strict=True):
                finite = bool(features_ND.isfinite().all())
                results[place] = (
                    [consume(group[place][0], 0, features_ND)] if finite else _not_finite()
                )
        yield from (results[place] for place in range(len(group)))


def _groups(read: Iterator[_Read], seconds: float) -> Iterator[list[_Read]]:
    """Neighbours of so many seconds; what is sorted by length must be in memory."""
    group: list[_Read] = []
    filled_s = 0.0
    for item in read:
        group.append(item)
        filled_s += min(item[0].duration_s, LONG_S)
        if filled_s >= seconds:
            yield group
            group, filled_s = [], 0.0
    if group:
        yield group


def _batches(waves: dict[int, Floats], batch_s: float) -> Iterator[list[int]]:
    """Places by length, longest first, as many at a time as fill `batch_s` when padded."""
    order = sorted(waves, key=lambda place: (-len(waves[place]), place))
    while order:
        longest_s = len(waves[order[0]]) / SAMPLE_RATE_HZ
        size = max(1, int(batch_s / max(longest_s, 1e-3)))
        yield order[:size]
        order = order[size:]


def _compute(extractor: BatchExtractor, waveforms: list[Floats]) -> list[Any]:
    """Features of a batch; where it does not fit on the device, of its halves."""
    import torch

    try:
        return list(extractor.batch(waveforms))
    except torch.OutOfMemoryError:
        if len(waveforms) == 1:
            raise CslmError(
                f"{extractor.device}: too little memory for one recording of "
                f"{len(waveforms[0]) / SAMPLE_RATE_HZ:.0f} s; use --dtype bfloat16, a GPU with "
                "more memory, or --device cpu"
            ) from None
    torch.cuda.empty_cache()
    half = len(waveforms) // 2
    halves = (waveforms[:half], waveforms[half:])
    return list(itertools.chain.from_iterable(_compute(extractor, part) for part in halves))


def _not_finite() -> AudioError:
    return AudioError("not_finite", "its features are not finite; check the recording")
