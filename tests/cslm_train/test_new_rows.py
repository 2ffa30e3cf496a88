"""Rows of controls and units begin where they are told to, and rows of text stay as they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from base_models import save_base
from tiny_run import make_run

from cslm_data.framing import CONTROLS
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.models.hugging_face import read_base, read_base_weights
from cslm_train.models.new_rows import extend_rows
from cslm_train.models.weights import EMBEDDING, OUTPUT
from cslm_train.run_folder import RunInfo
from cslm_train.training.beginning import initial_weights
from cslm_train.vocabulary import JointVocabulary

NUM_UNITS = 20


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), NUM_UNITS)


def rows(how: str, vocabulary: JointVocabulary, noise: float | None, **more: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    old = 2 + torch.randn(vocabulary.num_text, 64, generator=generator)
    weights = {EMBEDDING: old, OUTPUT: old}
    extended = extend_rows(weights, vocabulary, how=how, noise=noise, seed=1, **more)  # type: ignore[arg-type]
    assert extended[OUTPUT] is extended[EMBEDDING]
    assert torch.equal(extended[EMBEDDING][: vocabulary.num_text], old)
    return extended[EMBEDDING]


def test_new_rows_lie_around_the_mean_as_far_as_asked(vocabulary: JointVocabulary) -> None:
    still, moved = rows("mean", vocabulary, 0.0), rows("mean", vocabulary, 0.5)
    old, new = still[: vocabulary.num_text], still[vocabulary.num_text :]
    assert new.shape == (len(CONTROLS) + NUM_UNITS, 64)
    torch.testing.assert_close(new, old.mean(0).expand_as(new))
    spread = (moved[vocabulary.num_text :] - new).std() / old.std()
    assert float(spread) == pytest.approx(0.5, rel=0.1)


def test_a_name_begins_at_the_mean_of_the_tokens_that_spell_it(
    vocabulary: JointVocabulary,
) -> None:
    made = rows("subword", vocabulary, 0.0)
    spelt = vocabulary.text_tokenizer.encode("unit 17")
    torch.testing.assert_close(made[vocabulary.unit_id(17)], made[spelt].mean(0))
    spelt = vocabulary.text_tokenizer.encode("start of speech")
    torch.testing.assert_close(made[vocabulary.control_id("<sosp>")], made[spelt].mean(0))


def test_units_begin_as_near_to_each_other_as_their_centroids(vocabulary: JointVocabulary) -> None:
    rng = np.random.default_rng(0)
    near = np.repeat(rng.normal(0, 5, (NUM_UNITS // 2, 8)), 2, axis=0)
    centroids = (near + rng.normal(0, 0.1, near.shape)).astype(np.float32)
    made = rows("kmeans", vocabulary, 0.3, centroids_KD=centroids)
    units = made[vocabulary.unit_id(0) :]
    apart = torch.cdist(units, units) + 1e6 * torch.eye(NUM_UNITS)
    assert apart.argmin(1).tolist() == [unit ^ 1 for unit in range(NUM_UNITS)]


def test_units_without_centroids_begin_at_the_mean(vocabulary: JointVocabulary) -> None:
    assert torch.equal(rows("kmeans", vocabulary, None), rows("mean", vocabulary, 0.1))


def test_tokens_without_rows_get_some(tmp_path: Path, vocabulary: JointVocabulary) -> None:
    """A tokenizer may have grown after its model was trained."""
    save_base(tmp_path, "llama", vocab_size=vocabulary.num_text - 5)
    weights = extend_rows(
        read_base_weights(read_base(tmp_path)), vocabulary, how="subword", noise=0.1, seed=1
    )
    assert weights[EMBEDDING].shape[0] == weights[OUTPUT].shape[0] == vocabulary.size
    assert weights[EMBEDDING].isfinite().all()


def test_units_of_a_run_begin_as_the_centroids_of_its_speech_tokenizer_lie(
    tmp_path: Path, spoken: Workspace, tokenizer: SpeechTokenizer, tokenizer_folder: Path
) -> None:
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), tokenizer.num_units)
    save_base(tmp_path / "base", "llama", vocab_size=vocabulary.num_text)
    base = read_base(tmp_path / "base")
    run_dir = make_run(
        spoken.runs / "begun",
        tokenizer_folder,
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
    )
    config = load_config("smoke", [f"model.base={base.folder}"])
    info = dataclasses.replace(RunInfo.load(run_dir), config=config, base_id=base.weights_id)
    weights = initial_weights(info, vocabulary, run=None, workspace=spoken)
    assert weights is not None
    for name in (EMBEDDING, OUTPUT):
        units = weights[name][vocabulary.unit_id(0) :].numpy()
        apart = [
            np.linalg.norm(rows[:, None] - rows[None], axis=-1)[np.triu_indices(len(rows), 1)]
            for rows in (units, tokenizer.centroids_KE)
        ]
        assert np.corrcoef(apart)[0, 1] > 0.7
