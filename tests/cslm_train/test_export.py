"""An exported run is, to transformers, the model that was trained."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from base_models import save_base
from chat_models import FAMILIES, make_folder
from fairseq2.nn import BatchLayout
from safetensors.torch import load_file
from tiny_run import make_run, speech, text
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from cslm_data.errors import (
    AlreadyExistsError,
    CorruptArtefactError,
    MissingArtefactError,
    UsageError,
)
from cslm_data.framing import END, PAD, frame, frame_prompt
from cslm_data.records import Segment
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.text_tokenizer import load_text_tokenizer, save_framing
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.workspace import Workspace
from cslm_train.export import export_run
from cslm_train.generating.decoding import Prompt, decode_batch
from cslm_train.models.family import create_model
from cslm_train.models.hugging_face import read_base, read_base_weights
from cslm_train.models.loading import LoadedRun, load_run
from cslm_train.models.new_rows import extend_rows
from cslm_train.run_folder import base_model_folder, model_file
from cslm_train.training.beginning import copy_small_files
from cslm_train.vocabulary import JointVocabulary

USER = Segment(modality="text", language="en", role="user", trained=False, text="one two")
ANSWER = (text("en", "one", "tq"), text("en", "two", "ta"), speech("en", [1, 19, 2], "sa"))


def ids_of(vocabulary: JointVocabulary, *segments: Segment, ask: bool = False) -> torch.Tensor:
    pieces = (frame_prompt if ask else frame)(segments, vocabulary.framing)
    return torch.from_numpy(vocabulary.encode(pieces)[0]).long()[None]


@torch.inference_mode()
def our_logits(run: LoadedRun, ids: torch.Tensor) -> torch.Tensor:
    return run.model(ids, BatchLayout.of(ids))


@torch.inference_mode()
def their_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto").eval()
    return model(ids).logits.float()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def exported(
    corpus: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, LoadedRun, Path]:
    """A run in a workspace with its speech tokenizer, and its export in fp32."""
    workspace = Workspace(tmp_path_factory.mktemp("export") / "workspace")
    shutil.copytree(corpus, workspace.root)
    tokenizer = tokenizer_folders.find_tokenizer(workspace, None)
    run_dir = make_run(
        workspace.runs / "sft",
        tokenizer_folder,
        stage="sft",
        tokenizer_id=tokenizer.tokenizer_id,
        num_units=tokenizer.num_units,
        lessons=[[USER, *ANSWER]],
    )
    out = workspace.root.parent / "out"
    export_run(workspace, run_dir, out, step=3, dtype="fp32")
    return workspace, load_run(run_dir), out


def test_logits_are_ours(exported: tuple[Workspace, LoadedRun, Path]) -> None:
    _, run, out = exported
    ids = ids_of(run.vocabulary, USER, *ANSWER, USER, *ANSWER)
    ours = our_logits(run, ids)
    assert ours.std() > 0.5
    torch.testing.assert_close(their_logits(out, ids), ours, atol=2e-5, rtol=0)


def test_a_conversation_through_transformers_is_answered_as_ours(
    exported: tuple[Workspace, LoadedRun, Path],
) -> None:
    _, run, out = exported
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "one two"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    prompt = ids_of(run.vocabulary, USER, ask=True)
    assert torch.equal(inputs["input_ids"], prompt)
    tokens = model.generate(**inputs, do_sample=False, temperature=None, top_p=None)
    (ours,) = decode_batch(
        run, [Prompt(key="k", ids=prompt[0].numpy().astype(np.int32), max_tokens=100)]
    )
    found = tokens[0, prompt.size(1) :]
    assert tuple(found.tolist()) == ours.ids
    assert tokenizer.decode(found) == (
        "<|question|>one<|answer|>two<sosp><unit_1><unit_19><unit_2><eosp><|end|>"
    )
    assert tokenizer.decode(found, skip_special_tokens=True) == "onetwo"


def test_the_configuration_says_what_it_is(
    exported: tuple[Workspace, LoadedRun, Path],
) -> None:
    _, run, out = exported
    config = json.loads((out / "config.json").read_text())
    vocabulary, info = run.vocabulary, run.info
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == info.vocab_size
    ids = (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"])
    assert ids == tuple(vocabulary.control_id(name) for name in ("<|bos|>", END, PAD))
    ours = config["cslm"]
    assert ours["tokenizer_id"] == info.tokenizer_id
    assert (ours["run_id"], ours["step"], ours["mix_id"]) == (info.run_id, 3, info.mix_id)
    assert ours["first_unit_id"] == vocabulary.unit_id(0)
    generation = GenerationConfig.from_pretrained(out)
    generation.validate(strict=True)
    decoding = (generation.do_sample, generation.temperature, generation.top_p)
    assert decoding == (True, 1.0, 0.7)
    assert generation.max_length == info.config.model.max_seq_len
    units = json.loads((out / "units.json").read_text())
    assert units["units"][19] == {
        "unit": 19,
        "id": vocabulary.unit_id(19),
        "token": "<unit_19>",
    }
    assert units["controls"]["<sosp>"]["id"] == vocabulary.control_id("<sosp>")


def test_units_can_be_made_with_the_export_alone(
    exported: tuple[Workspace, LoadedRun, Path], tmp_path: Path
) -> None:
    workspace, run, out = exported
    shutil.copytree(out, tmp_path / "moved")
    moved = tokenizer_folders.load(tmp_path / "moved" / "speech_tokenizer")
    assert moved.tokenizer_id == run.info.tokenizer_id
    wave = np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    there: SpeechTokenizer = tokenizer_folders.find_tokenizer(workspace, None)
    assert np.array_equal(moved.encode(wave).units, there.encode(wave).units)


def test_files_of_a_size_hold_the_same_model(
    exported: tuple[Workspace, LoadedRun, Path], tmp_path: Path
) -> None:
    workspace, run, out = exported
    made = export_run(
        workspace,
        workspace.runs / "sft",
        tmp_path / "many",
        step=3,
        dtype="fp32",
        max_shard_gb=2e-5,
    )
    files = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    one, many = load_file(out / "model.safetensors"), [load_file(file) for file in files]
    assert sum(map(len, many)) == len(one)
    for shard in many:
        assert all(torch.equal(one[name], weight) for name, weight in shard.items())
        assert len(shard) == 1 or sum(w.nbytes for w in shard.values()) <= 20_000
    assert "lm_head.weight" not in one  # tied
    size = sum(weight.numel() for weight in one.values())
    assert size == made.num_parameters == sum(p.numel() for p in run.model.parameters())
    assert made.num_bytes == 4 * size
    ids = ids_of(run.vocabulary, USER, *ANSWER)
    assert torch.equal(their_logits(tmp_path / "many", ids), their_logits(out, ids))


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("bf16", torch.bfloat16)])
def test_weights_are_rounded_and_nothing_else(
    exported: tuple[Workspace, LoadedRun, Path], tmp_path: Path, dtype: Any, torch_dtype: Any
) -> None:
    workspace, _, out = exported
    export_run(workspace, workspace.runs / "sft", tmp_path / "half", step=3, dtype=dtype)
    exact = load_file(out / "model.safetensors")
    half = load_file(tmp_path / "half" / "model.safetensors")
    assert half.keys() == exact.keys()
    assert all(torch.equal(half[name], exact[name].to(torch_dtype)) for name in exact)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "half", torch_dtype="auto")
    assert loaded.dtype == torch_dtype


# --- base models ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "kind", "family", "end"),
    [
        ("llama 3.1", "llama", "llama-3.1", "<|eot_id|>"),
        ("llama 3.2", "llama", "llama-3.1", "<|eot_id|>"),
        ("qwen 2.5", "qwen2", "qwen2.5", "<|im_end|>"),
        ("qwen 3", "qwen3", "qwen2.5", "<|im_end|>"),
    ],
)
def test_a_base_model_goes_in_and_comes_out_before_and_after_training(
    tmp_path: Path, variant: str, kind: str, family: str, end: str
) -> None:
    """Llama 3 in its chat template; tied and not, with biases, norms of heads, widths of heads."""
    folder = make_folder(tmp_path / "base", FAMILIES[family])
    tokenizer = load_text_tokenizer(folder)
    reference = save_base(folder, variant, vocab_size=tokenizer.vocab_size + 7)
    base = read_base(folder)
    vocabulary = JointVocabulary(tokenizer, 20)
    copied = tmp_path / "copied"  # as prepare_run copies a text tokenizer
    copied.mkdir()
    shutil.copyfile(folder / "tokenizer.json", copied / "tokenizer.json")
    save_framing(vocabulary.framing, copied)
    run_dir = make_run(tmp_path / "run", copied, model=base.architecture)
    copy_small_files(folder, base_model_folder(run_dir))
    weights = extend_rows(read_base_weights(base), vocabulary, how="mean", noise=0.1, seed=1)
    torch.save(weights, model_file(run_dir, 3))
    workspace = Workspace(tmp_path / "workspace")

    def export(step: int) -> tuple[LoadedRun, Path]:
        out = tmp_path / f"out-{step}"
        options: Any = {"dtype": "fp32", "without_speech_tokenizer": True}
        made = export_run(workspace, run_dir, out, step=step, **options)
        assert made.num_different == 0 and made.num_compared > 10
        return load_run(run_dir, step=step), out

    _, out = export(3)
    assert json.loads((out / "config.json").read_text())["model_type"] == kind
    plain = torch.arange(tokenizer.vocab_size)[None, 40:90]
    with torch.inference_mode():
        before = reference(plain).logits[..., : tokenizer.vocab_size]
    found = their_logits(out, plain)
    torch.testing.assert_close(found[..., : tokenizer.vocab_size], before, atol=2e-5, rtol=0)

    model = create_model(base.architecture, vocabulary)
    model.load_state_dict(weights)
    ids = ids_of(vocabulary, USER, *ANSWER)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logits = model(ids, BatchLayout.of(ids))
    torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
    optimizer.step()
    path = model_file(run_dir, 4)
    path.parent.mkdir(parents=True)
    torch.save(model.state_dict(), path)
    run, out = export(4)
    ours = our_logits(run, ids)
    assert (ours - logits).abs().max() > 0.1  # it has learnt something
    torch.testing.assert_close(their_logits(out, ids), ours, atol=2e-5, rtol=0)
    loaded = AutoTokenizer.from_pretrained(out)
    assert (loaded.eos_token, loaded.pad_token) == (end, PAD)
    assert loaded.bos_token == ("<|begin_of_text|>" if kind == "llama" else None)


# --- what can go wrong ------------------------------------------------------------------------


def test_nothing_is_replaced_but_an_export_and_that_when_told_to(
    exported: tuple[Workspace, LoadedRun, Path], tmp_path: Path
) -> None:
    workspace, _, out = exported
    run_dir = workspace.runs / "sft"
    with pytest.raises(AlreadyExistsError, match="replace it with --overwrite"):
        export_run(workspace, run_dir, out, step=3)
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    with pytest.raises(AlreadyExistsError, match="name an empty or a new folder"):
        export_run(workspace, run_dir, thesis, step=3, overwrite=True)
    shutil.copytree(out, tmp_path / "old")
    (tmp_path / "old" / "stray").touch()
    export_run(workspace, run_dir, tmp_path / "old", step=3, overwrite=True, dtype="fp32")
    assert sorted(p.name for p in (tmp_path / "old").iterdir()) == sorted(
        p.name for p in out.iterdir()
    )
    for file in out.iterdir():  # the same run gives the same bytes
        if file.is_file():
            assert (tmp_path / "old" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_failed_export_leaves_nothing(
    exported: tuple[Workspace, LoadedRun, Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    workspace, _, _ = exported
    run_dir = make_run(tmp_path / "run", tokenizer_folder)
    out = tmp_path / "out"
    with pytest.raises(MissingArtefactError, match="export without it: --without-speech"):
        export_run(workspace, run_dir, out, step=3)
    weights = torch.load(model_file(run_dir, 3), weights_only=True)
    weights["decoder.layer_norm.weight"][2] = math.nan
    torch.save(weights, model_file(run_dir, 3))
    with pytest.raises(CorruptArtefactError, match=r"decoder.layer_norm.weight: a weight is no"):
        export_run(workspace, run_dir, out, step=3, without_speech_tokenizer=True)
    weights["decoder.layer_norm.weight"][2] = 1e5
    torch.save(weights, model_file(run_dir, 3))
    with pytest.raises(CorruptArtefactError, match="beyond the range of torch.float16"):
        export_run(workspace, run_dir, out, step=3, without_speech_tokenizer=True, dtype="fp16")
    torch.save({**weights, "more": torch.zeros(2)}, model_file(run_dir, 3))
    with pytest.raises(CorruptArtefactError, match=r"more is \(2,\), not there"):
        export_run(workspace, run_dir, out, step=3, without_speech_tokenizer=True)
    with pytest.raises(MissingArtefactError, match="no checkpoint of step 5; there are 3"):
        export_run(workspace, run_dir, out, step=5, without_speech_tokenizer=True)
    with pytest.raises(UsageError, match="--max-shard-gb -1: a size above 0"):
        export_run(workspace, run_dir, out, step=3, max_shard_gb=-1)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
