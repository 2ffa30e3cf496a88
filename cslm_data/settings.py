"""YAML → frozen dataclasses: every field checked, every error with the file and the field.

Recipes and training configurations are written by hand, so a misspelt or missing field is an error
that says where it stands and what was perhaps meant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from cslm_data.errors import UsageError

T = TypeVar("T")

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def build(kind: type[T], tree: Any, *, where: str, base: T | None = None) -> T:
    """An instance of a dataclass from parsed YAML; fields not named come from `base` or defaults.

    Raises UsageError that names `where` and the field.
    """
    built: T = _convert(kind, tree, where, "", base)
    return built


def parse_yaml(text: str, *, where: str) -> Any:
    """Parsed YAML, safe-loaded; an empty file is an empty mapping. Raises UsageError."""
    import yaml

    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: not YAML ({' '.join(str(error).split())})") from None
    return {} if tree is None else tree


def _convert(kind: Any, value: Any, where: str, at: str, base: Any = None) -> Any:
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None and types.NoneType in options:
            return None
        kind = next(option for option in options if option is not types.NoneType)
        return _convert(kind, value, where, at)
    if dataclasses.is_dataclass(kind):
        return _fill(kind, value, where, at, base)
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where}: {at} must be a list, not {value!r}")
        return tuple(_convert(options[0], v, where, f"{at}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: {at} must be a section of names, not {value!r}")
        return {str(k): _convert(options[1], v, where, f"{at}.{k}") for k, v in value.items()}
    if origin is Literal:
        if value in options:
            return value
        raise UsageError(f"{where}: {at} must be one of {', '.join(options)}, not {value!r}")
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):  # YAML reads 2e-3 as text
            value = float(value)
    if type(value) is not kind:
        raise UsageError(f"{where}: {at} must be {_WORDS[kind]}, not {value!r}")
    return value


def _fill(kind: Any, value: Any, where: str, at: str, base: Any) -> Any:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: {at or 'the file'} must be a section of fields, not {value!r}")
    kinds = typing.get_type_hints(kind)
    changed = {}
    for name, part in value.items():
        path = f"{at}.{name}" if at else str(name)
        if name not in kinds:
            near = difflib.get_close_matches(str(name), kinds, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(kinds)}"
            raise UsageError(f"{where}: {path}: no such field; {hint}")
        changed[name] = _convert(kinds[name], part, where, path, getattr(base, name, None))
    if base is not None:
        return dataclasses.replace(base, **changed)
    for field in dataclasses.fields(kind):
        missing = dataclasses.MISSING
        needed = field.default is missing and field.default_factory is missing
        if needed and field.name not in changed:
            raise UsageError(f"{where}: {f'{at}.' if at else ''}{field.name} is missing")
    return kind(**changed)
