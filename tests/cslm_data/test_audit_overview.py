from __future__ import annotations

import re
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from audit_page_reader import write
from audited_workspace import (
    TOKENIZER,
    kept,
    make,
    measures_of,
    units_of,
)

from cslm_data.auditing import overview as overview_module
from cslm_data.auditing.overview import overview, unit_figures
from cslm_data.catalog import open_catalog
from cslm_data.plots import histogram_panel, histogram_plot
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(Workspace(tmp_path_factory.mktemp("made") / "workspace"))


def test_totals_and_coverage_are_those_of_the_rows_that_were_not_moved_out(made):
    found = overview(made)
    rows = kept()
    assert found.totals.num_utterances == len(rows) == 22
    assert found.totals.hours == pytest.approx(sum(r["duration_s"] for r in rows) / 3600)
    assert found.totals.num_transcribed == 21
    assert found.totals.num_speakers == len({(r["corpus"], r["speaker"]) for r in rows})
    assert (found.totals.num_pairs, found.totals.num_dialogues) == (9, 3)
    assert found.totals.num_texts == 21 + 2 * 9 + 5
    assert (found.totals.num_moved_out, found.totals.num_rejected) == (2, 5)
    assert (found.totals.num_corpora, found.totals.num_languages) == (5, 3)
    expected = {}
    for row in rows:
        key = row["corpus"], row["language"], row["split"] or ""
        hours, count, speakers, texts = expected.get(key, (0, 0, set(), 0))
        expected[key] = (
            hours + row["duration_s"] / 3600,
            count + 1,
            speakers | {row["speaker"]},
            texts + (row["text"] is not None),
        )
    shown = {row[:3]: row[3:] for row in found.coverage.rows}
    assert set(shown) == {*expected, ("pairs", "en", ""), ("pairs", "zh", ""), ("talk", "en", "")}
    for key, (hours, count, speakers, texts) in expected.items():
        assert shown[key] == (pytest.approx(hours), count, len(speakers), texts, texts, 1)
    assert shown["pairs", "en", ""] == (0, 0, 0, 0, 9, 1)
    assert shown["pairs", "zh", ""] == (0, 0, 0, 0, 9, 9)
    assert shown["talk", "en", ""] == (0, 0, 0, 0, 5, 1)
    assert found.pairs.rows == (("pairs", "en → zh", "", 9, 1, 10.0, 4.0),)
    assert found.dialogues.rows == (("talk", "en", "", 3, 5, 2, 0),)


def test_rejects_curations_and_licences_are_listed_with_their_reasons(made):
    found = overview(made)
    assert found.rejects.rows == (("ingest", "no_audio", "corpus zh", 5, "m.jsonl:0", "give it"),)
    undone, in_force = found.curations.rows
    assert undone[:6] == (2, "dedup", "utterances", "same", "text", "undone")
    assert in_force[:7] == (
        1,
        "filter",
        "utterances",
        "too <i>long</i>",
        "duration_s > 9",
        "in force",
        2,
    )
    assert in_force[7] == pytest.approx((0.8 + 0.9) / 3600)
    licences = {row[:2]: row[3:] for row in found.licenses.rows}
    assert licences["corpus ar", "not stated"] == (4, 0, 0)
    assert licences["corpus zh", "CC0"] == (8, 0, 0)
    assert licences["pairs", "CC0"] == (0, 9, 0)


def values_of(name):
    for row in kept():
        rms_db, snr_db, bandwidth_hz = measures_of(row)
        value = {
            "duration_s": row["duration_s"],
            "characters_per_s": row["text"] and len(row["text"]) / row["duration_s"],
            "rms_db": rms_db,
            "snr_db": snr_db if np.isfinite(snr_db) else None,
            "bandwidth_hz": bandwidth_hz,
            f"units_per_s {TOKENIZER}": len(units_of(row)) / row["duration_s"],
        }[name]
        if value is not None:
            yield row["language"], value


def test_histograms_and_statistics_are_those_of_an_independent_count(made):
    found = overview(made)
    assert found.labels == ("ar", "zh", "en")
    assert len(found.measures) == 6
    for measure in found.measures:
        pairs = sorted(values_of(measure.name))
        groups = {
            language: [value for _, value in group]
            for language, group in groupby(pairs, key=lambda pair: pair[0])
        }
        assert set(measure.counts) == set(groups)
        for language, values in groups.items():
            counts = measure.counts[language]
            edges = measure.first + measure.step * np.arange(1, len(counts))
            bins = np.digitize(np.float32(values).astype(float) + 1e-5 * measure.step, edges)
            assert counts.tolist() == np.bincount(bins, minlength=len(counts)).tolist()
        by_language = {row[0]: row[1:] for row in measure.statistics}
        assert measure.statistics[0][0] == "all languages"
        for language, values in [*groups.items(), ("all languages", [v for _, v in pairs])]:
            ordered = np.sort(values)

            def at(share, ordered=ordered):
                return ordered[max(0, int(np.ceil(share * len(ordered))) - 1)]

            expected = (ordered[0], at(0.01), at(0.5), ordered.mean(), at(0.99), ordered[-1])
            assert by_language[language] == (len(values), *(pytest.approx(e) for e in expected))
        assert 20 <= len(next(iter(measure.counts.values()))) <= 52


def test_units_are_counted_and_the_dead_ones_named(made):
    [usage] = overview(made).units
    assert (usage.name, usage.num_units, usage.num_counted) == ("mfcc", 12, 22)
    for language in ("en", "zh", "ar"):
        counted = Counter(
            unit for row in kept() if row["language"] == language for unit in units_of(row).tolist()
        )
        assert usage.tokens[language].tolist() == [counted[unit] for unit in range(12)]
    used, num_tokens, perplexity, commonest = unit_figures([np.array([4, 0, 2, 2])])
    assert (used, num_tokens, commonest) == (3, 8, 0.5)
    assert perplexity == pytest.approx(2**1.5)
    assert "mfcc: 1 dead unit: 11." in write(made)


def test_units_of_a_large_catalog_are_counted_in_a_sample_that_the_page_tells(made, monkeypatch):
    monkeypatch.setattr(overview_module, "MAX_UNIT_UTTERANCES", 11)
    [usage] = overview(made).units
    assert 0 < usage.num_counted < usage.num_utterances == 22
    total = sum(int(counts.sum()) for counts in usage.tokens.values())
    assert 0 < total < sum(len(units_of(row)) for row in kept())
    told = f"counted in a sample of {usage.num_counted} of 22 utterances"
    assert told in write(made)


def test_languages_beyond_the_colours_are_drawn_together(workspace):
    with open_catalog(workspace, write=True, doing="test") as db:
        db.execute(
            "insert into all_utterances by name select 'u' || i as utt_id, 'c' as corpus, "
            "'/a.wav' as audio, i as offset_s, 10 + i % 11 as duration_s, 16000 as sample_rate_hz, "
            "1 as num_channels, 'l' || lpad((i % 11)::varchar, 2, '0') as language, "
            "'human' as kind, 'v' as audio_version, i as key_hash, 's' as source_uri, "
            "'s:1' as place, 0 as row_hash from range(110) as t(i)"
        )
    found = overview(workspace)
    assert found.labels == (*(f"l{i:02}" for i in range(10, 3, -1)), "other")
    [durations] = found.measures
    assert {label: int(counts.sum()) for label, counts in durations.counts.items()} == {
        **dict.fromkeys(found.labels[:-1], 10),
        "other": 40,
    }
    assert len(durations.statistics) == 12


def test_more_languages_than_there_is_room_for_are_told_not_dropped(made, monkeypatch):
    monkeypatch.setattr(overview_module, "MAX_LANGUAGES", 2)
    for measure in overview(made).measures:
        languages = [row[0] for row in measure.statistics]
        assert languages == ["all languages", "en", "zh"]
        assert len(measure.counts) == 3


def test_a_histogram_is_drawn_where_its_bins_are():
    plot = histogram_plot(
        [("a", 0, [1.0, 0.5]), ("b", 3, [0.0, 0.25])],
        first=10,
        step=5,
        title="t",
        x="x",
        y="y",
        hidden={3},
    )
    first, second = re.findall(r'<polyline points="(.*?)" data-series="\d"', plot)
    corners = [tuple(map(float, corner.split(","))) for corner in first.split()]
    (left, ground), (_, top), (middle, _), (_, half), (right, _), (_, end) = corners
    assert middle == pytest.approx((left + right) / 2, abs=0.1) and ground == end
    assert ground - half == pytest.approx((ground - top) / 2, abs=0.1)
    quarter = [float(corner.split(",")[1]) for corner in second.split()][3]
    assert ground - quarter == pytest.approx((ground - top) / 4, abs=0.1)
    assert plot.count("display:none") == 1 and 'data-series="3" style="display:none"' in plot
    assert histogram_plot([], first=0, step=1, title="t", x="x", y="y") == ""
    panel = histogram_panel([1.0, 2.0], 1, first=0, step=1, title="<t>", highest=2.0)
    assert "&lt;t&gt;" in panel and panel.count("<polyline") == 1
