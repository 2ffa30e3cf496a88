"""`align` over a catalog: word times, what is refused, resume, and which aligner's times count."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import soundfile
from speech_catalog import add_rows, add_said, adds_up, copy_catalog, set_text
from tone_speech import PAUSE_S, ToneModel, register_tones, say, write_said

from cslm_data.alignment import align
from cslm_data.errors import AlreadyExistsError, CorruptArtefactError, NoDataError, UsageError
from cslm_data.interleave import locate_words
from cslm_data.query import run_query
from cslm_data.records import Word
from cslm_data.workspace import Workspace, write_json

TEXTS = {
    "en-1": ("en", "Abba, cab!", ["abba", "cab"]),
    "en-2": ("en", "a 3 b", ["a", "three", "b"]),
    "en-3": ("en", "“It’s” (so) — dull…", ["it's", "so", "dull"]),
    "zh-1": ("zh", "你好，世界！", ["你好", "世界"]),
    "zh-2": ("zh", "再见世界", ["再见", "世界"]),
}


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A folder that brings the aligner `tones`."""
    return register_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Five recordings in a catalog that tests copy, and the times of their words."""
    folder = tmp_path_factory.mktemp("spoken")
    workspace = Workspace(folder / "workspace")
    times = {}
    for utt_id, (language, text, words) in TEXTS.items():
        path = folder / f"{utt_id}.wav"
        times[utt_id] = write_said(path, words)
        add_said(workspace, path, utt_id, text, language=language)
    return workspace, times


@pytest.fixture
def workspace(spoken, tones, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tones))
    return copy_catalog(spoken[0], tmp_path / "workspace")


def run(workspace, **options):
    return align(workspace, **{"aligner": "tones", "num_workers": 1, **options})


def counts(summary):
    assert adds_up(summary)
    return summary.num_out, summary.num_already, summary.num_rejected


def files(workspace, name="tones"):
    folder = workspace.alignments / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def aligned(workspace, table="alignments"):
    rows = run_query(workspace, f"select utt_id, words from {table} order by utt_id").rows
    return dict(rows)


def rejects(workspace):
    query = "select \"key\", reason from rejects where stage = 'align' order by all"
    return run_query(workspace, query).rows


def test_words_have_the_times_at_which_they_are_said(workspace, spoken):
    summary = run(workspace)
    assert (summary.num_in, counts(summary), summary.name) == (5, (5, 0, 0), "tones")
    found = aligned(workspace)
    for utt_id, times in spoken[1].items():
        assert [w["start_s"] for w in found[utt_id]] == pytest.approx([t[0] for t in times])
        assert [w["end_s"] for w in found[utt_id]] == pytest.approx([t[1] for t in times])
        assert all(0.9 < w["score"] <= 1 for w in found[utt_id])
    assert [w["word"] for w in found["en-2"]] == ["a", "3", "b"]
    assert [w["word"] for w in found["en-3"]] == ["It’s", "so", "dull"]
    assert [w["word"] for w in found["zh-1"]] == ["你好", "世界"]
    assert [(r.language, r.num_utterances, r.num_words) for r in summary.languages] == [
        ("en", 3, 8),
        ("zh", 2, 4),
    ]
    for utt_id, (_, text, _) in TEXTS.items():
        locate_words(text, [Word(**word) for word in found[utt_id]])


def test_what_cannot_be_aligned_is_refused_and_says_why(workspace, tmp_path):
    path = tmp_path / "said.wav"
    write_said(path, ["abc", "de"])
    empty = tmp_path / "quiet.wav"
    soundfile.write(empty, say([], lead_s=1.0)[0], 16_000)
    cases = {
        "mute": (path, None, {}),
        "dots": (path, "…!", {}),
        "greek": (path, "αβγ δε", {}),
        "hurried": (path, "abcabcabc" * 9, {}),
        "other": (path, "xyz wq", {}),
        "silent": (empty, "abc de", {}),
        "gone": (tmp_path / "gone.wav", "abc de", {}),
        "beyond": (path, "abc", {"offset_s": 1.0, "duration_s": 60.0}),
    }
    for utt_id, (audio, text, options) in cases.items():
        add_said(workspace, audio, utt_id, text, **options)
    summary = run(workspace)
    assert counts(summary) == (5, 0, 8)
    assert rejects(workspace) == [
        ("beyond", "out_of_range"),
        ("dots", "no_words"),
        ("gone", "missing"),
        ("greek", "unknown_letters"),
        ("hurried", "too_short_for_text"),
        ("mute", "no_text"),
        ("other", "low_score"),
        ("silent", "low_score"),
    ]
    assert summary.num_without_text == 1
    assert set(aligned(workspace)) == set(TEXTS)
    details = run_query(workspace, "select detail from rejects where stage = 'align'").rows
    assert all(detail for (detail,) in details)
    set_text(workspace, "greek", "abc de")
    write_said(tmp_path / "gone.wav", ["abc", "de"])
    assert counts(run(workspace)) == (1, 5, 7)
    assert counts(run(workspace, retry_rejected=True))[2] == 6
    assert set(aligned(workspace)) == {*TEXTS, "greek", "gone"}


def test_a_second_run_aligns_what_is_new_or_changed_and_forgets_what_is_stale(workspace, tmp_path):
    run(workspace)
    before = files(workspace)
    assert counts(run(workspace)) == (0, 5, 0)
    assert files(workspace) == before
    set_text(workspace, "en-1", "Ab ba cab")
    assert set(aligned(workspace)) == set(TEXTS) - {"en-1"}, "its times are of another text"
    assert counts(run(workspace)) == (1, 4, 0)
    assert [w["word"] for w in aligned(workspace)["en-1"]] == ["Ab", "ba", "cab"]
    set_text(workspace, "en-1", "Abba, cab!")
    assert counts(run(workspace)) == (0, 5, 0), "as it was before"
    assert [w["word"] for w in aligned(workspace)["en-1"]] == ["Abba", "cab"]
    set_text(workspace, "en-1", None)
    assert "en-1" not in aligned(workspace)
    path = tmp_path / "new.wav"
    for words in (["ab"], ["cd"]):
        write_said(path, words)
        add_said(workspace, path, "new", words[0])
        assert counts(run(workspace))[0] == 1
        assert [w["word"] for w in aligned(workspace)["new"]] == words


def test_times_of_a_corpus_are_left_alone_and_count_first(workspace, tmp_path):
    imported = workspace.alignments / "imported"
    imported.mkdir(parents=True)
    run_sql = "select 'en-1' as utt_id, [{word: 'Abba', start_s: 0.0, end_s: 0.5, score: "
    run_sql += "null::double}] as words, null::struct(phone varchar, start_s double, end_s "
    run_sql += "double)[] as phones union all select 'en-2', null, [{phone: 'sil', start_s: 0.0, "
    run_sql += "end_s: 0.1}]"
    write_parquet(run_sql, imported / "part-00.parquet")
    summary = run(workspace)
    assert counts(summary) == (4, 1, 0), "phones alone are no word times"
    assert [row.num_elsewhere for row in summary.languages] == [1, 0]
    assert counts(run(workspace, align_all=True)) == (1, 4, 0)
    both = run_query(workspace, "select aligner_id from alignments where utt_id = 'en-1'").rows
    assert sorted(both) == [("imported",), ("tones",)]
    # Another aligner, of which some words are surer and some as sure.
    other = workspace.alignments / "sure"
    other.mkdir()
    write_parquet(
        "select utt_id, [{word: 'x', start_s: 0.0, end_s: 0.1, score: case when utt_id like 'zh-%' "
        "then 0.0 else 1.0::double end}] as words, null as phones, audio_version, language, "
        "md5_number_lower(text) as text_hash, null::varchar as reject_reason, "
        f"null::varchar as reject_detail from '{table_of(workspace, tmp_path)}'",
        other / "part-0000-00000.parquet",
    )
    best = run_query(workspace, "select utt_id, aligner_id from best_alignments order by all").rows
    assert best == [
        ("en-1", "imported"),
        ("en-2", "sure"),
        ("en-3", "sure"),
        ("zh-1", "tones"),
        ("zh-2", "tones"),
    ]


def write_parquet(query, path):
    import duckdb

    duckdb.sql(f"copy ({query}) to '{path}' (format parquet)")


def table_of(workspace, tmp_path):
    import pandas as pd

    path = tmp_path / "utterances.parquet"
    pd.DataFrame(
        run_query(
            workspace, "select utt_id, text, language, audio_version from utterances"
        ).records()
    ).to_parquet(path)
    return path


def test_languages_and_corpora_choose_what_is_aligned(workspace):
    summary = run(workspace, languages=["zh"])
    assert (summary.num_in, counts(summary)) == (2, (2, 0, 0))
    assert set(aligned(workspace)) == {"zh-1", "zh-2"}
    assert counts(run(workspace, corpora=["test"])) == (3, 2, 0)
    with pytest.raises(NoDataError, match="--langs fr"):
        run(workspace, languages=["fr"])
    with pytest.raises(NoDataError, match="--corpus none"):
        run(workspace, corpora=["none"])


def test_another_model_or_other_options_never_mix_with_what_is_there(workspace):
    run(workspace, min_score=0.5)
    said = json.loads((workspace.alignments / "tones" / "aligner.json").read_text())
    assert (said["min_score"], said["spelling"]) == (0.5, "characters")
    assert run(workspace).min_score == 0.5, "as before where nothing is said"
    with pytest.raises(AlreadyExistsError, match="min_score 0.5, not 0.2.*--overwrite"):
        run(workspace, min_score=0.2)
    with pytest.raises(AlreadyExistsError, match="aligner_id"):
        run(workspace, aligner="tones:2")
    again = run(workspace, aligner="tones:2", overwrite=True, min_score=0.2)
    assert (counts(again), again.min_score) == ((5, 0, 0), 0.2)
    (workspace.alignments / "tones" / "aligner.json").unlink()
    with pytest.raises(AlreadyExistsError, match="nobody knows"):
        run(workspace)


def test_a_model_that_changes_under_the_workers_is_an_error(workspace, monkeypatch):
    import tone_speech

    made = []

    def load(name, options):
        made.append(name)
        return tone_speech.ToneModel(version=str(len(made)))

    monkeypatch.setattr(tone_speech, "load_tones", load)
    with pytest.raises(CorruptArtefactError, match="changed meanwhile"):
        run(workspace)


def test_the_number_of_workers_does_not_change_a_byte(workspace, spoken, tmp_path):
    other = copy_catalog(spoken[0], tmp_path / "other")
    run(workspace, part_seconds=0.5)
    run(other, part_seconds=0.5, num_workers=2)
    assert files(workspace) == files(other)
    assert len(files(other)) == 5 + 2


_KILLED = """
import sys
from pathlib import Path
from cslm_data.alignment import align
from cslm_data.workspace import Workspace
if __name__ == "__main__":
    align(Workspace(Path(sys.argv[1])), aligner="tones", num_workers=1, part_seconds=0.1)
"""


def test_a_kill_in_the_middle_loses_and_repeats_nothing(tmp_path, tones, monkeypatch):
    monkeypatch.syspath_prepend(str(tones))
    workspace, whole = Workspace(tmp_path / "killed"), Workspace(tmp_path / "whole")
    path = tmp_path / "said.wav"
    write_said(path, ["abc", "de"])
    add_rows(workspace, [(path, f"utt-{index}", {}) for index in range(24)])
    set_texts(workspace, "abc de")
    whole.root.mkdir()
    whole.catalog.write_bytes(workspace.catalog.read_bytes())
    (tmp_path / "run.py").write_text(_KILLED)
    folders = [str(tones), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py"), str(workspace.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )
    folder = workspace.alignments / "tones"
    deadline = time.monotonic() + 60
    while not list(folder.glob("part-*.parquet")):
        assert process.poll() is None, "it ended before its first part"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert 0 < len(survived) < 24, "killed in the middle"
    again = run(workspace, part_seconds=0.1)
    assert counts(again) == (24 - len(survived), len(survived), 0)
    run(whole, part_seconds=0.1)
    assert files(workspace) == files(whole)
    assert {path: path.stat().st_mtime_ns for path in survived} == survived, "not done again"


def set_texts(workspace, text):
    from cslm_data.catalog import open_catalog

    with open_catalog(workspace, write=True, doing="test") as connection:
        connection.execute("update all_utterances set text = ?", [text])


def test_a_long_recording_in_windows_has_the_times_of_one_piece(workspace, tmp_path):
    words = ["abc", "de", "fgh"] * 60
    times = write_said(tmp_path / "long.wav", words)
    assert times[-1][1] > 90, "several windows"
    shutil.copy(tmp_path / "long.wav", tmp_path / "part.wav")
    add_said(workspace, tmp_path / "long.wav", "long", " ".join(words))
    # A stretch of it, short enough for one piece, that begins and ends in a pause.
    start = times[29][1] + PAUSE_S / 2
    options = {"offset_s": start, "duration_s": times[69][1] + PAUSE_S / 2 - start}
    add_said(workspace, tmp_path / "part.wav", "part", " ".join(words[30:70]), **options)
    assert counts(run(workspace)) == (7, 0, 0)
    found = aligned(workspace)
    assert [w["start_s"] for w in found["long"]] == pytest.approx([t[0] for t in times])
    assert [w["end_s"] for w in found["long"]] == pytest.approx([t[1] for t in times])
    assert [w["start_s"] + start for w in found["part"]] == pytest.approx(
        [t[0] for t in times[30:70]], abs=0.021
    )


def test_the_embedded_aligner_is_trained_once_and_anew_when_asked(workspace, monkeypatch):
    trained = []

    def train(where, *, name, languages, **options):
        trained.append((name, languages, options))
        write_json(where.aligners / name / "model.json", {"version": str(len(trained))})
        return load(where.aligners / name)

    def load(folder):
        version = json.loads((folder / "model.json").read_text())["version"]
        return ToneModel(name=folder.name, version=version)

    for module, name, function in [
        ("train_ctc", "train_ctc", train),
        ("ctc_model", "load_ctc_model", load),
    ]:
        made = types.ModuleType(f"cslm_data.aligning.{module}")
        setattr(made, name, function)
        monkeypatch.setitem(sys.modules, made.__name__, made)
    first = run(workspace, aligner="ctc", languages=["en"], train_options={"epochs": 2})
    assert (first.trained, first.name, counts(first)) == (True, "ctc", (3, 0, 0))
    second = run(workspace, aligner="ctc")
    assert (second.trained, counts(second)) == (False, (2, 3, 0))
    assert trained == [("ctc", ("en",), {"epochs": 2})]
    with pytest.raises(UsageError, match="add --overwrite"):
        run(workspace, aligner="ctc", retrain=True)
    third = run(workspace, aligner="ctc", retrain=True, overwrite=True)
    assert (third.trained, counts(third)) == (True, (5, 0, 0))
    assert third.aligner_id != first.aligner_id
    other = run(workspace, aligner="ctc:mine", align_all=True)
    assert (other.trained, other.name, len(trained)) == (True, "mine", 3)
    # The folder of a trained model does as well as its name.
    assert run(workspace, aligner=str(workspace.aligners / "mine")).num_already == 5


def test_mistakes_are_said(workspace, tmp_path):
    for options, message in [
        ({"min_score": 1.5}, "--min-score 1.5"),
        ({"num_workers": 0}, "num-workers"),
        ({"engine": "slurm"}, "slurm"),
        ({"retrain": True}, "only the embedded aligner is trained here"),
        ({"train_options": {"epochs": 3}}, "only the embedded aligner is trained here"),
        ({"aligner": str(tmp_path / "nothing")}, "neither a name"),
        ({"aligner": "ctc:../x"}, "letters, digits"),
        ({"aligner": "ctc", "device": "cuda"}, "runs on the cores"),
        ({"aligner": "mms_fa", "spelling": "characters"}, "--spelling"),
    ]:
        with pytest.raises(UsageError, match=message):
            run(workspace, **options)
    write_json(workspace.aligners / "ctc" / "model.json", {})
    (workspace.alignments / "ctc").mkdir(parents=True)
    with pytest.raises(UsageError, match="add --overwrite"):
        run(workspace, aligner="ctc", retrain=True)
    with pytest.raises(UsageError, match="add --retrain"):
        run(workspace, aligner="ctc", train_options={"epochs": 3})
