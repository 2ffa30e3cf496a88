"""How many units a fast way of computing shares with the reference. Reads audio, writes nothing.

The reference is float32, one utterance at a time. Batches, bfloat16 and rounding move features that
lie between two centroids to the other side; what share of the frames that is, a run says of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cslm_data.errors import AudioError
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.units.extraction import encode_stretches
from cslm_data.units.stretches import Stretch


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Frames of a sample whose unit is the same both ways."""

    num_utterances: int
    num_frames: int
    num_equal: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where nothing was compared."""
        return self.num_equal / self.num_frames if self.num_frames else 1.0


@dataclass(frozen=True)
class Probe:
    """A sample to measure it on: work for the same workers as the parts of a plan."""

    stretches: tuple[Stretch, ...]

    def __str__(self) -> str:
        return "the comparison with the reference"


def measure_agreement(
    tokenizer: SpeechTokenizer, probe: Probe, *, batch_s: float | None = None
) -> Agreement:
    """Encode the probe both ways; what cannot be read counts for neither."""
    num_utterances = num_frames = num_equal = 0
    reference = replace(tokenizer, dtype="float32")
    fast = encode_stretches(tokenizer, probe.stretches, batch_s=batch_s)
    slow = encode_stretches(reference, probe.stretches, batch_s=0.0)
    for ours, true in zip(fast, slow, strict=True):
        if isinstance(ours, AudioError) or isinstance(true, AudioError):
            continue
        equal_N = expand(ours.units, ours.durations) == expand(true.units, true.durations)
        num_utterances += 1
        num_frames += len(equal_N)
        num_equal += int(equal_N.sum())
    return Agreement(num_utterances=num_utterances, num_frames=num_frames, num_equal=num_equal)
