"""FLOPs are those that PyTorch counts under the real model; devices are known by their names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import ModelConfig
from cslm_train.models.family import create_model
from cslm_train.packing.reader import PackedBatch
from cslm_train.training.flops import flops_per_token, mean_context, peak_flops
from cslm_train.training.loss import token_nll
from cslm_train.vocabulary import JointVocabulary

MODEL = ModelConfig(
    model_dim=64, num_layers=3, num_heads=4, num_kv_heads=2, ffn_inner_dim=96, max_seq_len=64
)


@pytest.mark.parametrize("head_dim", [None, 24])
def test_matrix_products_are_those_that_pytorch_counts(tokenizer_folder, head_dim) -> None:
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)
    config = dataclasses.replace(MODEL, head_dim=head_dim)
    model = create_model(config, vocabulary)
    trained = torch.arange(0, 40, 4)
    batch = PackedBatch(
        inputs_S=torch.arange(40),
        lengths=[25, 15],
        positions_K=trained,
        targets_K=trained,
        groups_K=torch.zeros(10, dtype=torch.int64),
        pack_id=0,
        keys=(),
    )
    with FlopCounterMode(display=False) as counter:
        token_nll(model, batch).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for operator, count in counts.items() if "mm" in str(operator))
    expected = flops_per_token(config, vocabulary.size, 0.0, trained_share=10 / 40)
    assert products == 40 * expected


def test_attention_counts_what_a_causal_mask_inside_of_documents_leaves() -> None:
    """Two products, with keys and with values, of an S x S mask's ones with a head's 16 columns."""
    documents = [np.tril(np.ones((length, length))) for length in (25, 15)]
    ones = sum(int(document.sum()) for document in documents)
    forward = 2 * 2 * ones * 16 * MODEL.num_heads * MODEL.num_layers
    context = mean_context([25, 15])
    attention = flops_per_token(MODEL, 300, context) - flops_per_token(MODEL, 300, 0.0)
    assert 40 * attention == pytest.approx(3 * forward)


def test_nothing_read_has_no_context() -> None:
    assert mean_context([]) == 0.0


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989.4),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA RTX 6000 Ada Generation", 364.2),
        ("AMD Instinct MI300X", 1307.4),
        ("h100", 989.4),
    ],
)
def test_a_device_is_known_by_the_name_pytorch_gives_it(name: str, tflops: float) -> None:
    assert peak_flops(name, "bf16") == pytest.approx(tflops * 1e12)


def test_a_device_that_is_not_known_has_no_peak() -> None:
    assert peak_flops("NVIDIA GeForce GTX 1080", "bf16") is None
    assert peak_flops("cpu", "fp32") is None
