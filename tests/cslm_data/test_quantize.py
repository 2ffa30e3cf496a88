from __future__ import annotations

import duckdb
import numpy as np
import pytest
import soundfile
from speech_catalog import add, add_many, adds_up, copy_catalog, files, run, units, write_speech

from cslm_data.catalog import open_catalog
from cslm_data.errors import (
    MissingArtefactError,
    NoDataError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.features import load_extractor
from cslm_data.speech_tokenizer import expand
from cslm_data.storage import units_folder
from cslm_data.tokenizers.tokenizer_folders import load
from cslm_data.units.encoding import make_encoder
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Twelve recordings of a second, in a catalog that tests copy."""
    folder = tmp_path_factory.mktemp("speech")
    workspace = Workspace(folder / "workspace")
    add_many(workspace, folder / "audio", 12)
    return workspace


@pytest.fixture
def workspace(speech, tmp_path):
    return copy_catalog(speech, tmp_path / "workspace")


def test_every_utterance_becomes_units(workspace):
    summary = run(workspace)
    assert adds_up(summary)
    assert (summary.num_in, summary.num_out, summary.fitted) == (12, 12, True)
    assert summary.name == "mfcc-8"
    tokenizer = load(workspace.tokenizers / "mfcc-8")
    rows = units(workspace)
    assert [row[1] for row in rows] == sorted(f"utt-{i}" for i in range(12))
    for tokenizer_id, _, run_units, durations, num_frames, version in rows:
        assert tokenizer_id == summary.tokenizer_id
        assert num_frames == sum(durations) == 49
        assert len(version) == 16
        assert all(a != b for a, b in zip(run_units, run_units[1:], strict=False))
    with open_catalog(workspace, doing="test") as connection:
        [(audio,)] = connection.execute(
            "select audio from utterances where utt_id = 'utt-0'"
        ).fetchall()
        columns = connection.execute("describe units").fetchall()
    expected = tokenizer.encode(soundfile.read(audio, dtype="float32")[0])
    assert rows[0][2] == expected.units.tolist()
    assert len(expand(np.array(rows[0][2]), np.array(rows[0][3]))) == 49
    kinds = {row[0]: row[1] for row in columns}
    assert (kinds["units"], kinds["num_frames"]) == ("USMALLINT[]", "UINTEGER")
    english, chinese = summary.languages
    assert (english.language, english.num_utterances, english.num_frames) == ("en", 9, 9 * 49)
    assert (chinese.language, chinese.num_utterances) == ("zh", 3)
    assert summary.num_units_total == sum(len(row[2]) for row in rows)
    assert summary.dedup_ratio == pytest.approx(summary.num_frames / summary.num_units_total)
    assert english.units_per_s == pytest.approx(english.num_units / (9 * 49 / 50))


def test_a_second_run_does_nothing_and_new_speech_only(workspace, tmp_path):
    first = run(workspace)
    before = files(workspace)
    again = run(workspace, num_units=None)
    assert (again.num_out, again.num_already, again.fitted) == (0, 12, False)
    assert again.tokenizer_id == first.tokenizer_id
    assert files(workspace) == before
    add(workspace, write_speech(tmp_path / "new.wav", 99), "utt-new")
    more = run(workspace)
    assert (more.num_in, more.num_out, more.num_already) == (13, 1, 12)
    assert set(files(workspace)) - set(before) == {
        f"{first.tokenizer_id}/plan-0001.parquet",
        f"{first.tokenizer_id}/part-0001-00000.parquet",
    }


def test_audio_that_changed_is_encoded_anew(workspace, tmp_path):
    path = write_speech(tmp_path / "a.wav", 50)
    add(workspace, path, "utt-a")
    run(workspace)
    write_speech(path, 51)
    add(workspace, path, "utt-a")
    summary = run(workspace)
    assert (summary.num_in, summary.num_out, summary.num_already) == (13, 1, 12)
    assert adds_up(summary)


def test_bad_audio_becomes_rejects_and_the_rest_goes_on(workspace, tmp_path):
    flac = write_speech(tmp_path / "whole.flac", 1)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), 16_000)
    wide = tmp_path / "wide.wav"
    channels = np.random.default_rng(0).standard_normal((96_000, 8)) * 0.1
    soundfile.write(wide, channels, 96_000, subtype="PCM_24")
    for path in (cut, empty, wide, tmp_path / "nowhere.wav"):
        add(workspace, path, f"bad-{path.name}", speaker="x")
    add(workspace, flac, "bad-range", offset_s=0.5, duration_s=9.0)
    summary = run(workspace)
    assert adds_up(summary)
    assert (summary.num_in, summary.num_out, summary.num_rejected) == (17, 13, 4)
    assert summary.reject_reasons == {"empty": 1, "missing": 1, "out_of_range": 1, "truncated": 1}
    with open_catalog(workspace, doing="test") as connection:
        rows = connection.execute(
            'select stage, corpus, "key", reason, detail from rejects '
            "where stage = 'quantize' order by \"key\""
        ).fetchall()
        frames = connection.execute(
            "select num_frames from units where utt_id = 'bad-wide.wav'"
        ).fetchone()
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        ("quantize", "test", "bad-cut.flac", "truncated"),
        ("quantize", "test", "bad-empty.wav", "empty"),
        ("quantize", "test", "bad-nowhere.wav", "missing"),
        ("quantize", "test", "bad-range", "out_of_range"),
    ]
    assert all(row[4] for row in rows)
    assert frames == (49,), "eight channels at 96 kHz are a second of speech like any other"
    again = run(workspace)
    assert (again.num_out, again.num_rejected, again.num_already) == (0, 4, 13)


def test_what_was_refused_while_a_disk_was_away_can_be_tried_again(workspace, tmp_path):
    run(workspace)
    there = files(workspace)
    (tmp_path / "late").mkdir()
    path = write_speech(tmp_path / "late" / "a.wav", 5)
    add(workspace, path, "late", speaker="x")
    away = path.parent.rename(tmp_path / "away")
    assert run(workspace).num_rejected == 1
    away.rename(path.parent)
    assert run(workspace).num_rejected == 1, "without being asked it stays as it is"
    again = run(workspace, retry_rejected=True)
    assert adds_up(again)
    assert (again.num_out, again.num_rejected) == (1, 0)
    assert "late" in [row[1] for row in units(workspace)]
    assert there.items() <= files(workspace).items(), "parts without refusals are left alone"
    assert run(workspace, retry_rejected=True).num_out == 0


def test_the_tokenizer_is_chosen_by_what_is_asked(workspace):
    eight = run(workspace)
    four = run(workspace, num_units=4)
    assert (eight.name, four.name, four.fitted) == ("mfcc-8", "mfcc-4", True)
    assert run(workspace, num_units=4).fitted is False
    assert run(workspace, num_units=None, tokenizer="mfcc-8").tokenizer_id == eight.tokenizer_id
    with pytest.raises(UsageError, match=r"mfcc-8 .*mfcc-4 "):
        run(workspace, num_units=None)
    with pytest.raises(MissingArtefactError, match="nosuch"):
        run(workspace, tokenizer="nosuch")
    with pytest.raises(UsageError, match="local"):
        run(workspace, engine="slurm")
    with pytest.raises(UsageError, match="num-workers"):
        run(workspace, num_workers=0)
    with pytest.raises(UsageError, match="kinds are"):
        run(workspace, extractor="nosuch:x")


def test_without_a_number_there_are_as_many_units_as_the_speech_carries(workspace):
    small = run(workspace, num_units=None)
    assert small.name == f"mfcc-{12 * 49 // 39}"
    assert run(workspace, num_units=None).fitted is False
    assert run(workspace, num_units=500).fitted is False, "500 is the number when none is given"


def test_more_units_than_frames_are_refused(workspace):
    with pytest.raises(UsageError, match="--num-units 600: there are only 588 frames"):
        run(workspace, num_units=600)
    assert not list(workspace.tokenizers.glob("*/tokenizer.json"))


def test_the_sample_is_bounded_balanced_and_keyed(workspace, tmp_path):
    run(workspace, max_frames=400)
    tokenizer = load(workspace.tokenizers / "mfcc-8")
    per_language = tokenizer.fit["frames_per_language"]
    # Nine seconds and three share as the square roots, 253.6 : 146.4; the rest of 146.4 goes on.
    assert per_language == {"en": 254, "zh": 146}
    assert tokenizer.fit["num_frames"] == 400
    other = run(workspace, num_units=7, max_frames=400, seed=1)
    assert other.fitted


def test_a_speaker_is_capped(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    for index in range(8):
        path = write_speech(tmp_path / f"{index}.wav", index)
        add(workspace, path, f"utt-{index}", speaker="loud" if index < 7 else "quiet")
    run(workspace, num_units=2, max_speaker_s=2.0)
    assert load(workspace.tokenizers / "mfcc-2").fit["num_utterances"] == 3


def test_nothing_to_quantize_is_said(tmp_path):
    with pytest.raises(MissingArtefactError, match="cslm-data ingest"):
        run(Workspace(tmp_path))
    workspace = Workspace(tmp_path / "workspace")
    with open_catalog(workspace, write=True, doing="test"):
        pass
    with pytest.raises(NoDataError, match="no speech"):
        run(workspace)
    add(workspace, tmp_path / "nowhere.wav", "a")
    with pytest.raises(NoDataError, match=r"none of 1 utterances can be read.*nowhere\.wav"):
        run(workspace)
    assert not list(workspace.tokenizers.glob("*.json"))


def test_a_hubert_of_ones_own_quantizes_and_must_stay_the_same(workspace, tmp_path):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8, 8),
        conv_kernel=(10, 8, 8),
        conv_stride=(5, 8, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    model = transformers.HubertModel(config)
    model.save_pretrained(tmp_path / "my-hubert")
    summary = run(workspace, extractor=f"hf:{tmp_path / 'my-hubert'}", layer=1, device="cpu")
    assert (summary.name, summary.num_out) == ("my-hubert-l1-8", 12)
    with torch.no_grad():
        model.encoder.layers[0].attention.q_proj.weight.mul_(2)
    model.save_pretrained(tmp_path / "my-hubert")
    add(workspace, write_speech(tmp_path / "new.wav", 99), "utt-new")
    with pytest.raises(TokenizerMismatchError, match="fit a new"):
        run(workspace, tokenizer="my-hubert-l1-8", device="cpu")


def test_an_encoder_is_whole_before_its_first_part(workspace):
    # The engine limits the threads of what is loaded when the worker is made, not of later comers.
    made = run(workspace).tokenizer_id
    loaded = []

    def noting(*arguments, **options):
        loaded.append(arguments)
        return load_extractor(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cslm_data.speech_tokenizer.load_extractor", noting)
        make_encoder(load(workspace.tokenizers / "mfcc-8"), units_folder(workspace).child(made))
    assert loaded


def test_parts_are_plain_parquet(workspace):
    summary = run(workspace)
    pattern = str(workspace.units / summary.tokenizer_id / "part-*.parquet")
    names = [row[0] for row in duckdb.sql(f"describe from read_parquet('{pattern}')").fetchall()]
    assert names == [
        "utt_id",
        "units",
        "durations",
        "num_frames",
        "audio_version",
        "reject_reason",
        "reject_detail",
    ]
