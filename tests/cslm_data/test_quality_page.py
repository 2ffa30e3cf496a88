from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from cslm_data.plots import bar_plot, heat_map, line_plot
from cslm_data.png import encode_png, make_palette
from cslm_data.quality.abx import AbxScore
from cslm_data.quality.figure_tables import figure_tables
from cslm_data.quality.figures import (
    AbxFigure,
    LanguageSpeech,
    PhoneFigures,
    Plots,
    RobustnessFigure,
    Settings,
    TokenizerReport,
    UnitReport,
    as_json,
)
from cslm_data.quality.page import format_column, render_page
from cslm_data.quality.purity import measure_purity
from cslm_data.quality.robustness import EditDistance
from cslm_data.quality.usage import find_exclusive, measure_usage

VOID = {"meta", "br", "img", "link"}


class Reader(HTMLParser):
    """Tags that open and close, texts of cells, addresses that would be fetched."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.cells, self.tags, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)
            self.cells.append("") if tag in ("td", "th") else None

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def tokenizer_report(name, corpus="tones", seed=0):
    rng = np.random.default_rng(seed)
    joint = rng.integers(0, 50, (3, 8))
    tokens = {"en": rng.integers(1, 90, 8), "zh": rng.integers(1, 90, 8)}
    usage = {
        language: measure_usage(counts, 2 * counts, num_utterances=3, frame_rate_hz=50)
        for language, counts in tokens.items()
    }
    purity = measure_purity([joint])
    score = AbxScore(error=0.1234, num_items=9, num_cells=4, num_cells_there=8, num_triples=77)
    moved = EditDistance(mean=0.4321, standard_error=None, num_utterances=1)
    return TokenizerReport(
        name=name,
        tokenizer_id=f"{name}-0123",
        num_units=8,
        frame_rate_hz=50.0,
        usage=usage,
        divergence_bits={"en": {"en": 0.0, "zh": 0.25}, "zh": {"en": 0.25, "zh": 0.0}},
        exclusive=find_exclusive(list(tokens), np.stack(list(tokens.values()))),
        phones=(
            PhoneFigures(
                language="en",
                corpus=corpus,
                num_utterances=3,
                unlabelled_share=0.0625,
                all_frames=purity,
                speech_frames=None,
                shuffled_pnmi=0.0123,
            ),
        ),
        abx=tuple(
            AbxFigure(language="en", context=context, speakers=who, distance="units", score=kept)
            for context in ("triphone", "any")
            for who, kept in (("within", score), ("across", None))
        ),
        robustness=(
            RobustnessFigure(language="en", change="noise 20 dB", unit_edit_distance=moved),
        ),
        plots=Plots(
            tokens=tokens,
            run_lengths={"en": np.array([5, 3, 0, 1]), "zh": np.array([0, 0, 0, 0])},
            phones={("en", corpus): (["a", "<b>", "sil"], joint)},
        ),
    )


def unit_report(*tokenizers, notes=()):
    return UnitReport(
        settings=Settings(
            seed=0,
            max_utterances=100,
            robustness_utterances=1,
            abx_cells=10,
            exact_phones=False,
            exclusive_share=0.95,
        ),
        speech=(
            LanguageSpeech(language="en", num_utterances=3, num_with_phones=3),
            LanguageSpeech(language="zh", num_utterances=3, num_with_phones=0),
        ),
        tokenizers=tokenizers,
        notes=tuple(notes),
    )


def test_the_page_parses_and_shows_the_figures_of_the_json():
    report = unit_report(tokenizer_report("one"), tokenizer_report("two", seed=1))
    page = render_page(report)
    reader = read(page)
    [embedded] = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page)
    figures = as_json(report)
    assert json.loads(embedded) == json.loads(json.dumps(figures))
    assert figures["tokenizers"][0]["phones"][0]["all_frames"]["num_frames"] > 0
    assert "plots" not in figures["tokenizers"][0]
    for tokenizer in figures["tokenizers"]:
        purity = tokenizer["phones"][0]["all_frames"]
        shown = [purity["pnmi"], purity["phone_purity"], purity["cluster_purity"], 0.0123]
        shown += [0.1234, 0.4321, 0.25]
        for value in shown:
            assert f"{value:.3f}" in reader.cells
        assert f"{tokenizer['usage']['zh']['perplexity']:.3f}" in reader.cells
    for table in figure_tables(report):
        assert set(table.columns) <= set(reader.cells)
        for row in table.rows:
            assert {cell for cell in row if isinstance(cell, str)} <= set(reader.cells)
    assert reader.tags.count("svg") == 2 * (2 + 1) + 2
    assert "polyline" in reader.tags and "rect" in reader.tags


def test_the_page_fetches_nothing():
    page = render_page(unit_report(tokenizer_report("one")))
    assert "http" not in page
    assert "url(" not in page and "@import" not in page
    assert read(page).addresses
    assert all(address.startswith("data:image/png;base64,") for address in read(page).addresses)


def test_names_with_markup_are_harmless():
    evil = '</script><script>alert("1")</script><img src=x onerror=alert(2)>'
    report = unit_report(tokenizer_report(evil, corpus=evil), notes=[evil])
    page = render_page(report)
    reader = read(page)
    assert reader.tags.count("script") == 1
    assert "img" not in reader.tags
    assert evil in reader.cells
    [embedded] = re.findall(r'id="figures">(.*?)</script>', page)
    assert json.loads(embedded)["notes"] == [evil]


def test_a_report_of_one_language_without_phones_has_its_page_too():
    full = tokenizer_report("one")
    bare = replace(
        full,
        usage={"en": full.usage["en"]},
        divergence_bits=None,
        exclusive=None,
        phones=(),
        abx=(),
        robustness=(),
        plots=Plots(
            tokens={"en": full.plots.tokens["en"]},
            run_lengths={"en": full.plots.run_lengths["en"]},
            phones={},
        ),
    )
    report = unit_report(bare)
    assert [table.name for table in figure_tables(report)] == ["usage"]
    read(render_page(report))


def test_a_language_of_two_tokenizers_stands_together():
    report = unit_report(tokenizer_report("b"), tokenizer_report("a", seed=1))
    usage = next(table for table in figure_tables(report) if table.name == "usage")
    assert [row[:2] for row in usage.rows] == [("en", "b"), ("en", "a"), ("zh", "b"), ("zh", "a")]
    assert format_column([0.12345, None, 3]) == ["0.123", "–", "3"]
    assert format_column([12.345, 0.5, 1234.5]) == ["12.3", "0.5", "1,234.5"]


def test_points_and_bars_lie_where_their_values_say():
    plot = line_plot({"a": [(0, 0), (5, 5), (10, 10)]}, title="t", x="x", y="y")
    [points] = re.findall(r'<polyline points="(.*?)"', plot)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points.split())
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2))
    assert x0 < x2 and y0 > y2
    logarithmic = line_plot(
        {"a": [(0, 1), (1, 1), (10, 0.1), (100, 0.01)]}, title="t", x="x", y="y", logarithmic="xy"
    )
    [points] = re.findall(r'<polyline points="(.*?)"', logarithmic)
    xs = [float(point.split(",")[0]) for point in points.split()]
    assert len(xs) == 3 and xs[1] == pytest.approx((xs[0] + xs[2]) / 2)
    bars = bar_plot({"g": {"a": 2.0, "b": 1.0}, "h": {"a": 0.5}}, title="t", y="y")
    heights = [float(height) for height in re.findall(r'<rect .*?height="(.*?)"', bars)]
    assert heights[0] == pytest.approx(2 * heights[1]) == pytest.approx(4 * heights[2])
    assert line_plot({"a": []}, title="t", x="x", y="y") == ""
    assert bar_plot({}, title="t", y="y") == ""


def decode_png(data):
    """Palette colours of each pixel, from the format's definition."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        [check] = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 3, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[rows[:, 1:]]


def test_a_png_holds_the_colours_it_was_given():
    palette = make_palette([(0, 0, 0), (255, 128, 0), (255, 255, 255)])
    assert palette.shape == (256, 3)
    assert (palette[0].tolist(), palette[255].tolist()) == ([0, 0, 0], [255, 255, 255])
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(decode_png(encode_png(pixels, palette)), palette[pixels])


def test_a_wide_heat_map_keeps_the_largest_of_the_columns_it_merges():
    import base64

    shares = np.zeros((2, 25))
    shares[0, 3] = shares[1, 24] = 1
    picture = heat_map(shares, ["a", "b"], title="t", width=10)
    [data] = re.findall(r"base64,(.*?)\"", picture)
    pixels = decode_png(base64.b64decode(data))
    dark = (pixels == pixels.min(axis=(0, 1))).all(axis=2)
    assert pixels.shape == (2, 10, 3)
    assert [row.tolist() for row in np.argwhere(dark)] == [[0, 1], [1, 9]]
