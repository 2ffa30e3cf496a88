"""Decoding with a cache of keys and values: tokens a second against transformers' `generate`.

Both sides hold the same random weights, read the same prompts and take the likeliest token; their
answers are asserted to be the same. One thread, the two sides in turn.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from paired import median_ratio, report
from transformers import LlamaConfig, LlamaForCausalLM

from cslm_data.framing import OWN
from cslm_train.config import ModelConfig, TrainConfig
from cslm_train.generating.decoding import Prompt, decode_batch
from cslm_train.generating.sampling import Sampling
from cslm_train.models.family import create_model
from cslm_train.models.loading import LoadedRun
from cslm_train.run_folder import RunInfo
from cslm_train.vocabulary import JointVocabulary

NUM_TEXT, NUM_UNITS = 4000, 4096
PROMPT_TOKENS = 100
SIZES = {
    "3 M": ModelConfig(
        model_dim=192,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        ffn_inner_dim=512,
        tied_embeddings=False,
    ),
    "15 M": ModelConfig(
        model_dim=384,
        num_layers=6,
        num_heads=6,
        num_kv_heads=2,
        ffn_inner_dim=1024,
        tied_embeddings=False,
    ),
}


class NumbersOnly:
    """A text tokenizer for prompts that are ids already."""

    vocab_size = NUM_TEXT
    text_tokenizer_id = "none"
    framing = OWN


def make_run(config: ModelConfig) -> LoadedRun:
    """A model of random weights, as `load_run` gives one."""
    vocabulary = JointVocabulary(NumbersOnly(), NUM_UNITS)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = create_model(config, vocabulary).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from uniform, so that the likeliest token does not hang on the last bit.
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    info = RunInfo(
        run="bench",
        stage="pretrain",
        mix="none",
        mix_id="none",
        languages=("en",),
        tokenizer_id="none",
        num_units=NUM_UNITS,
        frame_rate_hz=50.0,
        text_tokenizer_id="none",
        num_text=NUM_TEXT,
        vocabulary_id="none",
        vocab_size=vocabulary.size,
        template_version=OWN.template_version,
        num_processes=1,
        num_steps=0,
        init_from=None,
        config=TrainConfig(model=config),
    )
    cpu = torch.device("cpu")
    return LoadedRun(model=model, vocabulary=vocabulary, info=info, step=0, device=cpu)


def in_transformers(run: LoadedRun) -> LlamaForCausalLM:
    """The same weights in transformers' LLaMA, whose heads hold rotary pairs half a head apart."""
    config = run.info.config.model
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=run.vocabulary.size,
            hidden_size=config.model_dim,
            intermediate_size=config.ffn_inner_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.rms_norm_eps,
            rope_theta=config.rope_theta,
            tie_word_embeddings=False,
            attn_implementation="sdpa",
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    weights = {}
    for name, weight in run.model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_heads if "q_proj" in name else config.num_kv_heads
            pairs = weight.view(heads, -1, 2, config.model_dim)
            weight = pairs.transpose(1, 2).reshape(weight.shape)
        for ours, other in (
            ("decoder_frontend.embed", "model.embed_tokens"),
            ("decoder.layer_norm", "model.norm"),
            ("decoder.layers", "model.layers"),
            ("self_attn.output_proj", "self_attn.o_proj"),
            ("self_attn_layer_norm", "input_layernorm"),
            ("ffn_layer_norm", "post_attention_layernorm"),
            ("ffn.inner_proj", "mlp.up_proj"),
            ("ffn.output_proj", "mlp.down_proj"),
            ("ffn.gate_proj", "mlp.gate_proj"),
            ("final_proj", "lm_head"),
        ):
            name = name.replace(ours, other)
        weights[name] = weight
    theirs.load_state_dict(weights)
    return theirs.eval()


def compare(name: str, batch: int, num_tokens: int, rounds: int, sampling: Sampling) -> None:
    """Print how many times as fast as transformers we are."""
    run = make_run(SIZES[name])
    model = in_transformers(run)
    rng = np.random.default_rng(1)
    ids_BS = rng.integers(0, NUM_TEXT, (batch, PROMPT_TOKENS))
    prompts = [
        Prompt(key=str(row), ids=ids_S.astype(np.int32), max_tokens=num_tokens)
        for row, ids_S in enumerate(ids_BS)
    ]
    inputs = torch.from_numpy(ids_BS)
    drawn = sampling.temperature > 0

    def ours() -> list[list[int]]:
        answers = decode_batch(run, prompts, sampling=sampling)
        # An end by chance would make ours shorter.
        assert all(len(answer.ids) == num_tokens for answer in answers)
        return [list(answer.ids) for answer in answers]

    def theirs() -> list[list[int]]:
        answered = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=num_tokens,
            do_sample=drawn,
            pad_token_id=0,
            **(
                {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
                if drawn
                else {}
            ),
        )
        return answered[:, PROMPT_TOKENS:].tolist()

    if not drawn:
        assert ours() == theirs()
    ratio = median_ratio(ours, theirs, rounds=rounds)
    how = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}" if drawn else "greedy"
    report(f"{name} weights, batch {batch}, {how}: tokens a CPU-second over transformers", ratio, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in SIZES:
        for batch in (1, 8):
            for sampling in (Sampling(), Sampling(temperature=1.0, top_p=0.7)):
                compare(name, batch, options.tokens, options.rounds, sampling)


if __name__ == "__main__":
    main()
