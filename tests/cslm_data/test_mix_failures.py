from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mix_workspace import fill, recipe_file, rows_of, shard_bytes_of

from cslm_data.auditing.runner import run_audits
from cslm_data.catalog import open_catalog
from cslm_data.errors import (
    AlreadyExistsError,
    LockedError,
    MissingArtefactError,
    NoDataError,
    UsageError,
)
from cslm_data.mix import build_mix, plan_only
from cslm_data.mixing.planning import MixOptions
from cslm_data.query import run_query
from cslm_data.shards import MixInfo
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


def test_what_is_missing_is_said_for_every_language_at_once(workspace, tmp_path):
    fresh = fill(Workspace(tmp_path / "w"), languages=("en", "zh"))
    with open_catalog(fresh, write=True, doing="test") as db:
        db.execute(
            "insert into all_utterances select replace(utt_id, 'en', 'de') as utt_id, "
            "* exclude (utt_id) replace ('de' as language) from utterances where utt_id like 'en-_'"
        )
    with pytest.raises(NoDataError) as error:
        build_mix(fresh, languages=["en", "zh", "de"])
    message = str(error.value)
    assert "de has no speech-text pairs that can be used, of 10 (10 no_units)" in message
    assert "run cslm-data quantize" in message
    assert "de has no translations: add MT en–de (for mt)" in message
    assert "take the task out of the recipe" in message and "--allow-missing" in message
    plan = plan_only(fresh, MixOptions(languages=["en", "zh", "de"], allow_missing=True))
    assert sum("de has" in said for said in plan.missing) == 3
    assert not any("de" in row["languages"] for row in plan.realised)
    with pytest.raises(NoDataError, match="nothing in the catalog is in fr; it holds de, en, zh"):
        build_mix(fresh, languages=["en", "fr"])
    with open_catalog(fresh, write=True, doing="test") as db:
        db.execute("delete from all_utterances; delete from all_dialogues; delete from all_bitext")
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
        db.execute("update all_utterances set audio_version = 'v2' where utt_id = 'en-3'")
        db.execute("update all_utterances set text = '... ' where utt_id = 'zh-4'")
        db.execute(
            "update all_dialogues set turns = list_transform(turns, lambda t: struct_update(t, "
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


def test_phones_alone_do_not_stand_for_word_times(tmp_path):
    workspace = fill(Workspace(tmp_path / "w"))
    words = build_mix(workspace, languages=["en", "zh"], stage="sft", name="words")
    phone = [{"phone": "a", "start_s": 0.0, "end_s": 0.1}]
    rows = [{"utt_id": f"a-en-{i}", "words": None, "phones": phone} for i in range(30)]
    folder = workspace.alignments / "aaa-phones"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    both = build_mix(workspace, languages=["en", "zh"], stage="sft", name="both")
    assert rows_of(workspace, "both") == rows_of(workspace, "words")
    assert both.reject_reasons == words.reject_reasons
    [(spoken, unaligned)] = run_query(
        workspace,
        "select count(*), count(*) filter (where words is null) from alignments "
        "where utt_id like 'a-en-%'",
    ).rows
    assert (spoken, unaligned) == (60, 30)
    assert run_audits(workspace, names=["unaligned_answers"])[0].count == 0


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
    import cslm_data.mixing.files as mix_files

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
    import cslm_data.mixing.files as mix_files
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
