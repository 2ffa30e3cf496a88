"""Language codes and what languages are called. A word of the whole spine: ISO 639 codes."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from importlib import resources

import yaml

from cslm_data.errors import UsageError

_TWO_LETTERS = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia
    id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo
    lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl
    ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk
    tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_THREE_LETTERS = """
    ast bar ceb cmn dsb fil gsw hak haw hmn hsb kab mni nan nds pap sat scn szl tpi wuu yue
"""

ISO_639_1 = frozenset(_TWO_LETTERS.split())
ISO_639_3 = frozenset(_THREE_LETTERS.split())
"""Languages with speech corpora that have no code of two letters, and what Chinese splits into."""


def known_language(code: str) -> bool:
    """Whether `code` is a language code that we accept."""
    return code in ISO_639_1 or code in ISO_639_3


def check_language(code: str, *, where: str) -> str:
    """The code itself. Raises UsageError with near matches for a code that is none."""
    if known_language(code):
        return code
    raise UsageError(
        f"{where}: unknown language code {code!r}; use ISO 639 codes of lower case, such as en or "
        f"zh{_near(code)}"
    )


def language_name(
    code: str, *, spoken: str, names: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """What the language `code` is called in the language `spoken`, by other names than ours."""
    names = _names() if names is None else names
    for speaker in (spoken, "en"):
        if code in names.get(speaker, {}):
            return names[speaker][code]
    return code


def _near(code: str) -> str:
    folded = code.casefold()
    by_name = {name.casefold(): iso for iso, name in _names()["en"].items()}
    if folded in by_name:
        return f"; did you mean {by_name[folded]}?"
    head = folded.replace("_", "-").split("-")[0]
    if known_language(head):
        return f"; did you mean {head}?"
    near = [*difflib.get_close_matches(folded, by_name, n=1)]
    codes = [by_name[name] for name in near]
    codes += difflib.get_close_matches(head[:3], sorted(ISO_639_1), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(dict.fromkeys(codes))}?" if codes else ""


@functools.cache
def _names() -> dict[str, dict[str, str]]:
    text = resources.files("cslm_manifests").joinpath("prompts/languages.yaml")
    table: dict[str, dict[str, str]] = yaml.safe_load(text.read_text(encoding="utf-8"))
    # YAML 1.1 reads a bare `no` as false; Norwegian must be quoted there.
    return table
