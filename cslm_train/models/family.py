"""JointVocabulary + architecture → fairseq2 model; run folder → model for inference.

The family `cslm_llama` is fairseq2's LLaMA with the RMSNorm epsilon as a field, per-document
attention, and an output projection that can be asked for some positions only: the loss needs
those of trained tokens, generation that of the last.
"""

# S positions, M model dimension, V vocabulary, K positions asked for

from __future__ import annotations

import atexit
import gc
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import fairseq2.runtime.dependency
import torch
from fairseq2 import init_fairseq2
from fairseq2.composition import register_model_family
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelHubAccessor
from fairseq2.models.llama import LLaMAConfig, LLaMAFactory, convert_llama_state_dict
from fairseq2.models.transformer import set_default_sdpa_factory
from fairseq2.models.transformer_lm import (
    TransformerLM,
    apply_ac_to_transformer_lm,
    apply_fsdp_to_transformer_lm,
    compile_transformer_lm,
)
from fairseq2.nn import BatchLayout, IncrementalStateBag, LayerNorm, RMSNorm
from fairseq2.runtime.dependency import DependencyContainer, DependencyResolver
from torch import Tensor

from cslm_data.framing import PAD
from cslm_train.config import ModelConfig
from cslm_train.models.attention import DocumentSDPA
from cslm_train.vocabulary import JointVocabulary

FAMILY = "cslm_llama"


@dataclass(kw_only=True)
class SpeechLlamaConfig(LLaMAConfig):
    """fairseq2's LLaMA configuration, with what it hard-codes."""

    rms_norm_eps: float = 1e-5
    """Added to the variance in RMSNorm."""


class SpeechLlama(TransformerLM):  # type: ignore[misc] # final for typing only; forward is widened
    """A decoder-only Transformer that projects only the positions it is asked for."""

    def forward(  # type: ignore[override]
        self,
        seqs: Tensor,
        seqs_layout: BatchLayout,
        *,
        positions_K: Tensor | None = None,
        state_bag: IncrementalStateBag | None = None,
    ) -> Tensor:
        """Logits of every position (…, S, V), or of some of a packed batch: (K, V)."""
        hidden, layout = self.decoder_frontend(seqs, seqs_layout, state_bag=state_bag)
        hidden = self.decoder(hidden, layout, state_bag=state_bag)
        if positions_K is not None:
            hidden = hidden.index_select(-2, positions_K)
        logits: Tensor = self.final_proj(hidden)
        return logits

    if TYPE_CHECKING:
        __call__ = forward  # type: ignore[assignment]


class _Factory(LLaMAFactory):
    _config: SpeechLlamaConfig

    def create_model(self) -> SpeechLlama:
        config = self._config
        embedding = self.create_embedding()
        return SpeechLlama(
            config.model_dim,
            self.create_decoder_frontend(embedding),
            self.create_decoder(),
            self.create_final_projection(embedding),
            config.pad_idx,
            config.max_seq_len,
        )

    def create_layer_norm(self) -> LayerNorm:
        config = self._config
        return RMSNorm(config.model_dim, bias=False, eps=config.rms_norm_eps)


def _create(config: SpeechLlamaConfig) -> SpeechLlama:
    return _Factory(config).create_model()


def _convert(state_dict: dict[str, object], config: SpeechLlamaConfig) -> dict[str, object]:
    return convert_llama_state_dict(state_dict, config)


def _register(container: DependencyContainer) -> None:
    register_model_family(
        container,
        FAMILY,
        SpeechLlama,
        SpeechLlamaConfig,
        factory=_create,
        state_dict_converter=_convert,
        compiler=compile_transformer_lm,
        fsdp_applier=apply_fsdp_to_transformer_lm,
        layerwise_ac_applier=apply_ac_to_transformer_lm,
    )


@cache
def start_fairseq2() -> DependencyResolver:
    """fairseq2's parts, with our family among its models; once for the process."""
    set_default_sdpa_factory(DocumentSDPA)
    with warnings.catch_warnings():  # fairseq2 registers its own models in a way it deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        resolver = init_fairseq2(extras=_register, no_progress=True)
    atexit.register(_forget_fairseq2)
    return resolver


def _forget_fairseq2() -> None:
    """Let go of fairseq2's global container: it keeps extension modules alive past the exit.

    DuckDB's bindings would print a page of leak warnings under every command.
    """
    start_fairseq2.cache_clear()
    fairseq2.runtime.dependency._resolver = None
    gc.collect()


def architecture(config: ModelConfig, vocabulary: JointVocabulary) -> SpeechLlamaConfig:
    """fairseq2's configuration of the architecture."""
    return SpeechLlamaConfig(
        model_dim=config.model_dim,
        max_seq_len=config.max_seq_len,
        vocab_size=vocabulary.size,
        pad_idx=vocabulary.control_id(PAD),
        tied_embeddings=config.tied_embeddings,
        num_layers=config.num_layers,
        num_attn_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        ffn_inner_dim=config.ffn_inner_dim,
        ffn_inner_dim_scale=1.0,
        ffn_inner_dim_multiple_of=1,
        rope_theta=config.rope_theta,
        dropout_p=config.dropout,
        shard_embed_dim=False,
        rms_norm_eps=config.rms_norm_eps,
    )


def create_model(
    config: ModelConfig, vocabulary: JointVocabulary, *, meta: bool = False
) -> SpeechLlama:
    """A model with fresh weights, fp32, on the CPU; `meta`: without weights as yet."""
    start_fairseq2()
    hub = ModelHubAccessor(FAMILY, kls=SpeechLlama, config_kls=SpeechLlamaConfig)()
    return hub.create_new_model(
        architecture(config, vocabulary),
        gangs=create_fake_gangs(torch.device("cpu")),
        dtype=torch.float32,
        meta=meta,
    )
