from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cslm_data.catalog import open_catalog
from cslm_data.errors import (
    AlreadyExistsError,
    LockedError,
    MissingArtefactError,
    NoDataError,
    UsageError,
)
from cslm_data.keys import key64
from cslm_data.mix import build_mix
from cslm_data.samples import count_tokens
from cslm_data.shards import MixInfo, iter_samples, read_index
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace

TOKENIZER = "mfcc-50-0123456789ab"
RATE = 50.0
N = 80


def norm_key(text):
    return key64("".join(c for c in text.casefold() if c.isalnum() or c == " "))


def sentence(language, i):
    if language == "zh":
        return f"第{i}只猫在花园里睡觉。"
    return f"Cat number {i} sleeps in the green garden, and dog {i} runs home."


def speak(text, seed):
    """Units and durations as a tokenizer would give them, without equal neighbours."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 50, len(text) + 2)
    units = np.cumsum(steps) % 50
    return units.astype(np.uint16), rng.integers(1, 6, len(units)).astype(np.uint16)


def word_times(text, durations):
    words = (
        text.replace("。", "").replace("？", "").split()
        if " " in text
        else [c for c in text if c.isalnum()]
    )
    step = float(durations.sum()) / RATE / len(words)
    return [
        {"word": w.strip(",.?!"), "start_s": i * step, "end_s": (i + 1) * step, "score": None}
        for i, w in enumerate(words)
    ]


def fill(workspace, *, languages=("en", "zh"), splits=False):
    """A catalog of transcribed speech, translations, instructions and spoken dialogues."""
    units, alignments = [], []
    with open_catalog(workspace, write=True, doing="test") as db:

        def utterance(utt_id, language, text, split=None):
            db.execute(
                "insert into utterances values "
                "(?,'corpus',?,0,1,16000,1,?,'s',?,?,?,'human',null,?,'v1',?,'src',1)",
                [
                    utt_id,
                    f"/audio/{utt_id}.wav",
                    language,
                    text,
                    text,
                    None if text is None else norm_key(text),
                    split,
                    key64(utt_id),
                ],
            )
            if text is None:
                return
            runs, durations = speak(text, key64(utt_id) % 2**32)
            units.append((utt_id, runs, durations))
            alignments.append((utt_id, word_times(text, durations)))

        def turn(role, language, text, utt_id=None):
            return {
                "role": role,
                "language": language,
                "text": text,
                "text_key": norm_key(text),
                "audio": utt_id and f"/audio/{utt_id}.wav",
                "offset_s": 0.0,
                "speaker": None,
                "utt_id": None,
            }

        def dialogue(dialogue_id, language, turns, parallel_id=None):
            db.execute(
                "insert into dialogues values (?,'talk',?,?,?,null,null,?,'src',1)",
                [dialogue_id, parallel_id, language, turns, key64(dialogue_id)],
            )

        for language in languages:
            for i in range(N):
                split = ("test" if i < 8 else "train") if splits else None
                utterance(f"{language}-{i}", language, sentence(language, i), split)
            utterance(f"{language}-untranscribed", language, None)
            for i in range(N):
                dialogue(
                    f"ins-{language}-{i}",
                    language,
                    [
                        turn("user", language, f"{language} say <sosp> {i}"),
                        turn("assistant", language, f"{i} <|eot_id|>"),
                    ],
                )
            for i in range(30):
                question = {"en": f"Where is cat {i}?", "zh": f"第{i}只猫在哪里？"}[language]
                answer = sentence(language, 1000 + i)
                utterance(f"q-{language}-{i}", language, question)
                utterance(f"a-{language}-{i}", language, answer)
                dialogue(
                    f"qa-{language}-{i}",
                    language,
                    [
                        turn("user", language, question, f"q-{language}-{i}"),
                        turn("assistant", language, answer, f"a-{language}-{i}"),
                    ],
                    f"qa-{i}",
                )
        if len(languages) > 1:
            for i in range(N):
                src, tgt = sentence("en", i), sentence("zh", i)
                db.execute(
                    "insert into bitext values (?,'mt','en','zh',?,?,?,?,null,null,?,'src',1)",
                    [f"p-{i}", src, tgt, norm_key(src), norm_key(tgt), key64(f"p-{i}")],
                )
    write_units(workspace, units)
    folder = workspace.alignments / "exact"
    folder.mkdir(parents=True)
    word = pa.struct(
        [
            ("word", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("score", pa.float64()),
        ]
    )
    schema = pa.schema([("utt_id", pa.string()), ("words", pa.list_(word))])
    rows = [{"utt_id": u, "words": w} for u, w in alignments]
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part-0.parquet")
    return workspace


def write_units(workspace, units):
    folder = workspace.tokenizers / "mfcc"
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "tokenizer_id": TOKENIZER,
        "extractor": "mfcc",
        "num_units": 50,
        "frame_rate_hz": RATE,
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    folder = workspace.units / TOKENIZER
    folder.mkdir(parents=True)
    lists = pa.list_(pa.uint16())
    table = pa.table(
        {
            "utt_id": [u for u, _, _ in units],
            "units": pa.array([r for _, r, _ in units], lists),
            "durations": pa.array([d for _, _, d in units], lists),
            "num_frames": pa.array([int(d.sum()) for _, _, d in units], pa.uint32()),
            "audio_version": ["v1"] * len(units),
            "reject_reason": pa.nulls(len(units), pa.string()),
            "reject_detail": pa.nulls(len(units), pa.string()),
        }
    )
    pq.write_table(table, folder / "part-0-0.parquet")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill(Workspace(tmp_path_factory.mktemp("w")))


@pytest.fixture
def workspace(filled, tmp_path):
    """The filled workspace with mixes and text tokenizers of its own."""
    for name in ("catalog.duckdb", "units", "alignments", "tokenizers"):
        (tmp_path / name).symlink_to(filled.root / name)
    return Workspace(tmp_path)


def recipe_file(tmp_path, **fields):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def shard_bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "shards").iterdir())}


def rows_of(workspace, name):
    return pq.read_table(workspace.mixes / name / "mix.parquet").to_pylist()


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


def test_an_existing_mix_is_kept_unless_it_may_be_replaced(workspace):
    first = build_mix(workspace, languages=["en", "zh"], seed=1)
    mix_json = workspace.mixes / "pretrain" / "mix.json"
    stamp = mix_json.stat().st_mtime_ns
    same = build_mix(workspace, languages=["en", "zh"], seed=1)
    assert same.already_built and same.info == first.info
    assert mix_json.stat().st_mtime_ns == stamp
    with pytest.raises(AlreadyExistsError, match="--overwrite"):
        build_mix(workspace, languages=["en", "zh"], seed=2)
    assert MixInfo.load(workspace.mixes / "pretrain") == first.info
    other = build_mix(workspace, languages=["en", "zh"], seed=2, overwrite=True)
    assert not other.already_built and other.info.seed == 2
    assert [p.name for p in workspace.mixes.iterdir()] == ["pretrain"]


def test_a_language_alone_needs_no_pairs(workspace):
    info = build_mix(workspace, languages=["en"], stage="pretrain", name="en").info
    assert {r["task"] for r in info.realised} == {"asr", "tts", "instruct"}
    asked = sum(r["requested_share"] for r in info.realised if r["split"] == "train")
    assert asked == pytest.approx(1)


def test_what_is_missing_is_said_for_every_language_at_once(workspace, tmp_path):
    fresh = fill(Workspace(tmp_path / "w"), languages=("en", "zh"))
    with open_catalog(fresh, write=True, doing="test") as db:
        db.execute(
            "insert into utterances select replace(utt_id, 'en', 'de') as utt_id, "
            "* exclude (utt_id) replace ('de' as language) from utterances where utt_id like 'en-_'"
        )
    with pytest.raises(NoDataError) as error:
        build_mix(fresh, languages=["en", "zh", "de"])
    message = str(error.value)
    assert "asr in de, but there is nothing usable among 10 (10 no_units)" in message
    assert "run cslm-data quantize" in message
    assert "mt in en-de, but there is no translations; ingest translations in en–de" in message
    assert "take it out of the recipe" in message
    with pytest.raises(NoDataError, match="nothing in the catalog is in fr; it holds de, en, zh"):
        build_mix(fresh, languages=["en", "fr"])
    with open_catalog(fresh, write=True, doing="test") as db:
        db.execute("delete from utterances; delete from dialogues; delete from bitext")
    with pytest.raises(NoDataError, match="catalog is empty"):
        build_mix(fresh, languages=["en"])


def test_wrong_options_are_named(workspace, tmp_path):
    with pytest.raises(
        UsageError, match=r"--langs: unknown language code 'english'.*did you mean en"
    ):
        build_mix(workspace, languages=["english"])
    with pytest.raises(UsageError, match="named twice"):
        build_mix(workspace, languages=["en", "en"])
    with pytest.raises(UsageError, match="--langs: name at least one"):
        build_mix(workspace, languages=[])
    with pytest.raises(UsageError, match="--name"):
        build_mix(workspace, languages=["en"], name="../x")
    with pytest.raises(UsageError, match="--tokenizer hubert: no such"):
        build_mix(workspace, languages=["en"], tokenizer="hubert")
    with pytest.raises(MissingArtefactError, match="ingest"):
        build_mix(Workspace(tmp_path / "none"), languages=["en"])
    path = recipe_file(
        tmp_path, stage="pretrain", sources=[{"task": "asr", "weight": 1, "where": "speeker = 's'"}]
    )
    with pytest.raises(UsageError, match=r"sources\[0\]\.where.*speeker"):
        build_mix(workspace, languages=["en"], recipe=path)


def test_what_makes_no_sample_is_a_reject_with_its_reason(tmp_path):
    workspace = fill(Workspace(tmp_path / "w"))
    with open_catalog(workspace, write=True, doing="test") as db:
        db.execute("update utterances set audio_version = 'v2' where utt_id = 'en-3'")
        db.execute("update utterances set text = '... ' where utt_id = 'zh-4'")
        db.execute(
            "update dialogues set turns = list_transform(turns, lambda t: struct_update(t, "
            "text := t.text || ' more')) where dialogue_id = 'qa-en-5'"
        )
    summary = build_mix(workspace, languages=["en", "zh"], stage="sft")
    # the spoken answer is said in s2s and t2s, in English and as the answer to Mandarin
    assert summary.reject_reasons == {"alignment_mismatch": 4}
    summary = build_mix(workspace, languages=["en", "zh"])
    assert summary.reject_reasons == {"no_units": 2}
    with open_catalog(workspace, doing="test") as db:
        rows = db.execute(
            "select corpus, key, detail from rejects where stage = 'mix' and reason = 'no_units' "
            "order by detail"
        ).fetchall()
    assert [row[:2] for row in rows] == [("corpus", "en-3")] * 2
    assert rows[0][2].startswith("asr en: ") and "cslm-data quantize" in rows[0][2]


def test_samples_over_the_limit_are_rejected(workspace, tmp_path):
    path = recipe_file(
        tmp_path, stage="pretrain", max_sample_tokens=60, sources=[{"task": "asr", "weight": 1}]
    )
    summary = build_mix(workspace, languages=["en", "zh"], recipe=path)
    assert summary.reject_reasons["too_long"] > 0
    assert all(r["num_tokens"] <= 66 for r in rows_of(workspace, "pretrain"))


def test_a_second_process_building_the_same_mix_is_told_who_holds_it(workspace):
    with workspace.lock("mix-pretrain", "build-mix"), pytest.raises(LockedError, match="process"):
        build_mix(workspace, languages=["en"])


def test_a_full_disk_leaves_nothing_that_looks_finished(workspace, monkeypatch):
    import cslm_data.mix_files as mix_files

    def full(path, *args, **kwargs):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(mix_files, "write_shard", full)
        with pytest.raises(OSError, match="No space left"):
            build_mix(workspace, languages=["en"])
    assert not (workspace.mixes / "pretrain").exists()
    with open_catalog(workspace, doing="test") as db:
        assert db.execute("select count(*) from mix_samples").fetchone() == (0,)
    assert build_mix(workspace, languages=["en"]).info.splits["train"]["num_samples"] > 0


CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import cslm_data.mix_files as mix_files
    from cslm_data.mix import build_mix
    from cslm_data.workspace import Workspace
    plain = mix_files.write_shard
    def slow(path, samples, **options):
        def one_by_one():
            for sample in samples:
                time.sleep(0.002)
                yield sample
        return plain(path, one_by_one(), **options)
    mix_files.write_shard = slow
    build_mix(Workspace(Path(sys.argv[1])), languages=["en", "zh"], shard_bytes=100_000)
    """
)


def test_kill_in_the_middle_then_the_same_command_gives_the_same_bytes(workspace, filled, tmp_path):
    whole = Workspace(tmp_path / "whole")
    whole.root.mkdir()
    for name in ("catalog.duckdb", "units", "alignments", "tokenizers"):
        (whole.root / name).symlink_to(filled.root / name)
    expected = build_mix(whole, languages=["en", "zh"], shard_bytes=100_000).info
    building = workspace.mixes / ".pretrain.building" / "mix" / "shards"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(workspace.root)])
    deadline = time.monotonic() + 60
    while len(list(building.glob("train-*.tar"))) < 3 and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (workspace.mixes / "pretrain").exists()
    finished = {p.name: p.stat().st_mtime_ns for p in building.glob("train-*.tar")}
    assert len(finished) >= 3
    info = build_mix(workspace, languages=["en", "zh"], shard_bytes=100_000).info
    assert shard_bytes_of(info.folder) == shard_bytes_of(expected.folder)
    for name in ("mix.parquet", "mix.json", "rejects.parquet"):
        assert (info.folder / name).read_bytes() == (expected.folder / name).read_bytes()
    for name, stamp in finished.items():
        assert (info.folder / "shards" / name).stat().st_mtime_ns == stamp
    assert not list(workspace.mixes.glob(".*"))


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
