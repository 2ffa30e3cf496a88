from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from html import unescape

import numpy as np
import pytest
from audit_page_reader import Page, clips_in, decoded, write
from audited_workspace import (
    HOSTILE,
    audit,
    audits,
    kept,
    make,
    utterances,
)
from mix_workspace import fill

from cslm_data.auditing.clips import cut_clips
from cslm_data.auditing.overview import MAX_ROWS, overview
from cslm_data.auditing.page_audits import order, state_of
from cslm_data.auditing.page_tables import show
from cslm_data.catalog import open_catalog
from cslm_data.errors import MissingArtefactError
from cslm_data.html import embed_json, format_number
from cslm_data.mix import build_mix
from cslm_data.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(Workspace(tmp_path_factory.mktemp("made") / "workspace"))


@pytest.fixture(scope="module")
def text(made):
    return write(made, audits())


def test_the_page_shows_what_was_found_and_fetches_nothing(text):
    page = Page(text)
    shown = [row for row in page.rows if row[:1] in (["error"], ["warning"], ["note"])]
    assert [row[2:] for row in shown if "same_text" in row[1]] == [["2", "–"]]
    assert [row[2:] for row in shown if "long" in row[1]] == [["1,234", "0.00830"]]
    assert ["corpus zh", "zh", "test"] in [row[:3] for row in page.rows]
    assert page.addresses and all(address.startswith("#") for address in page.addresses)
    assert "://" not in re.sub(r"base64,[^\"]*", "", text)
    assert "url(" not in text and "@import" not in text
    assert page.handlers == []
    assert page.tags.count("polyline") > 20


def test_text_of_the_corpus_is_never_markup(text):
    page = Page(text)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert page.tags.count("i") == 2 * 3  # the colours of three languages in two legends
    cells = [cell for row in page.rows for cell in row]
    assert HOSTILE in cells and "<b>corpus</b>" in cells and "too <i>long</i>" in cells
    assert clips_in(text)["en-2"]["text"] == HOSTILE
    element = embed_json({"a": HOSTILE}, "x")
    assert element.count("<") == 2
    assert json.loads(re.findall(">(.*)<", element)[0]) == {"a": HOSTILE}


def test_the_only_script_that_may_run_is_the_pages_own(text):
    import hashlib

    [policy] = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    digest = base64.b64encode(hashlib.sha256(Page(text).scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "media-src data:" in policy


def test_the_gravest_audits_come_first_and_what_was_not_asked_is_not_passed():
    names = [result.name for result in order(audits())]
    assert names == ["same_text", "broken", "long", "languages", "benchmark", "clean"]
    states = {result.name: state_of(result) for result in audits()}
    assert (states["clean"], states["benchmark"], states["broken"]) == (
        "passed",
        "skipped",
        "error",
    )


def test_a_fix_is_cut_into_words_and_commands_to_copy(text):
    codes = re.findall(r"<code>(.*?)</code>", text)
    assert "cslm-data filter &#x27;duration_s &gt; 9&#x27; --reason long" in codes
    assert "cslm-data audit --against x" in codes
    assert any(code.startswith("cslm-data dedup &lt;/script&gt;") for code in codes)
    assert text.count("data-copy>") == len(audits()) + 1


@pytest.mark.parametrize(
    ("fix", "commands"),
    [
        ("cslm-data quantize", ["cslm-data quantize"]),
        ("Run cslm-data quantize again.", ["cslm-data quantize"]),
        ("cslm-data build-mix … --overwrite", ["cslm-data build-mix … --overwrite"]),
        ("Run cslm-data build-mix --overwrite again", ["cslm-data build-mix --overwrite"]),
        (
            "Listen (cslm-data listen UTT), then cslm-data filter \"a = '…' and b < 0.1\" --reason "
            "rate. Or not.",
            ["cslm-data listen UTT", "cslm-data filter \"a = '…' and b < 0.1\" --reason rate"],
        ),
        ("Name it: cslm-data audit --against a/b.jsonl.", ["cslm-data audit --against a/b.jsonl"]),
        ("Set `license`; see the Cslm-database.", []),
    ],
)
def test_commands_are_told_from_the_prose_around_them(fix, commands, workspace):
    with open_catalog(workspace, write=True, doing="test"):
        pass
    found = re.findall(r"<code>([^<]*)</code><button", write(workspace, [audit("a", fix=fix)]))
    assert [unescape(command) for command in found] == commands


def test_cells_are_short_whatever_they_hold():
    assert show("x" * 1000) == "x" * 400 + " … (1,000 characters)"
    assert show(list(range(30))).endswith("18, 19 … and 10 more")
    assert show("a\x00b\x7f\n") == "a␀b␡\n"
    assert show("\ud800") == "?"
    assert (show(None), show(True), show(12345), show(float("nan"))) == (
        "–",
        "yes",
        "12,345",
        "nan",
    )
    values = (1234.5, 99.96, 12.34, 9.996, 1.0, 0.5, 0.00142, 0.0, -0.25, 7)
    shown = ("1,234", "100", "12.3", "10.0", "1.00", "0.500", "0.00142", "0", "-0.250", "7")
    assert tuple(map(format_number, values)) == shown


def test_more_groups_than_a_table_holds_are_told_not_dropped(workspace):
    with open_catalog(workspace, write=True, doing="test") as db:
        db.execute(
            "insert into all_bitext select 'p' || i, 'c' || i, 'en', 'zh', 'a', 'b', 1, 2, null, "
            f"null, i, 'src', 'src:1', 1 from range({MAX_ROWS + 7}) as t(i)"
        )
    found = overview(workspace)
    assert (len(found.pairs.rows), found.pairs.num_groups) == (MAX_ROWS, MAX_ROWS + 7)
    assert f"The first {MAX_ROWS} of {MAX_ROWS + 7} rows" in write(workspace)


def test_a_workspace_of_nothing_has_its_page_and_one_without_a_catalog_an_error(workspace):
    with pytest.raises(MissingArtefactError, match="cslm-data ingest"):
        write(workspace)
    with open_catalog(workspace, write=True, doing="test"):
        pass
    text = write(workspace)
    Page(text)
    assert "No audit was run." in text and "The catalog is empty" in text


def test_a_language_with_few_utterances_begins_hidden_and_does_not_set_the_scale(workspace):
    with open_catalog(workspace, write=True, doing="test") as db:
        db.execute(
            "insert into all_utterances by name select 'u' || i as utt_id, 'c' as corpus, "
            "'/a.wav' as audio, i as offset_s, 1 + i % 10 as duration_s, 16000 as sample_rate_hz, "
            "1 as num_channels, case when i = 0 then 'zh' else 'en' end as language, "
            "'human' as kind, 'v' as audio_version, i as key_hash, 's' as source_uri, "
            "'s:1' as place, 0 as row_hash from range(101) as t(i)"
        )
    text = write(workspace)
    lines = re.findall(r'<polyline points="[^"]*" data-series="(.)"( style="display:none")?', text)
    assert lines == [("0", ""), ("1", ' style="display:none"')]
    assert ">0.1</text>" in text and ">0.2</text>" not in text
    keys = re.findall(r'class="key" data-series="(.)" aria-pressed="(true|false)"', text)
    assert keys[:2] == [("0", "true"), ("1", "false")]


def test_of_many_examples_the_first_are_shown(workspace):
    with open_catalog(workspace, write=True, doing="test"):
        pass
    examples = [(Decimal(n),) for n in range(1000, 1300)]
    many = audit("many", columns=("n",), examples=examples, count=5000)
    page = Page(write(workspace, [many]))
    assert [row for row in page.rows if row == ["1,099"]] and ["1,100"] not in page.rows
    text = write(workspace, [many])
    assert "100 of 5,000 findings" in text
    assert '<td class="number" data-value="1099.0">1,099</td>' in text  # sorted as a number


def test_requested_and_realised_shares_stand_side_by_side_and_are_checked(tmp_path):
    workspace = fill(Workspace(tmp_path / "w"))
    info = build_mix(workspace, languages=["en", "zh"], stage="pretrain").info
    page = Page(write(workspace))
    asr = next(row for row in info.realised if (row["task"], row["languages"]) == ("asr", "en"))
    [shown] = [row for row in page.rows if row[:3] == ["train", "asr", "en"]]
    assert shown[3:5] == [
        f"{100 * asr[f'{kind}_share']:.1f} %" for kind in ("requested", "realised")
    ]
    assert shown[7] == f"{asr['realised_tokens']:,}"
    [mix] = overview(workspace).mixes
    assert mix.problem is None and len(mix.rows) == len(info.realised)
    path = workspace.mixes / "pretrain" / "mix.json"
    document = json.loads(path.read_text())
    document["realised"][0]["realised_tokens"] += 1
    path.write_text(json.dumps(document))
    [mix] = overview(workspace).mixes
    assert "build it again: cslm-data build-mix --stage pretrain" in mix.problem
    assert "mix.json does not say what mix.parquet holds, of 1 rows" in write(workspace)
    del document["realised"][0]["task"]
    path.write_text(json.dumps(document))
    assert "a row of `realised` is not one" in write(workspace)


# -------------------------------------------------------------------------------------- clips
def test_clips_are_the_recordings_cut_to_five_seconds(text):
    clips = clips_in(text)
    assert set(clips) == {"ar-0", "ar-1", "ar-2", "ar-3", "en-2", "en-3", "zh-0", "zh-1"}
    wave, rate = decoded(clips["zh-1"])
    assert rate == 16000
    assert len(wave) / rate == pytest.approx(1.6, abs=0.05) == clips["zh-1"]["seconds"]
    spectrum = np.abs(np.fft.rfft(wave))
    assert np.argmax(spectrum) * rate / len(wave) == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(wave[2000:-2000] ** 2)) == pytest.approx(0.3, rel=0.05)
    wave, rate = decoded(clips["ar-3"])
    assert len(wave) / rate == pytest.approx(5.0, abs=0.05)
    assert (clips["ar-3"]["seconds"], clips["ar-3"]["whole"]) == (5.0, 7.55)


def test_no_audit_has_more_clips_than_asked_for_and_the_seed_draws_them(made):
    many = audit(
        "many", columns=("utt_id",), examples=[(row["utt_id"],) for row in kept()], hours=1.0
    )
    drawn = [set(clips_in(write(made, [many], clips=3, seed=seed))) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(each) for each in drawn] == [3, 3, 3]
    assert clips_in(write(made, [many], clips=0)) == {}
    assert len(clips_in(write(made, [many]))) == 6


def test_all_clips_together_have_their_limit_and_every_audit_its_turn(made):
    first = audit("a", columns=("utt_id",), examples=[(f"ar-{i}",) for i in range(4)])
    second = audit("b", columns=("utt_id",), examples=[(f"zh-{i}",) for i in range(4)])
    with open_catalog(made, doing="test") as connection:
        options = {"per_audit": 4, "seed": 0}
        everything = cut_clips(connection, [first, second], **options)
        sizes = {key: len(clip.address) for key, clip in everything.by_utterance.items()}
        limit = sum(sizes.values()) // 2
        some = cut_clips(connection, [first, second], max_total_bytes=limit, **options)
        short = cut_clips(connection, [first], max_clip_s=0.5, **options)
    assert everything.num_left_out == 0 and len(sizes) == 8
    assert sum(len(clip.address) for clip in some.by_utterance.values()) <= limit
    assert len(some.by_utterance) + some.num_left_out == 8
    assert {key[:2] for key in some.by_utterance} == {"ar", "zh"}
    assert {clip.clip_s for clip in short.by_utterance.values()} == {0.5}


def test_audio_that_is_gone_or_another_by_now_is_a_note_not_a_crash(workspace):
    make(workspace, with_units=False, with_measures=False)
    folder = workspace.root.parent / "recordings"
    places = {row["utt_id"]: place for place, row in enumerate(utterances())}
    (folder / f"{places['zh-0']}.wav").unlink()
    (folder / f"{places['zh-1']}.wav").write_bytes(b"no sound")
    (folder / f"{places['zh-2']}.wav").write_bytes((folder / f"{places['zh-3']}.wav").read_bytes())
    names = ["zh-0", "zh-1", "zh-2", "nobody"]
    result = audit("some", columns=("utt_id",), examples=[(name,) for name in names])
    text = write(workspace, [result])
    clips = clips_in(text)
    assert set(clips) == {"zh-0", "zh-1", "zh-2"}
    assert clips["zh-0"]["address"] == clips["zh-1"]["address"] == ""
    assert clips["zh-2"]["address"] and "has changed" in clips["zh-2"]["note"]
    assert "cannot be played: missing" in text and "cannot be played: unreadable" in text
    assert "cslm-data measure" in text and "cslm-data quantize" in text
