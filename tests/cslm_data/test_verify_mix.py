"""Damage of every kind planted in a whole mix: it is found, where it is, and nothing else is."""

from __future__ import annotations

import functools
import json
import tarfile

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from shard_mix import SHARDS, make_mix, make_sample

from cslm_data.errors import UsageError
from cslm_data.exporting.energon import write_energon_meta
from cslm_data.shards import index_path
from cslm_data.verify import verify_mix

FIRST = "train-000000.tar"


@pytest.fixture
def mix(workspace):
    return make_mix(workspace)


def found(workspace, **options):
    report = verify_mix(workspace, "m", num_workers=1, **options)
    return {(f.check, f.shard, f.key) for f in report.findings}


def edit(mix, change):
    path = mix / "mix.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def patch(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def offsets(shard, name):
    with tarfile.open(shard) as tar:
        member = tar.getmember(name)
        return member.offset, member.offset_data


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_a_whole_mix_has_no_findings(workspace, mix):
    write_energon_meta(mix)
    report = verify_mix(workspace, "m", num_workers=1)
    assert report.findings == ()
    assert (report.num_shards, report.num_samples, report.num_units) == (3, 6, 18)
    assert report.text_checked
    assert verify_mix(workspace, "m", fast=True, num_workers=1).findings == ()


def test_processes_find_what_one_does(workspace, mix):
    (mix / "shards" / "x").touch()
    flip(mix / "shards" / FIRST, offsets(mix / "shards" / FIRST, "mt-1.json")[1] + 5)
    alone = verify_mix(workspace, "m", num_workers=1)
    assert alone.findings and verify_mix(workspace, "m", num_workers=2) == alone


def test_a_name_that_is_no_mix_is_a_users_mistake(workspace, mix):
    with pytest.raises(UsageError, match="nowhere: no such mix; there is: m"):
        verify_mix(workspace, "nowhere")


@pytest.mark.parametrize(
    ("member", "distance", "checks"),
    [
        ("s2s-2.units.npy", 128, {"checksum"}),  # a unit: 2 becomes 3
        ("s2s-2.units.npy", 70, {"checksum", "npy"}),
        ("asr-0.json", 3, {"checksum", "segments"}),
    ],
)
def test_a_flipped_bit_of_a_member_is_found_in_its_sample(workspace, mix, member, distance, checks):
    shard = mix / "shards" / FIRST
    flip(shard, offsets(shard, member)[1] + distance)
    key = member.split(".")[0]
    assert found(workspace) == {("sha256", FIRST, "")} | {(c, FIRST, key) for c in checks}
    assert found(workspace, fast=True) == set()


@pytest.mark.parametrize("place", [0, 100, 136, 150, 156, 157, 124])
def test_a_flipped_bit_of_a_header_is_found(workspace, mix, place):
    shard = mix / "shards" / FIRST
    flip(shard, offsets(shard, "mt-1.json")[0] + place)
    assert found(workspace) == {("sha256", FIRST, ""), ("tar", FIRST, "")}


def test_a_flipped_bit_in_a_gap_or_at_the_end_is_found(workspace, mix):
    for shard in (FIRST, "train-000001.tar"):
        path = mix / "shards" / shard
        flip(path, -1 if shard == FIRST else offsets(path, "mt-4.json")[1] + 511)
    expected = {(check, s, "") for check in ("sha256", "tar") for s in (FIRST, "train-000001.tar")}
    assert found(workspace) == expected


@pytest.mark.parametrize("left", [0, 100, 512, 3000, -512, -1])
def test_a_truncated_shard_is_found_also_in_haste(workspace, mix, left):
    shard = mix / "shards" / FIRST
    content = shard.read_bytes()
    shard.write_bytes(content[:left])
    thorough = {("sha256", FIRST, ""), ("tar", FIRST, "")} if left else set()
    hasty = {("size", FIRST, ""), ("index", FIRST, "")}
    assert found(workspace) == hasty | thorough
    assert found(workspace, fast=True) == hasty


def test_members_in_another_order_are_found(workspace, mix):
    shard = mix / "shards" / FIRST
    (json_at, _), (npy_at, _) = (offsets(shard, f"asr-0.{s}") for s in ("json", "units.npy"))
    end, _ = offsets(shard, "mt-1.json")
    content = shard.read_bytes()
    shard.write_bytes(content[npy_at:end] + content[json_at:npy_at] + content[end:])
    assert found(workspace) == {
        *((check, FIRST, "asr-0") for check in ("members", "index", "segments")),
        ("sha256", FIRST, ""),
    }


@pytest.mark.parametrize(
    ("place", "value"),
    [(147 - 1, b"1"), (156, b"2"), (157, b"x"), (114, b"7"), (156, b"x"), (345, b"/"), (510, b"x")],
)
def test_links_times_owners_and_extensions_are_found(workspace, mix, place, value):
    """With a right checksum: a tar like any other, but none of ours."""
    shard = mix / "shards" / FIRST
    start, _ = offsets(shard, "mt-1.json")
    content = bytearray(shard.read_bytes())
    header = content[start : start + 512]
    header[place : place + 1] = value
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    content[start : start + 512] = header
    shard.write_bytes(content)
    assert found(workspace) == {("sha256", FIRST, ""), ("tar", FIRST, "")}


def test_an_entry_of_one_sample_at_another_is_found(workspace, mix):
    shard = mix / "shards" / FIRST
    with pq.ParquetFile(index_path(shard)) as file:
        table, head = file.read(), file.metadata.metadata
    rows = table.to_pylist()
    rows[0]["key"], rows[1]["key"] = rows[1]["key"], rows[0]["key"]
    changed = type(table).from_pylist(rows, table.schema).replace_schema_metadata(head)
    pq.write_table(changed, index_path(shard))
    swapped = {(check, FIRST, key) for check in ("index", "mix_parquet") for key in SHARDS[FIRST]}
    assert found(workspace) == {row for row in swapped if row[2] != "s2s-2"}


def test_a_key_that_comes_twice_is_found_over_splits(workspace):
    make_mix(workspace, shards={**SHARDS, "test-000000.tar": ["asr-0"]})
    report = verify_mix(workspace, "m", num_workers=1)
    assert [(f.check, f.key) for f in report.findings] == [("duplicate_key", "asr-0")]
    assert "test-000000.tar, train-000000.tar" in report.findings[0].detail


def test_a_unit_that_the_tokenizer_does_not_have_is_found(workspace):
    make = functools.partial(make_sample, top=500)
    mix = make_mix(workspace, make=lambda key: (make if key == "s2s-5" else make_sample)(key))
    edit(mix, lambda d: d.update(num_units=500))
    rows = found(workspace)
    assert ("unit", "test-000000.tar", "s2s-5") in rows
    assert rows - {("identity", shard, "") for shard in SHARDS} == {
        ("unit", "test-000000.tar", "s2s-5")
    }


@pytest.mark.parametrize("fast", [True, False])
def test_missing_extra_and_renamed_files_are_found(workspace, mix, fast):
    shards = mix / "shards"
    index_path(shards / "test-000000.tar").unlink()
    (shards / "train-000001.tar").rename(shards / "train-000009.tar")
    (mix / "notes.txt").touch()
    expected = {
        ("missing_file", "test-000000.tar", ""),
        ("missing_file", "train-000001.tar", ""),
        ("unknown_file", "", ""),
    }
    assert found(workspace, fast=fast) == expected
    details = [f.detail for f in verify_mix(workspace, "m", fast=True, num_workers=1).findings]
    assert "mix.json knows no shards/train-000009.tar" in details


def test_a_shard_under_the_name_of_another_is_found(workspace, mix):
    shards = mix / "shards"
    a, b = shards / FIRST, shards / "train-000001.tar"
    for one, other in ((a, b), (index_path(a), index_path(b))):
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    rows = found(workspace, fast=True)
    assert {("identity", FIRST, ""), ("size", FIRST, ""), ("sums", FIRST, "")} <= rows


def test_an_edited_mix_json_is_found(workspace, mix):
    def change(document):
        document["splits"]["train"]["num_tokens"] += 1
        document["template_version"] = "older"
        document["shards"][2]["sha256"] = "0" * 64

    edit(mix, change)
    assert found(workspace) == {
        ("sums", "", ""),
        ("sha256", "test-000000.tar", ""),
        *(("identity", shard, "") for shard in SHARDS),
    }
    (mix / "mix.json").write_text("{")
    assert found(workspace) == {("mix_json", "", "")}


def test_a_mix_json_that_forgot_a_shard_is_found(workspace, mix):
    edit(mix, lambda d: d["shards"].pop(1))
    assert found(workspace) == {("mix_json", "", ""), ("unknown_file", "", "")}


@pytest.mark.parametrize("fast", [True, False])
def test_an_edited_mix_parquet_is_found(workspace, mix, fast):
    path = str(mix / "mix.parquet")
    duckdb.sql(
        f"copy (select * replace (case when key = 'mt-4' then 'mt-9' else key end as key, "
        f"num_units + (key = 'asr-0')::int as num_units) from '{path}') "
        f"to '{path}.new' (format parquet)"
    )
    (mix / "mix.parquet.new").replace(mix / "mix.parquet")
    assert found(workspace, fast=fast) == {
        ("mix_parquet", FIRST, "asr-0"),
        ("mix_parquet", "train-000001.tar", "mt-4"),
        ("mix_parquet", "train-000001.tar", "mt-9"),
    }
    (mix / "mix.parquet").write_bytes(b"no")
    assert found(workspace, fast=fast) == {("mix_parquet", "", "")}


def test_a_text_tokenizer_that_loses_characters_or_is_another_is_found(workspace, mix):
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"where": 0, "?": 1, "[UNK]": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = workspace.text_tokenizers / "bpe"
    backend.save(str(folder / "tokenizer.json"))
    assert found(workspace) == {("text_tokenizer", "", "")}
    from cslm_data.text_tokenizer import load_text_tokenizer

    loaded = load_text_tokenizer(folder)
    edit(mix, lambda d: d.update(text_tokenizer_id=loaded.text_tokenizer_id))
    rows = found(workspace) - {("identity", shard, "") for shard in SHARDS}
    assert rows == {("lossy_text", shard, key) for shard, keys in SHARDS.items() for key in keys}


def test_many_findings_of_a_kind_are_counted_not_listed(workspace):
    keys = [f"asr-{number}" for number in range(100, 150)]
    mix = make_mix(workspace, shards={FIRST: keys})
    edit(mix, lambda d: d.update(num_units=100))
    report = verify_mix(workspace, "m", num_workers=1)
    units = [f for f in report.findings if f.check == "unit"]
    assert len(units) == 21 and units[-1].detail == "and 30 more"
    assert np.unique([f.key for f in units]).size == 21
