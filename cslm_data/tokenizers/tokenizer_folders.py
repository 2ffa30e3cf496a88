"""Speech tokenizers on disk: save, load, list, find. Reads and writes tokenizers/."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.errors import (
    AlreadyExistsError,
    CorruptArtefactError,
    MissingArtefactError,
    UsageError,
)
from cslm_data.features import readable_name
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

TEMPORARY = ".tmp"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FIELDS = {"mean": "mean_D", "basis": "basis_DE", "scale": "scale_E"}
"""Files of a normalisation and the fields that they fill."""


def save(tokenizer: SpeechTokenizer, folder: Path) -> None:
    """Write a tokenizer as a folder that appears whole or not at all; an existing one stays.

    The temporary folder lies one level deeper than tokenizers do, so that no view sees it.
    """
    temporary = folder.parent / TEMPORARY / folder.name
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    document = {
        "tokenizer_id": tokenizer.tokenizer_id,
        "extractor": tokenizer.extractor,
        "layer": tokenizer.layer,
        "num_units": tokenizer.num_units,
        "dim": tokenizer.centroids_KE.shape[1],
        "frame_rate_hz": tokenizer.frame_rate_hz,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "resampler": tokenizer.resampler,
        "normalisation": tokenizer.normalisation.kind,
        "arrays": list(_arrays(tokenizer)),
        "dedup": tokenizer.dedup,
        "extractor_identity": tokenizer.extractor_identity,
        "created": tokenizer.created,
        "fit": tokenizer.fit,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (temporary / "tokenizer.json").write_text(text, encoding="utf-8")
    for name, array in _arrays(tokenizer).items():
        np.save(temporary / f"{name}.npy", np.ascontiguousarray(array, "<f4"), allow_pickle=False)
    for path in temporary.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    temporary.rename(folder)


def load(folder: Path, *, device: str = "auto", dtype: str = "float32") -> SpeechTokenizer:
    """Read a tokenizer; the extractor is only loaded when something is encoded.

    Raises MissingArtefactError without a tokenizer there, CorruptArtefactError when its content is
    not what its id says.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise MissingArtefactError(
            f"{folder}: no speech tokenizer here; make one with: cslm-data quantize"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", allow_pickle=False)
            for name in ("centroids", "mean", "basis", "scale")
            if name in document["arrays"]
        }
        tokenizer = SpeechTokenizer(
            extractor=document["extractor"],
            extractor_identity=document["extractor_identity"],
            layer=document["layer"],
            frame_rate_hz=float(document["frame_rate_hz"]),
            resampler=document["resampler"],
            dedup=document["dedup"],
            normalisation=Normalisation(
                kind=document["normalisation"],
                **{_FIELDS[name]: arrays[name] for name in arrays if name in _FIELDS},
            ),
            centroids_KE=arrays["centroids"],
            fit=document["fit"],
            created=int(document["created"]),
            name=folder.name,
            device=device,
            dtype=dtype,
        )
        said = document["tokenizer_id"]
        found = tokenizer.tokenizer_id
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise CorruptArtefactError(
            f"{folder}: cannot be read as a speech tokenizer ({type(error).__name__}: {error}); "
            "restore it, or remove the folder and run: cslm-data quantize"
        ) from None
    if said != found:
        raise CorruptArtefactError(
            f"{folder}: says {said}, but holds {found}; restore it, or remove the folder "
            "and run: cslm-data quantize"
        )
    return tokenizer


def list_tokenizers(
    workspace: Workspace, *, device: str = "auto", dtype: str = "float32"
) -> list[SpeechTokenizer]:
    """The tokenizers of a workspace in the order in which they were made."""
    folders = sorted(path.parent for path in workspace.tokenizers.glob("*/tokenizer.json"))
    found = [load(folder, device=device, dtype=dtype) for folder in folders]
    return sorted(found, key=lambda tokenizer: (tokenizer.created, tokenizer.name))


def find_tokenizer(
    workspace: Workspace,
    name_or_id: str | None,
    *,
    device: str = "auto",
    dtype: str = "float32",
) -> SpeechTokenizer:
    """The tokenizer of that name or id; without one, the only one there is.

    Raises MissingArtefactError for none, UsageError that lists them where there are several.
    """
    found = list_tokenizers(workspace, device=device, dtype=dtype)
    if name_or_id is not None:
        named = [t for t in found if name_or_id in (t.name, t.tokenizer_id)]
        if named:
            return named[0]
        there = f"there are {describe(found)}" if found else "there are none yet"
        raise MissingArtefactError(
            f"{workspace.tokenizers}: no speech tokenizer {name_or_id!r}; {there}; make one with: "
            "cslm-data quantize"
        )
    if not found:
        raise MissingArtefactError(
            f"{workspace.tokenizers}: no speech tokenizer yet; run: cslm-data quantize"
        )
    return only_one(found)


def only_one(found: list[SpeechTokenizer]) -> SpeechTokenizer:
    """The single element; UsageError that lists them where there are more."""
    if len(found) > 1:
        raise UsageError(
            f"several speech tokenizers would do: {describe(found)}; choose one with "
            f"--tokenizer, e.g. --tokenizer {found[-1].name}"
        )
    return found[0]


def describe(found: list[SpeechTokenizer]) -> str:
    """Names and ids for a message, oldest first."""
    return ", ".join(f"{t.name} ({t.tokenizer_id})" for t in found)


def check_name(workspace: Workspace, name: str | None) -> None:
    """Raise UsageError for no name of a folder, AlreadyExistsError for one that is taken."""
    if name is None:
        return
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: letters, digits and . _ - only, a letter or digit first, at most 100"
        )
    if (workspace.tokenizers / name).exists():
        raise AlreadyExistsError(
            f"{workspace.tokenizers / name}: there is a speech tokenizer of this name; choose "
            "another --name, or remove that folder"
        )


def add_to_workspace(
    workspace: Workspace, tokenizer: SpeechTokenizer, *, name: str | None = None
) -> SpeechTokenizer:
    """Save under a name, by default one such as `mfcc-500` (`mfcc-500-2` if taken). Hold the lock.

    A tokenizer that is already there is not saved twice: it comes back under the name it has.
    Raises UsageError, and AlreadyExistsError where `name` is taken or the tokenizer has another.
    """
    check_name(workspace, name)
    there = list_tokenizers(workspace)
    for other in there:
        if other.tokenizer_id == tokenizer.tokenizer_id:
            if name is not None:
                raise AlreadyExistsError(
                    f"{other.tokenizer_id} is already here as {other.name}; use it under that name"
                    f": --tokenizer {other.name}"
                )
            return replace(other, device=tokenizer.device, dtype=tokenizer.dtype)
    chosen = name or _free_name(workspace, tokenizer)
    named = replace(tokenizer, name=chosen, created=1 + max((t.created for t in there), default=0))
    save(named, workspace.tokenizers / chosen)
    log.info("speech tokenizer %s saved as %s", named.tokenizer_id, workspace.tokenizers / chosen)
    return named


def _free_name(workspace: Workspace, tokenizer: SpeechTokenizer) -> str:
    plain = f"{readable_name(tokenizer.extractor, tokenizer.layer)}-{tokenizer.num_units}"
    taken = {path.name for path in workspace.tokenizers.glob("*")}
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name


def _arrays(tokenizer: SpeechTokenizer) -> dict[str, Floats]:
    return {"centroids": tokenizer.centroids_KE, **tokenizer.normalisation.arrays}
