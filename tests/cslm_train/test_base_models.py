"""A Hugging Face model keeps what it says of text, wherever its vocabulary is extended."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from base_models import VARIANTS, save_base
from fairseq2.nn import BatchLayout
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cslm_data.errors import (
    AlreadyExistsError,
    CorruptArtefactError,
    MissingArtefactError,
    TokenizerMismatchError,
    UsageError,
)
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.models.family import create_model
from cslm_train.models.hugging_face import (
    config_json,
    read_architecture,
    read_base,
    read_base_weights,
    to_hugging_face,
)
from cslm_train.models.loading import load_run, read_weights
from cslm_train.models.new_rows import extend_rows
from cslm_train.models.weights import EMBEDDING, num_parameters, weight_shapes
from cslm_train.run_folder import RunInfo
from cslm_train.train import run_training
from cslm_train.vocabulary import JointVocabulary

NUM_UNITS = 20


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), NUM_UNITS)


def text_ids(vocabulary: JointVocabulary, count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, vocabulary.num_text, (2, count), generator=generator)


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(ids, BatchLayout.of(ids))  # type: ignore[no-any-return]


@pytest.mark.parametrize("more_rows", [0, 13], ids=["exact", "rows of no token"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_old_logits_are_those_of_transformers(
    tmp_path: Path, vocabulary: JointVocabulary, variant: str, more_rows: int
) -> None:
    vocab_size = vocabulary.num_text + more_rows
    reference = save_base(tmp_path, variant, vocab_size=vocab_size)
    base = read_base(tmp_path)
    model = create_model(base.architecture, vocabulary)
    extended = extend_rows(read_base_weights(base), vocabulary, how="mean", noise=0.1, seed=1)
    model.load_state_dict(extended)
    ids = text_ids(vocabulary)
    with torch.inference_mode():
        theirs = reference(ids).logits[..., : vocabulary.num_text]
    assert theirs.std() > 0.5  # not a comparison of zeros
    ours = logits(model, ids)
    assert ours.size(-1) == vocabulary.size
    torch.testing.assert_close(ours[..., : vocabulary.num_text], theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_moves_the_weights_as_transformers_does(
    tmp_path: Path, vocabulary: JointVocabulary, variant: str
) -> None:
    """Two documents packed here, side by side there; the same optimizer for both."""
    reference = save_base(tmp_path, variant, vocab_size=vocabulary.size)
    base = read_base(tmp_path)
    model = create_model(base.architecture, vocabulary)
    model.load_state_dict(read_base_weights(base))
    ids = text_ids(vocabulary)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, reference)]
    inputs = ids[:, :-1].reshape(-1)
    layout = BatchLayout.of(inputs, [ids.size(1) - 1] * len(ids), packed=True)
    losses = []
    for _ in range(4):
        ours = torch.nn.functional.cross_entropy(model.train()(inputs, layout), ids[:, 1:].ravel())
        theirs = reference.train()(ids, labels=ids).loss
        for loss, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
        losses.append(float(ours.detach()))
    assert losses[-1] < losses[0] - 0.1
    with torch.inference_mode():
        theirs = reference.eval()(ids).logits
    torch.testing.assert_close(logits(model, ids), theirs, atol=2e-4, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_read_can_be_written_again(
    tmp_path: Path, vocabulary: JointVocabulary, variant: str
) -> None:
    reference = save_base(tmp_path / "base", variant, vocab_size=vocabulary.num_text)
    base = read_base(tmp_path / "base")
    weights = to_hugging_face(read_base_weights(base), base.architecture)
    stored = load_file(tmp_path / "base" / "model.safetensors")
    assert weights.keys() == stored.keys()
    assert all(torch.equal(weights[name], stored[name]) for name in stored)
    config = config_json(base.architecture, vocab_size=base.vocab_size)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copyfile(
        tmp_path / "base" / "model.safetensors", tmp_path / "again" / "model.safetensors"
    )
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
    assert type(again) is type(reference)
    ids = text_ids(vocabulary)
    with torch.inference_mode():
        torch.testing.assert_close(again(ids).logits, reference(ids).logits, atol=1e-6, rtol=0)
    assert read_architecture(config, "config.json") == base.architecture


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_are_those_of_the_model_that_is_made(
    tmp_path: Path, vocabulary: JointVocabulary, variant: str
) -> None:
    save_base(tmp_path, variant, vocab_size=vocabulary.num_text)
    architecture = read_base(tmp_path).architecture
    model = create_model(architecture, vocabulary)
    made = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert made == weight_shapes(architecture, vocabulary.size)
    assert sum(p.numel() for p in model.parameters()) == num_parameters(
        architecture, vocabulary.size
    )


def test_shards_of_weights_are_read_as_one(tmp_path: Path, vocabulary: JointVocabulary) -> None:
    save_base(tmp_path / "one", "llama", vocab_size=vocabulary.num_text)
    save_base(tmp_path / "many", "llama", vocab_size=vocabulary.num_text, max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = (read_base_weights(read_base(tmp_path / name)) for name in ("one", "many"))
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "mamba", "model_type mamba cannot be trained; there are llama, qwen2"),
        ("attention_bias", True, "attention_bias True of a llama model"),
        ("hidden_act", "gelu", "hidden_act gelu"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}, "frequencies of type yarn"),
        ("quantization_config", {"bits": 4}, "quantization_config"),
        ("layer_types", ["sliding_attention"], "layers of sliding_attention"),
        ("cslm", {"num_units": 20}, "an export of ours, which has units already"),
    ],
)
def test_parts_that_our_architecture_lacks_are_named(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    save_base(tmp_path, "llama", vocab_size=64)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UsageError, match=message):
        read_base(tmp_path)


def test_folders_that_hold_no_model_are_said_to(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefactError, match=r"no config\.json here"):
        read_base(tmp_path)
    save_base(tmp_path, "llama", vocab_size=64)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingArtefactError, match="pickles, which are not read"):
        read_base(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors at all")
    with pytest.raises(CorruptArtefactError, match="not safetensors"):
        read_base_weights(read_base(tmp_path))


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    save_base(tmp_path, "llama", vocab_size=64)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 80}))
    with pytest.raises(CorruptArtefactError, match=r"ffn\.\w+\.weight is \(72, 32\), not \(80,"):
        read_base_weights(read_base(tmp_path))


# --- runs -------------------------------------------------------------------------------------

SETTINGS = [
    *("model.max_seq_len=128", "data.pack_length=128", "trainer.num_steps=4"),
    *("validation.every_n_steps=4", "checkpoint.every_n_steps=4", "metrics.tensorboard=false"),
]


@pytest.mark.parametrize("variant", ["llama tied, one key head", "llama 3.1", "qwen 2.5", "qwen 3"])
def test_a_run_begins_with_the_base_model_and_the_next_stage_with_the_run(
    tmp_path: Path,
    workspace: Workspace,
    build_mix: Any,
    tokenizer_folder: Path,
    variant: str,
    vocabulary: JointVocabulary,
) -> None:
    build_mix("pretrain")
    build_mix("sft")
    folder = tmp_path / "base"
    reference = save_base(
        folder, variant, vocab_size=vocabulary.num_text + 3, tokenizer_folder=tokenizer_folder
    )
    settings = [*SETTINGS, f"model.base=hf:{folder}"]
    still = load_config("smoke", [*settings, "optimizer.lr=1e-12", "model.dropout=0"])
    run_dir = run_training(workspace, stage="pretrain", config=still).run_dir
    model = load_run(run_dir).model
    ids = text_ids(vocabulary)
    with torch.inference_mode():
        theirs = reference(ids).logits[..., : vocabulary.num_text]
    torch.testing.assert_close(
        logits(model, ids)[..., : vocabulary.num_text], theirs, atol=2e-5, rtol=0
    )
    assert RunInfo.load(run_dir).base_id == read_base(folder).weights_id
    # The folder is not needed any more, neither to go on nor to begin the next stage.
    shutil.rmtree(folder)
    assert run_training(workspace, stage="pretrain", config=still).finished
    changed = load_config("smoke", [*settings, "model.dropout=0"])
    summary = run_training(workspace, stage="sft", config=changed)
    info = RunInfo.load(summary.run_dir)
    assert info.base_id == RunInfo.load(run_dir).base_id
    assert info.config.model.kind == read_kind(variant)
    before, after = read_weights(run_dir, 4), read_weights(summary.run_dir, 4)
    assert not torch.equal(before[EMBEDDING], after[EMBEDDING])


def read_kind(variant: str) -> str:
    family, version = variant.split()[:2]
    return family if family == "llama" else f"{family}{version[0]}"


def test_another_base_model_is_another_run(
    tmp_path: Path,
    workspace: Workspace,
    build_mix: Any,
    tokenizer_folder: Path,
    vocabulary: JointVocabulary,
) -> None:
    build_mix("pretrain")
    size = vocabulary.num_text
    for name, eps in (("base", 1e-6), ("other", 1e-4)):
        save_base(
            tmp_path / name,
            "llama",
            vocab_size=size,
            tokenizer_folder=tokenizer_folder,
            rms_norm_eps=eps,
        )
    config = load_config("smoke", [*SETTINGS, f"model.base={tmp_path / 'base'}"])
    run_training(workspace, stage="pretrain", config=config)
    (tmp_path / "base").rename(tmp_path / "moved")
    model = dataclasses.replace(config.model, base=str(tmp_path / "moved"))
    moved = dataclasses.replace(config, model=model)
    assert run_training(workspace, stage="pretrain", config=moved).finished
    model = dataclasses.replace(config.model, base=str(tmp_path / "other"))
    with pytest.raises(AlreadyExistsError, match="base_id"):
        run_training(workspace, stage="pretrain", config=dataclasses.replace(config, model=model))


def test_a_mix_of_other_text_tokens_is_refused_with_the_command_to_run(
    tmp_path: Path, workspace: Workspace, build_mix: Any, tokenizer_folder: Path
) -> None:
    build_mix("pretrain")
    save_base(tmp_path / "base", "llama", vocab_size=400, tokenizer_folder=tokenizer_folder)
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")  # other bytes
    config = load_config("smoke", [*SETTINGS, f"model.base={tmp_path / 'base'}"])
    with pytest.raises(TokenizerMismatchError, match="build-mix --stage pretrain --text-token"):
        run_training(workspace, stage="pretrain", config=config)


def test_a_run_longer_than_its_base_model_is_refused(
    tmp_path: Path, workspace: Workspace, build_mix: Any, tokenizer_folder: Path
) -> None:
    build_mix("pretrain")
    save_base(tmp_path / "base", "llama", vocab_size=400, tokenizer_folder=tokenizer_folder)
    settings = [*SETTINGS, f"model.base={tmp_path / 'base'}", "model.max_seq_len=512"]
    with pytest.raises(UsageError, match=r"holds 256 tokens at most; set model\.max_seq_len=256"):
        run_training(workspace, stage="pretrain", config=load_config("smoke", settings))
