"""Acoustic models by what `--aligner` says: the embedded one, MMS_FA, a Hugging Face directory.

Third parties add names through the entry-point group `cslm.aligners`: each entry loads a callable
like those of `ALIGNERS`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from cslm_data.aligning.acoustic import AcousticModel, Spelling
from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.workspace import Workspace

ENTRY_POINT_GROUP = "cslm.aligners"
EMBEDDED = "ctc"
"""The aligner that is trained on the corpus itself."""


@dataclass(frozen=True, kw_only=True)
class AlignerOptions:
    """How to find and run an acoustic model. Picklable: each worker loads its own."""

    workspace: Workspace
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes a GPU where there is one."""
    spelling: Spelling | None = None
    """How transcripts are written for a Hugging Face model; None: in characters."""
    languages: tuple[str, ...] | None = None
    """Of an embedded model that is yet to be trained; None: all there are."""
    train_options: dict[str, Any] = field(default_factory=dict)
    """Further options of that training."""
    may_train: bool = True
    """Workers may not: what they do not see is not there."""


Factory = Callable[[str, AlignerOptions], AcousticModel]


def _ctc(name: str, options: AlignerOptions) -> AcousticModel:
    """`ctc`, or `ctc:NAME` for another of the workspace's own; trained where it is missing."""
    chosen = name or EMBEDDED
    if not chosen.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--aligner ctc:{name}: a name has letters, digits, - and _ only")
    _refuse_spelling(f"ctc:{name}", options)
    folder = options.workspace.aligners / chosen
    if folder.is_dir():
        return _load_embedded(folder)
    if not options.may_train:
        raise MissingArtefactError(
            f"{folder}: machine {platform.node()} does not see the aligner that was trained there; "
            "mount the workspace on every machine under this path"
        )
    return train_embedded(chosen, options)


def _mms_fa(name: str, options: AlignerOptions) -> AcousticModel:
    """`mms_fa`, or `mms_fa:FILE` where its weights were fetched elsewhere."""
    from cslm_data.aligning.mms_fa import load_mms_fa

    _refuse_spelling("mms_fa", options)
    return load_mms_fa(Path(name).expanduser() if name else None, device=options.device)


def _hf(name: str, options: AlignerOptions) -> AcousticModel:
    from cslm_data.aligning.hf_ctc import load_hf_ctc

    folder = Path(name).expanduser()
    return load_hf_ctc(folder, spelling=options.spelling or "characters", device=options.device)


ALIGNERS: dict[str, Factory] = {EMBEDDED: _ctc, "mms_fa": _mms_fa, "hf": _hf}
"""The kinds that come with the project: what stands before the colon."""


def load_aligner(name_or_path: str, options: AlignerOptions) -> AcousticModel:
    """The acoustic model of that name, or in that folder, ready to run.

    Raises UsageError for one there is not, MissingArtefactError where its weights are neither here
    nor to be had, NoDataError where one is to be trained and there is nothing to train it on.
    """
    kind, _, rest = name_or_path.partition(":")
    factory = ALIGNERS.get(kind) or _third_party(kind)
    if factory is not None:
        return factory(rest, options)
    folder = Path(name_or_path).expanduser()
    if (folder / "config.json").is_file() and (folder / "vocab.json").is_file():
        return _hf(str(folder), options)
    if folder.is_dir() and any(folder.iterdir()):
        _refuse_spelling(name_or_path, options)
        return _load_embedded(folder)
    names = sorted({*ALIGNERS, *_entry_points()})
    raise UsageError(
        f"--aligner {name_or_path}: neither a name ({', '.join(names)}) nor a folder with a model "
        "(a Hugging Face directory has config.json and vocab.json)"
    )


def is_embedded(name_or_path: str) -> bool:
    """Whether a name is that of a model the workspace trains itself."""
    return name_or_path.partition(":")[0] == EMBEDDED


def train_embedded(name: str, options: AlignerOptions) -> AcousticModel:
    """Train the embedded model on the workspace's own speech, in place of any of that name."""
    from cslm_data.aligning.train_ctc import train_ctc

    model: AcousticModel = train_ctc(
        options.workspace,
        name=name,
        languages=options.languages,
        **options.train_options,
    )
    return model


def _load_embedded(folder: Path) -> AcousticModel:
    from cslm_data.aligning.ctc_model import load_ctc_model

    model: AcousticModel = load_ctc_model(folder)
    return model


def _refuse_spelling(name: str, options: AlignerOptions) -> None:
    if options.spelling is not None:
        raise UsageError(
            f"--spelling {options.spelling}: {name.rstrip(':')} has its own; leave --spelling out"
        )


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}


def _third_party(kind: str) -> Factory | None:
    entry = _entry_points().get(kind)
    if entry is None:
        return None
    factory: Factory = entry.load()
    return factory
