"""Small CTC models with the architecture of real ones, as their authors' libraries save them."""

from __future__ import annotations

import json

import torch
import transformers

VOCABULARY = {"<s>": 1, "<pad>": 2, "</s>": 3, "<unk>": 0, "|": 4, "E": 6, "A": 5, "B": 7}
"""The blank is neither first nor last, and the letters are not in order."""


def save_wav2vec2(folder, model_type="wav2vec2", *, seed=0, **settings):
    """Wav2Vec2ForCTC or HubertForCTC, with the frames of the real one (50 a second)."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(VOCABULARY),
        "pad_token_id": VOCABULARY["<pad>"],
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "layer",
        **settings,
    }
    if model_type == "hubert":
        model = transformers.HubertForCTC(transformers.HubertConfig(**shape))
    else:
        model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**shape))
    front = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    return _save(folder, model, front)


def save_w2v_bert(folder):
    torch.manual_seed(0)
    config = transformers.Wav2Vec2BertConfig(
        vocab_size=len(VOCABULARY),
        pad_token_id=VOCABULARY["<pad>"],
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    front = transformers.SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, stride=2, padding_value=1
    )
    return _save(folder, transformers.Wav2Vec2BertForCTC(config), front)


def _save(folder, model, front):
    model.eval().save_pretrained(folder)
    front.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    (folder / "tokenizer_config.json").write_text('{"word_delimiter_token": "|"}')
    return model, front


MMS_PARAMETERS = {
    "extractor_mode": "layer_norm",
    "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
    "extractor_conv_bias": True,
    "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 1,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": True,
    "encoder_layer_drop": 0.1,
    "aux_num_out": 28,
}
"""Those of MMS_FA, made small."""
