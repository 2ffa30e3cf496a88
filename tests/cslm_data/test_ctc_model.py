"""The embedded aligner on speech of tones: each letter has its own, so its times are known."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file
from small_files import write_rows

from cslm_data.aligning import train_ctc as training
from cslm_data.aligning.ctc_model import CtcModel, load_ctc_model
from cslm_data.aligning.full_sum import SILENCE, occupancies, states_of
from cslm_data.aligning.timing import time_words, timing_of
from cslm_data.aligning.train_ctc import train_ctc
from cslm_data.corpora import Defaults
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, NoDataError, UsageError
from cslm_data.ingest import ingest
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

LETTERS = "aeiou"
RATE = 16_000
EPOCHS = 12


def say(text: str, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A waveform that says a text in tones of 60 to 140 ms, and when its words are said."""
    pieces, times, now = [], [], 0.0

    def add(seconds: float, hz: float) -> None:
        nonlocal now
        count = int(seconds * RATE)
        tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(count) / RATE) if hz else np.zeros(count)
        pieces.append(tone + rng.normal(0, 0.001, count))
        now += count / RATE

    add(rng.uniform(0.1, 0.3), 0)
    for word in text.split():
        start = now
        for letter in word:
            add(rng.uniform(0.06, 0.14), 400 * 1.6 ** LETTERS.index(letter))
        times.append((start, now))
        add(rng.uniform(0.0, 0.2), 0)
    add(0.1, 0)
    return np.concatenate(pieces).astype(np.float32), times


def make_text(rng: np.random.Generator) -> str:
    """Words of two to four letters, none of them twice in a row."""
    words = []
    for _ in range(rng.integers(2, 6)):
        letters = [str(rng.choice(list(LETTERS)))]
        while len(letters) < rng.integers(2, 5):
            letters.append(str(rng.choice([c for c in LETTERS if c != letters[-1]])))
        words.append("".join(letters))
    return " ".join(words)


def fill(workspace: Workspace, folder: Path, count: int = 40) -> None:
    rng = np.random.default_rng(7)
    rows: list[dict[str, object]] = []
    for index in range(count):
        text = make_text(rng)
        wave, _ = say(text, rng)
        path = folder / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, RATE)
        row: dict[str, object] = {"id": f"u{index}", "audio": path.name, "text": text}
        rows.append({**row, "duration": len(wave) / RATE, "language": "en"})
    manifest = write_rows(folder / "tones.jsonl", rows)
    assert not ingest(workspace, [manifest], defaults=Defaults()).num_rejected


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, CtcModel]:
    folder = tmp_path_factory.mktemp("tones")
    workspace = Workspace(folder / "workspace")
    fill(workspace, folder / "audio")
    return workspace, train_ctc(workspace, epochs=EPOCHS)


def test_words_of_tones_that_were_not_trained_on_are_timed_to_some_milliseconds(
    trained: tuple[Workspace, CtcModel], tmp_path: Path
) -> None:
    rng = np.random.default_rng(99)
    differences = []
    for index in range(20):
        text = make_text(rng)
        wave, times = say(text, rng)
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, wave, RATE)
        stretch = Stretch("u", str(path), 0.0, len(wave) / RATE, "en", "", text)
        [(_, words, *_)] = time_words([stretch], trained[1], timing_of(trained[1], 0.0))
        assert [word["word"] for word in words] == text.split()
        for word, (start, end) in zip(words, times, strict=True):
            differences += [word["start_s"] - start, word["end_s"] - end]
    errors = np.abs(differences)
    assert errors.mean() < 0.02
    assert np.mean(errors < 0.05) > 0.95
    assert abs(np.mean(differences)) < 0.01, "no lead and no lag"


def test_emissions_are_log_probabilities_of_frames_of_ten_milliseconds(
    trained: tuple[Workspace, CtcModel],
) -> None:
    model = trained[1]
    for num_samples in (0, 1, 319, 320, 321, 16_000):
        found = model.emissions(np.zeros(num_samples, np.float32))
        assert found.shape == (2 * max(1, -(-num_samples // 320)), 27)
        assert found.dtype == np.float32
        assert np.exp(found.astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model.symbols == ("<blank>", *"abcdefghijklmnopqrstuvwxyz")


def test_a_saved_model_says_the_same(trained: tuple[Workspace, CtcModel], tmp_path: Path) -> None:
    workspace, model = trained
    wave, _ = say("aei ou", np.random.default_rng(1))
    loaded = load_ctc_model(workspace.aligners / "ctc")
    assert loaded.aligner_id == model.aligner_id
    assert loaded.name == "ctc"
    assert loaded.training == json.loads(json.dumps(model.training))
    np.testing.assert_array_equal(loaded.emissions(wave), model.emissions(wave))
    loaded.save(tmp_path / "again")
    loaded.save(tmp_path / "again")
    assert weights(tmp_path / "again") == weights(workspace.aligners / "ctc")


def train_and_die(root: Path) -> None:
    """In a process of its own: kill -9 in the third epoch, before its checkpoint."""
    save, number = training.save_checkpoint, itertools.count(1)

    def save_or_die(*arguments: Any) -> None:
        if next(number) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        save(*arguments)

    training.save_checkpoint = save_or_die
    train_ctc(Workspace(root), name="killed", epochs=3)


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    trained: tuple[Workspace, CtcModel], caplog: pytest.LogCaptureFixture
) -> None:
    workspace = trained[0]
    train_ctc(workspace, name="straight", epochs=3)
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=train_and_die, args=(workspace.root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (workspace.aligners / "killed").exists(), "no model before it is whole"
    with caplog.at_level("INFO"):
        model = train_ctc(workspace, name="killed", epochs=3)
    assert "goes on after epoch 2 of 3" in caplog.text
    assert weights(workspace.aligners / "killed") == weights(workspace.aligners / "straight")
    assert model.name == "killed"
    assert not (workspace.aligners / ".training" / "killed").exists()


def test_a_checkpoint_of_another_seed_or_a_broken_one_is_not_gone_on_from(
    trained: tuple[Workspace, CtcModel],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace = trained[0]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CtcModel, "save", stop)
        train_ctc(workspace, name="other", epochs=1)
    [checkpoint] = (workspace.aligners / ".training" / "other").iterdir()
    good = checkpoint.read_bytes()
    with caplog.at_level("INFO"):
        first = train_ctc(workspace, name="other", epochs=1, seed=5)
        assert "of other speech or options; training starts anew" in caplog.text
        checkpoint.parent.mkdir()
        checkpoint.write_bytes(good[: len(good) // 2])
        again = train_ctc(workspace, name="other", epochs=1, seed=5)
        assert "not a checkpoint" in caplog.text
    assert first.aligner_id == again.aligner_id
    assert first.aligner_id != trained[1].aligner_id


def test_the_sum_over_all_ways_is_that_of_listing_them() -> None:
    rng = np.random.default_rng(0)
    states = [states_of([[1], [2, 1]]), states_of([[2]])]
    lengths = [9, 4]
    scores = np.log(rng.dirichlet(np.ones(3), (2, 9)))
    found, known = occupancies(scores, states, lengths)
    for row, (of_text, length) in enumerate(zip(states, lengths, strict=True)):
        sums = np.zeros((length, 3))
        for way in itertools.combinations_with_replacement(range(len(of_text)), length):
            steps = np.diff(way)
            entered = [place for place, step in zip(way[1:], steps, strict=True) if step]
            skipped = [place - 1 for place, step in zip(way[1:], steps, strict=True) if step == 2]
            if (
                way[0] > 1
                or way[-1] < len(of_text) - 2
                or (steps > 2).any()
                or any(of_text[place] != SILENCE for place in skipped)
            ):
                continue
            silences = sum(of_text[place] == SILENCE for place in [way[0], *entered])
            weight = 0.2**silences * np.exp(
                sum(scores[row, n, of_text[s]] for n, s in enumerate(way))
            )
            for frame, place in enumerate(way):
                sums[frame, of_text[place]] += weight
        expected = sums / sums.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[row, :length], expected, atol=1e-9)
    assert known.tolist() == [[True] * 9, [True] * 4 + [False] * 5]


def test_speech_shorter_than_its_states_is_known_nowhere() -> None:
    _, known = occupancies(np.zeros((1, 3, 3)), [states_of([[1, 2]])], [3])
    assert not known.any()


def test_speech_without_transcripts_or_with_unusable_ones_is_an_error_that_says_so(
    workspace: Workspace, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.float32), RATE)
    row: dict[str, object] = {"id": "a", "audio": "a.wav", "duration": 0.5, "language": "en"}
    ingest(workspace, [write_rows(tmp_path / "rows.jsonl", [row])], defaults=Defaults())
    with pytest.raises(NoDataError, match="has a transcript"):
        train_ctc(workspace)
    soundfile.write(tmp_path / "b.wav", np.zeros(1600, np.float32), RATE)
    long = {**row, "id": "b", "audio": "b.wav", "duration": 0.1, "text": "far too many words"}
    ingest(workspace, [write_rows(tmp_path / "more.jsonl", [long])], defaults=Defaults())
    with pytest.raises(NoDataError, match="too_short_for_text"):
        train_ctc(workspace)
    with pytest.raises(NoDataError, match="in de"):
        train_ctc(workspace, languages=["de"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs 0"),
        ({"num_threads": 0}, "num_threads 0"),
        ({"max_hours": float("nan")}, "max_hours nan"),
        ({"name": "../up"}, "letters, digits"),
    ],
)
def test_options_that_make_no_sense_are_named(
    workspace: Workspace, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train_ctc(workspace, **options)


def test_damaged_models_are_refused(trained: tuple[Workspace, CtcModel], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(MissingArtefactError, match=r"model\.json"):
        load_ctc_model(folder)
    trained[1].save(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["output.bias"][0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CorruptArtefactError, match="says"):
        load_ctc_model(folder)
    (folder / "model.safetensors").write_bytes(b"\x80\x04N.")
    with pytest.raises(CorruptArtefactError, match="cannot be read"):
        load_ctc_model(folder)
    (folder / "model.json").write_text("[]")
    with pytest.raises(CorruptArtefactError, match="cannot be read"):
        load_ctc_model(folder)
