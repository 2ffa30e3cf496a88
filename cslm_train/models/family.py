"""JointVocabulary + architecture → fairseq2 model, with fresh weights.

The family `cslm_lm` is fairseq2's LLaMA with what Qwen has beside it (biases, norms of queries and
keys, a head width of its own), the RMSNorm epsilon as a field, per-document attention, and an
output projection that can be asked for some positions only: the loss needs those of trained
tokens, generation that of the last.
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
from fairseq2.gang import Gangs, create_fake_gangs
from fairseq2.models import ModelHubAccessor
from fairseq2.models.llama import LLaMAConfig, LLaMAFactory, LLaMARoPEScaleConfig
from fairseq2.models.llama.factory import init_llama_rope_freqs
from fairseq2.models.transformer import (
    CausalAttentionBias,
    MultiheadAttention,
    StandardMultiheadAttention,
    create_default_sdpa,
    set_default_sdpa_factory,
)
from fairseq2.models.transformer_lm import (
    TransformerLM,
    apply_ac_to_transformer_lm,
    apply_fsdp_to_transformer_lm,
    compile_transformer_lm,
)
from fairseq2.nn import (
    BatchLayout,
    IncrementalStateBag,
    LayerNorm,
    Linear,
    PositionEncoder,
    RMSNorm,
    RotaryEncoder,
)
from fairseq2.runtime.dependency import DependencyContainer, DependencyResolver
from torch import Tensor
from torch.nn.init import trunc_normal_, zeros_

from cslm_data.framing import PAD
from cslm_train.config import ModelConfig, RopeScaling
from cslm_train.models.attention import DocumentSDPA
from cslm_train.vocabulary import JointVocabulary

FAMILY = "cslm_lm"


@dataclass(kw_only=True)
class SpeechLlamaConfig(LLaMAConfig):
    """fairseq2's LLaMA configuration, with what it hard-codes and what Qwen has beside it."""

    rms_norm_eps: float = 1e-5
    """Added to the variance in RMSNorm."""
    head_dim: int = 64
    """Width of a head."""
    qkv_bias: bool = False
    """Biases on the projections to queries, keys and values."""
    qk_norm: bool = False
    """RMSNorm over each head's queries and keys."""


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

    def create_position_encoder(self) -> PositionEncoder:
        config = self._config

        def scaled(encoder: RotaryEncoder) -> Tensor:
            return init_llama_rope_freqs(encoder, config.rope_scale)

        return RotaryEncoder(
            config.head_dim,
            config.max_seq_len,
            theta=config.rope_theta,
            freqs_init_fn=scaled if config.use_scaled_rope else None,
        )

    def create_self_attention(
        self, layer_idx: int, pos_encoder: PositionEncoder
    ) -> MultiheadAttention:
        config = self._config
        scale = self.get_std_scale_factor(layer_idx)

        def begin(proj: Linear) -> None:
            std = proj.weight.shape[1] ** -0.5 / scale
            trunc_normal_(proj.weight, std=std, a=-3 * std, b=3 * std)
            if proj.bias is not None:
                zeros_(proj.bias)

        def head_norm() -> LayerNorm | None:
            norm = RMSNorm(config.head_dim, bias=False, eps=config.rms_norm_eps)
            return norm if config.qk_norm else None

        return StandardMultiheadAttention(
            config.model_dim,
            config.num_attn_heads,
            create_default_sdpa(CausalAttentionBias()),
            head_dim=config.head_dim,
            num_key_value_heads=config.num_key_value_heads,
            bias=config.qkv_bias,
            output_proj_bias=False,
            q_norm=head_norm(),
            k_norm=head_norm(),
            pos_encoder=pos_encoder,
            qkv_proj_init_fn=begin,
            output_proj_init_fn=begin,
        )

    def create_layer_norm(self) -> LayerNorm:
        config = self._config
        return RMSNorm(config.model_dim, bias=False, eps=config.rms_norm_eps)


def _create(config: SpeechLlamaConfig) -> SpeechLlama:
    return _Factory(config).create_model()


def _register(container: DependencyContainer) -> None:
    register_model_family(
        container,
        FAMILY,
        SpeechLlama,
        SpeechLlamaConfig,
        factory=_create,
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
    scaling = config.rope_scaling
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
        use_scaled_rope=scaling is not None,
        rope_scale=_rope_scale(scaling) if scaling is not None else LLaMARoPEScaleConfig(),
        head_dim=config.head_width,
        qkv_bias=config.qkv_bias,
        qk_norm=config.qk_norm,
        dropout_p=config.dropout,
        shard_embed_dim=False,
        rms_norm_eps=config.rms_norm_eps,
    )


def _rope_scale(scaling: RopeScaling) -> LLaMARoPEScaleConfig:
    return LLaMARoPEScaleConfig(
        factor=scaling.factor,
        frequency_factors=(scaling.low_freq_factor, scaling.high_freq_factor),
        original_context_length=scaling.original_length,
    )


def create_model(
    config: ModelConfig, vocabulary: JointVocabulary, *, gangs: Gangs | None = None
) -> SpeechLlama:
    """A model with fresh weights, fp32, on the device of the gangs (None: CPU)."""
    start_fairseq2()
    hub = ModelHubAccessor(FAMILY, kls=SpeechLlama, config_kls=SpeechLlamaConfig)()
    return hub.create_new_model(
        architecture(config, vocabulary),
        gangs=gangs if gangs is not None else create_fake_gangs(torch.device("cpu")),
        dtype=torch.float32,
    )
