"""An exported tokenizer against the run's own, token by token: on samples of the mix, and probes.

What transformers makes of messages must be what the model was trained on. Where it is not, the
export says so, in its summary and in its card.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cslm_data.errors import CslmError
from cslm_data.framing import frame, frame_prompt
from cslm_data.records import SPLITS, Role, Segment
from cslm_data.shards import MixInfo, iter_samples
from cslm_data.workspace import Workspace
from cslm_train.exporting.chat_template import messages_of
from cslm_train.run_folder import RunInfo
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)

MAX_SAMPLES = 500
_PROBE = "probe "
_NO_LIMIT = 1 << 30
"""Longer samples than the model takes are compared too, without a warning."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was compared. A sample is a whole one, and its prompt."""

    num_probes: int
    num_samples: int
    """Of the mix; 0: it was not at hand."""
    different: tuple[str, ...]
    """Keys of those whose tokens are others."""

    @property
    def num_same_samples(self) -> int:
        """Samples of the mix whose tokens are the same."""
        return self.num_samples - sum(not key.startswith(_PROBE) for key in self.different)


def check_tokens(
    folder: Path, workspace: Workspace, info: RunInfo, vocabulary: JointVocabulary
) -> Checked:
    """Compare the tokens of messages in an exported folder with those of training."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=_NO_LIMIT)
    special = frozenset(tokenizer.get_added_vocab().values())
    num_probes = num_samples = 0
    different: list[str] = []
    samples = itertools.islice(_samples(workspace, info), MAX_SAMPLES)
    for key, segments in itertools.chain(_probes(info.num_units), samples):
        texts = [segment.text for segment in segments if segment.text]
        spelt = tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        if not special.isdisjoint(itertools.chain(*spelt)):
            continue  # a text that spells a token is one in transformers: the card says that
        if key.startswith(_PROBE):
            num_probes += 1
        else:
            num_samples += 1
        if not _is_same(tokenizer, vocabulary, segments):
            different.append(key)
    if different:
        log.warning(
            "%d of %d samples are other tokens in transformers than they were in training, such as "
            "%s; the model card says so",
            len(different),
            num_probes + num_samples,
            different[0],
        )
    return Checked(
        num_probes=num_probes,
        num_samples=num_samples,
        different=tuple(different),
    )


def _is_same(tokenizer: Any, vocabulary: JointVocabulary, segments: Sequence[Segment]) -> bool:
    """Whether a sample and its prompt are the same tokens."""
    asked = list(segments)
    while asked and asked[-1].role == "assistant":
        asked.pop()
    whole, prompt = frame(segments, vocabulary.framing), frame_prompt(segments, vocabulary.framing)
    expected = [ids.tolist() for ids, _ in vocabulary.encode_batch([whole, prompt])]
    found = tokenizer.apply_chat_template(messages_of(segments), tokenize=True)
    if found != expected[0] or not asked:
        return bool(found == expected[0])
    found = tokenizer.apply_chat_template(
        messages_of(asked), tokenize=True, add_generation_prompt=True
    )
    return bool(found == expected[1])


def _samples(workspace: Workspace, info: RunInfo) -> Iterator[tuple[str, Sequence[Segment]]]:
    """Samples of the run's mix, held-out ones first; none where it is gone or another now."""
    try:
        mix = MixInfo.load(workspace.mixes / info.mix)
    except CslmError:  # the model card says that it is gone
        return
    if mix.mix_id != info.mix_id:
        return
    try:
        for split in reversed(SPLITS):
            for sample in iter_samples(mix.folder, split):
                yield sample.key, sample.segments
    except (CslmError, OSError) as error:
        log.warning("no more samples of mixes/%s to compare tokens on: %s", info.mix, error)


_TEXTS = ("Good morning.", "  one,\ntwo\n", "早上好。", "\nÀ 3:45 — 🙂")


def _probes(num_units: int) -> Iterator[tuple[str, Sequence[Segment]]]:
    """Dialogues of every order of roles that the compilers make, and some of none."""
    units = np.arange(min(num_units, 5), dtype=np.uint16)
    orders: tuple[tuple[Role, ...], ...] = (
        ("user", "assistant"),
        ("system", "user", "assistant"),
        ("user", "assistant", "user", "assistant"),
        ("system", "user", "assistant", "system", "user"),
    )
    for order, text in itertools.product(orders, _TEXTS):
        segments: list[Segment] = []
        for role in order:
            spoken = Segment(
                modality="speech", language="en", role=role, trained=False, units=units
            )
            written = Segment(modality="text", language="en", role=role, trained=False, text=text)
            question = Segment(
                modality="text", language="en", role=role, trained=False, part="tq", text=text
            )
            segments += {
                "system": [written],
                "user": [written, spoken, written, written],
                "assistant": [question, written, spoken, written, spoken],
            }[role]
        yield f"{_PROBE}{'-'.join(order)} {text!r}", segments
