"""Every fault that an audit looks for, planted: found exactly, and nothing else is."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from planted import NUM_UNITS, Corpus, add_clean, build, characters, copy_sound, words

from cslm_data.auditing import inputs
from cslm_data.auditing.runner import run_audits
from cslm_data.workspace import Workspace

OVERVIEWS = {"hours", "mix_shares", "unit_rates"}
"""Audits that describe and find no fault."""

_SCRIPTS = """
create temp view if not exists text_scripts as
select
    table_name, id, field, corpus, language,
    len(regexp_replace(text, '[^\\p{L}]', '', 'g')) as letters,
    if(language = 'zh', '[^\\p{L}]|\\p{Han}', '[^\\p{L}]|\\p{Latin}') as inside,
    len(regexp_replace(text, inside, '', 'g')) as outside,
    outside / greatest(letters, 1) as share_outside,
from texts
"""


@pytest.fixture(autouse=True)
def scripts_of_texts(monkeypatch):
    """The view of the scripts of texts, where the catalog has none yet."""
    make_words = inputs.make_words

    def make(connection):
        make_words(connection)
        connection.execute(_SCRIPTS)

    monkeypatch.setattr(inputs, "make_words", make)


def key_of(result, record):
    """What a finding names."""
    if "utt_ids" in record:
        return tuple(record["utt_ids"] or ()) or record["text"]
    for name in ("utt_id", "pair_id", "dialogue_id", "key", "id", "corpus"):
        if record.get(name) is not None:
            return record[name]
    raise AssertionError(f"{result.name}: names nothing: {record}")


def found(results):
    """Keys by audit, without what found nothing and what only describes."""
    assert {r.name: r.skipped for r in results if r.failed} == {}
    return {
        result.name: sorted(key_of(result, record) for record in result.records())
        for result in results
        if result.count and result.name not in OVERVIEWS
    }


def plant_text(corpus, expected):
    rng = corpus.rng

    text = words(rng, 5)
    for index in range(3):
        corpus.speak(f"again-{index}", text.upper() if index else text, speaker="again")
    expected["repeated_transcripts"] = [("again-0", "again-1", "again-2")]

    text, unknown = words(rng, 5), words(rng, 5)
    corpus.speak("shared-a", text, speaker="a")
    corpus.speak("shared-b", text + ".", speaker="b")
    corpus.speak("unknown-0", unknown, speaker=None)
    corpus.speak("unknown-1", unknown, speaker="c")
    expected["shared_transcripts"] = [("shared-a", "shared-b"), ("unknown-0", "unknown-1")]

    pairs = []
    for index in range(3):
        text = words(rng, 12)
        corpus.speak(f"near-{index}-a", text)
        corpus.speak(f"near-{index}-b", f"{text} too")
        pairs.append((f"near-{index}-b", f"near-{index}-a"))
    text = characters(rng, 20)
    corpus.speak("near-zh-a", text, language="zh")
    corpus.speak("near-zh-b", f"{text}吗", language="zh")
    expected["near_duplicate_transcripts"] = [*pairs, ("near-zh-b", "near-zh-a")]

    corpus.speak("script", "корабль плывёт далеко на север")
    corpus.translate("script-pair", words(rng, 5), "yueliang shang de tuzi")
    expected["wrong_script"] = ["script", "script-pair"]

    corpus.speak("german", "der alte Mann wohnt neben dem Bahnhof")
    corpus.detected["der alte Mann wohnt neben dem Bahnhof"] = "de"
    corpus.translate("german-pair", "sie kommen morgen wieder zurück", characters(rng, 8))
    corpus.detected["sie kommen morgen wieder zurück"] = "de"
    corpus.speak("short", "ja gut ja")  # too short to be sure of
    corpus.detected["ja gut ja"] = "de"
    expected["wrong_language"] = ["german", "german-pair"]

    corpus.speak("control-0", f"{words(rng, 4)} <sosp>")
    corpus.speak("control-1", f"{words(rng, 4)} <Un12><Un7>")
    corpus.instruct("control-2", words(rng, 5), f"{words(rng, 5)} <|eot_id|>")
    expected["control_tokens"] = ["control-0", "control-1", "control-2"]

    corpus.speak("markup-0", f"<b>{words(rng, 4)}</b>")
    corpus.speak("markup-1", f"{words(rng, 4)} [noise]")
    corpus.speak("markup-2", f"{{laughs}} {words(rng, 4)}")
    corpus.speak("markup-3", f"{words(rng, 3)} https://example.org")
    corpus.translate("markup-4", f"salt &amp; {words(rng, 4)}", characters(rng, 9))
    corpus.instruct("not-markup", f"write <b>{words(rng, 4)}</b>", f"[{words(rng, 4)}]")
    corpus.speak("not-markup-either", f"{words(rng, 3)} & 3 < 4")
    expected["markup"] = [f"markup-{index}" for index in range(5)]

    corpus.speak("empty-0", "...", seconds=1.0)
    corpus.speak("empty-1", "！？", language="zh", seconds=1.0)
    corpus.speak("untranscribed", None)
    expected["empty_transcripts"] = ["empty-0", "empty-1"]

    for index in range(20):
        corpus.speak(f"digit-{index}", ("one", "two", "three")[index % 3], file="digits")
    for index in range(20):
        corpus.speak(f"syllable-{index}", CHARACTER[index], file="syllables", language="zh")
    expected["isolated_words"] = ["digits", "syllables"]


CHARACTER = "的一是在不了有和人这中大为上个国我以要他"


def plant_splits(corpus, expected):
    rng = corpus.rng
    text, spoken = words(rng, 5), words(rng, 6)
    corpus.speak("leak-train", text, speaker="a")
    corpus.speak("leak-test", text.title(), speaker="test-0", split="test")
    corpus.translate("leak-pair", f"{spoken}!", characters(rng, 8))
    corpus.speak("leak-dev", spoken, speaker="test-0", split="dev")
    corpus.speak("yes-train", "yes please", speaker="a")  # two words say nothing
    corpus.translate("yes-pair", "Yes, please.", characters(rng, 8), split="test")
    expected["sentence_across_splits"] = [("leak-dev",), ("leak-test", "leak-train")]
    expected["shared_transcripts"] += [("leak-test", "leak-train")]

    corpus.speak("moved-0", words(rng, 5), speaker="moved")
    corpus.speak("moved-1", words(rng, 5), speaker="moved", split="test")
    corpus.speak("moved-2", words(rng, 5), speaker="moved", split="eval")
    expected["speakers_across_splits"] = [("moved-1", "moved-2")]

    audio = corpus.sound("twice-a", 2.0)
    corpus.speak("twice-a", words(rng, 5), audio=audio)
    corpus.speak("twice-b", words(rng, 5), audio=copy_sound(corpus, audio, "twice-b"))
    audio = corpus.sound("other-a", 2.0)
    samples, rate = soundfile.read(corpus.folder / audio)
    soundfile.write(corpus.folder / "other-b.flac", samples, rate, subtype="PCM_16")
    corpus.speak("other-a", words(rng, 5), audio=audio)
    corpus.speak("other-b", words(rng, 5), audio="other-b.flac", split="test", speaker="test-1")
    audio = corpus.sound("unmeasured-a", 2.0)
    corpus.speak("unmeasured-a", words(rng, 5), audio=audio, file="later")
    copied = copy_sound(corpus, audio, "unmeasured-b")
    corpus.speak("unmeasured-b", words(rng, 5), audio=copied, file="later")
    corpus.measured |= {"unmeasured-a": None, "unmeasured-b": None}
    expected["unmeasured"] = ["later"]
    expected["duplicate_audio"] = [
        ("other-a", "other-b"),
        ("twice-a", "twice-b"),
        ("unmeasured-a", "unmeasured-b"),
    ]
    expected["audio_across_splits"] = [("other-a", "other-b")]

    audio = corpus.sound("long", 12.0)
    for name, offset, seconds in (("0", 0, 3), ("1", 2, 3), ("2", 5.1, 3), ("3", 8, 3)):
        corpus.speak(f"segment-{name}", words(rng, 6), audio=audio, offset=offset, duration=seconds)
    expected["overlapping_segments"] = [("segment-1", "segment-0")]


def plant_sound(corpus, expected):
    rng = corpus.rng
    corpus.speak("slow", words(rng, 5), seconds=12.0)
    corpus.speak("fast", words(rng, 15), seconds=1.5)
    expected["characters_per_second"] = ["fast", "slow"]

    faults = {
        "clipped_audio": {"clipped_share": 0.02, "peak": 1.0},
        "silent_audio": {"rms_db": -80.0},
        "long_silence": {"leading_silence_s": 1.9, "silence_share": 0.6},
        "narrow_band_audio": {"bandwidth_hz": 3400.0},
        "noisy_audio": {"snr_db": 2.0},
        "dc_offset": {"dc_offset": -0.1},
        "duration_mismatch": {"decoded_s": 1.1},
    }
    for name, measured in faults.items():
        corpus.speak(name, words(rng, 5))
        corpus.measured[name] = measured
        expected[name] = [name]
    corpus.speak("all silent", words(rng, 5))
    corpus.measured["all silent"] = {"silence_share": 1.0}
    expected["silent_audio"] = ["all silent", "silent_audio"]

    for index in range(3):
        corpus.speak(f"phone-{index}", words(rng, 5), file="phone", rate=8000)
    corpus.speak("stereo", words(rng, 5), file="stereo", channels=2)
    expected["low_sample_rate"] = ["phone"]
    expected["several_channels"] = ["stereo"]

    corpus.speak("free", words(rng, 5), file="nc", license="CC BY-NC-SA 4.0")
    corpus.speak("study", words(rng, 5), file="study", license="for research purposes only")
    corpus.speak(
        "both", words(rng, 5), file="both", license="free for commercial and non-commercial use"
    )
    corpus.speak("unsaid", words(rng, 5), file="unsaid", license=None)
    expected["licences_forbid_use"] = ["nc", "study"]
    expected["licences_share_alike"] = ["nc"]
    expected["licences_missing"] = ["unsaid"]


def plant_units(corpus, expected):
    rng = corpus.rng
    for name in ("constant-0", "constant-1", "invalid-0", "invalid-1", "old", "waiting", "dense"):
        corpus.speak(name, words(rng, 5))

    def alternating(units, durations, version):
        """One unit for 95 % of the time, as many runs as ever."""
        units, durations = units.copy(), durations.copy()
        units[::2], units[1::2] = 7, 8 + units[1::2] % 50
        durations[::2], durations[1::2] = 19, 1
        return units, durations, version

    corpus.units |= {
        "constant-0": alternating,
        "constant-1": lambda u, d, v: ([5], [100], v),
        "invalid-0": lambda u, d, v: ([*u[:-1], NUM_UNITS], d, v),
        "invalid-1": lambda u, d, v: (u[:-1], d, v),
        "old": lambda u, d, v: (u, d, "an earlier version"),
        "waiting": None,
        "dense": lambda u, d, v: (*_twice(u), v),
    }
    expected["constant_units"] = ["constant-0", "constant-1"]
    expected["units_per_second"] = ["constant-1", "dense"]
    expected["invalid_units"] = ["invalid-0", "invalid-1"]
    expected["stale_units"] = ["old"]
    expected["unquantized"] = ["corpus"]  # one row for the corpus: `old` and `waiting`


def _twice(units):
    """Twice as many runs in the same time."""
    doubled = [unit for one in units for unit in (one, (one + 50) % NUM_UNITS)]
    return doubled, [1] * len(doubled)


def plant_benchmark(corpus, expected):
    rng = corpus.rng
    options = {"file": "benchmark", "split": "test"}
    english, mandarin, short = words(rng, 14), characters(rng, 18), "whisper yonder zigzag amber"
    corpus.speak("bench-en", english, **options)
    corpus.speak("bench-zh", mandarin, language="zh", **options)
    corpus.speak("bench-short", short, **options)
    corpus.speak("bench-heard", words(rng, 5), seconds=4.0, **options)

    inside = " ".join(english.split()[3:11])
    corpus.speak("stolen-en", f"Listen: {inside.upper()}, {words(rng, 6)}")
    corpus.translate("stolen-zh", words(rng, 5), f"{characters(rng, 6)}{mandarin[2:15]}。")
    corpus.instruct("stolen-short", f"{short}!", words(rng, 5))
    seven = " ".join(english.split()[:7])
    corpus.speak("seven-words", f"{seven} {words(rng, 8)}")
    corpus.speak("stolen-units", words(rng, 5), seconds=4.0)
    expected["contaminated_text"] = ["stolen-en", "stolen-short", "stolen-zh"]
    expected["sentence_across_splits"] += [("bench-short",)]

    def stolen_units(rows):
        """A second of the benchmark's three inside of the other, and other units around it."""
        units = {row[0]: row[1] for row in rows}
        units["stolen-units"][20:80] = units["bench-heard"][10:70]
        return rows

    corpus.units[""] = stolen_units
    expected["contaminated_units"] = ["stolen-units"]

    audio = corpus.sound("bench-file", 2.0)
    corpus.speak("bench-file", words(rng, 5), audio=audio, **options)
    corpus.speak("stolen-file", words(rng, 5), audio=copy_sound(corpus, audio, "stolen-file"))
    expected["contaminated_audio"] = ["stolen-file"]
    expected["duplicate_audio"] += [("bench-file", "stolen-file")]
    expected["audio_across_splits"] += [("bench-file", "stolen-file")]


def spoil_mix(workspace, expected):
    """A key twice, a source that is gone, a sentence of train in test."""
    path = workspace.mixes / "mix" / "mix.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    rows.append(train[0])
    rows.append(train[1] | {"key": "gone", "source_ids": ["nowhere"]})
    rows.append(train[2] | {"key": "leaked", "split": "test"})
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    expected["mix_keys"] = [train[0]["key"]]
    expected["mix_sources"] = ["nowhere"]
    expected["mix_split_leak"] = [tuple(train[2]["source_ids"])]


def test_a_clean_corpus_has_no_findings(tmp_path):
    corpus = Corpus(tmp_path / "corpus")
    add_clean(corpus)
    workspace = build(Workspace(tmp_path / "workspace"), corpus)
    benchmark = tmp_path / "benchmark.txt"
    benchmark.write_text("a sentence that nobody in this corpus ever spoke, not even once\n")
    results = run_audits(workspace, use="commercial", against=str(benchmark))
    assert found(results) == {}
    asked = {result.name for result in results if result.skipped is None}
    everything = {result.name for result in results}
    assert everything - asked == {"contaminated_units", "too_little_data"}


def test_every_planted_fault_is_found_and_nothing_else(tmp_path):
    corpus, expected = Corpus(tmp_path / "corpus"), {}
    add_clean(corpus)
    for plant in (plant_text, plant_splits, plant_sound, plant_units, plant_benchmark):
        plant(corpus, expected)
    workspace = build(Workspace(tmp_path / "workspace"), corpus)
    spoil_mix(workspace, expected)
    benchmark = corpus.folder / "benchmark.jsonl"
    results = run_audits(workspace, use="commercial", against=str(benchmark), limit=1000)
    assert found(results) == {name: sorted(keys) for name, keys in expected.items()}
    by_name = {result.name: result for result in results}
    [rows] = [r["utterances"] for r in by_name["unquantized"].records()]
    assert rows == 2
    # Whatever is neither here nor in another test is not asked at all.
    silent = {r.name for r in results if not r.count}
    assert silent == {"rejected", "too_little_data", "unaligned_answers"}
    assert by_name["characters_per_second"].hours == pytest.approx(13.5 / 3600)
