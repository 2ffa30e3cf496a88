from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from cslm_data.catalog import open_catalog
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, NoDataError
from cslm_data.text_tokenizer import (
    default_vocab_size,
    get_text_tokenizer,
    load_text_tokenizer,
    train_text_tokenizer,
)
from cslm_data.workspace import Workspace

TEXTS = ["the cat sat on the mat", "the dog sat", "猫坐在垫子上", "狗坐在垫子上"]
TRICKY = ["<sosp>", "a<|eot_id|>b", "<|user|>", "<tool>x", "  two  spaces\n", "🙂\x00\u200d", ""]


@pytest.fixture
def hf_folder(tmp_path):
    """A tokenizer as a chat model ships it: special and other added tokens, BOS by template."""
    backend = Tokenizer(models.BPE(vocab={}, merges=[]))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|bos|>"), AddedToken("<|eot_id|>")])
    backend.add_tokens([AddedToken("<tool>", special=False)])
    backend.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 256)]
    )
    backend.enable_truncation(4)
    folder = tmp_path / "hf"
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    return folder


def test_added_tokens_of_a_model_are_plain_characters_in_text(hf_folder):
    raw = Tokenizer.from_file(str(hf_folder / "tokenizer.json"))
    raw.no_truncation()
    assert 257 in raw.encode("a<|eot_id|>b").ids and 258 in raw.encode("<tool>").ids
    tokenizer = load_text_tokenizer(hf_folder)
    for text in TRICKY:
        ids = tokenizer.encode(text)
        assert len(ids) == len(text.encode()) and all(i < 256 for i in ids)
        assert tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == 259


def test_neither_truncation_nor_a_bos_of_the_file_applies(hf_folder):
    ids = load_text_tokenizer(hf_folder).encode("abcdefgh")
    assert len(ids) == 8


def test_training_is_deterministic_and_reversible(tmp_path):
    one = train_text_tokenizer(TEXTS, folder=tmp_path / "one", vocab_size=280)
    two = train_text_tokenizer(iter(TEXTS), folder=tmp_path / "two", vocab_size=280)
    assert one.id == two.id and one.id.startswith(f"bpe-{one.vocab_size}-")
    assert one.folder.joinpath("tokenizer.json").read_bytes() == (
        two.folder.joinpath("tokenizer.json").read_bytes()
    )
    for text in [*TEXTS, *TRICKY]:
        assert one.decode(one.encode(text)) == text
    assert one.encode_batch(TEXTS + TRICKY) == [one.encode(text) for text in TEXTS + TRICKY]
    meta = json.loads((tmp_path / "one" / "meta.json").read_text())
    assert meta["text_tokenizer_id"] == one.id and meta["num_texts"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_controls_are_not_in_the_vocabulary(tmp_path):
    tokenizer = train_text_tokenizer(TEXTS, folder=tmp_path / "t")
    assert len(tokenizer.encode("<sosp>")) > 1
    assert tokenizer.vocab_size <= 512


def test_small_text_gets_a_small_vocabulary():
    assert default_vocab_size(100) == 512
    assert default_vocab_size(64_000) == 2000
    assert default_vocab_size(10**9) == 4096


def test_the_workspace_trains_its_own_once_and_takes_names_and_paths(tmp_path, hf_folder):
    workspace = Workspace(tmp_path / "w")
    with open_catalog(workspace, write=True, doing="test") as connection:
        with pytest.raises(NoDataError, match="ingest transcripts"):
            get_text_tokenizer(workspace, None, connection)
        connection.execute(
            "insert into all_bitext values "
            "('p','c','en','zh','the cat','猫',1,2,null,null,3,'s','s:1',4)"
        )
        first = get_text_tokenizer(workspace, None, connection)
        connection.execute("delete from all_bitext")
        assert get_text_tokenizer(workspace, None, connection).id == first.id
        assert get_text_tokenizer(workspace, "bpe", connection).id == first.id
        other = get_text_tokenizer(workspace, hf_folder, connection)
        assert other.id != first.id
    assert first.folder == workspace.text_tokenizers / "bpe"


def test_wrong_folders_and_files_are_clear_errors(tmp_path):
    with pytest.raises(MissingArtefactError, match=r"no tokenizer\.json.*--text-tokenizer"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    with pytest.raises(CorruptArtefactError, match="not a tokenizer"):
        load_text_tokenizer(tmp_path)
