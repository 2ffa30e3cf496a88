"""Every later step leaves out what was moved out."""

from __future__ import annotations

import shutil

import pytest
from mix_workspace import N, fill, recipe_file, rows_of
from small_files import write_rows
from speech_catalog import add, add_many, adds_up, run, units, write_speech

from cslm_data.catalog import open_catalog, read_sql
from cslm_data.curating.curation import filter_rows, undo
from cslm_data.errors import NoDataError, UsageError
from cslm_data.ingest import ingest
from cslm_data.listen import listen
from cslm_data.mix import build_mix
from cslm_data.mixing.recipes import SplitRules
from cslm_data.mixing.splits import make_sentence_splits
from cslm_data.quality.gather import gather
from cslm_data.query import run_query
from cslm_data.shards import iter_samples
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.units.exporting import export_units
from cslm_data.units.importing import import_units
from cslm_data.workspace import Workspace


# ------------------------------------------------------------------------------- units
@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Eight recordings, utt-0 … utt-7, in units."""
    folder = tmp_path_factory.mktemp("recorded")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 8)
    run(workspace)
    return workspace


@pytest.fixture
def spoken(recorded, tmp_path):
    """A copy to work on; the recordings are shared."""
    shutil.copytree(recorded.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def test_quantize_gives_units_to_the_others_alone_and_to_all_when_it_is_undone(workspace, tmp_path):
    add_many(workspace, tmp_path / "audio", 6)
    filter_rows(workspace, "utt_id in ('utt-1', 'utt-4')", reason="noise")
    summary = run(workspace)
    assert adds_up(summary) and (summary.num_in, summary.num_out) == (4, 4)
    assert {row[1] for row in units(workspace)} == {"utt-0", "utt-2", "utt-3", "utt-5"}
    assert run(workspace).num_out == 0
    undo(workspace, "last")
    again = run(workspace)
    assert adds_up(again) and (again.num_in, again.num_out, again.num_already) == (6, 2, 4)


def test_a_tokenizer_is_fitted_on_the_others_alone(workspace, tmp_path):
    add_many(workspace, tmp_path / "audio", 4)
    other = Workspace(tmp_path / "other")
    add_many(other, tmp_path / "audio", 4)
    add(other, write_speech(tmp_path / "loud.wav", 99), "loud")
    filter_rows(other, "utt_id = 'loud'", reason="loud")
    assert run(other).tokenizer_id == run(workspace).tokenizer_id


def test_a_unit_report_and_examples_to_listen_to_are_of_the_others(spoken, tmp_path):
    filter_rows(spoken, "utt_id in ('utt-1', 'utt-4')", reason="noise")
    tokenizer = find_tokenizer(spoken, None)
    found = gather(
        spoken,
        [tokenizer],
        languages=None,
        max_utterances=10,
        robustness_utterances=10,
        exact_phones=False,
        seed=0,
    )
    assert sum(row.num_utterances for row in found.speech) == 6
    assert sum(map(len, found.stretches.values())) == 6
    heard = {each.utt_id for each in listen(spoken, limit=8, out=tmp_path / "out").heard}
    assert heard == {f"utt-{i}" for i in (0, 2, 3, 5, 6, 7)}
    with pytest.raises(NoDataError, match=r"utt-1: was moved out by filter 1 \(noise\)"):
        listen(spoken, ["utt-1"], out=tmp_path / "out")


def test_units_of_the_others_are_exported_and_taken(spoken, tmp_path):
    exported = export_units(spoken, tmp_path / "before", format="slamkit")
    assert exported.num_out == 8
    filter_rows(spoken, "utt_id in ('utt-1', 'utt-4')", reason="noise")
    less = export_units(spoken, tmp_path / "after", format="slamkit")
    assert (less.num_in, less.num_out, less.num_rejected) == (6, 6, 0)
    taken = import_units(spoken, tmp_path / "before", format="slamkit", num_checked=0)
    assert (taken.num_in, taken.num_already, taken.reject_reasons) == (8, 6, {"excluded": 2})
    why = run_query(spoken, "select key, detail from rejects where stage = 'import-units'").rows
    assert all("moved out by filter 1: noise" in detail for _, detail in why)


def test_a_part_of_a_recording_is_not_taken_for_it_when_the_other_part_was_moved_out(
    spoken, tmp_path
):
    path = tmp_path / "audio.wav"
    write_speech(path, 5)
    add(spoken, path, "first-half", duration_s=0.5)
    add(spoken, path, "second-half", offset_s=0.5, duration_s=0.5)
    filter_rows(spoken, "utt_id = 'second-half'", reason="noise")
    with open_catalog(spoken, doing="test") as connection:
        text = read_sql("import_match")
        staged = (
            "create temp table staged as select 0 as line, 'x:1' as place, $p as name, "
            "$p as path, 'audio' as stem, null::bigint as num_samples, [1, 2]::usmallint[] as "
            "units, [25, 25]::usmallint[] as durations, 50 as num_frames, null as reason, "
            "null as detail"
        )
        connection.execute(staged, {"p": str(path)})
        connection.execute(read_sql("import_existing_none"))
        values = {"corpus": None, "by_stem": False, "frame_rate_hz": 50.0}
        connection.execute(text, values)
        assert connection.execute("select reason from matched").fetchall() == [("segment",)]


# ------------------------------------------------------------------------------- mixes
@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill(Workspace(tmp_path_factory.mktemp("w")))


@pytest.fixture
def mixed(filled, tmp_path):
    """A copy of a catalog of speech, translations, instructions and dialogues in en and zh."""
    for name in ("units", "alignments", "tokenizers"):
        (tmp_path / name).symlink_to(filled.root / name)
    shutil.copy(filled.catalog, tmp_path / "catalog.duckdb")
    return Workspace(tmp_path)


def sources(workspace, name):
    return {source for row in rows_of(workspace, name) for source in row["source_ids"]}


def test_a_mix_has_neither_samples_nor_candidates_of_what_was_moved_out(mixed):
    before = build_mix(mixed, languages=["en", "zh"], name="before").info
    filter_rows(mixed, "utt_id in ('en-3', 'zh-4')", reason="noise")
    pair = min(i for i in sources(mixed, "before") if i.startswith("p-"))
    filter_rows(mixed, f"pair_id = '{pair}'", reason="wrong", table="bitext")
    filter_rows(mixed, "dialogue_id = 'ins-en-6'", reason="wrong", table="dialogues")
    after = build_mix(mixed, languages=["en", "zh"], name="after").info
    gone = {"en-3", "zh-4", pair, "ins-en-6"}
    assert gone <= sources(mixed, "before") and not gone & sources(mixed, "after")
    # Two utterances are asr and tts, a pair goes both ways, an instruction is one.
    assert before.counts["candidates"] - after.counts["candidates"] == 2 * 2 + 2 + 1
    assert after.counts["rejected"] == 0


def test_the_identity_of_a_mix_changes_with_what_is_moved_out_and_comes_back_with_it(mixed):
    def mix_id():
        return build_mix(mixed, languages=["en"], name="m", overwrite=True).info.mix_id

    before = mix_id()
    filter_rows(mixed, "utt_id = 'en-3'", reason="noise")
    assert mix_id() != before
    undo(mixed, "last")
    assert mix_id() == before


def test_even_a_row_that_was_not_selected_changes_the_identity(mixed, tmp_path):
    path = recipe_file(
        tmp_path,
        stage="pretrain",
        total_tokens=500,
        splits={"valid": 0.0, "test": 0.0},
        sources=[{"task": "asr", "weight": 1}],
    )

    def build(name):
        return build_mix(mixed, languages=["en"], recipe=path, name=name).info.mix_id

    before = build("one")
    unused = sorted({f"en-{i}" for i in range(N)} - sources(mixed, "one"))[0]
    filter_rows(mixed, f"utt_id = '{unused}'", reason="noise")
    assert build("two") != before


def test_a_dialogue_whose_speech_was_moved_out_is_rejected_and_says_so(mixed):
    filter_rows(mixed, "utt_id in ('a-en-1', 'q-en-2')", reason="noise")
    summary = build_mix(mixed, languages=["en"], stage="sft", name="chat")
    # qa-en-1 has lost its answer (s2s and t2s), qa-en-2 its question (s2s).
    assert summary.reject_reasons == {"excluded": 3}
    rows = run_query(mixed, "select key, reason, detail from rejects where stage = 'mix'").rows
    assert sorted({(key, reason) for key, reason, _ in rows}) == [
        ("qa-en-1", "excluded"),
        ("qa-en-2", "excluded"),
    ]
    assert {detail.split(": ", 1)[1] for key, _, detail in rows if key == "qa-en-2"} == {
        "the speech of the user was moved out by filter 1: noise"
    }
    typed = [r for r in rows_of(mixed, "chat") if "qa-en-2" in r["source_ids"]]
    assert {row["task"] for row in typed} <= {"t2s"}


def test_a_turn_finds_another_utterance_of_the_same_recording(mixed):
    with open_catalog(mixed, write=True, doing="test") as connection:
        connection.execute(
            "insert into all_utterances by name select * replace ('twin' as utt_id) "
            "from all_utterances where utt_id = 'a-en-1'"
        )
    filter_rows(mixed, "utt_id = 'a-en-1'", reason="twice")
    turns = run_query(
        mixed,
        "select utt_id, curation_id from dialogue_turns "
        "where dialogue_id = 'qa-en-1' order by turn",
    )
    assert turns.rows == [("q-en-1", None), ("twin", None)]


def test_the_text_tokenizer_and_the_splits_never_see_what_was_moved_out(mixed):
    filter_rows(mixed, "utt_id = 'en-3'", reason="noise")
    filter_rows(mixed, "pair_id = 'p-3'", reason="noise", table="bitext")
    filter_rows(mixed, "dialogue_id = 'ins-zh-7'", reason="noise", table="dialogues")
    with open_catalog(mixed, doing="test") as connection:
        everything = {"threshold": 2**64 - 1}
        rows = connection.execute(read_sql("mix_texts"), everything).fetchall()
        texts = {text for (text,) in rows}
        connection.execute(read_sql("mix_macros"))
        make_sentence_splits(connection, SplitRules(valid=0.5, test=0.5))
        held_out = {
            key for (key,) in connection.execute("select sentence from sentence_splits").fetchall()
        }
        kept = connection.execute(
            "select text_key from utterances where utt_id = 'en-4'"
        ).fetchone()
        gone = connection.execute(
            "select text, text_key from all_utterances where utt_id = 'en-3' union all "
            "select turns[1].text, turns[1].text_key from all_dialogues "
            "where dialogue_id = 'ins-zh-7'"
        ).fetchall()
    assert len(gone) == 2
    for text, key in gone:
        assert text not in texts
        assert key not in held_out
    assert kept[0] in held_out
    assert "Cat number 4 sleeps in the green garden, and dog 4 runs home." in texts


def test_a_mix_built_before_says_which_samples_are_of_what_is_gone(mixed):
    build_mix(mixed, languages=["en"], stage="sft", name="chat")
    assert run_query(mixed, "from gone_sources").rows == []
    rows = rows_of(mixed, "chat")
    filter_rows(mixed, "utt_id = 'a-en-1'", reason="noise")
    filter_rows(mixed, "dialogue_id = 'ins-en-6'", reason="wrong", table="dialogues")
    with open_catalog(mixed, write=True, doing="test") as connection:
        connection.execute("delete from all_dialogues where dialogue_id = 'ins-en-7'")
    found = set(run_query(mixed, "select key, id, why from gone_sources").rows)
    why = {
        "qa-en-1": "filter 1: noise",
        "ins-en-6": "filter 2: wrong",
        "ins-en-7": "not in the catalog",
    }
    expected = {(r["key"], i, why[i]) for r in rows for i in r["source_ids"] if i in why}
    assert found == expected and len({i for _, i, _ in found}) >= 2
    assert len(list(iter_samples(mixed.mixes / "chat", "train"))) > 0, "the mix itself stays whole"


def test_where_of_a_recipe_is_one_expression_that_sees_the_workspace_alone(mixed, tmp_path):
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("utt_id\nen-1\n")
    for where in (
        f"utt_id in (select utt_id from read_csv('{secret}'))",
        f"utt_id in (select utt_id from '{secret}')",
        f"true) union all select * from read_csv('{secret}') where (true",
        f"true); copy (select 1) to '{tmp_path.parent}/stolen.csv'; select (true",
        f"utt_id in (with a as (copy (select 1) to '{tmp_path}/stolen.csv') select 'a' from a)",
        "utt_id in (select utt_id from mixed)",
    ):
        path = recipe_file(
            tmp_path, stage="pretrain", sources=[{"task": "asr", "weight": 1, "where": where}]
        )
        with pytest.raises(UsageError, match=r"sources\[0\]\.where"):
            build_mix(mixed, languages=["en"], recipe=path, name="stolen")
    assert not list(tmp_path.parent.rglob("stolen.csv"))
    assert not (mixed.mixes / "stolen").exists()


# -------------------------------------------------------------------------- alignments
def test_alignments_of_what_was_moved_out_are_taken_and_there_when_it_comes_back(mixed, tmp_path):
    filter_rows(mixed, "utt_id = 'en-3'", reason="noise")
    words = {"id": "en-3", "words": [[0.0, 0.1, "Cat"], [0.1, 0.3, "number"]]}
    path = write_rows(tmp_path / "new" / "times.jsonl", [words])
    shutil.copytree((mixed.root / "alignments").resolve(), tmp_path / "own")
    (mixed.root / "alignments").unlink()
    (tmp_path / "own").rename(mixed.alignments)
    ingest(mixed, [path])
    query = "select count(*) from alignments inner join {} using (utt_id) where aligner_id = $a"
    values = {"a": "imported"}
    assert run_query(mixed, query.format("utterances"), parameters=values).rows == [(0,)]
    undo(mixed, "last")
    assert run_query(mixed, query.format("utterances"), parameters=values).rows == [(1,)]
