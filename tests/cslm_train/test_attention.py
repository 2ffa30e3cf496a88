"""A packed batch gives what its documents give alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fairseq2.models.transformer.sdpa import flash2
from fairseq2.nn import BatchLayout, IncrementalStateBag

from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import ModelConfig
from cslm_train.models import attention
from cslm_train.models.family import SpeechLlama, create_model
from cslm_train.vocabulary import JointVocabulary

SMALL = ModelConfig(
    model_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, ffn_inner_dim=64, max_seq_len=64
)
LENGTHS = [7, 1, 20, 12]


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


@pytest.fixture(scope="module")
def model(vocabulary: JointVocabulary) -> SpeechLlama:
    torch.manual_seed(0)
    return create_model(SMALL, vocabulary).eval()


def documents(vocabulary: JointVocabulary) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, vocabulary.size, (n,), generator=generator) for n in LENGTHS]


def alone(model: SpeechLlama, document_s: torch.Tensor) -> torch.Tensor:
    seqs = document_s[None]
    return model(seqs, BatchLayout.of(seqs))[0]


@pytest.mark.parametrize("padding", [0, 5])
def test_packed_logits_equal_those_of_each_document_alone(
    model: SpeechLlama, vocabulary: JointVocabulary, padding: int
) -> None:
    parts = documents(vocabulary)
    seqs_S = torch.cat([*parts, torch.zeros(padding, dtype=torch.int64)])
    with torch.inference_mode():
        packed = model(seqs_S, BatchLayout.of(seqs_S, LENGTHS, packed=True))
        separate = torch.cat([alone(model, part) for part in parts])
    torch.testing.assert_close(packed[: len(separate)], separate, atol=5e-6, rtol=0)


def test_packed_gradients_equal_the_sum_over_documents(
    model: SpeechLlama, vocabulary: JointVocabulary
) -> None:
    parts = documents(vocabulary)
    seqs_S = torch.cat(parts)
    model.zero_grad()
    model(seqs_S, BatchLayout.of(seqs_S, LENGTHS, packed=True)).logsumexp(-1).sum().backward()
    packed = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for part in parts:
        alone(model, part).logsumexp(-1).sum().backward()
    for one, other in zip(packed, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, atol=2e-5, rtol=1e-4)


def test_changing_one_document_leaves_the_others_untouched(
    model: SpeechLlama, vocabulary: JointVocabulary
) -> None:
    parts = documents(vocabulary)
    layout = BatchLayout.of(torch.cat(parts), LENGTHS, packed=True)
    with torch.inference_mode():
        before = model(torch.cat(parts), layout)
        parts[0] = (parts[0] + 1) % vocabulary.size
        after = model(torch.cat(parts), layout)
    assert torch.equal(before[LENGTHS[0] :], after[LENGTHS[0] :])
    assert not torch.equal(before[: LENGTHS[0]], after[: LENGTHS[0]])


def test_asking_for_positions_gives_their_rows(
    model: SpeechLlama, vocabulary: JointVocabulary
) -> None:
    seqs_S = torch.cat(documents(vocabulary))
    layout = BatchLayout.of(seqs_S, LENGTHS, packed=True)
    positions_K = torch.tensor([0, 9, 39])
    with torch.inference_mode():
        chosen = model(seqs_S, layout, positions_K=positions_K)
        every = model(seqs_S, layout)
    torch.testing.assert_close(chosen, every[positions_K], atol=1e-6, rtol=0)


def test_generation_with_a_cache_gives_the_logits_of_one_pass(
    model: SpeechLlama, vocabulary: JointVocabulary
) -> None:
    document = documents(vocabulary)[2]
    state = IncrementalStateBag(max_num_steps=len(document) + 1)
    rows = []
    with torch.inference_mode():
        expected = alone(model, document)
        for chunk in document.split([8, *[1] * 6, 6]):
            seqs = chunk[None]
            rows.append(model(seqs, BatchLayout.of(seqs), state_bag=state)[0])
            state.increment_step_nr(len(chunk))
    torch.testing.assert_close(torch.cat(rows), expected, atol=5e-6, rtol=0)


def varlen_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    starts_q: torch.Tensor,
    starts_k: torch.Tensor,
    longest_q: int,
    longest_k: int,
    dropout_p: float,
    *,
    causal: bool,
    window_size: tuple[int, int],
) -> torch.Tensor:
    """What flash_attn_varlen_func promises, written with plain matrix products."""
    assert causal
    assert window_size == (-1, -1)
    assert dropout_p == 0
    assert torch.equal(starts_q, starts_k)
    assert longest_q == longest_k == int(starts_q.diff().max())
    parts = []
    for start, end in zip(starts_q[:-1].tolist(), starts_q[1:].tolist(), strict=True):
        scores = torch.einsum("shd,thd->hst", q[start:end], k[start:end]) / q.size(-1) ** 0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        parts.append(torch.einsum("hst,thd->shd", weights, v[start:end]))
    return torch.cat(parts)


def test_the_variable_length_kernel_is_asked_for_what_the_documents_need(
    vocabulary: JointVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels run on GPUs alone; this checks all that leads to them."""
    monkeypatch.setattr(flash2, "_has_flash_attn_2", True)
    monkeypatch.setattr(flash2, "flash_attn_varlen_func", varlen_reference, raising=False)
    monkeypatch.setattr(attention, "flash_kernels", lambda: flash2.Flash2SDPA)
    torch.manual_seed(0)
    model = create_model(SMALL, vocabulary).eval()
    seqs_S = torch.cat(documents(vocabulary))
    layout = BatchLayout.of(seqs_S, LENGTHS, packed=True)
    with torch.inference_mode():
        per_document = model(seqs_S, layout)
        monkeypatch.setattr(attention, "_is_half_on_cuda", lambda q: True)
        flashed = model(seqs_S, layout)
    torch.testing.assert_close(flashed, per_document, atol=5e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_flash_attention_equals_documents_alone_on_a_gpu(vocabulary: JointVocabulary) -> None:
    if attention.flash_kernels() is None:
        pytest.skip("flash-attn is not installed")
    torch.manual_seed(0)
    model = create_model(SMALL, vocabulary).eval().cuda()
    parts = [part.cuda() for part in documents(vocabulary)]
    seqs_S = torch.cat(parts)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        packed = model(seqs_S, BatchLayout.of(seqs_S, LENGTHS, packed=True)).float()
        separate = torch.cat([alone(model, part) for part in parts]).float()
    torch.testing.assert_close(packed, separate, atol=5e-2, rtol=0)
