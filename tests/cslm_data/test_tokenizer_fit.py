from __future__ import annotations

import json
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from clouds import inertia_by_definition
from speech_catalog import add, add_rows, write_speech

from cslm_data.clustering.normalisation import Normalisation
from cslm_data.engines.local import run_parts
from cslm_data.errors import (
    AlreadyExistsError,
    CslmError,
    LockedError,
    NoDataError,
    UsageError,
)
from cslm_data.features import EXTRACTORS
from cslm_data.tokenizers.fit_speech import sample_speech
from cslm_data.tokenizers.full_passes import refine_on_all_speech
from cslm_data.tokenizers.tokenizer_fit import FitOptions, fit_tokenizer
from cslm_data.tokenizers.tokenizer_folders import list_tokenizers, load
from cslm_data.workspace import Workspace

OPTIONS = FitOptions(num_units=6, max_frames=400, iterations=4, full_passes=2)


@pytest.fixture
def speech(tmp_path):
    """Twelve seconds of two languages and three speakers, and one recording of 150 seconds."""
    workspace = Workspace(tmp_path / "workspace")
    rows = []
    for index in range(12):
        path = write_speech(tmp_path / f"{index}.wav", index)
        language = "zh" if index % 4 == 0 else "en"
        rows.append((path, f"utt-{index}", {"language": language, "speaker": str(index % 3)}))
    rows.append((write_speech(tmp_path / "long.wav", 99, 150.0), "long", {"language": "de"}))
    add_rows(workspace, rows)
    return workspace


def in_any_order(seed):
    """An engine whose parts finish in an order of their own."""

    def run(parts, make_worker, num_workers=None, *, gpu_per_worker=False):
        worker = make_worker()
        done = [(part, worker(part)) for part in parts]
        random.Random(seed).shuffle(done)
        return iter(done)

    return run


def folder_bytes(workspace, name):
    folder = workspace.tokenizers / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_bytes_do_not_depend_on_workers_or_arrival(speech, tmp_path):
    ways = {"one": (run_parts, 1), "two": (run_parts, 2), "a": (in_any_order(1), 5)}
    for name, (engine, workers) in ways.items():
        fit_tokenizer_as(speech, tmp_path / name, name, run_parts=engine, num_workers=workers)
    one, two, shuffled = (folder_bytes(Workspace(tmp_path / n), n) for n in ways)
    assert one == two == shuffled
    assert set(one) == {"tokenizer.json", "centroids.npy", "mean.npy", "scale.npy"}


def fit_tokenizer_as(speech, root, name, *, options=OPTIONS, **how):
    """Fit into a workspace of its own over the same catalog."""
    root.mkdir()
    (root / "catalog.duckdb").symlink_to(speech.catalog)
    return fit_tokenizer(Workspace(root), options=options, name=name, **how)


def test_what_was_done_is_written_down(speech):
    made = fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, num_workers=1, name="mine")
    fit = load(speech.tokenizers / "mine").fit
    assert fit["backend"] in ("lloyd", "faiss")
    assert fit["init"] == "kmeans++"
    assert len(fit["inertia"]) == 4
    assert len(fit["full_inertia"]) == 2
    assert fit["num_frames"] == sum(fit["frames_per_language"].values()) == 400
    # 49 in each second of speech, 2499 in each of the three pieces of the long recording.
    assert fit["full_num_frames"] == 12 * 49 + 3 * 2499
    # By square roots 40.8 frames of zh; of the 360 left 70.8 of en; each from twice as much speech.
    assert fit["frames_per_language"] == {"de": 290, "en": 70, "zh": 40}
    assert (fit["num_utterances"], fit["num_unreadable"]) == (1 + 3 + 2, 0)
    assert fit["normalisation"] == "standardise"
    assert made.name == "mine"
    assert "seconds" not in json.dumps(fit), "nothing of the clock"


def test_a_long_recording_is_sampled_in_pieces(speech):
    load_mfcc = mfcc_loader()
    sample = sample_speech(
        speech,
        load_mfcc,
        rate_hz=50.0,
        max_frames=10_000,
        temperature=1.0,
        max_speaker_s=None,
        seed=0,
        run_parts=run_parts,
        num_workers=1,
    )
    # 150 seconds are three pieces of 50, each with its last frame 0.02 s before its end.
    assert sample.frames_per_language == {"de": 3 * 2499, "en": 9 * 49, "zh": 3 * 49}
    capped = sample_speech(
        speech,
        load_mfcc,
        rate_hz=50.0,
        max_frames=10_000,
        temperature=1.0,
        max_speaker_s=1.5,
        seed=0,
        run_parts=run_parts,
        num_workers=1,
    )
    # Two seconds of en of each of three speakers, one of zh; the long recording has no speaker.
    assert capped.frames_per_language == {"de": 3 * 2499, "en": 3 * 2 * 49, "zh": 3 * 49}
    assert capped.num_utterances == 1 + 3 * 2 + 3


def mfcc_loader():
    from cslm_data.features import load_extractor

    return lambda: load_extractor("mfcc")


def test_a_full_pass_is_lloyds_step_over_every_frame(speech):
    before = fit_tokenizer(
        speech, options=replace(OPTIONS, full_passes=0), run_parts=run_parts, num_workers=1
    )
    after = fit_tokenizer(
        speech, options=replace(OPTIONS, full_passes=1), run_parts=run_parts, num_workers=1
    )
    every = sample_speech(
        speech,
        mfcc_loader(),
        rate_hz=50.0,
        max_frames=10**6,
        temperature=1.0,
        max_speaker_s=None,
        seed=0,
        run_parts=run_parts,
        num_workers=1,
    )
    points = before.normalisation.apply(every.frames_ND)
    assert after.fit["full_inertia"] == pytest.approx(
        [inertia_by_definition(points, before.centroids_KE)], rel=1e-5
    )
    units = before.units_of(every.frames_ND)
    means = np.array([points[units == unit].mean(axis=0) for unit in range(6)])
    np.testing.assert_allclose(after.centroids_KE, means, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["none", "pca:5", "whiten", "spherical"])
def test_every_normalisation_goes_through_the_whole_fit(speech, normalisation):
    options = replace(OPTIONS, normalisation=normalisation, full_passes=1)
    made = fit_tokenizer(speech, options=options, run_parts=run_parts, num_workers=1)
    assert load(speech.tokenizers / made.name).tokenizer_id == made.tokenizer_id
    assert made.centroids_KE.shape == (6, 5 if normalisation == "pca:5" else 39)
    if normalisation == "spherical":
        np.testing.assert_allclose(np.linalg.norm(made.centroids_KE, axis=1), 1, atol=1e-5)
    assert made.normalisation.invert(made.centroids_KE).shape == (6, 39)


class Wide:
    """Many frames of many numbers out of little sound."""

    identity = {"kind": "wide"}
    frame_rate_hz = 1_000.0
    dim = 256

    def __call__(self, waveform_T):
        return waveform_T[: len(waveform_T) // 16 * 16 : 16, None] * np.ones(256, np.float32)


def test_the_memory_of_a_fit_is_that_of_its_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "wide", lambda name, options: Wide())
    workspace = Workspace(tmp_path / "workspace")
    add_rows(
        workspace,
        [(write_speech(tmp_path / f"{i}.wav", i, 5.0), f"u{i}", {}) for i in range(12)],
    )
    options = FitOptions(extractor="wide", num_units=4, iterations=2, max_frames=30_000)
    sample_bytes = 30_000 * 256 * 4
    fit_tokenizer(workspace, options=replace(options, max_frames=50), run_parts=run_parts)
    tracemalloc.start()
    try:
        fit_tokenizer(workspace, options=options, run_parts=run_parts, num_workers=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The buffer is an eighth larger; a part of a minute is 60 000 frames, of which a worker sends
    # on 0.6, while it holds those of one recording.
    assert peak < sample_bytes * (1.125 + 1.2) + 12e6


class Codes:
    identity = {"kind": "codes", "weights": "abc"}
    frame_rate_hz = 25.0
    dim = 1
    num_codes = 6561

    def __call__(self, waveform_T):
        return np.arange(len(waveform_T) // 640 + 1, dtype=np.float32)[:, None]


def test_an_extractor_of_codes_needs_no_fit(speech, monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "codes", lambda name, options: Codes())
    options = FitOptions(extractor="codes")
    made = fit_tokenizer(speech, options=options, run_parts=run_parts)
    assert made.num_units == 6561
    assert made.normalisation.kind == "none"
    assert made.fit["backend"] == "codes"
    wave = np.zeros(6_400, np.float32)
    assert load(speech.tokenizers / made.name).encode(wave).units.tolist() == list(range(11))
    with pytest.raises(UsageError, match="6561 codes of its own"):
        fit_tokenizer(speech, options=replace(options, num_units=500), run_parts=run_parts)


def test_names_are_names_of_folders_and_taken_once(speech):
    for name in ("", ".", "..", "a/b", "../up", "-x", ".hidden", "a b", "ü", "x" * 101):
        with pytest.raises(UsageError, match="--name"):
            fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, name=name)
    fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, num_workers=1, name="a.b_c-1")
    with pytest.raises(AlreadyExistsError, match=r"a\.b_c-1: there is a speech tokenizer"):
        fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, name="a.b_c-1")
    with pytest.raises(AlreadyExistsError, match=r"already here as a\.b_c-1"):
        fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, num_workers=1, name="other")
    again = fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, num_workers=1)
    assert again.name == "a.b_c-1", "without a name the one that is there is used"


def test_mistakes_show_before_anything_is_read(speech):
    def refuse(*_args, **_how):
        raise AssertionError("something was read")

    for wrong, message in (
        ({"normalisation": "zca"}, "--normalisation zca"),
        ({"num_units": 1}, "--num-units 1"),
        ({"num_units": 65_537}, "65536"),
        ({"backend": "spark"}, "--backend spark"),
        ({"init": "x"}, "--init x"),
        ({"restarts": 0}, "--restarts 0"),
        ({"iterations": 0}, "--iterations 0"),
        ({"max_frames": 1}, "--max-frames 1"),
        ({"full_passes": -1}, "--full-passes -1"),
        ({"temperature": 0.5}, r"--temperature 0\.5"),
    ):
        with pytest.raises(UsageError, match=message):
            fit_tokenizer(speech, options=replace(OPTIONS, **wrong), run_parts=refuse)
    with (
        speech.lock("tokenizers", "another fit"),
        pytest.raises(LockedError, match="another fit"),
    ):
        fit_tokenizer(speech, options=OPTIONS, run_parts=refuse)


def test_a_fit_that_dies_leaves_nothing(speech):
    def die(parts, make_worker, num_workers=None, *, gpu_per_worker=False):
        make_worker()(next(iter(parts)))
        raise CslmError("a worker process died")

    def die_in_the_full_pass(parts, make_worker, num_workers=None, *, gpu_per_worker=False):
        full = "summer" in repr(make_worker)
        return (die if full else run_parts)(parts, make_worker, 1)

    for engine in (die, die_in_the_full_pass):
        with pytest.raises(CslmError, match="died"):
            fit_tokenizer(speech, options=OPTIONS, run_parts=engine)
    assert list_tokenizers(speech) == []
    assert [path for path in speech.tokenizers.rglob("*") if path.is_file()] == []


def test_unreadable_speech_is_said_and_left_out(speech, tmp_path, caplog):
    add(speech, tmp_path / "gone.wav", "gone")
    made = fit_tokenizer(speech, options=OPTIONS, run_parts=run_parts, num_workers=1)
    assert "1 of 6 utterances could not be read for the fit, e.g. gone: missing" in caplog.text
    assert (made.fit["num_utterances"], made.fit["num_unreadable"]) == (5, 1)
    assert made.fit["full_num_unreadable"] == 1


def test_a_full_pass_over_nothing_readable_is_an_error():
    def nothing(parts, make_worker, num_workers=None, *, gpu_per_worker=False):
        return iter(())

    with pytest.raises(NoDataError, match="none of the speech can be read"):
        refine_on_all_speech(
            np.ones((2, 3), np.float32),
            make_summer=lambda centroids_KE: Normalisation(),
            open_parts=lambda: (),
            total_s=0.0,
            num_passes=1,
            spherical=False,
            seed=0,
            run_parts=nothing,
            num_workers=1,
        )
