from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from corpus_trees import TREES, ctm, kaldi, lhotse, librispeech, query, textgrids, write_text

from cslm_data.corpora import Defaults, all_readers, guess_format
from cslm_data.corpora.source import find_source
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

CASES = [(name, make) for name, makers in TREES.items() for make in makers]


@pytest.mark.parametrize(("name", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_each_layout_is_guessed_as_itself_and_as_nothing_else(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    source = find_source(make(tmp_path))
    recognised = [
        other
        for other, reader in all_readers().items()
        if (reader.reads_folders if source.is_folder else reader.reads_folders is not True)
        and reader.recognises(source)
    ]
    assert recognised == [name]
    assert guess_format(source) == name


def test_every_reader_of_ours_has_a_tree() -> None:
    ours = {
        "mls",
        "librispeech",
        "aishell",
        "kaldi",
        "lhotse",
        "hf_parquet",
        "messages",
        "textgrid",
        "ctm",
    }
    assert ours <= TREES.keys()


@pytest.mark.parametrize(("name", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_a_folder_that_merely_holds_such_a_thing_is_no_whole_of_another_kind(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    made = make(tmp_path / "inner")
    write_text(tmp_path / "inner" / "notes.jsonl", '{"something": "else"}\n')
    if made.is_file():
        assert guess_format(find_source(made.parent)) is None
    else:
        assert guess_format(find_source(made)) == name


def in_memory(tree: Path, name: str) -> str:
    """A copy of a tree at an address of fsspec."""
    filesystem = fsspec.filesystem("memory")
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            filesystem.pipe(f"/{name}/{path.relative_to(tree)}", path.read_bytes())
    return f"memory://{name}"


@pytest.mark.parametrize(
    ("make", "kind"),
    [(librispeech, "librispeech"), (textgrids, "textgrid"), (kaldi, "kaldi")],
)
def test_folders_are_read_over_fsspec_as_from_disk(
    workspace: Workspace, tmp_path: Path, make: Callable[[Path], Path], kind: str
) -> None:
    here = make(tmp_path / "tree")
    there = in_memory(here, f"guess-{kind}/{here.name}")
    assert guess_format(find_source(there)) == kind
    ingest(workspace, [there])
    other = Workspace(tmp_path / "other")
    ingest(other, [here])
    for what in (
        "select utt_id, text, speaker, split, offset_s, duration_s, audio_version, place "
        "from utterances order by utt_id",
        "select utt_id, words, phones from alignments order by utt_id",
    ):
        assert query(workspace, what) == query(other, what)
    assert query(workspace, "select count(*) from rejects") == [(0,)]
    assert query(workspace, "select count(*) > 0 from all_utterances")[0][0] or kind == "textgrid"


@pytest.mark.parametrize("make", [lhotse, ctm])
def test_files_are_read_over_fsspec_as_from_disk(
    workspace: Workspace, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    here = make(tmp_path)
    address = f"{in_memory(tmp_path, f'files-{make.__name__}')}/{here.name}"
    summary = ingest(workspace, [address], defaults=Defaults(language="en"))
    other = ingest(Workspace(tmp_path / "other"), [here], defaults=Defaults(language="en"))
    assert summary.num_rejected == 0
    assert summary.num_rows == other.num_rows > 0


def test_wide_folders_are_recognised_by_a_few_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "LibriSpeech"
    for speaker in range(60):
        (corpus / "train-clean-100" / str(speaker) / "1").mkdir(parents=True)
    from cslm_data.corpora.source import Source

    listed: list[str] = []
    entries = Source.entries

    def counted(self: Source, folder: str = "") -> tuple[list[str], list[str]]:
        listed.append(folder)
        return entries(self, folder)

    monkeypatch.setattr(Source, "entries", counted)
    assert guess_format(find_source(corpus)) is None
    assert len(listed) < 30
