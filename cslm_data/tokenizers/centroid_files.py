"""Centroids of others ↔ speech tokenizers: fairseq's `km.bin`, and plain `.npy`.

`km.bin` is a scikit-learn k-means in a joblib pickle, as fairseq's learn_kmeans.py writes it for
HuBERT, GSLM and textless-lib. To read a pickle is to run what its author put into it, so it takes
the word of the user; `.npy` of shape (K, D) holds the same numbers and no code.

Both mean the nearest centroid in the features as they are. Some normalisations are the same thing
said differently, and are folded into the centroids on the way out: a projection (what it leaves out
is equally far from all of its centroids) and the sphere (where all centroids are equally long).
"""

# K units, D features, E dimensions after normalisation

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import resampler_identity
from cslm_data.clustering.kmeans import MAX_UNITS
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.errors import AlreadyExistsError, CorruptArtefactError, UsageError
from cslm_data.features import CodeExtractor, load_extractor, normalise_spec
from cslm_data.keys import file_sha256
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace, atomic_path

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_NPY_MAGIC = b"\x93NUMPY"
_CONVERT = (
    'python -c "import joblib, numpy; '
    "numpy.save('km.npy', joblib.load('km.bin').cluster_centers_)\""
)


def import_tokenizer(
    workspace: Workspace,
    path: Path,
    *,
    extractor: str,
    layer: int | None,
    normalisation: str = "none",
    name: str | None = None,
    unsafe_pickle: bool = False,
) -> SpeechTokenizer:
    """A speech tokenizer of centroids from elsewhere, saved into the workspace.

    Nothing in the file says what the features were: `extractor` and `layer` must be those of its
    fit. `normalisation` is `none`, or `spherical`. Raises UsageError, CorruptArtefactError,
    AlreadyExistsError.
    """
    if normalisation not in ("none", "spherical"):
        raise UsageError(
            f"--normalisation {normalisation}: a file of centroids brings no means or spreads; "
            "choose none or spherical"
        )
    with workspace.lock("tokenizers", "importing a speech tokenizer"):
        tokenizer_folders.check_name(workspace, name)
        centroids_KD = read_centroids(path, unsafe_pickle=unsafe_pickle)
        features = load_extractor(extractor, layer=layer, device="cpu")
        if isinstance(features, CodeExtractor):
            raise UsageError(f"--extractor {extractor}: gives codes of its own, without centroids")
        if features.dim != centroids_KD.shape[1]:
            of_layer = "" if layer is None else f", layer {layer},"
            raise UsageError(
                f"{path}: centroids of {centroids_KD.shape[1]} numbers, but {extractor}{of_layer} "
                f"gives {features.dim}; name what they were fitted on with --extractor and --layer"
            )
        kind = Normalisation(kind="none")
        if normalisation == "spherical":
            length = np.linalg.norm(centroids_KD, axis=1).mean(keepdims=True).astype(np.float32)
            kind = Normalisation(kind="spherical", scale_E=length)
            centroids_KD = kind.apply(centroids_KD)
        made = SpeechTokenizer(
            extractor=normalise_spec(extractor),
            extractor_identity=json.loads(json.dumps(features.identity)),
            layer=layer,
            frame_rate_hz=features.frame_rate_hz,
            resampler=resampler_identity(),
            normalisation=kind,
            centroids_KE=centroids_KD,
            fit={
                "backend": "imported",
                "asked_num_units": len(centroids_KD),
                "file": path.name,
                "sha256": file_sha256(str(path)),
                "num_frames": 0,
                "inertia": [],
            },
        )
        return tokenizer_folders.add_to_workspace(workspace, made, name=name)


def read_centroids(path: Path, *, unsafe_pickle: bool = False) -> Floats:
    """Centroids of a `.npy` file, or of a `km.bin` if the user trusts it: float32 (K, D).

    Raises UsageError for a pickle that was not allowed, CorruptArtefactError for other content.
    """
    try:
        with path.open("rb") as stream:
            is_npy = stream.read(len(_NPY_MAGIC)) == _NPY_MAGIC
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; name a .npy or km.bin file") from None
    if is_npy:
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise CorruptArtefactError(f"{path}: not a whole .npy file ({error})") from None
    elif unsafe_pickle:
        values = _unpickle(path)
    else:
        raise UsageError(
            f"{path}: not a .npy file, so it would be read as a pickle, and to read a pickle is to "
            "run whatever code is in it. If you trust where it comes from, add --unsafe-pickle; or "
            f"convert it where it was made: {_CONVERT}"
        )
    return _checked(path, values)


def _unpickle(path: Path) -> Any:
    """What fairseq's learn_kmeans.py dumped: an estimator, or its centroids."""
    import joblib  # type: ignore[import-untyped]

    try:
        with warnings.catch_warnings():
            # Written by another version of scikit-learn; only the centroids are taken.
            warnings.simplefilter("ignore")
            loaded = joblib.load(path)
    except Exception as error:
        raise CorruptArtefactError(
            f"{path}: cannot be unpickled here ({type(error).__name__}: {error}); convert it with "
            f"the version of scikit-learn that wrote it: {_CONVERT}"
        ) from None
    return getattr(loaded, "cluster_centers_", loaded)


def _checked(path: Path, values: Any) -> Floats:
    array = np.asarray(values)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise CorruptArtefactError(
            f"{path}: holds {array.dtype} of shape {array.shape}, not centroids: numbers of shape "
            "(units, dimensions)"
        )
    if not 2 <= len(array) <= MAX_UNITS:
        raise CorruptArtefactError(
            f"{path}: {len(array)} centroids; there may be from 2 to {MAX_UNITS}"
        )
    centroids_KD = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(centroids_KD).all():
        unit = int(np.argwhere(~np.isfinite(centroids_KD))[0, 0])
        raise CorruptArtefactError(f"{path}: centroid {unit} is not finite")
    return centroids_KD


def export_centroids(tokenizer: SpeechTokenizer, path: Path, *, overwrite: bool = False) -> Floats:
    """Write the centroids for raw features as `.npy`, or as fairseq's `km.bin`; returns them.

    The nearest of them is the tokenizer's unit, but for frames as near to two (within rounding).
    Raises UsageError where no set of centroids is the same, AlreadyExistsError.
    """
    if path.suffix not in (".npy", ".bin"):
        raise UsageError(f"{path}: name a file that ends in .npy, or in .bin for fairseq's km.bin")
    centroids_KD = raw_centroids(tokenizer)
    if path.exists() and not overwrite:
        raise AlreadyExistsError(f"{path}: already there; add --overwrite to replace it")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if path.suffix == ".npy":
            np.save(stream, centroids_KD, allow_pickle=False)
        else:
            import joblib

            joblib.dump(_estimator(centroids_KD), stream)
    log.info("%d centroids of %d numbers written to %s", *centroids_KD.shape, path)
    return centroids_KD


def raw_centroids(tokenizer: SpeechTokenizer) -> Floats:
    """Centroids whose nearest, in the features as they are, is the unit: float32 (K, D).

    Raises UsageError where there are none such.
    """
    kind = tokenizer.normalisation.kind
    if tokenizer.fit.get("backend") == "codes":
        raise UsageError(
            f"{tokenizer.name or tokenizer.tokenizer_id}: its units are the codes of "
            f"{tokenizer.extractor} itself; there are no centroids to export"
        )
    if kind in ("standardise", "whiten"):
        raise UsageError(
            f"{tokenizer.name or tokenizer.tokenizer_id}: fitted with --normalisation {kind}, "
            "which measures distances otherwise than these files do; no centroids for raw features "
            "give the same units. Export a tokenizer fitted with --normalisation none, pca or "
            "spherical"
        )
    return tokenizer.normalisation.invert(tokenizer.centroids_KE)


def _estimator(centroids_KD: Floats) -> Any:
    """What fairseq's learn_kmeans.py dumps, as far as readers use it."""
    from sklearn.cluster import MiniBatchKMeans

    estimator = MiniBatchKMeans(n_clusters=len(centroids_KD), n_init=1)
    estimator.cluster_centers_ = centroids_KD
    estimator.n_features_in_ = centroids_KD.shape[1]
    # Without these `predict` does not believe that it was fitted.
    estimator._n_threads = 1
    estimator.n_iter_ = estimator.n_steps_ = 0
    return estimator
