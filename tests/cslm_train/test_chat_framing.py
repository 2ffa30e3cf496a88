"""The trainer reads, and a model answers, in the turns of the base model's chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from chat_models import FAMILIES, QWEN25, make_folder
from tiny_run import make_run, speech, text

from cslm_data.errors import CorruptArtefactError, TokenizerMismatchError
from cslm_data.framing import CONTROLS, END, OWN, frame, frame_prompt
from cslm_data.records import Segment
from cslm_data.samples import count_tokens
from cslm_data.shards import MixInfo, iter_samples
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.evaluating.scores import is_well_formed_chain
from cslm_train.generate import Finished, answer
from cslm_train.generating.chunks import Chunk
from cslm_train.generating.decoding import Prompt, decode_batch
from cslm_train.generating.grammar import CHAIN, TEXT_ANSWER, Grammar
from cslm_train.generating.questions import Question
from cslm_train.models.loading import load_run
from cslm_train.packing.plan import load_or_make_plan
from cslm_train.packing.reader import ShardReader
from cslm_train.training.prepare import prepare_run, read_prepared
from cslm_train.vocabulary import JointVocabulary


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("chat") / "qwen", FAMILIES["qwen2.5"])


@pytest.fixture
def vocabulary(qwen: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(qwen), 20)


@pytest.fixture
def chat_mix(workspace: Workspace, qwen: Path, build_mix) -> MixInfo:
    """A mix whose text tokenizer is a chat model's."""
    folder = workspace.text_tokenizers / "bpe"
    shutil.rmtree(folder)
    shutil.copytree(qwen, folder)
    return MixInfo.load(build_mix())


USER = Segment(modality="text", language="en", role="user", trained=False, text="one")
CHAIN_ANSWER = [
    text("en", "one", "tq"),
    text("en", "two", "ta"),
    speech("en", [1, 2], "sa"),
]


# --- ids -------------------------------------------------------------------------------------


def test_special_tokens_are_the_models_own_ids_and_ours_keep_theirs(
    vocabulary: JointVocabulary,
) -> None:
    tokenizer = vocabulary.text_tokenizer
    ids, trained = vocabulary.encode(frame([USER, text("en", "two")], vocabulary.framing))
    start, end = tokenizer.special_id("<|im_start|>"), tokenizer.special_id("<|im_end|>")
    plain = tokenizer.encode
    system = [start, *plain("system\n"), *plain("You are a helpful assistant."), end, *plain("\n")]
    assert tokenizer.decode(system[1:-2]) == "system\nYou are a helpful assistant."
    tail = [start, *plain("assistant\n"), *plain("two"), end, *plain("\n")]
    assert ids.tolist()[-len(tail) :] == tail
    assert trained.tolist()[-len(tail) :] == [False] * (len(tail) - len(plain("two")) - 2) + [
        *[True] * (len(plain("two")) + 1),
        False,
    ]
    assert vocabulary.end_id == end
    first = tokenizer.vocab_size
    assert [vocabulary.control_id(name) for name in CONTROLS] == list(
        range(first, first + len(CONTROLS))
    )


def test_ids_decode_to_special_pieces_between_text(vocabulary: JointVocabulary) -> None:
    hostile = Segment(
        modality="text", language="en", role="user", trained=False, text="<|im_end|> one"
    )
    ids, _ = vocabulary.encode(frame([hostile, *CHAIN_ANSWER], vocabulary.framing))
    decoded = [(p.kind, p.text or p.units.tolist()) for p in vocabulary.decode(ids.tolist())]
    assert decoded[4:] == [
        ("special", "<|im_start|>"),
        ("text", "user\n<|im_end|> one"),
        ("special", "<|im_end|>"),
        ("text", "\n"),
        ("special", "<|im_start|>"),
        ("text", "assistant\n"),
        ("control", "<|question|>"),
        ("text", "one"),
        ("control", "<|answer|>"),
        ("text", "two"),
        ("control", "<sosp>"),
        ("units", [1, 2]),
        ("control", "<eosp>"),
        ("special", "<|im_end|>"),
        ("text", "\n"),
    ]


def test_the_ids_of_a_prompt_begin_those_of_its_sample(tmp_path: Path) -> None:
    for name, family in FAMILIES.items():
        vocabulary = JointVocabulary(load_text_tokenizer(make_folder(tmp_path / name, family)), 20)
        segments = [USER, *CHAIN_ANSWER]
        whole, _ = vocabulary.encode(frame(segments, vocabulary.framing))
        prompt, trained = vocabulary.encode(frame_prompt(segments, vocabulary.framing))
        assert whole.tolist()[: len(prompt)] == prompt.tolist()
        assert not trained.any()
        assert whole.tolist()[len(prompt)] == vocabulary.control_id("<|question|>")


# --- the form of an answer -------------------------------------------------------------------


def test_a_grammar_ends_an_answer_with_the_models_token_alone(vocabulary: JointVocabulary) -> None:
    grammar = Grammar(vocabulary, TEXT_ANSWER)
    word = vocabulary.text_tokenizer.encode("two")
    end = vocabulary.end_id
    start = vocabulary.text_tokenizer.special_id("<|im_start|>")
    ours = vocabulary.control_id(END)
    assert grammar.accepts([*word, end])
    for wrong in ([*word, ours], [*word, start, end], [end], word):
        assert not grammar.accepts(wrong)
    allowed_GV = grammar.allowed_GV
    assert allowed_GV[1, end] and not allowed_GV[0, end]
    assert not allowed_GV[:, [start, ours]].any()
    assert allowed_GV[0, word[0]] and allowed_GV[1].sum() == vocabulary.num_text - 1
    for state in range(2):  # what is masked is what is refused
        for token in range(vocabulary.size):
            try:
                grammar.following(state, token)
                fine = True
            except ValueError:
                fine = False
            assert fine == bool(allowed_GV[state, token])


def test_a_chain_is_well_formed_with_the_models_end(vocabulary: JointVocabulary) -> None:
    segments = [USER, *CHAIN_ANSWER]
    whole, _ = vocabulary.encode(frame(segments, vocabulary.framing))
    prompt, _ = vocabulary.encode(frame_prompt(segments, vocabulary.framing))
    line_break = len(vocabulary.text_tokenizer.encode("\n"))
    ids = whole.tolist()[len(prompt) : -line_break]
    assert ids[-1] == vocabulary.end_id
    assert Grammar(vocabulary, CHAIN).accepts(ids)
    end = vocabulary.framing.end
    assert is_well_formed_chain(vocabulary.decode(ids), end=end)
    other = vocabulary.text_tokenizer.special_id("<|im_start|>")
    assert not is_well_formed_chain(vocabulary.decode([*ids[:-1], other]), end=end)
    ours = vocabulary.control_id(END)
    assert not is_well_formed_chain(vocabulary.decode([*ids[:-1], ours]), end=end)


@pytest.mark.parametrize("free", [True, False])
def test_a_model_taught_in_a_chat_template_answers_in_it(
    tmp_path: Path, qwen: Path, free: bool
) -> None:
    run_dir = make_run(tmp_path / "run", qwen, lessons=[[USER, *CHAIN_ANSWER]])
    run = load_run(run_dir)
    question = Question(
        task="t2s", language="en", answer_language="en", segments=(USER,), key="one"
    )
    *parts, finished = answer(run, question, max_tokens=60, free=free)
    assert isinstance(finished, Finished)
    assert (finished.stop, finished.well_formed) == ("end", True)
    assert [(c.part, c.text or c.units) for c in parts if isinstance(c, Chunk)] == [
        ("tq", "one"),
        ("ta", "two"),
        ("sa", (1, 2)),
    ]
    ids, _ = run.vocabulary.encode(frame_prompt([USER], run.vocabulary.framing))
    (continuation,) = decode_batch(run, [Prompt(key="k", ids=ids, max_tokens=60)])
    assert continuation.stop == "end" and continuation.ids[-1] == run.vocabulary.end_id


# --- mix → packs → run -----------------------------------------------------------------------


def test_packs_and_batches_hold_the_tokens_that_were_counted(
    tmp_path: Path, chat_mix: MixInfo, vocabulary: JointVocabulary
) -> None:
    plan = load_or_make_plan(
        tmp_path / "packs.parquet", chat_mix, vocabulary, split="train", pack_length=128, window=8
    )
    samples = {sample.key: sample for sample in iter_samples(chat_mix.folder, "train")}
    ordered = [samples[key] for key in plan.keys]
    tokenizer = vocabulary.text_tokenizer
    counted = count_tokens(ordered, tokenizer.encode_batch, vocabulary.framing)
    assert plan.num_tokens_N.tolist() == counted
    assert counted != count_tokens(ordered, tokenizer.encode_batch)
    reader = ShardReader(
        plan, chat_mix.folder / "shards", vocabulary, groups=sorted(set(plan.groups)), seed=None
    )
    (batch,) = next(reader)
    reader.close()
    expected = [
        vocabulary.encode(frame(samples[key].segments, vocabulary.framing)) for key in batch.keys
    ]
    assert batch.inputs_S.tolist() == [t for ids, _ in expected for t in ids.tolist()[:-1]]
    targets = np.concatenate([ids[1:][trained[1:]] for ids, trained in expected])
    assert batch.targets_K.tolist() == targets.tolist()
    assert (targets == vocabulary.end_id).sum() == len(batch.keys)


TINY = [
    *("model.model_dim=32", "model.num_layers=1", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "data.pack_length=128"),
    "trainer.num_steps=2",
]


def prepare(workspace: Workspace, run_dir: Path) -> None:
    prepare_run(
        workspace,
        run_dir,
        stage="pretrain",
        config=load_config("smoke", TINY),
        mix="pretrain",
        init_from=None,
        overwrite=False,
        num_processes=1,
    )


def test_a_run_keeps_the_framing_and_needs_no_template_afterwards(
    workspace: Workspace, chat_mix: MixInfo, vocabulary: JointVocabulary
) -> None:
    run_dir = workspace.runs / "pretrain"
    prepare(workspace, run_dir)
    shutil.rmtree(workspace.text_tokenizers)
    prepared = read_prepared(workspace, run_dir, None)
    assert prepared.vocabulary.framing == vocabulary.framing
    assert prepared.info.template_version == chat_mix.template_version != OWN.template_version
    assert sorted(path.name for path in (run_dir / "text_tokenizer").iterdir()) == [
        "framing.json",
        "tokenizer.json",
    ]


def test_a_mix_counted_in_another_framing_is_refused(
    workspace: Workspace, chat_mix: MixInfo
) -> None:
    document = json.loads((chat_mix.folder / "mix.json").read_text())
    (chat_mix.folder / "mix.json").write_text(json.dumps({**document, "template_version": "1"}))
    with pytest.raises(
        TokenizerMismatchError, match=r"template version 1, but 1\+\w{12} is expected.*build-mix"
    ):
        prepare(workspace, workspace.runs / "pretrain")


def test_another_template_means_other_packs(
    tmp_path: Path, chat_mix: MixInfo, qwen: Path, vocabulary: JointVocabulary
) -> None:
    path = tmp_path / "packs.parquet"
    options = {"split": "train", "pack_length": 128, "window": 8}
    before = load_or_make_plan(path, chat_mix, vocabulary, **options)
    other = tmp_path / "other"
    shutil.copytree(qwen, other)
    config = json.loads((other / "tokenizer_config.json").read_text())
    config["chat_template"] = QWEN25.replace("You are a helpful assistant.", "")
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    changed = JointVocabulary(load_text_tokenizer(other), 20)
    assert changed.identity == vocabulary.identity  # ids mean the same
    after = load_or_make_plan(path, chat_mix, changed, **options)
    assert after.num_tokens < before.num_tokens


def test_a_run_whose_framing_was_changed_is_refused(tmp_path: Path, qwen: Path) -> None:
    torch.manual_seed(1)
    run_dir = make_run(tmp_path / "run", qwen)
    (run_dir / "text_tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(CorruptArtefactError, match="turns were framed as template version"):
        load_run(run_dir)
