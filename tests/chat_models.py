"""Folders as chat models ship them: a small tokenizer and a template of each family's form.

The templates are written here from what is known of the formats, without tools.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA31 = """
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set said = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set said = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- said }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

LLAMA32 = LLAMA31.replace('"26 Jul 2024"', 'strftime_now("%d %b %Y")')

QWEN25 = """
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

QWEN3 = """
{%- set ns = namespace(last=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- set content = message.content %}
    {%- set thought = '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if message.role == 'assistant' and loop.index0 > ns.last and (loop.last or thought) %}
        {{- '<think>\\n' + thought + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
    {%- else %}
        {{- content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

MISTRAL = """
{%- if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{%- endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST]' + message.content + '[/INST]' }}
    {%- else %}
        {{- message.content + eos_token }}
    {%- endif %}
{%- endfor %}
"""

GEMMA3 = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set first = messages[0].content + '\\n\\n' %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set first = '' %}
{%- endif %}
{%- for message in messages %}
    {%- set role = 'model' if message.role == 'assistant' else message.role %}
    {{- '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
    {{- message.content | trim }}{{ '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{%- endif %}
"""

PHI3 = """
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}
"""

LLAMA2 = """
{%- if messages[0].role == 'system' %}
    {%- set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- bos_token + '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""

LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
WORDS = (
    "You are a helpful assistant. user system assistant model one two three good morning "
    "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 \n\n<think>\n\n</think>\n\n"
)

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where the tokenizers of Llama 3 and Qwen cut a text: line breaks stay together."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What distinguishes a family of chat models."""

    template: str
    tokens: tuple[str, ...]
    bos: str | None = None
    eos: str
    plain: tuple[str, ...] = ()
    """Added tokens that are not special."""
    eats_right: bool = False
    sentencepiece: bool = False


FAMILIES = {
    "llama-3.1": Family(
        template=LLAMA31, tokens=LLAMA_TOKENS, bos="<|begin_of_text|>", eos="<|eot_id|>"
    ),
    "llama-3.2": Family(
        template=LLAMA32, tokens=LLAMA_TOKENS, bos="<|begin_of_text|>", eos="<|eot_id|>"
    ),
    "qwen2.5": Family(
        template=QWEN25, tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), eos="<|im_end|>"
    ),
    "qwen3": Family(
        template=QWEN3,
        tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain=("<think>", "</think>"),
        eos="<|im_end|>",
    ),
    "mistral": Family(
        template=MISTRAL, tokens=("<s>", "</s>", "[INST]", "[/INST]"), bos="<s>", eos="</s>"
    ),
    "gemma-3": Family(
        template=GEMMA3,
        tokens=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
    ),
    "phi-3": Family(
        template=PHI3,
        tokens=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        eats_right=True,
    ),
    "llama-2": Family(
        template=LLAMA2, tokens=("<s>", "</s>"), bos="<s>", eos="</s>", sentencepiece=True
    ),
}


def make_folder(folder: Path, family: Family, *, as_file: bool = False) -> Path:
    """Write tokenizer.json and tokenizer_config.json; `as_file`: the template in its own file."""
    backend = Tokenizer(models.BPE(unk_token=None, fuse_unk=True, byte_fallback=False))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if family.sentencepiece:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
        backend.decoder = decoders.Metaspace(prepend_scheme="always")
        alphabet = sorted({*map(chr, range(32, 127)), "\n"})
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([WORDS] * 3, trainer=trainer)
    backend.add_special_tokens(
        [AddedToken(t, rstrip=family.eats_right, normalized=False) for t in family.tokens]
    )
    backend.add_tokens([AddedToken(token, special=False) for token in family.plain])
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": family.eos,
        "bos_token": family.bos and {"__type": "AddedToken", "content": family.bos},
    }
    if as_file:
        (folder / "chat_template.jinja").write_text(family.template)
    else:
        config["chat_template"] = family.template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
