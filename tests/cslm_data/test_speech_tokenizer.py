from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cslm_data.clustering.normalisation import Normalisation
from cslm_data.errors import (
    AudioError,
    CorruptArtefactError,
    MissingArtefactError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.features import load_extractor
from cslm_data.speech_tokenizer import dedup, expand
from cslm_data.tokenizers.tokenizer_fit import FitOptions, tokenizer_of_frames
from cslm_data.tokenizers.tokenizer_folders import (
    add_to_workspace,
    find_tokenizer,
    list_tokenizers,
    load,
    save,
)
from cslm_data.workspace import Workspace


def noise(duration_s=2.0, seed=0):
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0.01, 0.3, 400), 800)[: round(duration_s * 16_000)]
    return (rng.standard_normal(round(duration_s * 16_000)) * loudness).astype(np.float32)


def make(num_units=8, seed=0):
    features = load_extractor("mfcc")
    frames = features(noise(8.0))
    return tokenizer_of_frames(frames, features, FitOptions(num_units=num_units, seed=seed))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=40))
def test_expanding_what_was_deduplicated_gives_the_frames(runs):
    frames = np.concatenate(
        [np.full(length, unit, np.uint16) for unit, length in runs] or [np.zeros(0, np.uint16)]
    )
    units, durations = dedup(frames)
    assert units.dtype == durations.dtype == np.uint16
    np.testing.assert_array_equal(expand(units, durations), frames)
    assert not (units[1:] == units[:-1]).any()
    assert durations.sum() == len(frames)
    assert (durations > 0).all()


@settings(deadline=None)
@given(st.integers(1, 400_000), st.booleans())
@example(65_535, True)
@example(65_536, True)
@example(131_070, False)
def test_a_run_too_long_for_its_duration_is_split(length, surrounded):
    frames = np.full(length, 7, np.uint16)
    if surrounded:
        frames = np.concatenate([np.array([1, 1], np.uint16), frames, np.array([2], np.uint16)])
    units, durations = dedup(frames)
    np.testing.assert_array_equal(expand(units, durations), frames)
    assert len(units) == -(-length // 65_535) + 2 * surrounded


def test_encoding_follows_its_definition():
    tokenizer = make()
    wave = noise(1.0, seed=3)
    units, durations, num_frames = tokenizer.encode(wave)
    features = load_extractor("mfcc")(wave)
    features = (features - tokenizer.normalisation.mean_D) / tokenizer.normalisation.scale_E
    distances = ((features[:, None] - tokenizer.centroids_KE[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(expand(units, durations), distances.argmin(axis=1))
    assert num_frames == durations.sum() == 49


def test_features_are_standardised_per_dimension():
    features = load_extractor("mfcc")
    frames = features(noise(8.0))
    frames[:, 5] = 3.0
    tokenizer = tokenizer_of_frames(frames.copy(), features, FitOptions(num_units=8))
    np.testing.assert_allclose(
        tokenizer.normalisation.mean_D, frames.mean(axis=0), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        np.delete(tokenizer.normalisation.scale_E, 5), np.delete(frames.std(axis=0), 5), rtol=1e-3
    )
    assert tokenizer.normalisation.scale_E[5] == 1, "a constant dimension is left alone"


def test_a_saved_tokenizer_comes_back_the_same(tmp_path):
    tokenizer = make()
    save(tokenizer, tmp_path / "mfcc-8")
    back = load(tmp_path / "mfcc-8")
    assert back.tokenizer_id == tokenizer.tokenizer_id
    assert back.tokenizer_id.startswith("mfcc-8-")
    assert back.name == "mfcc-8"
    wave = noise(1.0, seed=4)
    for before, after in zip(tokenizer.encode(wave), back.encode(wave), strict=True):
        np.testing.assert_array_equal(before, after)
    document = json.loads((tmp_path / "mfcc-8" / "tokenizer.json").read_text())
    assert (document["extractor"], document["num_units"], document["frame_rate_hz"]) == (
        "mfcc",
        8,
        50,
    )
    with pytest.raises(OSError):
        save(tokenizer, tmp_path / "mfcc-8")


def test_each_ingredient_changes_the_identity():
    tokenizer = make()
    used, nudged = tokenizer.normalisation, tokenizer.centroids_KE.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.float32(np.inf))
    others = [
        replace(tokenizer, extractor_identity={**tokenizer.extractor_identity, "kind": "hf"}),
        replace(tokenizer, extractor_identity={**tokenizer.extractor_identity, "weights": "aa"}),
        replace(tokenizer, extractor_identity={**tokenizer.extractor_identity, "layer": 6}),
        replace(tokenizer, extractor_identity={**tokenizer.extractor_identity, "normalise": True}),
        replace(tokenizer, resampler="soxr-hq-9"),
        replace(tokenizer, normalisation=Normalisation()),
        replace(tokenizer, normalisation=replace(used, mean_D=used.mean_D + 1)),
        replace(tokenizer, normalisation=replace(used, scale_E=used.scale_E * 2)),
        replace(tokenizer, normalisation=replace(used, basis_DE=np.eye(39, dtype=np.float32))),
        replace(tokenizer, normalisation=replace(used, kind="whiten")),
        replace(tokenizer, centroids_KE=nudged),
        replace(tokenizer, centroids_KE=tokenizer.centroids_KE[::-1]),
        replace(tokenizer, dedup="none"),
    ]
    ids = {t.tokenizer_id for t in others}
    assert len(ids) == len(others)
    assert tokenizer.tokenizer_id not in ids


def test_where_it_runs_and_how_it_came_about_do_not():
    tokenizer = make()
    same = replace(
        tokenizer, fit={"seed": 9}, created=4, name="other", device="cpu", dtype="bfloat16"
    )
    assert same.tokenizer_id == tokenizer.tokenizer_id == make().tokenizer_id
    assert make(seed=1).tokenizer_id != tokenizer.tokenizer_id


def test_to_another_process_it_goes_without_its_loaded_parts():
    tokenizer = make()
    wave = noise(1.0, seed=4)
    before = tokenizer.encode(wave)
    travelled = pickle.loads(pickle.dumps(tokenizer))
    assert "features" in vars(tokenizer)
    assert set(vars(travelled)) == {field.name for field in fields(tokenizer)}
    assert travelled.tokenizer_id == tokenizer.tokenizer_id
    np.testing.assert_array_equal(travelled.encode(wave).units, before.units)


def test_damage_is_noticed(tmp_path):
    def fresh(name):
        save(make(), tmp_path / name)
        return tmp_path / name

    changed = fresh("changed")
    centroids = np.load(changed / "centroids.npy")
    np.save(changed / "centroids.npy", centroids + 1)
    with pytest.raises(CorruptArtefactError, match="says mfcc-8-"):
        load(changed)
    cut = fresh("cut")
    (cut / "mean.npy").write_bytes((cut / "mean.npy").read_bytes()[:90])
    with pytest.raises(CorruptArtefactError, match="restore it"):
        load(cut)
    pickled = fresh("pickled")
    np.save(pickled / "scale.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(CorruptArtefactError, match="pickle"):
        load(pickled)
    no_json = fresh("no-json")
    (no_json / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptArtefactError):
        load(no_json)
    with pytest.raises(MissingArtefactError, match="cslm-data quantize"):
        load(tmp_path / "nowhere")


def test_an_extractor_that_has_changed_since_is_refused():
    tokenizer = replace(make(), extractor_identity={"kind": "mfcc", "recipe": "another"})
    with pytest.raises(TokenizerMismatchError, match="not what this tokenizer was fitted with"):
        tokenizer.encode(noise(0.1))
    with pytest.raises(TokenizerMismatchError, match="soxr-hq-0"):
        replace(make(), resampler="soxr-hq-0").encode(noise(0.1))


def test_no_samples_and_overflow_are_audio_errors():
    with pytest.raises(AudioError, match="empty"):
        make().encode(np.zeros(0, np.float32))
    huge = np.full(4_000, 3e38, np.float32)
    huge[::2] = -3e38
    with np.errstate(all="ignore"), pytest.raises(AudioError, match="not_finite"):
        make().encode(huge)


def test_tokenizers_of_a_workspace_are_found_by_name_id_or_because_there_is_one(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(MissingArtefactError, match="cslm-data quantize"):
        find_tokenizer(workspace, None)
    first = add_to_workspace(workspace, make())
    assert find_tokenizer(workspace, None).tokenizer_id == first.tokenizer_id
    second = add_to_workspace(workspace, make(seed=1))
    assert (first.name, second.name) == ("mfcc-8", "mfcc-8-2")
    assert add_to_workspace(workspace, make()).name == "mfcc-8", "the same one is not saved twice"
    assert [t.name for t in list_tokenizers(workspace)] == ["mfcc-8", "mfcc-8-2"]
    assert find_tokenizer(workspace, "mfcc-8-2").tokenizer_id == second.tokenizer_id
    assert find_tokenizer(workspace, second.tokenizer_id).name == "mfcc-8-2"
    with pytest.raises(UsageError, match=r"mfcc-8 .*mfcc-8-2 .*--tokenizer mfcc-8-2"):
        find_tokenizer(workspace, None)
    with pytest.raises(MissingArtefactError, match="mfcc-8-2"):
        find_tokenizer(workspace, "hubert")


def test_a_save_that_was_killed_leaves_nothing_to_be_found(tmp_path):
    workspace = Workspace(tmp_path)
    leftover = workspace.tokenizers / ".tmp" / "mfcc-8"
    leftover.mkdir(parents=True)
    (leftover / "tokenizer.json").write_text("{ half")
    assert list_tokenizers(workspace) == []
    assert add_to_workspace(workspace, make()).name == "mfcc-8"
    assert [t.name for t in list_tokenizers(workspace)] == ["mfcc-8"]
