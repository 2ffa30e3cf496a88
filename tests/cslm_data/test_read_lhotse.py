from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_trees import lhotse, lhotse_pair, query, reasons, recording, tone_bytes
from small_files import write_rows, write_tone

from cslm_data.audio import decode
from cslm_data.corpora import Defaults
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

ENGLISH = Defaults(language="en")


def cut(audio: Path, name: str, start: float = 0.0, **said: Any) -> dict[str, Any]:
    fields = {
        "id": name,
        "start": start,
        "duration": 1.0,
        "channel": 0,
        "supervisions": [],
        "recording": recording(audio),
        "type": "MonoCut",
    }
    return {**fields, **said}


def supervision(name: str, start: float = 0.0, **said: Any) -> dict[str, Any]:
    return {"id": name, "recording_id": "r", "start": start, "duration": 0.5, "channel": 0, **said}


def test_supervisions_are_utterances_at_the_place_of_their_cut(
    workspace: Workspace, tmp_path: Path
) -> None:
    ingest(workspace, [lhotse(tmp_path)], defaults=ENGLISH)
    assert query(
        workspace,
        "select utt_id, corpus, audio, offset_s, duration_s, text, language, speaker, place "
        "from utterances order by utt_id",
    ) == [
        ("c1", "cuts_train", str(tmp_path / "audio/long.wav"), 3.0, 1.0, None, "en", None)
        + ("cuts_train.jsonl.gz:2",),
        ("s0", "cuts_train", str(tmp_path / "audio/long.wav"), 1.0, 0.5, "text 0", "en", "spk0")
        + ("cuts_train.jsonl.gz:1",),
        ("s1", "cuts_train", str(tmp_path / "audio/long.wav"), 1.5, 0.5, "text 1", "en", "spk1")
        + ("cuts_train.jsonl.gz:1",),
    ]


def test_recordings_and_supervisions_of_a_folder_belong_together(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = lhotse_pair(tmp_path)
    spare = write_tone(tmp_path / "audio" / "spare.wav", seconds=0.6)
    with (folder / "x_recordings_dev.jsonl").open("a") as stream:
        stream.write(json.dumps(recording(spare)) + "\n")
        stream.write(json.dumps(recording(spare)) + "\n")
    with (folder / "x_supervisions_dev.jsonl").open("a") as stream:
        stream.write(json.dumps(supervision("lost", recording_id="elsewhere")) + "\n\nnot json\n")
    ingest(workspace, [folder], defaults=ENGLISH)
    assert query(
        workspace, "select utt_id, offset_s, duration_s, text from utterances order by utt_id"
    ) == [("p0", 0.0, 1.0, "hello"), ("p1", 1.0, 1.0, "hello"), ("spare", 0.0, 0.6, None)]
    assert reasons(workspace) == {
        "lost": "no_audio",
        "spare": "duplicate_id",
        "x_supervisions_dev.jsonl:5": "bad_json",
    }


def test_cuts_that_are_no_stretch_of_one_recording_are_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    mono = write_tone(tmp_path / "m.wav", seconds=2.0)
    stereo = write_tone(tmp_path / "s.wav", seconds=2.0, channels=2)
    two = [{"type": "file", "channels": [0, 1], "source": str(stereo)}]
    apart = [
        {"type": "file", "channels": [0], "source": str(tmp_path / "gone.wav")},
        {"type": "file", "channels": [1], "source": str(mono)},
    ]
    rows = [
        cut(mono, "multi", type="MultiCut", channel=[0, 1]),
        cut(mono, "mixed", type="MixedCut", tracks=[]),
        cut(mono, "padding", type="PaddingCut"),
        cut(stereo, "channel1", channel=1, recording=recording(stereo, sources=two)),
        cut(stereo, "channel0", channel=0, recording=recording(stereo, sources=two)),
        cut(stereo, "other file", channel=1, recording=recording(stereo, sources=apart)),
        cut(mono, "sped up", recording=recording(mono, transforms=[{"name": "Speed"}])),
        {k: v for k, v in cut(mono, "features").items() if k != "recording"},
        cut(mono, "shar", recording=recording(mono, sources=[{"type": "shar", "channels": [0]}])),
        cut(mono, "odd", recording={"sources": 3}),
        cut(mono, "odder", recording={"sources": [{"type": "file", "channels": {"a": 1}}]}),
        cut(mono, "before", start=-0.5),
        cut(mono, "when", start="soon"),
        cut(mono, "what", start=[1]),
        cut(mono, "beyond", start=1.5),
        cut(mono, "sup", supervisions=["no object"]),
        cut(mono, "ok", supervisions=[supervision("ok"), supervision("ok")]),
        cut(mono, "ok2", supervisions={"id": "ok3", "start": 0, "duration": 0.5}),
    ]
    summary = ingest(workspace, [write_rows(tmp_path / "cuts.jsonl", rows)], defaults=ENGLISH)
    assert query(workspace, "select utt_id, audio from utterances order by utt_id") == [
        ("ok", str(mono)),
        ("ok3", str(mono)),
        ("other file", str(mono)),
    ]
    assert reasons(workspace) == {
        "multi": "cut_type",
        "mixed": "cut_type",
        "padding": "cut_type",
        "channel0": "channel",
        "channel1": "channel",
        "sped up": "transforms",
        "features": "no_audio",
        "shar": "no_audio",
        "odd": "no_audio",
        "odder": "channel",
        "before": "negative_time",
        "when": "bad_number",
        "what": "bad_number",
        "beyond": "beyond_end",
        "sup": "bad_row",
        "ok": "duplicate_id",
    }
    assert summary.num_rows == 19


def test_audio_in_memory_and_behind_commands_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    mono = write_tone(tmp_path / "m.wav", seconds=2.0)
    data = tone_bytes(seconds=1.0)
    said = base64.b64encode(data).decode()
    memory = [{"type": "memory", "channels": [0], "source": said}]
    command = [{"type": "command", "channels": [0], "source": f"cat '{mono}'"}]
    broken = [{"type": "memory", "channels": [0], "source": "*"}]
    rows = [
        cut(mono, "m0", duration=0.5, recording=recording(mono, sources=memory)),
        cut(mono, "m1", start=0.5, duration=0.5, recording=recording(mono, sources=memory)),
        cut(mono, "c", start=0.25, recording=recording(mono, sources=command)),
        cut(mono, "b", recording=recording(mono, sources=broken)),
    ]
    path = write_rows(tmp_path / "cuts.jsonl", rows)
    ingest(workspace, [path], defaults=ENGLISH)
    assert reasons(workspace) == {"c": "pipe", "b": "unreadable"}
    allowed = Defaults(language="en", allow_pipes=True)
    ingest(workspace, [path], defaults=allowed)
    assert reasons(workspace) == {"b": "unreadable"}
    [pack] = workspace.audio.iterdir()
    assert pack.read_bytes() == data + mono.read_bytes()
    audio = query(workspace, "select audio from utterances order by utt_id")
    assert audio[1] == audio[2] == (f"{pack}#bytes=0-{len(data)}",)
    np.testing.assert_array_equal(
        decode(audio[0][0], offset_s=0.25, duration_s=1.0),
        decode(str(mono), offset_s=0.25, duration_s=1.0),
    )


def test_paths_are_those_of_the_manifest_or_of_where_lhotse_ran(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tone(tmp_path / "recipe" / "wavs" / "ein wort.wav", seconds=2.0)
    beside = write_tone(tmp_path / "recipe" / "data" / "wavs" / "beside.wav", seconds=2.0)
    (tmp_path / "recipe" / "data").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "recipe")
    for name, place in (("ein wort", "recipe/wavs"), ("beside", "recipe/data/wavs")):
        source = [{"type": "file", "channels": [0], "source": f"wavs/{name}.wav"}]
        row = cut(beside, name, recording=recording(beside, sources=source))
        path = write_rows(tmp_path / "recipe" / "data" / f"{name}_cuts.jsonl", [row])
        ingest(workspace, [path], defaults=ENGLISH)
        found = query(workspace, f"select audio from utterances where utt_id = '{name}'")
        assert found == [(str(tmp_path / place / f"{name}.wav"),)]


WORDS = [["a", 1.6, 0.2, None], ["", 1.8, 0.1, None], ["b", 1.9, 0.1, 0.5]]


@pytest.mark.parametrize("shift", [0.0, -1.5, -1.0])
def test_alignments_count_from_the_recording_or_if_they_only_fit_so_from_the_cut(
    workspace: Workspace, tmp_path: Path, shift: float
) -> None:
    """A cut from 1.5 s on, or from 1 s on with its supervision at 0.5 s."""
    mono = write_tone(tmp_path / "m.wav", seconds=3.0)
    start = 1.0 if shift == -1.0 else 1.5
    words = [[word, round(at + shift, 3), *rest] for word, at, *rest in WORDS]
    alignment = {"word": words, "phone": [[w, a, d] for w, a, d, _ in words], "pdf": [["7", 0, 9]]}
    row = cut(
        mono,
        "c",
        start=start,
        supervisions=[supervision("s", start=1.5 - start, text="a b", alignment=alignment)],
    )
    ingest(workspace, [write_rows(tmp_path / "cuts.jsonl", [row])], defaults=ENGLISH)
    assert query(
        workspace,
        "select [(w.word, w.start_s, w.end_s, w.score) for w in words], "
        "[(p.phone, p.start_s, p.end_s) for p in phones] from alignments",
    ) == [
        (
            [("a", 0.1, 0.3, None), ("b", 0.4, 0.5, 0.5)],
            [("a", 0.1, 0.3), ("", 0.3, 0.4), ("b", 0.4, 0.5)],
        )
    ]
    assert query(workspace, "select offset_s, duration_s from utterances") == [(1.5, 0.5)]


def test_alignments_that_fit_nowhere_are_refused_and_the_utterance_stays(
    workspace: Workspace, tmp_path: Path
) -> None:
    mono = write_tone(tmp_path / "m.wav", seconds=3.0)
    rows = [
        cut(mono, name, supervisions=[supervision(name, alignment=alignment)])
        for name, alignment in (
            ("late", {"word": [["a", 9.0, 0.1]]}),
            ("short", {"word": [["a"]]}),
            ("text", {"word": "a b c"}),
            ("list", [1]),
            ("old", {"word": [{"symbol": "a", "start": 0.1, "duration": 0.2}]}),
        )
    ]
    ingest(workspace, [write_rows(tmp_path / "cuts.jsonl", rows)], defaults=ENGLISH)
    assert reasons(workspace) == {
        "late": "bad_times",
        "short": "bad_words",
        "text": "bad_words",
        "list": "bad_words",
    }
    assert query(workspace, "select count(*) from utterances") == [(5,)]
    assert query(workspace, "select utt_id, words[1].word from alignments") == [("old", "a")]


@pytest.mark.filterwarnings("ignore")
def test_what_the_library_writes_is_read_as_the_library_reads_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    library = pytest.importorskip("lhotse", reason="lhotse is not installed")
    from lhotse.supervision import AlignmentItem

    audio = write_tone(tmp_path / "r.wav", seconds=10.0)
    supervisions = [
        library.SupervisionSegment(
            id=f"s{n}",
            recording_id="r",
            start=1.0 + 2 * n,
            duration=1.5,
            text=f"word {n}",
            speaker="spk",
            language="English",
            alignment={"word": [AlignmentItem("word", 1.25 + 2 * n, 0.5)]},
        )
        for n in range(3)
    ]
    cuts = library.CutSet.from_manifests(
        library.RecordingSet.from_recordings([library.Recording.from_file(audio)]),
        library.SupervisionSet.from_segments(supervisions),
    )
    cuts.to_file(tmp_path / "whole_cuts.jsonl.gz")
    cuts.trim_to_supervisions().to_file(tmp_path / "trimmed_cuts.jsonl")
    for number, name in enumerate(("whole_cuts.jsonl.gz", "trimmed_cuts.jsonl")):
        place = Workspace(tmp_path / f"workspace{number}")
        assert ingest(place, [tmp_path / name]).sources[0].format == "lhotse"
        assert query(
            place, "select utt_id, offset_s, duration_s, text, language from utterances order by 1"
        ) == [(f"s{n}", 1.0 + 2 * n, 1.5, f"word {n}", "en") for n in range(3)]
        assert query(
            place, "select distinct words[1].word, words[1].start_s, words[1].end_s from alignments"
        ) == [("word", 0.25, 0.75)]
        [first] = query(
            place, "select audio, offset_s, duration_s from utterances where utt_id='s1'"
        )
        theirs = next(each for each in cuts.trim_to_supervisions() if each.id == "s1").load_audio()
        ours = decode(first[0], offset_s=first[1], duration_s=first[2])
        np.testing.assert_allclose(ours, theirs[0], atol=1e-6)
