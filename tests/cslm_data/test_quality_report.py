from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from sklearn.metrics import mutual_info_score
from small_files import write_rows

from cslm_data.catalog import open_catalog
from cslm_data.errors import (
    CorruptArtefactError,
    MissingArtefactError,
    NoDataError,
    UsageError,
)
from cslm_data.ingest import ingest
from cslm_data.quality.figures import as_json
from cslm_data.quality.page import render_page
from cslm_data.quality.report import unit_report
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace

TONES_HZ = {"a1": 300, "i1": 900, "u1": 2500, "sil": 0}
PHONE_S = 0.12
QUICK = {"abx_cells": 0, "robustness_utterances": 0}


def say(folder, rng, utt_id, language, speaker, corpus="tones", *, phones=True):
    """A second of tones, one a phone, in random order between two silences."""
    labels = ["sil", *rng.choice(["a1", "i1", "u1"], 6), "sil"]
    time = np.arange(int(PHONE_S * 16_000)) / 16_000
    loud = {"s1": 0.3, "s2": 0.1}.get(speaker, 0.2)
    tones = [loud * np.sin(2 * np.pi * TONES_HZ[label] * time) for label in labels]
    noise = rng.normal(0, 0.003, len(time) * len(labels))
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{utt_id}.wav", np.concatenate(tones) + noise, 16_000)
    row = {"id": utt_id, "audio": f"{utt_id}.wav", "language": language, "corpus": corpus}
    times = [[i * PHONE_S, (i + 1) * PHONE_S, label] for i, label in enumerate(labels)]
    return {**row, "speaker": speaker}, {"id": utt_id, "phones": times} if phones else None


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """English of two speakers with phones, German without, in units of two tokenizers."""
    folder = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    said = [say(folder, rng, f"en-{i}", "en", f"s{1 + i % 2}") for i in range(10)]
    said += [say(folder, rng, f"de-{i}", "de", None, phones=False) for i in range(4)]
    write_rows(folder / "tones.jsonl", [row for row, _ in said])
    write_rows(folder / "tones.align.jsonl", [times for _, times in said if times])
    workspace = Workspace(folder / "workspace")
    ingest(workspace, [folder])
    for num_units in (8, 16):
        quantize(workspace, num_units=num_units, extractor="mfcc", num_workers=1)
    return workspace


@pytest.fixture(scope="module")
def report(spoken):
    return unit_report(spoken, ["mfcc-16"], robustness_utterances=2)


def frames_by_hand(workspace, tokenizer_id):
    """Phone and unit of every English frame, from the tables."""
    query = (
        "select units, durations, phones from units join alignments using (utt_id) "
        "where tokenizer_id = ?"
    )
    with open_catalog(workspace, doing="test") as connection:
        rows = connection.execute(query, [tokenizer_id]).fetchall()
    phones, units = [], []
    for runs, durations, intervals in rows:
        for frame, unit in enumerate(np.repeat(runs, durations)):
            at_s = (frame + 0.5) / 50
            units.append(int(unit))
            phones += [p["phone"] for p in intervals if p["start_s"] <= at_s < p["end_s"]]
    return phones, units


def test_figures_of_phones_are_those_of_frames_labelled_by_hand(spoken, report):
    [tokenizer] = report.tokenizers
    phones, units = frames_by_hand(spoken, tokenizer.tokenizer_id)
    [figure] = tokenizer.phones
    assert (figure.language, figure.corpus, figure.num_utterances) == ("en", None, 10)
    assert figure.all_frames.num_frames == len(phones) == len(units)
    information = mutual_info_score(phones, units)
    entropy = mutual_info_score(phones, phones)
    assert figure.all_frames.pnmi == pytest.approx(information / entropy)
    assert figure.all_frames.pnmi > 0.7 > 0.2 > figure.shuffled_pnmi
    spoken_frames = [(p, u) for p, u in zip(phones, units, strict=True) if p != "sil"]
    speech = mutual_info_score(*zip(*spoken_frames, strict=True))
    said = [p for p, _ in spoken_frames]
    assert figure.speech_frames.pnmi == pytest.approx(speech / mutual_info_score(said, said))
    assert figure.all_frames.num_phones == 4 == figure.speech_frames.num_phones + 1
    labels, joint = tokenizer.plots.phones["en", "tones"]
    assert sorted(labels) == ["a", "i", "sil", "u"]
    assert joint.sum() == len(phones)


def test_usage_is_counted_per_language_and_over_all(spoken, report):
    [tokenizer] = report.tokenizers
    with open_catalog(spoken, doing="test") as connection:
        rows = connection.execute(
            "select language, units, durations from units join utterances using (utt_id) "
            "where tokenizer_id = ?",
            [tokenizer.tokenizer_id],
        ).fetchall()
    for language in ("de", "en", "all"):
        usage = tokenizer.usage[language]
        mine = [row for row in rows if language in (row[0], "all")]
        tokens = [unit for _, units, _ in mine for unit in units]
        _, counts = np.unique(tokens, return_counts=True)
        shares = counts / counts.sum()
        assert usage.num_utterances == len(mine)
        assert usage.num_tokens == len(tokens)
        assert usage.num_frames == sum(sum(durations) for _, _, durations in mine)
        assert usage.entropy_bits == pytest.approx(-(shares * np.log2(shares)).sum())
        assert usage.num_used + usage.num_dead == 16
        assert usage.tokens_per_s == pytest.approx(len(tokens) / (usage.num_frames / 50))
    runs = tokenizer.plots.run_lengths["en"]
    assert runs.sum() == tokenizer.usage["en"].num_tokens
    assert set(tokenizer.divergence_bits) == {"de", "en"}
    assert 0 <= tokenizer.divergence_bits["de"]["en"] < 1
    assert tokenizer.exclusive.threshold == 0.95


def test_abx_of_tones_that_sound_apart_is_small_and_says_what_it_rests_on(report):
    scores = {(f.context, f.speakers, f.distance): f for f in report.tokenizers[0].abx}
    assert len(scores) == 8
    for (context, _, distance), figure in scores.items():
        assert figure.score.num_triples > 0
        if distance == "centroids" and context == "any":
            assert figure.score.error < 0.1


def test_what_cannot_be_measured_is_said(spoken, report):
    assert any(
        note.startswith("de: no phone times") and "cslm-data ingest" in note
        for note in report.notes
    )
    assert [row.num_with_phones for row in report.speech] == [0, 10]
    assert {figure.language for figure in report.tokenizers[0].robustness} == {"de", "en"}
    german = unit_report(spoken, ["mfcc-16"], languages=["de"], **QUICK)
    assert list(german.tokenizers[0].usage) == ["de"]
    assert german.tokenizers[0].divergence_bits is None
    assert german.tokenizers[0].phones == ()


def test_the_same_seed_gives_the_same_report_and_samples_are_capped(spoken):
    options = {"max_utterances": 3, "abx_cells": 20, "robustness_utterances": 1}
    first, again, other = (
        unit_report(spoken, ["mfcc-8"], seed=seed, **options) for seed in (0, 0, 1)
    )
    assert as_json(first) == as_json(again)
    assert as_json(first) != as_json(other)
    assert first.tokenizers[0].phones[0].num_utterances == 3
    assert first.tokenizers[0].usage["en"].num_utterances == 10


def test_corpora_of_a_language_are_told_apart(spoken, tmp_path):
    workspace = Workspace(tmp_path / "two")
    rng = np.random.default_rng(1)
    said = [say(tmp_path, rng, f"{c}-{i}", "en", "s1", c) for c in ("x", "y") for i in range(3)]
    write_rows(tmp_path / "t.jsonl", [row for row, _ in said])
    write_rows(tmp_path / "t.align.jsonl", [times for _, times in said])
    ingest(workspace, [tmp_path])
    quantize(workspace, num_units=8, extractor="mfcc", num_workers=1)
    [tokenizer] = unit_report(workspace, exact_phones=True, **QUICK).tokenizers
    both, x, y = tokenizer.phones
    assert [figure.corpus for figure in (both, x, y)] == [None, "x", "y"]
    assert both.all_frames.num_phones == 8
    weights = [one.all_frames.num_frames for one in (x, y)]
    purities = [one.all_frames.phone_purity for one in (x, y)]
    assert both.all_frames.phone_purity == pytest.approx(np.average(purities, weights=weights))
    assert sorted(tokenizer.plots.phones["en", "x"][0]) == ["a1", "i1", "sil", "u1"]


def test_tokenizers_are_compared_on_what_all_have_units_of(spoken, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    rng = np.random.default_rng(2)
    rows = [say(tmp_path, rng, f"u{i}", "en", "s1")[0] for i in range(6)]
    for count, num_units in ((4, 4), (6, 6)):
        write_rows(tmp_path / "t.jsonl", rows[:count])
        ingest(workspace, [tmp_path / "t.jsonl"])
        quantize(workspace, num_units=num_units, extractor="mfcc", num_workers=1)
    alone = unit_report(workspace, ["mfcc-6"], **QUICK)
    together = unit_report(workspace, ["mfcc-4", "mfcc-6", "mfcc-4"], **QUICK)
    assert alone.tokenizers[0].usage["en"].num_utterances == 6
    assert [t.name for t in together.tokenizers] == ["mfcc-4", "mfcc-6"]
    assert [t.usage["en"].num_utterances for t in together.tokenizers] == [4, 4]
    with open_catalog(workspace, write=True, doing="test") as connection:
        connection.execute("update all_utterances set audio_version = 'other' where utt_id <> 'u5'")
    with pytest.raises(NoDataError, match="no utterance has units of mfcc-4 and mfcc-6; run"):
        unit_report(workspace, ["mfcc-4", "mfcc-6"], **QUICK)


def test_what_the_machine_or_the_times_do_not_allow_is_a_note(spoken, tmp_path, monkeypatch):
    def gone(*arguments, **options):
        raise MissingArtefactError("hf:somewhere: no such directory")

    with monkeypatch.context() as patch:
        patch.setattr("cslm_data.speech_tokenizer.load_extractor", gone)
        report = unit_report(spoken, ["mfcc-8"], abx_cells=0, robustness_utterances=1)
    assert report.tokenizers[0].robustness == ()
    assert "mfcc-8: robustness is not measured: hf:somewhere: no such directory" in report.notes
    late = {"id": "u", "phones": [[1000, 2000, "a"]]}
    write_rows(tmp_path / "t.jsonl", [say(tmp_path, np.random.default_rng(0), "u", "en", "s")[0]])
    write_rows(tmp_path / "t.align.jsonl", [late])
    workspace = Workspace(tmp_path / "workspace")
    ingest(workspace, [tmp_path])
    quantize(workspace, num_units=2, extractor="mfcc", num_workers=1)
    report = unit_report(workspace, robustness_utterances=0)
    assert report.tokenizers[0].phones == ()
    assert any("no frame lies in a phone" in note for note in report.notes)
    assert "no frame lies in a phone" in render_page(report)


def test_units_that_the_tokenizer_does_not_have_are_an_error(spoken, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(spoken.root, workspace.root)
    [part] = workspace.units.glob("mfcc-8-*/part-*.parquet")
    rows = pq.read_table(part).to_pylist()
    rows[0]["units"][0] = 8
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(part)), part)
    with pytest.raises(CorruptArtefactError, match="unit 8, but the tokenizer has 8"):
        unit_report(workspace, ["mfcc-8"], **QUICK)


def test_what_is_not_there_is_a_clear_error(spoken, tmp_path):
    with pytest.raises(UsageError, match="--compare mfcc-8 mfcc-16"):
        unit_report(spoken)
    with pytest.raises(MissingArtefactError, match="no speech tokenizer 'nobody'"):
        unit_report(spoken, ["nobody"])
    for languages in (["en", "fr"], ["fr"]):
        with pytest.raises(UsageError, match="no utterance in fr has units of mfcc-8; run: cslm"):
            unit_report(spoken, ["mfcc-8"], languages=languages)
    with pytest.raises(MissingArtefactError, match="cslm-data quantize"):
        unit_report(Workspace(tmp_path / "none"))
