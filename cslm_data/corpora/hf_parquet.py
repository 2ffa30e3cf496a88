"""Hugging Face audio datasets: Parquet with a column `struct<bytes, path>` and one of text.

Source: huggingface.co/docs/datasets (Audio feature, `save_to_disk` and `push_to_hub` aside: the
Parquet files of a repository). Audio that is inside is kept in the workspace, as it is encoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cslm_data.corpora.language_tags import code_of
from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.errors import StorageError, UsageError
from cslm_data.records import Reject, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults

_TEXTS = (
    *("raw_transcription", "raw_text", "text", "sentence"),
    *("transcription", "transcript", "normalized_text"),
)
"""The first of these counts: what a corpus has not normalised comes first."""

_ROLES = {
    "text": _TEXTS,
    "id": ("id", "utt_id", "audio_id"),
    "speaker": ("speaker_id", "speaker", "client_id"),
    "language": ("language", "locale", "lang_id", "lang"),
    "license": ("license",),
}
_SPLITS = ("train", "validation", "valid", "dev", "test")
_BATCH_ROWS = 32
"""Audio of so many rows is in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which column is what."""

    audio: str
    has_bytes: bool
    has_path: bool
    columns: dict[str, str]
    names: dict[str, list[str]] = field(default_factory=dict)
    """Names of the classes of columns that hold their numbers."""


def recognises(source: Source) -> bool:
    """A column of audio."""
    return source.suffix == ".parquet" and _layout_of(source) is not None


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Reject]:
    """One utterance a row, in the order of the file; as much of it in memory as a few rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = _layout_of(source)
    if layout is None:
        raise UsageError(f"{source.uri}: no Parquet file with a column struct<bytes, path>")
    corpus = defaults.corpus or _corpus(source)
    split = defaults.split or _split(source.stem)
    inside = [name for name in ("bytes", "path") if getattr(layout, f"has_{name}")]
    columns = [*(f"{layout.audio}.{name}" for name in inside), *layout.columns.values()]
    try:
        with source.open() as stream:
            file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
            unique = layout.has_path and _paths_are_unique(file, layout.audio)
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    place = f"{source.name}:{number}"
                    named = f"{source.stem}/{number}"
                    if unique:
                        named = PurePosixPath(row[layout.audio]["path"]).stem
                    said = {role: _said(row, layout, role) for role in _ROLES}
                    key = said["id"] or f"{corpus}/{named}"
                    yield _utterance(
                        row.get(layout.audio), said, key, place, corpus, split, source, defaults
                    )
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{source.uri}: cannot be read ({str(error).strip().splitlines()[0]}); fetch it again"
        ) from error


def _utterance(
    audio: dict[str, Any] | None,
    said: dict[str, str | None],
    key: str,
    place: str,
    corpus: str,
    split: str | None,
    source: Source,
    defaults: Defaults,
) -> Utterance | Reject:
    language = code_of(said["language"]) if said["language"] else defaults.language
    if language is None:
        return reject(corpus, key, "no_language", f"{place}: no column of languages; give --lang")
    data, path = (audio or {}).get("bytes"), (audio or {}).get("path")
    if data is None and not path:
        return reject(corpus, key, "no_audio", f"{place}: neither bytes nor a path of audio")
    if data is not None:
        if defaults.keep_audio is None:
            raise UsageError(
                f"{source.uri}: audio inside of a file needs a workspace to keep it in"
            )
        address = defaults.keep_audio(key, data)
    else:
        address = source.resolve(str(path))
    return Utterance(
        utt_id=key,
        corpus=corpus,
        audio=address,
        language=language,
        speaker=said["speaker"],
        text=said["text"],
        license=said["license"] or defaults.license,
        split=split,
        place=place,
    )


def _layout_of(source: Source) -> _Layout | None:
    """Which column is what, from the schema alone; None: no Parquet, or without audio."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.is_folder:
        return None
    try:
        with source.open() as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError):
        return None
    features = _features(schema.metadata or {})
    found = [each for each in schema if pa.types.is_struct(each.type) and _is_audio(each.type)]
    # A column of images has the same type; only the features tell.
    found = [each for each in found if _kind(features.get(each.name)) in ("Audio", "")]
    if not found:
        return None
    found.sort(key=lambda each: (_kind(features.get(each.name)) != "Audio", each.name != "audio"))
    inside = [each.name for each in found[0].type]
    columns = {
        role: next(name for name in names if name in schema.names)
        for role, names in _ROLES.items()
        if any(name in schema.names for name in names)
    }
    classes = {
        name: features[name]["names"]
        for name in columns.values()
        if _kind(features.get(name)) == "ClassLabel"
        and isinstance(features[name].get("names"), list)
    }
    return _Layout(
        audio=found[0].name,
        has_bytes="bytes" in inside,
        has_path="path" in inside,
        columns=columns,
        names=classes,
    )


def _is_audio(kind: Any) -> bool:
    import pyarrow as pa

    inside = {each.name: each.type for each in kind}
    if not inside or inside.keys() - {"bytes", "path", "sampling_rate", "array"}:
        return False
    data = inside.get("bytes", pa.binary())
    path = inside.get("path", pa.string())
    is_bytes = pa.types.is_binary(data) or pa.types.is_large_binary(data) or pa.types.is_null(data)
    is_path = pa.types.is_string(path) or pa.types.is_large_string(path) or pa.types.is_null(path)
    return is_bytes and is_path and bool(inside.keys() & {"bytes", "path"})


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What `datasets` says of the columns; nothing where it did not write the file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _said(row: dict[str, Any], layout: _Layout, role: str) -> str | None:
    """A cell as text, None where it is blank; the number of a class as its name."""
    name = layout.columns.get(role)
    value = None if name is None else row.get(name)
    if value is None or isinstance(value, dict | list | bytes):
        return None
    classes = layout.names.get(name or "")
    if classes is not None and isinstance(value, int) and 0 <= value < len(classes):
        value = classes[value]
    return str(value) if str(value).strip() else None


def _paths_are_unique(file: Any, audio: str) -> bool:
    """Whether every row has a path, and no two have one of the same stem."""
    seen = set()
    for batch in file.iter_batches(4096, columns=[f"{audio}.path"]):
        for cell in batch.column(0).to_pylist():
            path = (cell or {}).get("path")
            stem = PurePosixPath(path).stem if path else ""
            if not stem or stem in seen:
                return False
            seen.add(stem)
    return True


def _corpus(source: Source) -> str:
    """The name of the dataset: of its folder, or of the one above `data`."""
    parts = [part for part in source.folder().split("/") if part]
    while len(parts) > 1 and parts[-1] in ("data", *_SPLITS):
        parts.pop()
    return parts[-1] if parts else source.stem


def _split(stem: str) -> str | None:
    """`train` of `train-00000-of-00014` or `train.100-00000-of-00014`."""
    head = stem.split("-")[0].split(".")[0].split("_")[0].lower()
    return head if head in _SPLITS else None
