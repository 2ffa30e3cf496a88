"""Facts of a model → README.md: front matter for the Hub, mix, losses, scores, how to use it.

What is not known is said to be not known; nothing is claimed that no file of the run says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cslm_data.framing import SPEECH_END, SPEECH_START
from cslm_data.languages import language_name
from cslm_data.plain_text import visible
from cslm_train.exporting.card_usage import usage
from cslm_train.exporting.check import Checked
from cslm_train.exporting.facts import Facts, GroupLoss, StageFacts, settings_of
from cslm_train.exporting.token_names import TokenNames
from cslm_train.exporting.weights import WrittenWeights
from cslm_train.run_folder import RunInfo

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_CACHE = re.compile(r"models--([\w.-]+)--([\w.-]+)")

_STAGES = {
    "pretrain": "continual pre-training: speech and text of one language, and translations",
    "sft": "supervised fine-tuning: questions answered in text and speech by turns",
}


@dataclass(frozen=True, kw_only=True)
class CardInputs:
    """Everything that a card says."""

    facts: Facts
    names: TokenNames
    weights: WrittenWeights
    dtype: str
    checked: Checked
    license: str | None
    """What the publisher says; None: left to them."""
    base_model: str | None
    """Its name on the Hub, where the publisher says it."""
    has_speech_tokenizer: bool


def write_card(folder: Path, card: CardInputs) -> None:
    """Write README.md."""
    sections = [
        _head(card),
        _training(card),
        *(_stage(stage, number) for number, stage in enumerate(card.facts.stages, 1)),
        _losses(card.facts),
        _evaluations(card.facts),
        usage(card.facts, has_speech_tokenizer=card.has_speech_tokenizer),
        _limits(card),
    ]
    text = "\n\n".join([_front_matter(card), *(section for section in sections if section)])
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")


def base_name(base: str, given: str | None) -> str | None:
    """Name on the Hub of the model a run began with, where its folder tells it."""
    if given or not base:
        return given
    if cached := _HUB_CACHE.search(base):
        return f"{cached[1]}/{cached[2]}"
    return None


def _front_matter(card: CardInputs) -> str:
    values: dict[str, Any] = {
        "license": card.license or "other",
        "language": card.facts.languages,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["cslm", "speech", "speech-language-model", "speech-units"],
    }
    if card.license is None:
        values["license_name"] = "not-stated"
    if (base := base_name(card.facts.base, card.base_model)) is not None:
        values |= {"base_model": base, "base_model_relation": "finetune"}
    dumped = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return f"---\n{dumped}---"


def _head(card: CardInputs) -> str:
    info, names = card.facts.info, card.names
    languages = _and([language_name(code, spoken="en") for code in card.facts.languages])
    base = base_name(card.facts.base, card.base_model) or Path(card.facts.base).name
    start = f"`{base}` with {info.num_units} units of speech" if base else "A model from scratch"
    spelled = f"{names.controls[SPEECH_START]}{names.unit(0)}{names.unit(1)}…"
    rows = [
        ("run", f"{info.run} ({info.run_id})"),
        ("step", f"{card.facts.step} of {info.num_steps}"),
        *_averaged(info),
        ("parameters", card.weights.num_parameters),
        ("data type", card.dtype),
        ("longest sequence", f"{info.config.model.max_seq_len} tokens"),
        ("tokens of text", info.num_text),
        ("controls", len(names.controls)),
        ("units", info.num_units),
        ("base model", f"{base} ({info.base_id})" if base else "none"),
        ("speech tokenizer", info.tokenizer_id),
        ("text tokenizer", info.text_tokenizer_id),
        ("template version", info.template_version),
    ]
    return f"""\
# {_cell(info.run)}

{start}, trained on text and speech in {languages}, after
[Efficient Training for Cross-lingual Speech Language Models](https://arxiv.org/abs/2604.11096).
Speech is read and written as units, {info.frame_rate_hz:g} frames a second, runs of equal
frames once: `{spelled}{names.controls[SPEECH_END]}`.

""" + "\n".join(_table(["", ""], rows))


def _averaged(info: RunInfo) -> list[tuple[str, str]]:
    steps = ", ".join(map(str, info.averaged))
    return [("mean of the weights of steps", steps)] if steps else []


# --- what it was trained on -------------------------------------------------------------------


def _training(card: CardInputs) -> str:
    facts, info = card.facts, card.facts.info
    config = info.config
    tokens = f"{facts.tokens:,} read, {facts.trained_tokens:,} of them trained"
    rows = [
        ("stage", _STAGES.get(info.stage, info.stage)),
        ("tokens", tokens if facts.tokens else "not recorded"),
        ("packs a step", _packs(info, facts.step)),
        ("pack", f"{config.data.pack_length} tokens"),
        (
            "learning rate",
            f"{config.optimizer.lr:g}, {config.lr_scheduler.name}, "
            f"warm-up {config.lr_scheduler.warmup_ratio:g}",
        ),
        ("weight decay", f"{config.optimizer.weight_decay:g}"),
        ("precision", config.trainer.precision),
        *([("adapters", f"LoRA of rank {config.lora.rank}, merged")] if config.lora.rank else []),
        ("seed", config.trainer.seed),
    ]
    dumped = yaml.safe_dump(settings_of(info), sort_keys=False, allow_unicode=True)
    return "\n".join(
        [
            "## Training",
            "",
            *_table(["", ""], rows),
            "",
            "<details><summary>Whole configuration</summary>",
            "",
            "```yaml",
            dumped.rstrip(),
            "```",
            "",
            "</details>",
        ]
    )


def _packs(info: RunInfo, step: int) -> str:
    """Of one step on all processes; several where the run went on with more or fewer."""
    packs = [each.packs_per_step for each in info.stretches if each.first_step < step]
    trainer = info.config.trainer
    packs = packs or [trainer.packs_per_step or info.num_processes * trainer.grad_accumulation]
    return ", then ".join(map(str, dict.fromkeys(packs)))


def _stage(stage: StageFacts, number: int) -> str:
    info = stage.info
    lines = [
        f"### Stage {number}: {info.run}",
        "",
        f"Run `{info.run_id}` to step {stage.step}, on the mix `{info.mix}` (`{info.mix_id}`).",
        "",
    ]
    if stage.realised is None:
        lines.append(
            "The mix was not at hand when this card was written: its shares are not known."
        )
    else:
        shares = [
            (row["task"], row["languages"], _percent(row["requested_share"]))
            + (_percent(row["realised_share"]), row["realised_tokens"], row["num_samples"])
            for row in stage.realised
        ]
        columns = ["task", "languages", "asked for", "share of tokens", "tokens", "samples"]
        lines += _table(columns, shares)
    lines.append("")
    if stage.corpora is None:
        lines.append("The catalog was not at hand: corpora and licences are not known.")
    else:
        rows = [(corpus.name, corpus.licence, corpus.num_rows) for corpus in stage.corpora]
        lines += _table(["corpus", "licence", "rows in train"], rows)
    return "\n".join(lines)


# --- what came of it --------------------------------------------------------------------------


def _losses(facts: Facts) -> str:
    if not facts.losses:
        return "## Losses\n\nNo validation loss was recorded."
    lines = ["## Losses", "", "On the valid split, nats for each trained token.", ""]
    lines += _measured(facts, "task/languages", facts.losses)
    if facts.perplexities:
        lines += ["", "Perplexity of held-out written instructions: what is kept of text.", ""]
        lines += _measured(facts, "language", facts.perplexities)
    return "\n".join(lines)


def _measured(facts: Facts, column: str, groups: Sequence[GroupLoss]) -> list[str]:
    rows = [(group.group, group.first, group.last) for group in groups]
    return _table([column, "before the first step", f"step {facts.step}"], rows)


def _evaluations(facts: Facts) -> str:
    if not facts.evaluations:
        return "## Scores\n\nThis step was not evaluated."
    lines = ["## Scores"]
    for found in facts.evaluations:
        sampling = found["sampling"]
        how = (
            "greedy"
            if not sampling["temperature"]
            else (f"temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}")
        )
        rows = [
            (group["task"], group["languages"], group["num_samples"], group["loss"])
            + (group["num_answered"], _scores(group["scores"]))
            for group in found["groups"]
        ]
        lines += [
            "",
            f"`{found['mix']}`, split {found['split']} (`{found['mix_id']}`), {how}; rates and "
            "shares as fractions.",
            "",
            *_table(["task", "languages", "samples", "loss", "answered", "scores"], rows),
        ]
    return "\n".join(lines)


def _scores(scores: dict[str, float | None]) -> str:
    return ", ".join(
        f"{name} {_cell(value)}" for name, value in scores.items() if value is not None
    )


def _limits(card: CardInputs) -> str:
    checked, names = card.checked, card.names
    compared = "no sample of the mix was at hand to compare them on."
    if checked.num_samples:
        compared = (
            f"of {checked.num_samples} samples of the mix, {checked.num_same_samples} are the same "
            "to the token."
        )
    licence = (
        f"The licence `{card.license}` is the publisher's word."
        if card.license
        else "No licence is stated for the weights. Before you pass them on, see those of the "
        "corpora above and of the base model."
    )
    return f"""\
## Limits

- In transformers and vLLM, a user's text that spells a control, a unit or a special token of the
  base model, such as `{names.controls[SPEECH_START]}`, becomes that token; CSLM's own
  tools take it as plain characters. Text from strangers is plain when it is encoded by itself with
  `split_special_tokens=True`.
- The chat template is made from what was trained. Parts of a message's content are tokenized each
  by itself, as in training; inside of one string, a few tokens where parts meet may be others.
  What transformers makes of parts was compared with training: {compared}
- Only units of `{card.facts.info.tokenizer_id}` mean anything to this model.
- It was measured on the sets above and no others, and nothing was done to make its answers safe.
- {licence}"""


# --- tables -----------------------------------------------------------------------------------


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
    ]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    text = " ".join(visible(str(value)).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
