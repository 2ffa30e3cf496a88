"""files of wordings → checked tables. Reads manifests/prompts, or a team's own folder over it.

A file holds the wordings of one kind of prompt: a list per language. A wording is parsed once into
literal text and slots, and checked when it is loaded: a mistake is told with its file and line.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from cslm_data.errors import UsageError
from cslm_data.keys import content_id
from cslm_data.languages import check_language, language_name

log = logging.getLogger(__name__)

PROMPT_KINDS: dict[str, tuple[str, ...]] = {
    "asr": ("speech",),
    "tts": ("text",),
    "mt": ("text", "language"),
    "st": ("speech", "language"),
    "s2st": ("speech", "language"),
    "continuation": ("speech",),
    "chat": ("question",),
    "chat_cross": ("question", "language"),
    "chat_text": ("speech",),
    "chat_text_cross": ("speech", "language"),
    "system": (),
}
"""Files of manifests/prompts, and the placeholders that each wording in them holds exactly once."""

LANGUAGE_NAMES = "languages"
"""The file of what languages are called, in the same folder."""

FALLBACK_LANGUAGE = "en"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Slot:
    """A placeholder of a wording."""

    name: str


Wording = tuple[str | Slot, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """All wordings of a set of prompts, and what languages are called in them."""

    tables: Mapping[str, Mapping[str, tuple[Wording, ...]]]
    """kind → language of the wordings → wordings."""
    names: Mapping[str, Mapping[str, str]]
    """language that speaks → language spoken of → its name."""
    files: Mapping[str, str]
    """kind → the file that its wordings come from."""
    identity: str
    """Hash of every wording and name: a mix made with other wordings is another mix."""

    def wordings(self, kind: str, language: str) -> tuple[Wording, ...]:
        """The wordings of a kind of prompt in a language; English where it has none.

        Raises UsageError where there are none in English either.
        """
        table = self._table(kind)
        spoken = self.spoken(kind, language)
        if spoken not in table:
            raise UsageError(
                f"{self.files[kind]}: no wordings in {language}, nor in {FALLBACK_LANGUAGE} to use "
                f"instead; there are {', '.join(table)}"
            )
        if spoken != language:
            _say_fallback(self.files[kind], language)
        return table[spoken]

    def spoken(self, kind: str, language: str) -> str:
        """The language that the wordings themselves are in."""
        return language if language in self._table(kind) else FALLBACK_LANGUAGE

    def language_name(self, code: str, *, kind: str, language: str) -> str:
        """What the language `code` is called in the wordings of a kind in a language."""
        return language_name(code, spoken=self.spoken(kind, language), names=self.names)

    def _table(self, kind: str) -> Mapping[str, tuple[Wording, ...]]:
        if kind not in self.tables:
            raise ValueError(f"no kind of prompt {kind!r}; there are {', '.join(self.tables)}")
        return self.tables[kind]


@functools.cache
def _say_fallback(file: str, language: str) -> None:
    log.warning("%s has no wordings in %s: the English ones are used", file, language)


# --- files -----------------------------------------------------------------------------------


@functools.cache
def shipped_prompts() -> Prompts:
    """The wordings of manifests/prompts."""
    return load_prompts()


def load_prompts(folder: Path | None = None) -> Prompts:
    """The wordings of manifests/prompts; a file of that name in `folder` takes the place of one.

    Raises UsageError that names file, line, language and wording.
    """
    own = {} if folder is None else _own_files(folder)
    kinds = (*PROMPT_KINDS, LANGUAGE_NAMES)
    texts = {kind: _shipped_text(kind) for kind in kinds if kind not in own} | own
    rows = {kind: _read_rows(texts[kind], kind) for kind in PROMPT_KINDS}
    names = _read_names(texts[LANGUAGE_NAMES])
    return Prompts(
        tables={
            kind: {
                language: tuple(_check(row, kind, f"{row.where}: {language}") for row in found)
                for language, found in table.items()
            }
            for kind, table in rows.items()
        },
        names=names,
        files={kind: texts[kind].name for kind in PROMPT_KINDS},
        identity=content_id(
            {
                LANGUAGE_NAMES: names,
                **{
                    kind: {language: [row.text for row in found] for language, found in t.items()}
                    for kind, t in rows.items()
                },
            }
        ),
    )


def parse_wording(wording: str, *, slots: tuple[str, ...], where: str) -> Wording:
    """Cut a wording into literals and slots. Raises UsageError unless each slot is there once."""
    parts: list[str | Slot] = []
    for index, part in enumerate(_PLACEHOLDER.split(wording)):
        if index % 2:
            parts.append(Slot(part))
        elif part:
            parts.append(part)
    found = sorted(part.name for part in parts if isinstance(part, Slot))
    stray = any("{" in part or "}" in part for part in parts if isinstance(part, str))
    if found != sorted(slots) or stray:
        needed = ", ".join("{" + name + "}" for name in slots)
        must = f"hold each of {needed} once and nothing else" if slots else "hold nothing"
        raise UsageError(f"{where}: wording {wording!r} must {must} in braces")
    return tuple(parts)


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str
    """As messages call it."""
    text: str


@dataclass(frozen=True, kw_only=True)
class _Row:
    text: str
    where: str


def _shipped_text(kind: str) -> _File:
    file = resources.files("cslm_manifests").joinpath(f"prompts/{kind}.yaml")
    return _File(name=f"manifests/prompts/{kind}.yaml", text=file.read_text(encoding="utf-8"))


def _own_files(folder: Path) -> dict[str, _File]:
    """The files of a team's folder. Whatever is YAML there must be the name of one of ours."""
    known = (*PROMPT_KINDS, LANGUAGE_NAMES)
    there = f"{', '.join(f'{kind}.yaml' for kind in known)}"
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of prompts; it may hold {there}")
    found: dict[str, _File] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".yaml", ".yml"):
            continue
        if path.suffix != ".yaml" or path.stem not in known:
            raise UsageError(f"{path}: not a file of prompts; there are {there}")
        try:
            found[path.stem] = _File(name=str(path), text=path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read ({error})") from None
    if not found:
        raise UsageError(f"{folder}: holds no file of prompts; it may hold {there}")
    return found


def _check(row: _Row, kind: str, where: str) -> Wording:
    if not row.text.strip():
        raise UsageError(f"{where}: wording {row.text!r} is empty")
    return parse_wording(row.text, slots=PROMPT_KINDS[kind], where=where)


# --- YAML ------------------------------------------------------------------------------------
# Read as a tree of nodes: nothing in it is converted (`no` stays Norwegian), every node knows its
# line, and a key that is there twice is seen.


def _read_rows(file: _File, kind: str) -> dict[str, list[_Row]]:
    """The wordings of each language, each with its place. Raises UsageError."""
    table: dict[str, list[_Row]] = {}
    for language, node in _items(_compose(file), file, "a list of wordings for each language"):
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise UsageError(
                f"{_place(file, node)}: {language}: must be a list of at least one wording"
            )
        rows: list[_Row] = []
        seen: set[str] = set()
        for item in node.value:
            where = _place(file, item)
            text = _text(item, where=f"{where}: {language}")
            folded = " ".join(text.split())
            if folded in seen:
                raise UsageError(f"{where}: {language}: wording {text!r} is there twice")
            seen.add(folded)
            rows.append(_Row(text=text, where=where))
        table[language] = rows
    if not table:
        raise UsageError(f"{file.name}: holds no wordings of {kind}")
    return table


def _read_names(file: _File) -> dict[str, dict[str, str]]:
    """What languages are called in each language. Raises UsageError."""
    names: dict[str, dict[str, str]] = {}
    for speaker, node in _items(_compose(file), file, "a table of names for each language"):
        names[speaker] = {}
        for code, name in _items(node, file, f"a table of names in {speaker}"):
            where = f"{_place(file, name)}: {speaker}: {code}"
            names[speaker][code] = _text(name, where=where)
    return names


def _compose(file: _File) -> yaml.Node | None:
    try:
        return yaml.compose(file.text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{file.name}: not YAML ({' '.join(str(error).split())})") from None


def _items(node: yaml.Node | None, file: _File, what: str) -> list[tuple[str, yaml.Node]]:
    """The entries of a mapping whose keys are languages. Raises UsageError."""
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{file.name if node is None else _place(file, node)}: must be {what}")
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        where = _place(file, key)
        language = check_language(str(key.value), where=where)
        if language in found:
            raise UsageError(f"{where}: {language} is there twice")
        found[language] = value
    return list(found.items())


def _text(node: yaml.Node, *, where: str) -> str:
    text = node.value
    if node.tag != "tag:yaml.org,2002:str" or not isinstance(text, str):
        said = text if isinstance(text, str) else "a list or a table"
        raise UsageError(f"{where}: must be text in quotes, not {said!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {text!r} holds half of a character") from None
    return text


def _place(file: _File, node: yaml.Node) -> str:
    return f"{file.name}:{node.start_mark.line + 1}"
