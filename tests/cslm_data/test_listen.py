from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from speech_catalog import add, add_many, run, write_speech

from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.listen import listen, listen_to_units
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer


@pytest.fixture
def spoken(workspace, tmp_path):
    """Eight seconds of noise of changing loudness in units of an MFCC tokenizer."""
    add_many(workspace, tmp_path / "audio", 8)
    run(workspace)
    return workspace


def test_an_utterance_is_heard_as_long_and_as_loud_as_it_was_and_the_same_every_time(
    spoken, tmp_path
):
    summary = listen(spoken, ["utt-1"], out=tmp_path / "out")
    (heard,) = summary.heard
    assert (summary.method, summary.fitted) == ("centroids", False)
    original_T, rate_hz = soundfile.read(heard.original)
    units_T, _ = soundfile.read(heard.resynthesis)
    assert (rate_hz, len(original_T), len(units_T)) == (16_000, 16_000, 16_000)
    assert np.std(units_T) == pytest.approx(np.std(original_T), rel=0.01)
    assert heard.distance.mel_db < heard.mean_distance.mel_db
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "utt-1.original.wav",
        "utt-1.units.wav",
        "utt-1.svg",
        "listen.html",
    }
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    listen(spoken, ["utt-1"], out=tmp_path / "out")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_examples_are_chosen_by_seed_and_language(spoken):
    def chosen(**options):
        return [heard.utt_id for heard in listen(spoken, **options).heard]

    assert chosen(limit=3) == chosen(limit=3)
    assert sorted(chosen(limit=8)) == [f"utt-{i}" for i in range(8)]
    assert len({tuple(chosen(limit=6, seed=seed)) for seed in range(4)}) > 1
    assert set(chosen(language="zh", limit=8)) == {"utt-0", "utt-4"}
    with pytest.raises(MissingArtefactError, match="no utterance of language 'fr'"):
        chosen(language="fr")


def test_what_cannot_be_heard_says_why_and_what_to_do(spoken, tmp_path):
    with pytest.raises(NoDataError, match="^nobody: no utterance has this id"):
        listen(spoken, ["utt-1", "nobody"])
    add(spoken, write_speech(tmp_path / "new.wav", 9), "new")
    with pytest.raises(MissingArtefactError, match="new: has no units of mfcc-8; run: cslm-data q"):
        listen(spoken, ["new"])
    changed = write_speech(tmp_path / "audio" / "1.wav", 77)
    with pytest.raises(MissingArtefactError, match="has changed since it was ingested"):
        listen(spoken, ["utt-1"])
    add(spoken, changed, "utt-1")
    with pytest.raises(MissingArtefactError, match="its units are of an earlier version"):
        listen(spoken, ["utt-1"])
    run(spoken)
    assert listen(spoken, ["utt-1", "new"]).heard[0].utt_id == "utt-1"


def test_why_an_utterance_has_no_units_is_told(spoken, tmp_path):
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF nothing more")
    add(spoken, path, "broken")
    run(spoken)
    with pytest.raises(MissingArtefactError, match="refused before as unreadable"):
        listen(spoken, ["broken"])


def test_ids_that_are_no_file_names_stay_in_the_folder_and_apart(spoken, tmp_path):
    path = write_speech(tmp_path / "other.wav", 5)
    ids = ["corpus/a 1", "corpus/a_1", "../../up", "/", 'quote"<b>']
    for utt_id in ids:
        add(spoken, path, utt_id)
    run(spoken)
    out = tmp_path / "deep" / "out"
    summary = listen(spoken, ids, out=out)
    assert len({heard.resynthesis for heard in summary.heard}) == len(ids)
    for heard in summary.heard:
        assert heard.resynthesis.resolve().is_relative_to(out)
    assert summary.heard[1].resynthesis == out / "corpus" / "a_1.units.wav"
    assert "quote&quot;&lt;b&gt;" in summary.page.read_text()


def test_a_regression_is_fitted_once_kept_and_fitted_again_when_it_is_stale(spoken, tmp_path):
    first = listen(spoken, ["utt-1"], by_regression=True, out=tmp_path / "a")
    assert (first.method, first.fitted) == ("regression", True)
    folder = spoken.tokenizers / "mfcc-8" / "mel"
    about = json.loads((folder / "mel.json").read_text())
    assert about["tokenizer_id"] == first.tokenizer_id
    assert (about["num_utterances"], about["seconds"]) == (8, 8.0)
    again = listen(spoken, ["utt-1"], by_regression=True, out=tmp_path / "b")
    assert not again.fitted
    assert again.heard[0].distance == first.heard[0].distance
    # It is no part of the tokenizer.
    assert find_tokenizer(spoken, None).tokenizer_id == first.tokenizer_id
    (folder / "weights.npy").write_bytes(b"")
    assert listen(spoken, ["utt-1"], by_regression=True).fitted
    for index in range(9):
        add(spoken, write_speech(tmp_path / f"more-{index}.wav", 50 + index), f"more-{index}")
    run(spoken)
    assert listen(spoken, ["utt-1"], by_regression=True).fitted
    assert json.loads((folder / "mel.json").read_text())["num_utterances"] == 17


def test_recordings_that_are_gone_are_left_out_of_the_fit_unless_none_is_left(spoken, tmp_path):
    audio = tmp_path / "audio"
    for index in range(1, 8):
        (audio / f"{index}.wav").rename(audio / f"{index}.away")
    listen(spoken, ["utt-0"], by_regression=True)
    about = json.loads((spoken.tokenizers / "mfcc-8" / "mel" / "mel.json").read_text())
    assert about["num_utterances"] == 1
    (spoken.tokenizers / "mfcc-8" / "mel" / "mel.json").unlink()
    (audio / "0.wav").rename(audio / "0.away")
    with pytest.raises(NoDataError, match="none of the 8 recordings"):
        listen_to_units(spoken, [1], by_regression=True)


def test_units_alone_last_as_long_as_they_are_told_or_usual(spoken, tmp_path):
    told = listen_to_units(spoken, [1, 2, 1], durations=[10, 5, 35], out=tmp_path)
    assert told.heard[0].duration_s == pytest.approx(1.0)
    assert told.heard[0].original is None
    assert told.heard[0].distance is None
    samples_T, _ = soundfile.read(told.heard[0].resynthesis)
    assert len(samples_T) == 16_000
    assert np.abs(samples_T).max() < 1
    usual = listen_to_units(spoken, [1, 2, 1], out=tmp_path)
    assert usual.heard[0].duration_s >= 3 * 0.02


@pytest.mark.parametrize(
    ("units", "durations", "message"),
    [
        ([], None, "no unit at all; mfcc-8 has the units 0 to 7"),
        ([3, 8], None, "unit 8; mfcc-8 has the units 0 to 7"),
        ([3, -1], None, "unit -1"),
        ([3, 4], [1], "1 numbers for 2 units"),
        ([3, 4], [1, 0], "1 or more"),
        ([3], [65_536], "at most 65535"),
    ],
)
def test_units_that_the_tokenizer_does_not_have_are_refused(spoken, units, durations, message):
    with pytest.raises(UsageError, match=message):
        listen_to_units(spoken, units, durations=durations)


def test_a_stretch_of_a_recording_is_heard_alone(workspace, tmp_path):
    path = write_speech(tmp_path / "long.wav", 1, duration_s=3)
    add(workspace, path, "middle", offset_s=1.0, duration_s=0.5)
    run(workspace, num_units=2)
    (heard,) = listen(workspace, ["middle"]).heard
    original_T, _ = soundfile.read(heard.original)
    whole_T, _ = soundfile.read(path)
    assert np.allclose(original_T, whole_T[16_000:24_000], atol=1e-4)
