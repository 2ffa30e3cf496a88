from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from cslm_data.errors import (
    CorruptArtefactError,
    MissingArtefactError,
    TokenizerMismatchError,
)
from cslm_data.records import Sample, Segment
from cslm_data.shards import (
    MixInfo,
    ShardFile,
    decode_sample,
    index_path,
    iter_samples,
    read_index,
    write_shard,
)
from cslm_data.ustar import npy_header


def speech(units, role="assistant", part="", language="en"):
    return Segment(
        modality="speech",
        language=language,
        role=role,
        trained=role == "assistant",
        part=part,
        units=np.array(units, np.uint16),
    )


def text(words, role="user", part="", language="en"):
    return Segment(
        modality="text",
        language=language,
        role=role,
        trained=role == "assistant",
        part=part,
        text=words,
    )


SAMPLES = [
    Sample(
        key="s2s-aa_1",
        task="s2s",
        languages="en-zh",
        segments=(
            text("用中文回答。\n", language="zh"),
            speech([0, 65, 499], role="user"),
            text("why <sosp> <|eot_id|>?", role="assistant", part="tq"),
            text("因为", role="assistant", part="ta", language="zh"),
            speech([7], part="sa", language="zh"),
        ),
    ),
    Sample(
        key="mt-bb",
        task="mt",
        languages="en-zh",
        segments=(text("Hi"), text("嗨", role="assistant", language="zh")),
    ),
    Sample(
        key="tts-cc",
        task="tts",
        languages="en",
        segments=(text("x" * 700), speech(np.arange(500))),
    ),
]

KEYS = ["s2s-aa_1", "mt-bb", "tts-cc"]
IDENTITY = {"tokenizer_id": "mfcc-500-1a2b", "num_units": 500, "text_tokenizer_id": "bpe-1"}


def write(path, samples=SAMPLES):
    return write_shard(path, samples, split="train", **IDENTITY)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "mixes" / "m" / "shards" / "train-000000.tar"
    path.parent.mkdir(parents=True)
    write(path)
    return path


def test_samples_come_back_equal_by_index(shard):
    file = ShardFile(shard)
    assert [file.sample(i) for i in range(len(file))] == SAMPLES
    assert file.sample(2).segments[1].units.dtype == np.uint16


def test_python_tarfile_reads_names_contents_and_clean_metadata(shard):
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [
            "s2s-aa_1.json",
            "s2s-aa_1.units.npy",
            "mt-bb.json",
            "tts-cc.json",
            "tts-cc.units.npy",
        ]
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}
        assert all(m.isreg() and not m.pax_headers for m in members)
        units = np.load(io.BytesIO(tar.extractfile("tts-cc.units.npy").read()))
        assert units.tolist() == list(range(500))
        document = json.loads(tar.extractfile("s2s-aa_1.json").read())
        assert document["segments"][1]["units"] == [0, 3]
        assert document["segments"][4]["units"] == [3, 4]
        # offsets of the index are those of the data
        for entry, name in zip(read_index(shard).samples, KEYS, strict=True):
            member = tar.getmember(f"{name}.json")
            assert entry.json == (member.offset_data, member.size)


@pytest.mark.filterwarnings("ignore")
def test_plain_webdataset_decodes_it(shard):
    webdataset = pytest.importorskip("webdataset")
    dataset = webdataset.WebDataset([str(shard)], shardshuffle=False).decode()
    rows = list(dataset)
    assert [row["__key__"] for row in rows] == [s.key for s in SAMPLES]
    assert rows[0]["units.npy"].tolist() == [0, 65, 499, 7]
    assert "units.npy" not in rows[1]
    assert rows[1]["json"]["segments"][1]["text"] == "嗨"


@pytest.mark.parametrize("count", [0, 1, 9, 10, 65536, 10**7])
def test_npy_header_is_what_numpy_writes(count):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<u2", "fortran_order": False, "shape": (count,)}
    )
    assert npy_header(count) == stream.getvalue()


def test_bytes_depend_on_the_samples_alone(tmp_path):
    first, second = tmp_path / "a" / "t.tar", tmp_path / "b" / "t.tar"
    entry = write(first)
    assert write(second) == entry
    assert first.read_bytes() == second.read_bytes()
    assert index_path(first).read_bytes() == index_path(second).read_bytes()
    assert entry.num_bytes == first.stat().st_size
    assert entry.sha256 == hashlib.sha256(first.read_bytes()).hexdigest()
    assert entry.num_samples == 3


@pytest.mark.parametrize("key", ["", "a.b", "../x", "a b", "ü", "x" * 91])
def test_bad_keys_are_refused_and_leave_no_shard(tmp_path, key):
    with pytest.raises(ValueError, match="bad sample key"):
        write(tmp_path / "t.tar", [dataclasses.replace(SAMPLES[0], key=key)])
    assert list(tmp_path.iterdir()) == []


def test_a_unit_outside_of_the_vocabulary_is_refused(tmp_path):
    bad = Sample(key="k", task="tts", languages="en", segments=(speech([500]),))
    with pytest.raises(CorruptArtefactError, match="unit 500 of a vocabulary of 500"):
        write(tmp_path / "t.tar", [bad])


def test_a_finished_tar_always_has_its_index(tmp_path, monkeypatch):
    path = tmp_path / "t.tar"

    def die(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("cslm_data.shard_index.index_path", die)
    with pytest.raises(KeyboardInterrupt):
        write(path)
    assert not path.exists()


def test_a_missing_or_broken_index_is_a_clear_error(shard):
    index_path(shard).write_bytes(b"{}")
    with pytest.raises(CorruptArtefactError, match="not a shard index"):
        read_index(shard)
    index_path(shard).unlink()
    with pytest.raises(MissingArtefactError, match="build-mix"):
        ShardFile(shard)


@pytest.mark.parametrize("moved", [512, 2**40])
def test_offsets_that_do_not_hit_the_units_are_noticed(shard, moved):
    rewrite_index(shard, lambda row: row | {"units_offset": (row["units_offset"] or 0) + moved})
    with pytest.raises(CorruptArtefactError, match="do not begin where"):
        ShardFile(shard).sample(0)


def rewrite_index(shard, change):
    """Change each row of an index, with no code of ours."""
    with pq.ParquetFile(index_path(shard)) as file:
        table, head = file.read(), file.metadata.metadata
    rows = [change(row) for row in table.to_pylist()]
    table = pa.Table.from_pylist(rows, table.schema).replace_schema_metadata(head)
    pq.write_table(table, index_path(shard), store_schema=True)


def test_an_index_of_an_earlier_version_asks_for_a_new_mix(shard):
    index_path(shard).rename(shard.with_name("train-000000.tar.idx.json"))
    with pytest.raises(MissingArtefactError, match=r"earlier version.*build-mix --overwrite"):
        read_index(shard)


def test_an_index_of_a_later_version_is_refused(shard):
    with pq.ParquetFile(index_path(shard)) as file:
        table, head = file.read(), json.loads(file.metadata.metadata[b"cslm"])
    table = table.replace_schema_metadata({"cslm": json.dumps(head | {"version": 2})})
    pq.write_table(table, index_path(shard))
    with pytest.raises(CorruptArtefactError, match="index of version 2, this program reads 1"):
        read_index(shard)


def test_the_index_is_a_table_that_any_parquet_reader_understands(shard):
    rows = pq.read_table(index_path(shard)).to_pylist()
    tar = shard.read_bytes()
    for row, sample in zip(rows, SAMPLES, strict=True):
        json_end = row["json_offset"] + row["json_bytes"]
        document = tar[row["json_offset"] : json_end]
        assert json.loads(document)["task"] == row["task"] == sample.task
        array = b""
        if row["units_offset"] is None:
            assert row["units_bytes"] is None and row["num_units"] == 0
        else:
            array = tar[row["units_offset"] : row["units_offset"] + row["units_bytes"]]
            assert len(np.load(io.BytesIO(array))) == row["num_units"]
        assert xxhash.xxh64(document + array).intdigest() == row["checksum"]
    assert [row["num_units"] for row in rows] == [4, 0, 500]
    index = read_index(shard)
    assert (index.shard, index.split, index.num_units) == ("train-000000.tar", "train", 500)
    assert index.position("tts-cc") == 2 and index.position("nowhere") is None


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"{}",
        b"{",
        b'{"task":"mt","languages":"en","segments":[{"modality":"text"}]}',
        b'{"task":"mt","languages":"en","segments":[{"modality":"speech","language":"en",'
        b'"role":"user","trained":false,"part":"","units":[0,5]}]}',
        b'{"task":"mt","languages":"en","segments":[{"modality":"speech","language":"en",'
        b'"role":"user","trained":false,"part":"","units":[-1,2]}]}',
    ],
)
def test_a_document_that_is_no_sample_is_one_clear_error(document):
    with pytest.raises(CorruptArtefactError, match="sample k: .*cslm-data verify"):
        decode_sample("k", document, np.zeros(4, np.uint16))


def test_a_range_of_samples_is_read_in_order(shard):
    file = ShardFile(shard)
    assert list(file.samples(1, 3)) == SAMPLES[1:3]
    assert list(file.samples(3)) == []
    assert [units.tolist() for units in file.units()] == [[0, 65, 499, 7], [], list(range(500))]
    assert [len(units) for units in file.units(1, 2)] == [0]
    assert [dataclasses.replace(s) for s in file.samples()] == SAMPLES


def test_mix_info_reads_refuses_and_lists(shard):
    mix_dir = shard.parent.parent
    with pytest.raises(MissingArtefactError, match="build-mix"):
        MixInfo.load(mix_dir)
    entry = write(shard)
    row = {
        "mix_id": "abc",
        "name": "m",
        "stage": "pretrain",
        "languages": ["en", "zh"],
        "seed": 1,
        "recipe": {},
        "tokenizer_id": "mfcc-500-1a2b",
        "num_units": 500,
        "frame_rate_hz": 50.0,
        "text_tokenizer_id": "bpe-1",
        "text_tokenizer": "text_tokenizers/bpe",
        "template_version": "1",
        "splits": {"train": {"num_samples": 3, "num_tokens": 9}},
        "realised": [],
        "shards": [dataclasses.asdict(entry)],
        "counts": {},
    }
    (mix_dir / "mix.json").write_text(json.dumps(row))
    info = MixInfo.load(mix_dir)
    assert info.shards("train") == [shard] and info.shards("valid") == []
    assert list(iter_samples(mix_dir, "train")) == SAMPLES
    info.require(tokenizer_id="mfcc-500-1a2b", text_tokenizer_id="bpe-1", template_version="1")
    with pytest.raises(TokenizerMismatchError, match=r"mfcc-500-1a2b.*hubert-l6-500-9.*build-mix"):
        info.require(tokenizer_id="hubert-l6-500-9")
    with pytest.raises(TokenizerMismatchError, match="text tokenizer bpe-1"):
        info.require(text_tokenizer_id="bpe-2")
    del row["seed"]
    (mix_dir / "mix.json").write_text(json.dumps(row))
    with pytest.raises(CorruptArtefactError, match="seed"):
        MixInfo.load(mix_dir)
