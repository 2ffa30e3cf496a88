"""Transcribed speech → the embedded acoustic model. Reads the catalog, writes aligners/<name>/.

Step 1  a bounded sample of the speech, as features and states of its text (training_speech.py)
Step 2  flat start: where silence is, loudness says; between, every letter is as long as the others
Step 3  epoch after epoch the network is taught where the letters are, and its own word on that
        counts more (full_sum.py); each epoch ends with a checkpoint from which a killed run goes on
Step 4  save, and remove the checkpoint

The same speech, seed, number of threads, kind of processor and version of torch give the same
bytes, also after a kill. Another number of threads or processor sums in another order: about as
good, but not the same.
"""

# B utterances, N frames, M pairs of them, D features, V symbols

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cslm_data.aligning.checkpoints import Progress, load_checkpoint, save_checkpoint
from cslm_data.aligning.ctc_model import (
    NUM_BINS,
    PRIOR_WEIGHT,
    SYMBOLS,
    CtcModel,
    Network,
    Shape,
)
from cslm_data.aligning.full_sum import SILENCE, occupancies
from cslm_data.aligning.training_speech import Lesson, TrainingSpeech, read_training_speech
from cslm_data.engines.threads import limit_threads
from cslm_data.errors import UsageError
from cslm_data.keys import content_id, key64, keyed_rng
from cslm_data.progress import progress
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_MAX_HOURS = 10.0
_CHECKPOINTS = ".training"
_EPOCHS, _MOST_EPOCHS, _LEAST_STEPS = 8, 60, 1500
"""Where the speech is so little that 8 epochs are less than 1500 steps, there are more of them."""
_BATCH_PAIRS = 1500
"""Half a minute, padding included."""
_RATE, _LAST_RATE, _WARM_STEPS = 3e-3, 0.03, 50
_DECAY, _LONGEST_GRADIENT = 0.01, 5.0
_TRUST = (0.0, 0.3, 0.5, 0.7, 1.0, 1.0, 1.0, 1.0)
"""Power of what the network says of the letters, over the course of the training: by eighths."""
_LOUDNESS = (4.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.5, 0.5)
"""Log-odds of silence where it is quiet, and against it where it is not."""
_MASKS, _WIDEST_MASK = 2, 5
"""Bands of mel bins that are hidden, so that the network relies on no one of them."""
_PRIOR_MEMORY = 0.98
_PRIOR_START = 1000.0
_LEAST_PRIOR = 1e-6


def train_ctc(
    workspace: Workspace,
    *,
    name: str = "ctc",
    languages: Sequence[str] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    num_threads: int = 1,
    max_hours: float = DEFAULT_MAX_HOURS,
) -> CtcModel:
    """Train on the catalog's transcribed speech and save as `aligners/<name>`, replacing that.

    `epochs`: passes over the speech; None: 8, more where there is little of it. At most `max_hours`
    are trained on, languages evened out. Raises NoDataError, UsageError, LockedError.
    """
    _check(name, epochs, num_threads, max_hours)
    start = time.monotonic()
    with workspace.lock(f"aligner-{name}", "training an aligner"):
        speech = read_training_speech(
            workspace, languages=languages, max_hours=max_hours, seed=seed
        )
        batches = _batches(speech.lessons)
        enough = min(_MOST_EPOCHS, max(_EPOCHS, -(-_LEAST_STEPS // len(batches))))
        checkpoint = workspace.aligners / _CHECKPOINTS / name / "checkpoint.safetensors"
        with limit_threads(num_threads), torch.random.fork_rng():
            training = _Training(speech, batches, epochs=epochs or enough, seed=seed, device=device)
            training.run(checkpoint, threads=num_threads)
        model = training.result(name)
        model.save(workspace.aligners / name)
        shutil.rmtree(checkpoint.parent)
    log.info(
        "trained aligner %s on %.2f hours in %.0f s, %d epochs",
        model.aligner_id,
        sum(speech.hours.values()),
        time.monotonic() - start,
        training.epochs,
    )
    return model


def _check(name: str, epochs: int | None, num_threads: int, max_hours: float) -> None:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--aligner ctc:{name}: a name has letters, digits, - and _ only")
    if epochs is not None and epochs < 1:
        raise UsageError(f"--epochs {epochs}: must be 1 or more")
    if num_threads < 1:
        raise UsageError(f"num_threads {num_threads}: must be 1 or more")
    if not (math.isfinite(max_hours) and max_hours > 0):
        raise UsageError(f"max_hours {max_hours}: must be more than 0")


class _Training:
    """The network on its way: weights, optimiser, how often each symbol was said."""

    def __init__(
        self,
        speech: TrainingSpeech,
        batches: Sequence[Sequence[Lesson]],
        *,
        epochs: int,
        seed: int,
        device: str,
    ) -> None:
        self.epochs = epochs
        self._speech, self._batches, self._seed, self._device = speech, batches, seed, device
        self._shape = Shape()
        torch.manual_seed(_torch_seed(seed, "start"))
        self._network = Network(self._shape).to(device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=_RATE, weight_decay=_DECAY
        )
        self._counts_V = np.full(len(SYMBOLS), _PRIOR_START / len(SYMBOLS))
        self._num_steps = 0
        self.losses: list[float] = []

    def run(self, checkpoint: Path, *, threads: int) -> None:
        """The epochs that are missing, from the checkpoint of a run as this one where there is."""
        identity = content_id(
            {
                "speech": self._speech.identity,
                "shape": asdict(self._shape),
                "epochs": self.epochs,
                "seed": self._seed,
                "device": self._device,
                "threads": threads,
                "torch": torch.__version__,
            }
        )
        there = load_checkpoint(checkpoint, identity, self._network, self._optimizer)
        if there is not None:
            self._counts_V, self._num_steps = there.counts_V, there.num_steps
            self.losses = there.losses
            log.info("training goes on after epoch %d of %d", len(self.losses), self.epochs)
        total = (self.epochs - len(self.losses)) * len(self._batches)
        with progress("train aligner", total=total, unit="steps") as bar:
            for epoch in range(len(self.losses), self.epochs):
                self.losses.append(self._do_epoch(epoch, bar.advance))
                done = Progress(self._counts_V, self._num_steps, self.losses)
                save_checkpoint(checkpoint, identity, self._network, self._optimizer, done)
                log.info("epoch %d of %d: loss %.3f", epoch + 1, self.epochs, self.losses[-1])

    def result(self, name: str) -> CtcModel:
        """The trained model."""
        return CtcModel(
            name=name,
            network=self._network.cpu().eval(),
            shape=self._shape,
            prior_V=self._prior(),
            training={
                "hours": {name: round(hours, 4) for name, hours in self._speech.hours.items()},
                "epochs": self.epochs,
                "seed": self._seed,
                "losses": [round(loss, 4) for loss in self.losses],
            },
        )

    def _do_epoch(self, epoch: int, advance: Callable[[], None]) -> float:
        rng = keyed_rng(self._seed, "train-ctc", str(epoch))
        torch.manual_seed(_torch_seed(self._seed, str(epoch)))
        self._network.train()
        stage = epoch * len(_TRUST) // self.epochs
        total = num_frames = 0.0
        for index in rng.permutation(len(self._batches)):
            loss, frames = self._step(self._batches[index], stage, rng)
            total += loss * frames
            num_frames += frames
            advance()
        return total / max(num_frames, 1.0)

    def _step(
        self, lessons: Sequence[Lesson], stage: int, rng: np.random.Generator
    ) -> tuple[float, float]:
        """One update; the loss of a frame and the number of frames that count."""
        pairs_BMD, mask_BM1 = _pad(lessons)
        if stage >= 2:
            _hide_bands(pairs_BMD, rng)
        device = self._device
        logs_BNV = self._network(
            torch.from_numpy(pairs_BMD).to(device), torch.from_numpy(mask_BM1).to(device)
        )
        found_BNV = logs_BNV.detach().cpu().double().numpy()
        scores_BNV = _TRUST[stage] * (found_BNV - PRIOR_WEIGHT * self._prior())
        for row, lesson in enumerate(lessons):
            odds_F = np.where(lesson.silent_F, _LOUDNESS[stage], -_LOUDNESS[stage])
            scores_BNV[row, : len(odds_F), SILENCE] += odds_F
        targets_BNV, known_BN = occupancies(
            scores_BNV,
            [lesson.states_S for lesson in lessons],
            [2 * lesson.num_pairs for lesson in lessons],
        )
        targets = torch.from_numpy(targets_BNV.astype(np.float32)).to(device)
        known = torch.from_numpy(known_BN.astype(np.float32)).to(device)
        num_known = max(float(known_BN.sum()), 1.0)
        loss = -((targets * logs_BNV).sum(dim=-1) * known).sum() / num_known
        self._optimizer.param_groups[0]["lr"] = self._rate()
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _LONGEST_GRADIENT)
        self._optimizer.step()
        self._num_steps += 1
        inside_BN1 = np.repeat(mask_BM1, 2, axis=1)
        said_V = (np.exp(found_BNV) * inside_BN1).sum(axis=(0, 1))
        self._counts_V = _PRIOR_MEMORY * self._counts_V + said_V
        return float(loss.detach()), num_known

    def _prior(self) -> NDArray[np.float64]:
        """Log of how often the network said each symbol lately."""
        return np.asarray(np.log(self._counts_V / self._counts_V.sum() + _LEAST_PRIOR))

    def _rate(self) -> float:
        """Learning rate of the next step: warm-up, then half a cosine."""
        done = self._num_steps / (self.epochs * len(self._batches))
        warm = min(1.0, (self._num_steps + 1) / _WARM_STEPS)
        return _RATE * warm * max(_LAST_RATE, 0.5 * (1 + math.cos(math.pi * done)))


def _torch_seed(seed: int, *parts: str) -> int:
    return key64(str(seed), "train-ctc-torch", *parts) >> 1


def _batches(lessons: Sequence[Lesson]) -> list[list[Lesson]]:
    """Utterances of about one length together, as many as half a minute holds."""
    batches: list[list[Lesson]] = []
    for lesson in sorted(lessons, key=lambda lesson: lesson.num_pairs):
        if batches and (len(batches[-1]) + 1) * lesson.num_pairs <= _BATCH_PAIRS:
            batches[-1].append(lesson)
        else:
            batches.append([lesson])
    return batches


def _pad(lessons: Sequence[Lesson]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (B, M, D), and 1 where they are of an utterance (B, M, 1)."""
    longest = max(lesson.num_pairs for lesson in lessons)
    pairs_BMD = np.zeros((len(lessons), longest, 2 * NUM_BINS), np.float32)
    mask_BM1 = np.zeros((len(lessons), longest, 1), np.float32)
    for row, lesson in enumerate(lessons):
        pairs_BMD[row, : lesson.num_pairs] = lesson.pairs_MD
        mask_BM1[row, : lesson.num_pairs] = 1
    return pairs_BMD, mask_BM1


def _hide_bands(pairs_BMD: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Some bins of each utterance are made their mean, 0. Source: SpecAugment, arXiv:1904.08779."""
    for pairs_MD in pairs_BMD:
        for _ in range(_MASKS):
            width = int(rng.integers(_WIDEST_MASK + 1))
            first = int(rng.integers(NUM_BINS - width + 1))
            for frame in (0, NUM_BINS):
                pairs_MD[:, frame + first : frame + first + width] = 0
