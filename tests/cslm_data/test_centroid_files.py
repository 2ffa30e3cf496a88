from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from speech_catalog import add_rows, write_speech

from cslm_data.audio import decode
from cslm_data.engines.local import run_parts
from cslm_data.errors import AlreadyExistsError, CorruptArtefactError, UsageError
from cslm_data.features import load_extractor
from cslm_data.tokenizers.centroid_files import export_centroids, import_tokenizer, read_centroids
from cslm_data.tokenizers.tokenizer_fit import FitOptions, fit_tokenizer
from cslm_data.tokenizers.tokenizer_folders import load
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    workspace = Workspace(folder / "workspace")
    add_rows(
        workspace, [(write_speech(folder / f"{i}.wav", i, 4.0), f"utt-{i}", {}) for i in range(5)]
    )
    return workspace


def fitted(workspace, normalisation="none"):
    options = FitOptions(num_units=12, normalisation=normalisation, iterations=5)
    return fit_tokenizer(workspace, options=options, run_parts=run_parts, num_workers=1)


def frames_of(workspace):
    waves = [decode(str(path)) for path in sorted(workspace.root.parent.glob("*.wav"))]
    return np.concatenate([load_extractor("mfcc")(wave) for wave in waves])


def apply_kmeans_as_fairseq_does(path, features):
    """examples/hubert/simple_kmeans/dump_km_label.py, class ApplyKmeans, for numpy arrays."""
    km_model = joblib.load(path)
    c_np = km_model.cluster_centers_.transpose()
    c_norm_np = (c_np**2).sum(0, keepdims=True)
    dist = (features**2).sum(1, keepdims=True) - 2 * np.matmul(features, c_np) + c_norm_np
    return np.argmin(dist, axis=1)


@pytest.mark.parametrize("normalisation", ["none", "pca", "pca:7", "spherical"])
def test_what_is_exported_gives_our_units_in_fairseq_and_textlesslib(
    speech, tmp_path, normalisation
):
    tokenizer = fitted(speech, normalisation)
    features = frames_of(speech)
    ours = tokenizer.units_of(features)
    assert len(np.unique(ours)) == 12
    path = tmp_path / "km.bin"
    export_centroids(tokenizer, path)
    np.testing.assert_array_equal(apply_kmeans_as_fairseq_does(path, features), ours)
    # What textless-lib does.
    np.testing.assert_array_equal(joblib.load(path).predict(features), ours)
    export_centroids(tokenizer, tmp_path / "km.npy")
    back = import_tokenizer(
        Workspace(tmp_path / "other"), tmp_path / "km.npy", extractor="mfcc", layer=None
    )
    np.testing.assert_array_equal(back.units_of(features), ours)


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
def test_there_and_back_is_the_same_tokenizer(speech, tmp_path, suffix):
    tokenizer = fitted(speech)
    path = tmp_path / f"km{suffix}"
    export_centroids(tokenizer, path)
    other = Workspace(tmp_path / "other")
    back = import_tokenizer(
        other, path, extractor="mfcc", layer=None, name="theirs", unsafe_pickle=suffix == ".bin"
    )
    assert back.tokenizer_id == tokenizer.tokenizer_id
    loaded = load(other.tokenizers / "theirs")
    assert loaded.tokenizer_id == tokenizer.tokenizer_id
    assert loaded.fit["backend"] == "imported"
    assert loaded.fit["file"] == path.name
    wave = decode(str(speech.root.parent / "0.wav"))
    np.testing.assert_array_equal(loaded.encode(wave).units, tokenizer.encode(wave).units)


@pytest.mark.parametrize("normalisation", ["standardise", "whiten:5"])
def test_what_no_plain_centroids_can_say_is_not_exported(speech, tmp_path, normalisation):
    tokenizer = fitted(speech, normalisation)
    with pytest.raises(UsageError, match=f"--normalisation {tokenizer.normalisation.kind}, which"):
        export_centroids(tokenizer, tmp_path / "km.npy")
    assert not (tmp_path / "km.npy").exists()


def test_a_file_in_the_way_stays(speech, tmp_path):
    tokenizer = fitted(speech)
    path = tmp_path / "km.npy"
    path.write_text("mine")
    with pytest.raises(AlreadyExistsError, match="--overwrite"):
        export_centroids(tokenizer, path)
    assert path.read_text() == "mine"
    export_centroids(tokenizer, path, overwrite=True)
    np.testing.assert_array_equal(np.load(path), tokenizer.centroids_KE)
    with pytest.raises(UsageError, match=r"\.npy, or in \.bin"):
        export_centroids(tokenizer, tmp_path / "km.txt")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_is_not_read_unless_the_user_trusts_it(tmp_path):
    path = tmp_path / "km.bin"
    path.write_bytes(pickle.dumps(Bomb(str(tmp_path / "exploded"))))
    with pytest.raises(
        UsageError, match=r"run whatever code is in it.*--unsafe-pickle.*numpy\.save"
    ):
        read_centroids(path)
    np.save(tmp_path / "objects.npy", np.array([Bomb(str(tmp_path / "exploded"))], object))
    with pytest.raises(CorruptArtefactError, match="not a whole"):
        read_centroids(tmp_path / "objects.npy", unsafe_pickle=True)
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_of_mere_centroids_and_one_of_nothing(tmp_path):
    centroids = np.random.default_rng(0).standard_normal((3, 4))
    joblib.dump(centroids, tmp_path / "array.bin")
    read = read_centroids(tmp_path / "array.bin", unsafe_pickle=True)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, centroids, rtol=1e-6)
    (tmp_path / "text.bin").write_text("what is this")
    with pytest.raises(CorruptArtefactError, match="cannot be unpickled here"):
        read_centroids(tmp_path / "text.bin", unsafe_pickle=True)
    joblib.dump({"a": 1}, tmp_path / "dict.bin")
    with pytest.raises(CorruptArtefactError, match="not centroids"):
        read_centroids(tmp_path / "dict.bin", unsafe_pickle=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), r"of shape \(5,\), not centroids"),
        (np.zeros((3, 2), np.int64), "int64"),
        (np.zeros((1, 2)), "1 centroids; there may be from 2"),
        (np.full((3, 2), np.nan), "centroid 0 is not finite"),
        (np.full((3, 2), 1e300), "centroid 0 is not finite"),
    ],
)
def test_what_is_no_table_of_centroids_is_refused(tmp_path, values, message):
    np.save(tmp_path / "km.npy", values)
    with np.errstate(over="ignore"), pytest.raises(CorruptArtefactError, match=message):
        read_centroids(tmp_path / "km.npy")


def test_centroids_of_another_extractor_are_refused(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    np.save(tmp_path / "km.npy", np.ones((4, 768), np.float16))
    with pytest.raises(
        UsageError, match=r"768 numbers, but mfcc gives 39.*--extractor and --layer"
    ):
        import_tokenizer(workspace, tmp_path / "km.npy", extractor="mfcc", layer=None)
    with pytest.raises(UsageError, match="brings no means or spreads"):
        import_tokenizer(
            workspace, tmp_path / "km.npy", extractor="mfcc", layer=None, normalisation="whiten"
        )
    with pytest.raises(UsageError, match="No such file"):
        import_tokenizer(workspace, tmp_path / "gone.npy", extractor="mfcc", layer=None)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "km.npy").read_bytes()[:200])
    with pytest.raises(CorruptArtefactError, match="not a whole"):
        read_centroids(tmp_path / "cut.npy")
    assert not list(workspace.tokenizers.glob("*/tokenizer.json"))


def test_centroids_of_the_sphere_are_scaled_to_it(tmp_path):
    directions = np.random.default_rng(0).standard_normal((5, 39)).astype(np.float32) * 7
    np.save(tmp_path / "km.npy", directions)
    made = import_tokenizer(
        Workspace(tmp_path / "workspace"),
        tmp_path / "km.npy",
        extractor="mfcc",
        layer=None,
        normalisation="spherical",
    )
    np.testing.assert_allclose(np.linalg.norm(made.centroids_KE, axis=1), 1, atol=1e-6)
    frames = np.random.default_rng(1).standard_normal((200, 39)).astype(np.float32)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_array_equal(made.units_of(frames), (frames @ unit.T).argmax(axis=1))
