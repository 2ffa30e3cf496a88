"""chat template of a Hugging Face folder → a framing. Reads tokenizer_config.json, *.jinja.

The template is a program that writes a conversation; `turn_marks` finds the marks of turns in what
it writes. One that is not such marks and nothing else is refused, with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from cslm_data.framing import OWN, TurnFraming
from cslm_data.turn_marks import Conversation, NoFramingError, Render, find_framing

log = logging.getLogger(__name__)

_DAY = datetime(2024, 7, 26)  # noqa: DTZ001 - a day, the same everywhere
"""What a template takes for today: Llama 3.1's own default. A framing is the same every day."""

_SETTINGS: dict[str, Any] = {"enable_thinking": False, "date_string": _DAY.strftime("%d %b %Y")}
"""Variables of templates: no thinking aloud before an answer, and no clock."""


def derive_framing(tokenizer_file: Path) -> TurnFraming | None:
    """The framing of the chat template beside a tokenizer.json; None when there is none.

    A template that is refused gives our own framing and a warning that says why.
    """
    folder = tokenizer_file.parent
    try:
        source = read_template(folder)
        if source is None:
            return None
        framing = _derive(source, read_special_tokens(folder), tokenizer_file)
    except NoFramingError as error:
        log.warning(
            "%s: its chat template cannot be used (%s); turns are framed by our own control "
            "tokens instead, which the base model has never seen",
            folder,
            error,
        )
        return OWN
    for note in framing.notes:
        log.warning("%s: its chat template is used, but %s", folder, note)
    return framing


def _derive(source: str, special_tokens: dict[str, str], tokenizer_file: Path) -> TurnFraming:
    document = _read_json(tokenizer_file)
    notes: tuple[str, ...] = ()
    if "strftime_now" in source:
        notes = (f"where it asks for the date it is told {_DAY.strftime('%d %b %Y')}",)
    refused: NoFramingError | None = None
    for as_parts in (False, True):  # some templates of models with eyes take content in parts only
        render = renderer(source, special_tokens, as_parts=as_parts)
        try:
            framing = find_framing(render, document)
        except NoFramingError as error:
            refused = refused or error
        else:
            return dataclasses.replace(framing, notes=(*notes, *framing.notes))
    assert refused is not None
    raise refused


# --- what the folder holds -------------------------------------------------------------------


def read_template(folder: Path) -> str | None:
    """Source of the default chat template; where there are several, as transformers chooses.

    Raises NoFramingError when none of several is the default, or a file cannot be read.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except ValueError as error:
            raise NoFramingError(f"chat_template.jinja is not text: {error}") from None
    found = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):  # [{"name": "default", "template": …}, {"name": "tool_use", …}]
        try:
            named = {entry["name"]: entry["template"] for entry in found}
        except (TypeError, KeyError):
            raise NoFramingError("tokenizer_config.json: chat_template is no template") from None
        if "default" not in named:
            raise NoFramingError(f"none of its templates {', '.join(named)} is named default")
        found = named["default"]
    if found is not None and not isinstance(found, str):
        raise NoFramingError("tokenizer_config.json: chat_template is no template")
    return found or None


def read_special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token` and its like, by name."""
    named = {
        **_read_json(folder / "special_tokens_map.json"),
        **_read_json(folder / "tokenizer_config.json"),
    }
    tokens = {}
    for name, value in named.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise NoFramingError(f"{file.name} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise NoFramingError(f"{file.name} is not an object")
    return values


def renderer(source: str, special_tokens: dict[str, str], *, as_parts: bool) -> Render:
    """A function that runs the template as transformers does, in jinja2's sandbox.

    Source: transformers 4.57, `utils/chat_template_utils.py`, `_compile_jinja_template`.
    """
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, LoopControlExtension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks answers for transformers and writes nothing."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: object, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **options})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = _DAY.strftime
    try:
        template = environment.from_string(source)
    except TemplateError as error:
        raise NoFramingError(f"it is no jinja template: {error}") from None

    def render(conversation: Conversation, ask: bool) -> str:
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}
            for role, text in conversation
        ]
        variables = {**special_tokens, **_SETTINGS, "messages": messages}
        try:
            return template.render(
                **variables, tools=None, documents=None, add_generation_prompt=ask
            )
        except Exception as error:  # a template is someone's program: anything may go wrong in it
            raise NoFramingError(f"it fails: {error}") from None

    return render
