"""Cuts as the lhotse library itself reads them."""

from __future__ import annotations

import gzip
import json
import warnings

import numpy as np
import pytest
import soundfile
from awkward_corpus import make_catalog, rows_of
from small_files import write_rows, write_tone

from cslm_data.exporting.catalog_export import export_catalog
from cslm_data.ingest import ingest

with warnings.catch_warnings():  # of the libraries that it brings
    warnings.simplefilter("ignore")
    lhotse = pytest.importorskip("lhotse", reason="needs the lhotse library: the dev extra")
    from lhotse.qa import validate


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("lhotse"))


@pytest.fixture
def audio(made):
    return made.root.parent / "corpus"


def read_cuts(path):
    """id → cut, each checked as lhotse does, its audio read."""
    cuts = lhotse.CutSet.from_jsonl(path)
    validate(cuts, read_data=True)
    return {cut.id: cut for cut in cuts}


def test_lhotse_reads_the_stretches_the_catalog_means(made, audio, tmp_path):
    summary = export_catalog(made, tmp_path / "out", format="lhotse")
    names = ["all.cuts.jsonl.gz", "dev.cuts.jsonl.gz", "train.cuts.jsonl.gz"]
    assert summary.files == dict.fromkeys(names, 2)
    assert summary.left_out == {"bitext": 2, "dialogues": 2}
    cuts = {}
    for name in names:
        cuts |= read_cuts(tmp_path / "out" / name)
    stretches = {
        "spk-a-1": ("long.wav", 8_000, 24_000),
        "second": ("long.wav", 27_200, 44_800),
        "r/ü 1": ("ümläut/ein ton.wav", 0, 8_000),
        "silent": ("8k.wav", 0, 4_000),
        "nobody": ("8k-two.wav", 0, 4_000),
        "d1/1": ("born.wav", 0, 11_200),
    }
    assert cuts.keys() == stretches.keys()
    for key, (name, first, last) in stretches.items():
        samples_T, rate_hz = soundfile.read(audio / name, dtype="float32")
        assert (cuts[key].sampling_rate, cuts[key].num_samples) == (rate_hz, last - first)
        assert np.array_equal(cuts[key].load_audio()[0], samples_T[first:last])
        assert cuts[key].recording.num_samples == len(samples_T)
    # Two stretches of one recording are of one recording for lhotse, too.
    assert cuts["second"].recording_id == cuts["spk-a-1"].recording_id
    assert len({cut.recording_id for cut in cuts.values()}) == 5


def test_what_a_supervision_says(made, tmp_path):
    export_catalog(made, tmp_path / "out", format="lhotse")
    cuts = read_cuts(tmp_path / "out" / "train.cuts.jsonl.gz")
    (said,) = cuts["spk-a-1"].supervisions
    assert (said.id, said.start, said.duration, said.channel) == ("spk-a-1", 0.0, 1.0, 0)
    assert (said.text, said.language, said.speaker) == ("two  blanks\tand a tab", "en", "spk-a")
    wanted = {"corpus": "speech", "kind": "human", "license": "CC0", "split": "train"}
    assert said.custom == wanted
    silent = read_cuts(tmp_path / "out" / "all.cuts.jsonl.gz")["silent"].supervisions[0]
    assert silent.text is None
    assert silent.alignment is None


def test_words_and_phones_have_the_times_of_the_recording_as_lhotse_wants_them(made, tmp_path):
    export_catalog(made, tmp_path / "out", format="lhotse")
    cuts = read_cuts(tmp_path / "out" / "train.cuts.jsonl.gz")
    # "two" begins 0.1 s into the utterance, which begins at 0.5 s of long.wav.
    assert [list(item) for item in cuts["spk-a-1"].supervisions[0].alignment["word"]] == [
        ["two", 0.6, 0.2, 0.25],
        ["blanks", 0.8, 0.4, 0.5],
    ]
    assert [list(item) for item in cuts["spk-a-1"].supervisions[0].alignment["phone"]] == [
        ["sil", 0.5, 0.1, None],
        ["T", 0.6, 0.1, None],
        ["UW1", 0.7, 0.1, None],
    ]
    # lhotse's own way to this cut: a supervision with its words on the whole recording, trimmed.
    whole = lhotse.Recording.from_file(cuts["second"].recording.sources[0].source)
    cut = cuts["second"]
    supervision = lhotse.SupervisionSegment(
        id="second",
        recording_id=whole.id,
        start=1.7,
        duration=1.1,
        alignment={
            "word": [
                lhotse.supervision.AlignmentItem("line", 1.75, 0.35),
                lhotse.supervision.AlignmentItem("end", 2.1, 0.7),
            ]
        },
    )
    its_own = lhotse.CutSet.from_manifests(
        recordings=lhotse.RecordingSet.from_recordings([whole]),
        supervisions=lhotse.SupervisionSet.from_segments([supervision]),
    )
    (trimmed,) = its_own.trim_to_supervisions()
    assert cut.supervisions[0].alignment == trimmed.supervisions[0].alignment
    assert (cut.start, cut.duration) == (trimmed.start, trimmed.duration)


def test_relative_paths_are_found_with_lhotses_own_prefix(made, tmp_path):
    export_catalog(made, tmp_path / "out", format="lhotse", relative=True)
    cuts = lhotse.CutSet.from_jsonl(tmp_path / "out" / "dev.cuts.jsonl.gz")
    assert all(not cut.recording.sources[0].source.startswith("/") for cut in cuts)
    validate(cuts.with_recording_path_prefix(tmp_path / "out"), read_data=True)


def test_a_rounded_duration_does_not_reach_beyond_the_recording(workspace, tmp_path):
    write_tone(tmp_path / "a.wav", seconds=1.0)
    row = {"id": "a", "audio": "a.wav", "offset": 0.25, "duration": 0.8, "language": "en"}
    ingest(workspace, [write_rows(tmp_path / "m.jsonl", [row])])
    export_catalog(workspace, tmp_path / "out", format="lhotse")
    cut = read_cuts(tmp_path / "out" / "all.cuts.jsonl.gz")["a"]
    assert (cut.duration, cut.num_samples) == (0.75, 12_000)
    assert cut.supervisions[0].duration == 0.75


def test_what_a_mono_cut_cannot_be_is_refused_or_cut_out(workspace, tmp_path):
    write_tone(tmp_path / "stereo.wav", seconds=1.0, rate=44_100, channels=2)
    write_tone(tmp_path / "gone.wav")
    rows = [
        {"id": "x/two", "audio": "stereo.wav", "offset": 0.5, "duration": 0.4, "language": "en"},
        {"id": "gone", "audio": "gone.wav", "language": "en"},
    ]
    ingest(workspace, [write_rows(tmp_path / "m.jsonl", rows)])
    (tmp_path / "gone.wav").unlink()
    summary = export_catalog(workspace, tmp_path / "plain", format="lhotse")
    assert summary.reject_reasons == {"channels": 1, "missing": 1}
    assert (summary.num_in, summary.tables["utterances"].num_out, summary.files) == (2, 0, {})
    query = "select key, reason from rejects where stage = 'export' order by key"
    assert rows_of(workspace, query) == [("gone", "missing"), ("x/two", "channels")]
    summary = export_catalog(workspace, tmp_path / "cut", format="lhotse", cut=True)
    assert (summary.num_cut, summary.reject_reasons) == (1, {"missing": 1})
    cut = read_cuts(tmp_path / "cut" / "all.cuts.jsonl.gz")["x/two"]
    assert cut.recording.sources[0].source == str(tmp_path / "cut" / "audio" / "x" / "two.flac")
    assert (cut.start, cut.sampling_rate, cut.num_samples) == (0.0, 16_000, 6_400)


def test_the_files_have_no_clock_in_them(made, tmp_path):
    export_catalog(made, tmp_path / "out", format="lhotse")
    head = (tmp_path / "out" / "dev.cuts.jsonl.gz").read_bytes()[:10]
    assert head[4:8] == b"\0\0\0\0"
    lines = gzip.decompress((tmp_path / "out" / "dev.cuts.jsonl.gz").read_bytes()).splitlines()
    assert {json.loads(line)["type"] for line in lines} == {"MonoCut"}


def test_real_speech_with_words_passes_lhotses_checks(workspace, shared_data, tmp_path):
    sources = [shared_data / "real" / f"ljspeech{end}.jsonl" for end in ("", ".align")]
    ingest(workspace, sources)
    export_catalog(workspace, tmp_path / "out", format="lhotse")
    cuts = read_cuts(tmp_path / "out" / "all.cuts.jsonl.gz")
    assert len(cuts) == 20
    lines = sources[1].read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        words = cuts[row["id"]].supervisions[0].alignment["word"]
        found = [(item.start, item.end, item.symbol) for item in words]
        assert found == [
            tuple(word) for word in row["words"] if word[2] not in ("", "sil", "sp", "spn")
        ]
