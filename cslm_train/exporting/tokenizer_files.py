"""The run's text tokenizer + controls + units → files that `AutoTokenizer` loads, with our ids.

`tokenizers` gives an added token the id after the last one, whatever a file says, so every id below
must be somebody's: holes in the vocabulary of text are filled with tokens that nothing becomes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cslm_data.chat_template import read_special_tokens
from cslm_data.errors import CorruptArtefactError
from cslm_data.framing import BOS, OWN, PAD
from cslm_data.text_tokenizer import TextTokenizer
from cslm_data.turn_marks import NoFramingError
from cslm_data.workspace import write_json
from cslm_train.exporting.chat_template import BORDER, chat_template
from cslm_train.exporting.token_names import TokenNames
from cslm_train.vocabulary import JointVocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The tokens that transformers knows by a role of their own."""

    eos: str
    """What ends an answer."""
    pad: str
    bos: str | None
    bos_id: int | None
    unk: str | None

    def as_dict(self) -> dict[str, str]:
        """As tokenizer_config.json and special_tokens_map.json name them."""
        values = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "unk": self.unk}
        return {f"{name}_token": token for name, token in values.items() if token is not None}


def special_tokens(
    text_tokenizer: TextTokenizer,
    vocabulary: JointVocabulary,
    names: TokenNames,
    *,
    base_files: Path,
) -> SpecialTokens:
    """Ours for our own framing; those of the base model, where its turns are framed its way.

    The padding is ours in any case, and what ends an answer is what did in training. `base_files`
    is the folder of the base model's small files, where there is one.
    """
    kind, end = vocabulary.framing.end
    framing = vocabulary.framing
    try:
        theirs = read_special_tokens(base_files)
    except NoFramingError as error:
        raise CorruptArtefactError(f"{base_files}: {error}") from None
    known = {
        name: token
        for name, token in theirs.items()
        if text_tokenizer.backend.token_to_id(token) is not None
    }
    bos = names.controls[BOS] if framing == OWN else known.get("bos_token")
    if bos is None and framing.begin and framing.begin[0].kind == "special":
        bos = framing.begin[0].text if framing.begin[0] not in framing.user.opening else None
    return SpecialTokens(
        eos=names.controls[end] if kind == "control" else end,
        pad=names.controls[PAD],
        bos=bos,
        bos_id=_id_of_bos(bos, text_tokenizer, vocabulary),
        unk=known.get("unk_token"),
    )


def _id_of_bos(
    bos: str | None, text_tokenizer: TextTokenizer, vocabulary: JointVocabulary
) -> int | None:
    if vocabulary.framing == OWN:
        return vocabulary.control_id(BOS)
    return None if bos is None else text_tokenizer.special_id(bos)


def write_tokenizer(
    folder: Path,
    text_tokenizer: TextTokenizer,
    vocabulary: JointVocabulary,
    names: TokenNames,
    *,
    base_files: Path,
    max_seq_len: int,
) -> SpecialTokens:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat_template.jinja.

    Raises CorruptArtefactError for a text tokenizer that cannot be extended so.
    """
    backend = extend(text_tokenizer, names)
    _check_ids(backend, text_tokenizer, vocabulary, names)
    backend.save(str(folder / "tokenizer.json"))
    special = special_tokens(text_tokenizer, vocabulary, names, base_files=base_files)
    write_json(folder / "special_tokens_map.json", special.as_dict())
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special.as_dict(),
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_seq_len,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "left",
    }
    write_json(folder / "tokenizer_config.json", config)
    template = chat_template(vocabulary.framing, names)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return special


def extend(text_tokenizer: TextTokenizer, names: TokenNames) -> Tokenizer:
    """A tokenizer of the `tokenizers` library with the added tokens, and texts encoded as ours."""
    from tokenizers import AddedToken, Tokenizer

    file = text_tokenizer.folder / "tokenizer.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    document["truncation"] = document["padding"] = None
    if text_tokenizer.framing == OWN:  # it would add a token of the base model's to plain text
        document["post_processor"] = None
    document["pre_tokenizer"] = _cut_at_borders(document.get("pre_tokenizer"))
    for part in ("pre_tokenizer", "decoder"):
        _prepend_always(document.get(part))
    ids = text_tokenizer.backend.get_vocab(with_added_tokens=True)
    holes = sorted(set(range(text_tokenizer.vocab_size)) - set(ids.values()))
    if holes:
        vocab = document["model"]["vocab"]
        if not isinstance(vocab, dict):
            raise CorruptArtefactError(f"{file}: no token has the ids {holes[:5]}")
        # The blank keeps a name from ever being a word that the pre-tokenizer cuts out.
        document["model"]["vocab"] = vocab | ids | {f"<unused {hole}>": hole for hole in holes}
    try:
        backend = Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise CorruptArtefactError(f"{file}: cannot be extended ({error})") from None
    backend.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in names.added]
    )
    return backend


def _cut_at_borders(pre_tokenizer: Mapping[str, Any] | None) -> dict[str, Any]:
    cut = {
        "type": "Split",
        "pattern": {"String": BORDER},
        "behavior": "Removed",
        "invert": False,
    }
    rest = [] if pre_tokenizer is None else [pre_tokenizer]
    return {"type": "Sequence", "pretokenizers": [cut, *rest]}


def _prepend_always(part: Any) -> None:
    """Let every text begin with a blank where the first does: ours are encoded each by itself."""
    if isinstance(part, dict):
        if part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "always"
        for value in part.values():
            _prepend_always(value)
    elif isinstance(part, list):
        for value in part:
            _prepend_always(value)


def _check_ids(
    backend: Tokenizer,
    text_tokenizer: TextTokenizer,
    vocabulary: JointVocabulary,
    names: TokenNames,
) -> None:
    """Raise CorruptArtefactError unless every token has its id, and every id a token."""
    ids = backend.get_vocab(with_added_tokens=True)
    expected = dict(text_tokenizer.backend.get_vocab(with_added_tokens=True))
    expected |= {names.controls[name]: vocabulary.control_id(name) for name in names.controls}
    expected |= {names.unit(unit): vocabulary.unit_id(unit) for unit in range(names.num_units)}
    wrong = [
        f"{token!r} would be {ids.get(token)}, not {number}"
        for token, number in expected.items()
        if ids.get(token) != number
    ]
    if len(set(ids.values())) != vocabulary.size:
        wrong.append(f"{len(set(ids.values()))} ids, not {vocabulary.size}")
    if wrong:
        raise CorruptArtefactError(
            f"{text_tokenizer.folder}: its tokenizer.json cannot be extended: "
            f"{'; '.join(wrong[:3])}; export from a run with another text tokenizer"
        )
