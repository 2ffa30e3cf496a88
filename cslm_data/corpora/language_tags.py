"""How corpora name languages (`English`, `en_US`, `zh-CN`) → ISO 639 codes."""

from __future__ import annotations

import functools

from cslm_data.languages import known_language, language_name

_MORE_NAMES = {"mandarin": "zh", "castilian": "es"}
"""Names that corpora use beside those of manifests/prompts/languages.yaml."""


def code_of(tag: str) -> str:
    """The code of a language tag or English name; what is neither stays as it is, and is refused.

    `zh-CN` → `zh`, `en_us` → `en`, `German` → `de`, `klingon` → `klingon`.
    """
    if known_language(tag):
        return tag
    folded = tag.strip().casefold()
    head = folded.replace("_", "-").split("-")[0]
    return head if known_language(head) else _by_name().get(folded, _MORE_NAMES.get(folded, tag))


@functools.cache
def _by_name() -> dict[str, str]:
    from cslm_data.languages import ISO_639_1, ISO_639_3

    named = ((code, language_name(code, spoken="en")) for code in sorted(ISO_639_1 | ISO_639_3))
    return {name.casefold(): code for code, name in named if name != code}
