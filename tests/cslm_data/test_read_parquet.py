from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_trees import hf_parquet, query, reasons, tone_bytes, write_text
from small_files import write_tone
from speech_catalog import add, run, units, write_speech

from cslm_data.audio import decode
from cslm_data.corpora import Defaults, guess_format
from cslm_data.corpora import hf_parquet as reader
from cslm_data.corpora.source import find_source
from cslm_data.errors import NoDataError, StorageError, UsageError
from cslm_data.ingest import ingest
from cslm_data.units.exporting import export_units
from cslm_data.workspace import Workspace

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ENGLISH = Defaults(language="en")


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    table = pa.table(columns)
    if features is not None:
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def clips(number: int, **said: Any) -> pa.Array:
    return pa.array(
        [{"bytes": tone_bytes(hz=300 + n), "path": None, **said} for n in range(number)], AUDIO
    )


def test_audio_inside_is_kept_as_it_was_encoded_and_addressed(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = hf_parquet(tmp_path)
    summary = ingest(workspace, [path])
    assert (summary.sources[0].format, summary.num_rejected) == ("hf_parquet", 0)
    rows = query(
        workspace,
        "select utt_id, corpus, language, speaker, text, split, duration_s, place, audio "
        "from utterances order by utt_id",
    )
    assert [row[:8] for row in rows] == [
        ("my_corpus/clip 0", "my_corpus", "en", "a", "Sentence 0.", "validation", 0.5)
        + ("validation-00000-of-00001.parquet:1",),
        ("my_corpus/clip 1", "my_corpus", "zh", "a", "Sentence 1.", "validation", 0.5)
        + ("validation-00000-of-00001.parquet:2",),
        ("my_corpus/clip 2", "my_corpus", "de", "b", "Sentence 2.", "validation", 0.5)
        + ("validation-00000-of-00001.parquet:3",),
    ]
    [pack] = workspace.audio.iterdir()
    assert pack.read_bytes() == b"".join(tone_bytes(hz=300 + n) for n in range(3))
    (tmp_path / "two.flac").write_bytes(tone_bytes(hz=302))
    np.testing.assert_array_equal(decode(rows[2][8]), decode(str(tmp_path / "two.flac")))
    again = ingest(workspace, [path]).sources[0]
    assert (again.unchanged, again.added, again.changed) == (3, 0, 0)


def test_a_folder_of_parquet_is_read_file_by_file(workspace: Workspace, tmp_path: Path) -> None:
    first = hf_parquet(tmp_path)
    for split in ("train", "test"):
        audio = [{"bytes": tone_bytes(), "path": f"{split} {n}.flac"} for n in range(3)]
        made = hf_parquet(tmp_path / split, audio=audio)
        made.rename(first.with_name(f"{split}-00000-of-00001.parquet"))
    write(first.with_name("labels.parquet"), {"label": [1]})
    broken = write_text(first.with_name("broken.parquet"), "PAR1")
    summary = ingest(workspace, [first.parent])
    assert summary.unrecognised == (str(broken), str(first.with_name("labels.parquet")))
    assert [source.format for source in summary.sources] == ["hf_parquet"] * 3
    assert query(
        workspace,
        "select split, count(*), any_value(corpus) from utterances group by all order by 1",
    ) == [("test", 3, "my_corpus"), ("train", 3, "my_corpus"), ("validation", 3, "my_corpus")]
    assert len(list(workspace.audio.iterdir())) == 3


def test_awkward_rows(workspace: Workspace, tmp_path: Path) -> None:
    data = tone_bytes()
    audio: list[dict[str, Any] | None] = [
        {"bytes": data, "path": "x.flac"},
        {"bytes": data, "path": "x.flac"},
        {"bytes": b"", "path": "empty.flac"},
        {"bytes": b"noise" * 50, "path": "noise.flac"},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "wavs/ä b.wav"},
        {"bytes": None, "path": "gone.wav"},
    ]
    write_tone(tmp_path / "c" / "wavs" / "ä b.wav", rate=8000)
    ids = ["a", "a", "c", "d", "e", "f", "g", "h"]
    path = write(
        tmp_path / "c" / "train.parquet",
        {"sound": pa.array(audio, AUDIO), "id": ids, "text": ["t", " ", *"cdefgh"]},
    )
    summary = ingest(workspace, [path], defaults=ENGLISH)
    assert query(
        workspace, "select utt_id, text, audio like '%#bytes=%' from utterances order by all"
    ) == [
        ("a", "t", True),
        ("g", "g", False),
    ]
    assert reasons(workspace) == {
        "a": "duplicate_id",
        "c": "empty",
        "d": "unreadable",
        "e": "no_audio",
        "f": "no_audio",
        "h": "missing",
    }
    assert summary.num_rows == 8


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/1.wav", "a/2.wav"], ["c/1", "c/2"]),
        (["a/1.wav", "b/1.wav"], ["c/train-0/1", "c/train-0/2"]),
        ([None, "b/1.wav"], ["c/train-0/1", "c/train-0/2"]),
    ],
)
def test_ids_are_made_of_paths_that_tell_rows_apart_else_of_the_place(
    workspace: Workspace, tmp_path: Path, paths: list[str | None], expected: list[str]
) -> None:
    audio = [{"bytes": tone_bytes(hz=300 + n), "path": path} for n, path in enumerate(paths)]
    path = write(tmp_path / "c" / "train-0.parquet", {"audio": pa.array(audio, AUDIO)})
    ingest(workspace, [path], defaults=ENGLISH)
    assert [
        row[0] for row in query(workspace, "select utt_id from utterances order by 1")
    ] == expected


def test_the_column_of_audio_is_known_by_type_and_by_what_datasets_says(
    workspace: Workspace, tmp_path: Path
) -> None:
    columns = {
        "picture": clips(1, bytes=b"png"),
        "speech": clips(1),
        "lang_id": [1],
        "raw_transcription": ["Raw, text."],
        "transcription": ["raw text"],
        "speaker_id": [17],
    }
    features = {
        "picture": {"_type": "Image"},
        "speech": {"_type": "Audio", "sampling_rate": 16000},
        "lang_id": {"_type": "ClassLabel", "names": ["de_de", "cmn_hans_cn"]},
    }
    path = write(tmp_path / "fleurs" / "train.parquet", columns, features)
    ingest(workspace, [path])
    assert query(workspace, "select utt_id, text, speaker, language, split from utterances") == [
        ("fleurs/train/1", "Raw, text.", "17", "cmn", "train")
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"]},
        {"audio": ["a.wav"]},
        {"audio": pa.array([{"bytes": b"x", "label": 1}])},
        {"image": clips(1)},
    ],
)
def test_parquet_without_audio_is_not_recognised(tmp_path: Path, columns: dict[str, Any]) -> None:
    features = {"image": {"_type": "Image"}} if "image" in columns else None
    path = write(tmp_path / "x.parquet", columns, features)
    assert guess_format(find_source(path)) is None
    with pytest.raises(UsageError, match="struct<bytes, path>"):
        next(reader.read(find_source(path), Defaults()))


def test_broken_parquet_is_a_clear_error(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="no row that we recognise"):
        ingest(workspace, [write_text(tmp_path / "x.parquet", "PAR1 not really")])
    path = hf_parquet(tmp_path)
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    with pytest.raises(StorageError, match="fetch it again"):
        ingest(workspace, [path])
    assert not workspace.audio.exists() or not list(workspace.audio.iterdir())


def test_memory_stays_that_of_a_row_group(tmp_path: Path) -> None:
    """160 MB of audio in row groups of 8 MB; a batch of rows may span a few of them."""
    schema = pa.schema([("audio", AUDIO)])
    path = tmp_path / "big.parquet"
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        blob = np.random.default_rng(0).integers(0, 255, 1 << 20, np.uint8).tobytes()
        for group in range(20):
            rows = [{"bytes": blob[n:] + blob[:n], "path": f"{group}/{n}.wav"} for n in range(8)]
            writer.write_batch(pa.record_batch([pa.array(rows, AUDIO)], schema=schema))
        del rows
    kept = 0

    def keep(name: str, data: bytes) -> str:
        nonlocal kept
        kept += len(data)
        return "/x"

    before = pa.total_allocated_bytes()
    peak = 0
    for _ in reader.read(find_source(path), Defaults(language="en", keep_audio=keep)):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert kept == 160 << 20
    assert peak < 64 << 20, f"{peak >> 20} MB"


def test_units_are_made_of_packed_audio_and_its_addresses_are_no_paths_for_others(
    workspace: Workspace, tmp_path: Path
) -> None:
    speech = [write_speech(tmp_path / f"{n}.wav", n).read_bytes() for n in range(4)]
    audio = pa.array([{"bytes": data, "path": None} for data in speech], AUDIO)
    ingest(workspace, [write(tmp_path / "c" / "t.parquet", {"audio": audio})], defaults=ENGLISH)
    assert run(workspace, num_units=4).num_out == 4
    other = Workspace(tmp_path / "other")
    for number in range(4):
        add(other, tmp_path / f"{number}.wav", f"c/t/{number + 1}")
    run(other, num_units=4)
    ours, theirs = units(workspace), units(other)
    assert [row[1:4] for row in ours] == [row[1:4] for row in theirs]
    refused = export_units(workspace, tmp_path / "plain", format="slamkit")
    assert refused.reject_reasons == {"inside": 4}
    assert export_units(workspace, tmp_path / "cut", format="slamkit", cut=True).num_out == 4
