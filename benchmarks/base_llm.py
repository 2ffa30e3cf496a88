"""documents → a small chat model as the hub has them: tokenizer, chat template, LLaMA, safetensors.

It is trained by transformers on text alone, the usual way: documents one after the other in blocks,
every token counts. It knows neither speech nor units, and is what the experiments begin with.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cslm_data.text_tokenizer import train_text_tokenizer

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
VOCAB_SIZE = 4096
BLOCK, BATCH = 256, 8
LEARNING_RATE, WARMUP = 3e-3, 0.05
SHAPE = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "rope_theta": 10_000.0,
}

Document = str | tuple[str, str]
"""A text, or a question and its answer."""


def make_tokenizer(documents: Sequence[Document], folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of these documents, kept in a folder, with the tokens of its template."""
    texts = [text for d in documents for text in ((d,) if isinstance(d, str) else d)]
    if not folder.is_dir():
        train_text_tokenizer(texts, folder=folder, vocab_size=VOCAB_SIZE)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(folder / "tokenizer.json")),
        bos_token=END_OF_TEXT,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> list[list[int]]:
    """Ids of each document between ends of text; questions and answers as the template has them."""
    texts = [
        d
        if isinstance(d, str)
        else tokenizer.apply_chat_template(
            [{"role": "user", "content": d[0]}, {"role": "assistant", "content": d[1]}],
            tokenize=False,
        )
        for d in documents
    ]
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [[end, *document, end] for document in ids]


def blocks(encoded: Sequence[list[int]], *, seed: int) -> Iterator[torch.Tensor]:
    """Batches of blocks, epoch after epoch, the documents in another order each: int64 (B, S+1)."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(encoded))
        stream = np.concatenate([encoded[index][:-1] for index in order]).astype(np.int64)
        usable = (len(stream) - 1) // (BATCH * BLOCK) * BATCH * BLOCK
        for start in range(0, usable, BATCH * BLOCK):
            starts = range(start, start + BATCH * BLOCK, BLOCK)
            yield torch.from_numpy(np.stack([stream[at : at + BLOCK + 1] for at in starts]))
        epoch += 1


def train_base(
    documents: Sequence[Document],
    held_out: Sequence[Document],
    folder: Path,
    *,
    num_epochs: float,
    seed: int,
) -> None:
    """Train and save a model as `folder`, which has that name only once it is finished."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(documents, folder.with_name(f"{folder.name}-bpe"))
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            bos_token_id=end,
            eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
            pad_token_id=end,
            **SHAPE,
        )
    )
    encoded = encode(tokenizer, documents)
    per_epoch = sum(len(ids) - 1 for ids in encoded)
    num_steps = math.ceil(num_epochs * per_epoch / (BATCH * BLOCK))
    print(
        f"base: {model.num_parameters():,} weights, {len(tokenizer)} tokens, {per_epoch:,} tokens "
        f"of text, {num_steps} steps"
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, num_steps))
    model.train()
    began = time.process_time()
    batches = blocks(encoded, seed=seed)
    for step in range(1, num_steps + 1):
        ids = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1]).logits
        loss = cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == num_steps:
            spent = time.process_time() - began
            print(f"base: step {step}, loss {loss.item():.3f}, {spent:.0f} CPU-s", flush=True)
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    model.eval().save_pretrained(building, safe_serialization=True)
    tokenizer.save_pretrained(building)
    building.rename(folder)
    print(f"base: held-out text {text_loss(model, encode(tokenizer, held_out)):.3f} nats a token")


def _rate(step: int, num_steps: int) -> float:
    """Share of the highest learning rate: warm-up, then a cosine to a tenth."""
    warmup = max(1, round(WARMUP * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup))


@torch.inference_mode()
def text_loss(model: LlamaForCausalLM, encoded: Sequence[list[int]]) -> float:
    """Nats for each token of some documents, each alone."""
    total = count = 0.0
    longest = model.config.max_position_embeddings
    for document in encoded:
        ids = torch.tensor([document[: longest + 1]])
        logits = model(ids[:, :-1]).logits
        total += float(cross_entropy(logits[0], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total / count
