from __future__ import annotations

import numpy as np
import pytest
import torch

from cslm_data.clustering.assignment import assign_units
from cslm_data.clustering.device_codebook import DeviceCodebook
from cslm_data.clustering.normalisation import fit_normalisation


@pytest.mark.parametrize(
    "spec", ["none", "standardise", "pca", "pca:3", "whiten", "whiten:3", "spherical"]
)
def test_units_on_a_device_are_those_in_memory(spec):
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((4_000, 8)) @ rng.standard_normal((8, 8)) + rng.standard_normal(8)
    features = mixed.astype(np.float32)
    normalisation = fit_normalisation(features, spec)
    centroids = normalisation.apply(features[rng.choice(len(features), 50, replace=False)])
    codebook = DeviceCodebook(normalisation, centroids, "cpu")
    units = codebook.units_of(torch.from_numpy(features))
    assert units.dtype == np.uint16
    expected = assign_units(normalisation.apply(features), centroids)
    assert (units == expected).mean() > 0.999
    if spec in ("none", "standardise"):
        np.testing.assert_array_equal(units, expected)
    assert len(np.unique(units)) == 50


def test_features_of_a_network_in_half_precision_are_taken_as_they_are():
    features = torch.tensor([[1.0, 2.0], [4.0, 3.0]], dtype=torch.bfloat16)
    centroids = np.array([[4, 3], [1, 2]], np.float32)
    codebook = DeviceCodebook(fit_normalisation(centroids, "none"), centroids, "cpu")
    assert codebook.units_of(features).tolist() == [1, 0]
