"""DESIGN rule 1: every ingredient, changed for real, makes another tokenizer; nothing else does."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soxr
import torch
import transformers
from test_features_hf import save_model

from cslm_data import features
from cslm_data.clustering.normalisation import fit_normalisation
from cslm_data.errors import TokenizerMismatchError
from cslm_data.tokenizers.centroid_files import import_tokenizer
from cslm_data.tokenizers.tokenizer_folders import load
from cslm_data.workspace import Workspace

LAYER = 2
FRAMES = np.random.default_rng(0).standard_normal((200, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network on disk."""
    folder = tmp_path_factory.mktemp("models") / "hubert"
    save_model(folder)
    return folder


@pytest.fixture
def make(tmp_path, model):
    """A tokenizer of twelve centroids, for that network unless said otherwise."""
    np.save(tmp_path / "km.npy", FRAMES[:12])
    count = iter(range(100))

    def build(folder=model, *, extractor=None, layer=LAYER, centroids=None, **options):
        path = tmp_path / f"km-{next(count)}.npy"
        np.save(path, FRAMES[:12] if centroids is None else centroids)
        return import_tokenizer(
            Workspace(tmp_path / path.stem),
            path,
            extractor=extractor or f"hf:{folder}",
            layer=layer,
            **options,
        )

    return build


def changed_model(tmp_path, model, change, *, normalise=False):
    """A copy of the network, in a folder of the same name, with something changed."""
    network = transformers.HubertModel.from_pretrained(model)
    with torch.no_grad():
        change(network)
    folder = tmp_path / "changed" / model.name
    network.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return folder


def nudge(parameter):
    parameter.view(-1)[0] += 1e-3


def test_the_kind_of_extractor(make, monkeypatch):
    tokenizer = make()
    known = dict(tokenizer.extractor_identity)

    class Other:
        identity = {**known, "kind": "other"}
        frame_rate_hz = 50.0
        dim = 24

    monkeypatch.setitem(features.EXTRACTORS, "other", lambda name, options: Other())
    assert make(extractor="other:hubert").tokenizer_id != tokenizer.tokenizer_id


@pytest.mark.parametrize(
    "weight",
    [
        "feature_extractor.conv_layers.0.conv.weight",
        "feature_projection.projection.bias",
        "encoder.pos_conv_embed.conv.bias",
        "encoder.layers.0.attention.q_proj.weight",
        "encoder.layers.1.final_layer_norm.bias",
    ],
)
def test_one_weight(make, tmp_path, model, weight):
    folder = changed_model(tmp_path, model, lambda net: nudge(net.get_parameter(weight)))
    assert make(folder).tokenizer_id != make().tokenizer_id


def test_the_layer(make):
    assert len({make(layer=layer).tokenizer_id for layer in (0, 1, 2, 3)}) == 4


def test_the_normalisation_of_the_waveform(make, tmp_path, model):
    folder = changed_model(tmp_path, model, lambda net: None, normalise=True)
    assert make(folder).tokenizer_id != make().tokenizer_id


def test_the_kind_of_normalisation_and_its_arrays(make):
    tokenizer = make()
    specs = ("none", "standardise", "pca", "pca:23", "whiten", "spherical")
    fitted = [fit_normalisation(FRAMES, spec) for spec in specs]
    one_frame_less = [fit_normalisation(FRAMES[:-1], spec) for spec in specs if spec != "none"]
    ids = {
        replace(tokenizer, normalisation=normalisation).tokenizer_id
        for normalisation in (*fitted, *one_frame_less)
    }
    assert len(ids) == 2 * len(specs) - 1
    assert make(normalisation="spherical").tokenizer_id != tokenizer.tokenizer_id


def test_the_resampler(make, monkeypatch):
    tokenizer = make()
    monkeypatch.setattr(soxr, "__version__", "9.0.1")
    assert make().tokenizer_id != tokenizer.tokenizer_id


def test_the_centroids_and_their_order(make):
    nudged = FRAMES[:12].copy()
    nudged[3, 5] = np.nextafter(nudged[3, 5], np.float32(np.inf))
    ids = {
        make(centroids=centroids).tokenizer_id
        for centroids in (FRAMES[:12], nudged, FRAMES[11::-1], FRAMES[:11])
    }
    assert len(ids) == 4


def test_the_rule_of_deduplication(make):
    tokenizer = make()
    assert replace(tokenizer, dedup="none").tokenizer_id != tokenizer.tokenizer_id


def test_what_is_above_the_layer_where_it_lies_and_what_it_is_called_do_not_matter(
    make, tmp_path, model
):
    above = changed_model(
        tmp_path, model, lambda net: nudge(net.encoder.layers[2].feed_forward.output_dense.bias)
    )
    moved = tmp_path / "moved" / model.name
    shutil.copytree(model, moved)
    expected = make().tokenizer_id
    assert make(above).tokenizer_id == make(moved).tokenizer_id == expected
    assert make(name="another").tokenizer_id == expected
    halves = FRAMES[:12].astype(np.float16)
    assert (
        make(centroids=halves).tokenizer_id
        == make(centroids=halves.astype(np.float64)).tokenizer_id
        != expected
    )


def test_a_network_that_has_changed_since_is_refused_by_both_names(make, tmp_path, model):
    folder = changed_model(tmp_path, model, lambda net: None)
    tokenizer = make(folder)
    wave = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    assert len(tokenizer.encode(wave).units)
    network = transformers.HubertModel.from_pretrained(folder)
    with torch.no_grad():
        nudge(network.encoder.layers[0].attention.q_proj.weight)
    network.save_pretrained(folder)
    where = next(tmp_path.glob("km-*/tokenizers/*"))
    with pytest.raises(
        TokenizerMismatchError,
        match=rf"{tokenizer.tokenizer_id}.*settings \w{{16}}, not \w{{16}}.*"
        rf"cslm-data fit-tokenizer --extractor hf:{folder} --layer 2",
    ):
        load(where, device="cpu").encode(wave)
