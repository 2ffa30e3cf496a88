from __future__ import annotations

import numpy as np
import pytest

from cslm_data.clustering.normalisation import Normalisation, fit_normalisation
from cslm_data.errors import UsageError

FRAMES = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]], np.float32) + np.array([10, 20], np.float32)
"""Centre (10, 20), variances 4.5 and 0.5, no covariance."""


def correlated(num=500, dim=6):
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((num, dim)) @ rng.standard_normal((dim, dim))
    return (mixed + rng.standard_normal(dim)).astype(np.float32)


def test_none_changes_nothing_and_copies():
    made = fit_normalisation(FRAMES, "none")
    np.testing.assert_array_equal(made.apply(FRAMES), FRAMES)
    assert made.apply(FRAMES) is not FRAMES
    assert made.arrays == {}


def test_standardising_takes_mean_and_spread_out():
    made = fit_normalisation(FRAMES, "standardise")
    expected = (FRAMES - [10, 20]) / np.sqrt([4.5, 0.5])
    np.testing.assert_allclose(made.apply(FRAMES), expected, rtol=1e-6)
    np.testing.assert_allclose(made.invert(made.apply(FRAMES)), FRAMES, rtol=1e-6)


def test_principal_axes_come_by_variance_and_with_one_sign():
    made = fit_normalisation(FRAMES[:, ::-1], "pca:1")
    np.testing.assert_allclose(made.basis_DE, [[0], [1]], atol=1e-6)
    np.testing.assert_allclose(made.apply(FRAMES[:, ::-1])[:, 0], [3, -3, 0, 0], atol=1e-5)
    # What was projected away comes back as its mean.
    np.testing.assert_allclose(
        made.invert(made.apply(FRAMES[:, ::-1])), [[20, 13], [20, 7], [20, 10], [20, 10]], atol=1e-5
    )


@pytest.mark.parametrize("spec", ["whiten", "whiten:3"])
def test_whitened_frames_have_the_identity_as_their_covariance(spec):
    frames = correlated()
    white = fit_normalisation(frames, spec).apply(frames)
    size = 3 if spec.endswith("3") else 6
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(size), atol=1e-3)


@pytest.mark.parametrize("spec", ["none", "standardise", "pca", "whiten"])
def test_a_full_projection_can_be_undone(spec):
    frames = correlated()
    made = fit_normalisation(frames, spec)
    np.testing.assert_allclose(made.invert(made.apply(frames)), frames, atol=1e-3)


def test_on_the_sphere_every_frame_has_length_one_and_silence_stays_zero():
    frames = np.array([[3, 4], [0, 0], [0, -2]], np.float32)
    made = fit_normalisation(frames, "spherical")
    np.testing.assert_allclose(made.apply(frames), [[0.6, 0.8], [0, 0], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(made.invert(made.apply(frames))[0], np.array([0.6, 0.8]) * 7 / 3)


@pytest.mark.parametrize("spec", ["none", "standardise", "pca", "pca:2", "whiten:4", "spherical"])
def test_a_sample_is_normalised_in_its_own_memory(spec):
    # More than one block of 8192.
    frames = correlated(num=20_000)
    made = fit_normalisation(frames, spec)
    expected = made.apply(frames)
    found = made.apply_in_place(frames)
    np.testing.assert_array_equal(found, expected)
    assert np.shares_memory(found, frames)
    assert found.flags.c_contiguous


def test_a_constant_dimension_is_left_alone():
    frames = np.column_stack([np.arange(4), np.full(4, 7)]).astype(np.float32)
    for spec in ("standardise", "whiten"):
        assert np.isfinite(fit_normalisation(frames, spec).apply(frames)).all()


def test_the_same_frames_give_the_same_bytes():
    frames = correlated()
    first, second = (fit_normalisation(frames, "whiten:4") for _ in range(2))
    assert [a.tobytes() for a in first.arrays.values()] == [
        b.tobytes() for b in second.arrays.values()
    ]


@pytest.mark.parametrize("spec", ["", "zca", "pca:0", "pca:x", "standardise:3", "pca:7"])
def test_what_cannot_be_is_refused_with_the_choices(spec):
    with pytest.raises(UsageError, match="--normalisation"):
        fit_normalisation(correlated(), spec)


def test_a_normalisation_without_arrays_is_none():
    assert Normalisation().kind == "none"
