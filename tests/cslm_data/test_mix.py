from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest
from mix_workspace import TOKENIZER, N, fill, recipe_file, rows_of, shard_bytes_of

from cslm_data.catalog import open_catalog
from cslm_data.errors import UsageError
from cslm_data.mix import build_mix, plan_only
from cslm_data.mixing.planning import MixOptions
from cslm_data.samples import count_tokens
from cslm_data.shards import iter_samples, read_index
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill(Workspace(tmp_path_factory.mktemp("w")))


@pytest.fixture
def workspace(filled, tmp_path):
    """The filled workspace with mixes and text tokenizers of its own."""
    for name in ("catalog.duckdb", "units", "alignments", "tokenizers"):
        (tmp_path / name).symlink_to(filled.root / name)
    return Workspace(tmp_path)


def test_the_default_mixes_are_built_counted_exactly_and_traceable(workspace):
    for stage, tasks in (
        ("pretrain", {"asr", "tts", "mt", "instruct"}),
        ("sft", {"s2s", "t2s", "instruct", "mt"}),
    ):
        summary = build_mix(workspace, languages=["en", "zh"], stage=stage)
        info = summary.info
        counts = info.counts
        assert counts["candidates"] == sum(
            counts[k] for k in ("selected", "not_selected", "rejected")
        )
        assert counts["rejected"] == 0 and summary.reject_reasons == {}
        text = load_text_tokenizer(info.text_tokenizer_path())
        assert text.id == info.text_tokenizer_id
        rows = rows_of(workspace, stage)
        samples = [
            s for split in ("train", "valid", "test") for s in iter_samples(info.folder, split)
        ]
        assert [r["key"] for r in rows] == [s.key for s in samples]
        assert {s.task for s in samples} == tasks
        assert [r["num_tokens"] for r in rows] == count_tokens(samples, text.encode_batch)
        assert [r["num_units"] for r in rows] == [
            sum(len(x.units) for x in s.segments) for s in samples
        ]
        assert [r["languages"] for r in rows] == [s.languages for s in samples]
        assert (
            sum(r["num_tokens"] for r in rows if r["split"] == "train")
            == (info.splits["train"]["num_tokens"])
        )
        for split in ("train", "valid", "test"):
            positions = [r["position"] for r in rows if r["split"] == split]
            assert positions == list(range(len(positions))) and positions
            indexed = [
                (e.key, path.name) for path in info.shards(split) for e in read_index(path).samples
            ]
            assert indexed == [(r["key"], r["shard"]) for r in rows if r["split"] == split]
        for entry in info.entries:
            assert entry.num_bytes == (info.folder / "shards" / entry.shard).stat().st_size
        with open_catalog(workspace, doing="test") as db:
            mixes = db.execute("select mix, tokenizer_id from mixes").fetchall()
            assert (stage, TOKENIZER) in mixes
    assert not list(workspace.mixes.glob(".*"))


def test_the_sft_mix_has_chains_in_one_language_and_across_two(workspace):
    build_mix(workspace, languages=["en", "zh"], stage="sft")
    rows = rows_of(workspace, "sft")
    spoken = {(r["task"], r["languages"]) for r in rows if r["task"] in ("s2s", "t2s")}
    assert spoken == {(t, p) for t in ("s2s", "t2s") for p in ("en", "zh", "en-zh", "zh-en")}
    cross = next(r for r in rows if r["languages"] == "en-zh" and r["task"] == "s2s")
    question, answer = cross["source_ids"]
    assert question.startswith("qa-en-") and answer == question.replace("-en-", "-zh-")


SENTENCES = """
select utt_id as id, text_key from utterances where text_key is not null
union all select pair_id as id, unnest([src_key, tgt_key]) as text_key from bitext
union all select dialogue_id as id, text_key from dialogue_turns
where role = 'user' or utt_id is not null
"""


def test_no_sentence_is_on_both_sides_over_all_tasks_and_both_stages(workspace):
    sentences: dict[str, list[int]] = {}
    with open_catalog(workspace, doing="test") as db:
        for source, key in db.execute(SENTENCES).fetchall():
            sentences.setdefault(source, []).append(key)
    sides: dict[int, set[str]] = {}
    for stage in ("pretrain", "sft"):
        build_mix(workspace, languages=["en", "zh"], stage=stage)
        for row in rows_of(workspace, stage):
            for source in row["source_ids"]:
                for key in sentences[source]:
                    sides.setdefault(key, set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {s for found in sides.values() for s in found} == {"train", "valid", "test"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_the_same_multiset(workspace):
    options = {"languages": ["en", "zh"], "text_tokenizer": None, "shard_bytes": 100_000}
    one = build_mix(workspace, name="one", seed=1, **options).info
    again = build_mix(workspace, name="again", seed=1, **options).info
    other = build_mix(workspace, name="other", seed=2, **options).info
    assert len(one.entries) > 5
    assert one.mix_id == again.mix_id != other.mix_id
    assert shard_bytes_of(one.folder) == shard_bytes_of(again.folder)
    assert (one.folder / "mix.parquet").read_bytes() == (again.folder / "mix.parquet").read_bytes()
    keys = {name: [r["key"] for r in rows_of(workspace, name)] for name in ("one", "other")}
    assert keys["one"] != keys["other"]
    assert Counter(keys["one"]) == Counter(keys["other"])
    assert len(set(keys["one"])) == len(keys["one"])


def test_shares_are_as_asked_for_and_shortfalls_are_explained(workspace, tmp_path):
    path = recipe_file(
        tmp_path,
        stage="pretrain",
        total_tokens=30_000,
        splits={"valid": 0.0, "test": 0.0},
        sources=[
            {"task": "asr", "weight": 0.5, "max_epochs": 50},
            {"task": "mt", "weight": 0.3, "languages": "pairs", "max_epochs": 50},
            {"task": "instruct", "weight": 0.2, "max_epochs": 0.5},
        ],
    )
    info = build_mix(workspace, languages=["en", "zh"], recipe=path).info
    rows = {(r["task"], r["languages"]): r for r in info.realised}
    assert abs(info.splits["train"]["num_tokens"] - 30_000) < 300
    short = rows["instruct", "en"]
    assert short["epochs"] == pytest.approx(0.5, abs=0.02) and "less than asked" in short["note"]
    assert "takes over" in rows["asr", "zh"]["note"]
    # asr and mt share what instruct lacks 5 : 3
    asr = sum(rows["asr", lang]["realised_tokens"] for lang in ("en", "zh"))
    mt = sum(rows["mt", pair]["realised_tokens"] for pair in ("en-zh", "zh-en"))
    assert asr / mt == pytest.approx(5 / 3, rel=0.02)
    repeats = [r for r in rows_of(workspace, "pretrain") if r["epoch"] > 0]
    assert repeats and all(r["key"].endswith(f"-e{r['epoch']}") for r in repeats)
    # before anything is repeated, all of it is there once
    first = [r for r in rows_of(workspace, "pretrain") if r["languages"] == "zh"]
    assert rows["asr", "zh"]["epochs"] > 1
    sources = {r["source_ids"][0] for r in first if r["task"] == "asr" and r["epoch"] == 0}
    assert len(sources) == N + 60


def test_splits_of_the_manifest_are_honoured(tmp_path):
    workspace = fill(Workspace(tmp_path / "w"), languages=("en",), splits=True)
    path = recipe_file(
        tmp_path,
        stage="pretrain",
        splits={"by": "manifest"},
        sources=[{"task": "asr", "weight": 1}, {"task": "tts", "weight": 1}],
    )
    info = build_mix(workspace, languages=["en"], recipe=path, name="digits").info
    test = {r["source_ids"][0] for r in rows_of(workspace, "digits") if r["split"] == "test"}
    assert test == {f"en-{i}" for i in range(8)}
    assert info.shards("valid") == [] and info.counts["no_text"] == 1


def test_a_language_alone_needs_no_pairs(workspace):
    info = build_mix(workspace, languages=["en"], stage="pretrain", name="en").info
    assert {r["task"] for r in info.realised} == {"asr", "tts", "instruct"}
    asked = sum(r["requested_share"] for r in info.realised if r["split"] == "train")
    assert asked == pytest.approx(1)


def test_without_a_total_a_required_task_keeps_its_share_and_replay_does_not_drown_it(
    workspace, tmp_path
):
    path = recipe_file(
        tmp_path,
        stage="sft",
        splits={"valid": 0.0, "test": 0.0},
        sources=[
            {"task": "s2s", "weight": 0.9, "max_epochs": 0.5},
            {"task": "asr", "weight": 0.1, "optional": True},
        ],
    )
    info = build_mix(workspace, languages=["en", "zh"], recipe=path, stage="sft").info
    rows = {(r["task"], r["languages"]): r for r in info.realised}
    share = sum(rows["s2s", lang]["realised_share"] for lang in ("en", "zh"))
    assert share == pytest.approx(0.9, abs=0.03)
    assert rows["asr", "en"]["epochs"] < 0.5


def test_a_plan_says_what_the_mix_will_be_and_writes_none(workspace, tmp_path):
    options = MixOptions(languages=["en", "zh"])
    output = tmp_path / "plan.parquet"
    plan = plan_only(workspace, options, output=output)
    assert not workspace.mixes.exists()
    info = build_mix(workspace, languages=["en", "zh"]).info
    assert list(info.realised) == plan.realised and info.counts == plan.counts
    planned = pq.read_table(output).to_pylist()
    rows = rows_of(workspace, "pretrain")
    assert [r["order_hash"] for r in planned] == [r["order_hash"] for r in rows]
    assert [r["num_tokens"] for r in planned] == [r["num_tokens"] for r in rows]
    # the order is that of the hash which is kept
    for split in ("train", "valid", "test"):
        hashes = [r["order_hash"] for r in rows if r["split"] == split]
        assert hashes == sorted(hashes)


def test_a_plan_without_a_row_says_what_training_would_not_see(workspace):
    build_mix(workspace, languages=["en", "zh"])
    row = next(r for r in rows_of(workspace, "pretrain") if r["task"] == "mt")
    [pair] = row["source_ids"]
    plan = plan_only(workspace, MixOptions(languages=["en", "zh"], without=[pair]))
    assert plan.reject_reasons == {"left_out": 2}
    before = {r["key"] for r in rows_of(workspace, "pretrain")}
    gone = {r["key"] for r in plan.changes if r["change"] == "gone"}
    new = {r["key"] for r in plan.changes if r["change"] == "new"}
    assert row["key"] in gone and gone < before and not new & before
    assert (
        plan.counts["candidates"]
        == plan.counts["rejected"] + plan.counts["selected"] + (plan.counts["not_selected"])
    )


def test_shards_are_the_same_whoever_writes_them(workspace):
    options = {"languages": ["en", "zh"], "shard_bytes": 60_000}
    one = build_mix(workspace, name="one", num_workers=1, **options).info
    two = build_mix(workspace, name="two", num_workers=2, **options).info
    assert len(one.entries) > 10 and one.mix_id == two.mix_id
    assert shard_bytes_of(one.folder) == shard_bytes_of(two.folder)


def test_a_corpus_may_be_held_out_with_all_that_says_the_same(workspace, tmp_path):
    sources = [
        {"task": "s2s", "weight": 0.5},
        {"task": "asr", "weight": 0.5},
        {"task": "mt", "weight": 0.1, "languages": "pairs"},
    ]
    path = recipe_file(
        tmp_path,
        stage="sft",
        sources=sources,
        splits={"valid": 0.0, "test": 0.0, "held_out": {"test": ["talk"]}},
    )
    build_mix(workspace, languages=["en", "zh"], recipe=path)
    rows = rows_of(workspace, "sft")
    assert {r["split"] for r in rows if r["task"] == "s2s"} == {"test"}
    # what the dialogues say is transcribed speech too
    asked = {f"{role}-{lang}-{i}" for role in "qa" for lang in ("en", "zh") for i in range(30)}
    spoken = {r["source_ids"][0]: r["split"] for r in rows if r["task"] == "asr"}
    assert {spoken[name] for name in asked} == {"test"}
    assert {split for name, split in spoken.items() if name not in asked} == {"train"}
    bad = recipe_file(tmp_path, stage="sft", sources=sources, splits={"held_out": {"test": ["x"]}})
    with pytest.raises(UsageError, match="no corpus x; there are"):
        build_mix(workspace, languages=["en"], recipe=bad, name="bad")


def test_a_curriculum_moves_a_task_to_where_its_weight_is(workspace, tmp_path):
    path = recipe_file(
        tmp_path,
        stage="pretrain",
        total_tokens=20_000,
        splits={"valid": 0.0, "test": 0.0},
        sources=[
            {"task": "asr", "weight": 0.5, "max_epochs": 9, "curriculum": [1.0, 0.0]},
            {"task": "tts", "weight": 0.5, "max_epochs": 9},
        ],
    )
    build_mix(workspace, languages=["en"], recipe=path)
    rows = rows_of(workspace, "pretrain")
    tasks = [r["task"] for r in rows]
    quarter = len(tasks) // 4
    assert tasks[:quarter].count("asr") > 1.4 * tasks[:quarter].count("tts")
    assert tasks[-quarter:].count("asr") < 0.4 * tasks[-quarter:].count("tts")
    assert tasks.count("asr") == pytest.approx(tasks.count("tts"), rel=0.1)
