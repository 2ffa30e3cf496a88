"""Catalog → a toolkit's files → our reader of them → catalog: nothing that they can say is lost.

A reader that is not there yet skips its test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from awkward_corpus import make_catalog, rows_of

from cslm_data.corpora import Defaults, find_reader
from cslm_data.errors import UsageError
from cslm_data.exporting.catalog_export import export_catalog
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

QUERY = (
    "select utt_id, audio, round(offset_s, 6), round(duration_s, 6), sample_rate_hz, language, "
    "speaker, text from utterances order by utt_id"
)
ALIGNED = "select utt_id, words, phones from alignments order by utt_id"


def rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """An alignment with its times to the microsecond: what sums and differences leave alone."""
    utt_id, *tiers = row
    items = [[list(item.values()) for item in tier or []] for tier in tiers]
    return utt_id, [
        [
            [round(value, 6) if isinstance(value, float) else value for value in item]
            for item in tier
        ]
        for tier in items
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_catalog(tmp_path_factory.mktemp("round"))


def there_and_back(made: Workspace, tmp_path: Path, format: str, *parts: str) -> Workspace:
    """A fresh workspace with what an export says, its parts read as that format."""
    try:
        find_reader(format)
    except UsageError:
        pytest.skip(f"there is no reader of {format} yet")
    summary = export_catalog(made, tmp_path / "out", format=format)
    assert summary.num_rejected == 0
    copy = Workspace(tmp_path / "copy")
    for part in parts:
        read = ingest(
            copy,
            [tmp_path / "out" / part],
            format=format,
            defaults=Defaults(corpus="speech", split=part.split(".")[0]),
        )
        assert read.num_rejected == 0, rows_of(copy, "from rejects")
    return copy


def test_nemo_there_and_back(made: Workspace, tmp_path: Path) -> None:
    copy = there_and_back(made, tmp_path, "nemo", "all.jsonl", "dev.jsonl", "train.jsonl")
    assert rows_of(copy, QUERY) == rows_of(made, QUERY)
    said = (
        "select utt_id, corpus, license, split from utterances where split is not null order by 1"
    )
    wanted = [row for row in rows_of(made, said) if row[0] != "d1/1"]
    assert [row for row in rows_of(copy, said) if row[3] != "all" and row[0] != "d1/1"] == wanted


def test_lhotse_there_and_back(made: Workspace, tmp_path: Path) -> None:
    files = (f"{split}.cuts.jsonl.gz" for split in ("all", "dev", "train"))
    copy = there_and_back(made, tmp_path, "lhotse", *files)
    assert rows_of(copy, QUERY) == rows_of(made, QUERY)
    wanted = [rounded(row) for row in rows_of(made, ALIGNED)]
    assert [rounded(row) for row in rows_of(copy, ALIGNED)] == wanted


def test_kaldi_there_and_back_under_its_own_names(made: Workspace, tmp_path: Path) -> None:
    parts = ("all", "all_untranscribed", "dev", "train")
    copy = there_and_back(made, tmp_path, "kaldi", *parts)
    names = {}
    for part in parts:
        lines = (tmp_path / "out" / part / "ids.jsonl").read_text(encoding="utf-8").splitlines()
        for row in map(json.loads, lines):
            names[row["utt"]] = (row["id"], row["spk"], row["speaker"])
    found = []
    for utt, *middle, spk, text in rows_of(copy, QUERY):
        utt_id, written, speaker = names[str(utt)]
        assert spk == written
        found.append((utt_id, *middle, speaker, text))
    wanted = [
        (*row, None if text is None else " ".join(str(text).split()))
        for *row, text in rows_of(made, QUERY)
    ]
    assert sorted(found) == sorted(wanted)
