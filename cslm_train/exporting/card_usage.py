"""The part of a model card that is run: code that answers a text, and code that answers speech."""

from __future__ import annotations

import json

import numpy as np

from cslm_data.compilers.prompt import SPOKEN_PROMPTS, TYPED_PROMPTS
from cslm_data.samples import compile_prompt
from cslm_train.exporting.chat_template import Message, messages_of
from cslm_train.exporting.facts import Facts

_SAID = {"zh": "早上好。", "de": "Guten Morgen.", "fr": "Bonjour.", "es": "Buenos días."}
"""What the examples say; in other languages what English says."""

_NO_UNITS = np.zeros(0, np.uint16)


def usage(facts: Facts, *, has_speech_tokenizer: bool) -> str:
    """The section, with examples of what the last stage was taught."""
    parts = ["## Use", "Each block of Python goes on from the one before it.", _load()]
    typed, spoken = _task(facts, TYPED_PROMPTS), _task(facts, SPOKEN_PROMPTS)
    if typed is not None or spoken is None:
        parts += [f"Ask in writing (`{typed or 'instruct'}`):", _ask_typed(facts, typed)]
    if spoken is not None and has_speech_tokenizer:
        parts += [
            f"Ask in speech (`{spoken}`), with `pip install cslm`:",
            _ask_spoken(facts, spoken),
        ]
    parts.append(
        f"""\
`units.json` has the id and the token of every unit. To hear units takes a vocoder of
`{facts.info.tokenizer_id}`. Decode without `skip_special_tokens`: units are special tokens.

With vLLM (not tested): `vllm serve FOLDER`, and `"skip_special_tokens": false` in the request."""
    )
    return "\n\n".join(parts)


def _task(facts: Facts, tasks: frozenset[str]) -> str | None:
    """The task with the most tokens of those that the last stage was taught."""
    taught: dict[str, int] = {}
    for row in facts.stages[-1].realised or ():
        if row["task"] in tasks:
            taught[row["task"]] = taught.get(row["task"], 0) + row["realised_tokens"]
    return max(taught, key=lambda task: (taught[task], task), default=None)


def _load() -> str:
    return _python(
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # this one, or its name on the Hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        'model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto")',
        "",
        "",
        "def answer(messages):",
        "    inputs = tokenizer.apply_chat_template(",
        '        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        "    )",
        "    tokens = model.generate(**inputs)",
        '    return tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :])',
    )


def _languages(facts: Facts, task: str | None) -> tuple[str, str]:
    """A language that the task was taught in, and that of its answer."""
    for row in facts.stages[-1].realised or ():
        if row["task"] == task:
            language, _, other = row["languages"].partition("-")
            return language, other or language
    first = facts.languages[0]
    return first, first


def _ask_typed(facts: Facts, task: str | None) -> str:
    language, other = _languages(facts, task)
    segments = compile_prompt(
        task or "instruct",
        language=language,
        answer_language=other,
        text=_SAID.get(language, "Good morning."),
    )
    return _python(f"messages = {_pretty(messages_of(segments))}", "print(answer(messages))")


def _ask_spoken(facts: Facts, task: str) -> str:
    language, other = _languages(facts, task)
    segments = compile_prompt(task, language=language, answer_language=other, units=_NO_UNITS)
    messages = _pretty(messages_of(segments)).replace('"units": []', '"units": units')
    return _python(
        "from pathlib import Path",
        "",
        "from cslm_data.audio import decode",
        "from cslm_data.tokenizers.tokenizer_folders import load",
        "",
        'speech_tokenizer = load(Path(folder) / "speech_tokenizer")',
        'units = speech_tokenizer.encode(decode("question.wav")).units.tolist()',
        f"messages = {messages}",
        "print(answer(messages))",
    )


def _pretty(messages: list[Message]) -> str:
    """JSON, which is Python here: there is nothing but texts and numbers."""
    return json.dumps(messages, indent=4, ensure_ascii=False)


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])
