"""What transformers makes of messages is what the model was trained on, to the token."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_models import FAMILIES, make_folder
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cslm_data.errors import CorruptArtefactError
from cslm_data.framing import CONTROLS, PAD, Piece, frame, frame_prompt
from cslm_data.keys import keyed_rng
from cslm_data.records import Segment
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.exporting.chat_template import messages_of
from cslm_train.exporting.token_names import TokenNames, choose_names
from cslm_train.exporting.tokenizer_files import write_tokenizer
from cslm_train.vocabulary import JointVocabulary

NUM_UNITS = 30
ROLES = ("system", "user", "assistant")
AWKWARD = (
    "one two.",
    "\nthree: ",
    " 四 五。",
    "Translate into Chinese. This is input: ",
    "a\n\n",
    "<b>&amp; {{ x }} {% if %} 🙂 é \\n \"'",
    "",
    "sosp unit_3 ",
)


def exported(folder: Path, out: Path) -> tuple[Any, JointVocabulary, TokenNames]:
    """The tokenizer of a folder, as transformers loads what was written of it."""
    text_tokenizer = load_text_tokenizer(folder)
    vocabulary = JointVocabulary(text_tokenizer, NUM_UNITS)
    names = choose_names(text_tokenizer.backend.get_vocab(), NUM_UNITS)
    out.mkdir()
    write_tokenizer(out, text_tokenizer, vocabulary, names, base_files=folder, max_seq_len=512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return AutoTokenizer.from_pretrained(out), vocabulary, names


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Any:
    return exported(tokenizer_folder, tmp_path_factory.mktemp("own") / "out")


@pytest.fixture(scope="module", params=[*FAMILIES, None])
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, own: Any
) -> Any:
    """Tokenizer, vocabulary and names of each family of chat models, and of our own framing."""
    if request.param is None:
        return own
    folder = make_folder(tmp_path_factory.mktemp("chat") / request.param, FAMILIES[request.param])
    return exported(folder, folder.with_name("out"))


def random_dialogue(rng: np.random.Generator) -> list[Segment]:
    """Roles in any order, written and spoken segments side by side."""
    segments = []
    for _ in range(int(rng.integers(1, 7))):
        spoken = rng.random() < 0.3
        question = not spoken and rng.random() < 0.2
        segments.append(
            Segment(
                modality="speech" if spoken else "text",
                language="en",
                role=str(rng.choice(ROLES)),  # type: ignore[arg-type]
                trained=False,
                part="tq" if question else "",
                text="" if spoken else str(rng.choice(AWKWARD)),
                units=rng.integers(0, NUM_UNITS, 3 if spoken else 0).astype(np.uint16),
            )
        )
    return segments


def ids_of(vocabulary: JointVocabulary, pieces: list[Piece]) -> list[int]:
    return vocabulary.encode(pieces)[0].tolist()  # type: ignore[no-any-return]


def test_messages_become_the_tokens_of_training(family: Any) -> None:
    tokenizer, vocabulary, _ = family
    rng = keyed_rng(3, "dialogues")
    for _ in range(120):
        segments = random_dialogue(rng)
        whole = ids_of(vocabulary, frame(segments, vocabulary.framing))
        assert tokenizer.apply_chat_template(messages_of(segments), tokenize=True) == whole
        while segments and segments[-1].role == "assistant":
            segments.pop()
        messages = messages_of(segments)
        if not messages:  # transformers takes none without any
            continue
        asked = ids_of(vocabulary, frame_prompt(segments, vocabulary.framing))
        assert asked == tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True
        )


def test_every_token_has_the_id_of_training(family: Any) -> None:
    tokenizer, vocabulary, names = family
    assert len(tokenizer) == vocabulary.size
    first = vocabulary.num_text
    assert tokenizer.convert_tokens_to_ids([names.controls[name] for name in CONTROLS]) == list(
        range(first, first + len(CONTROLS))
    )
    units = [names.unit(unit) for unit in range(NUM_UNITS)]
    first += len(CONTROLS)
    assert tokenizer.convert_tokens_to_ids(units) == list(range(first, first + NUM_UNITS))
    assert tokenizer.convert_ids_to_tokens(list(range(first, first + NUM_UNITS))) == units
    assert tokenizer.eos_token_id == vocabulary.end_id
    assert tokenizer.pad_token_id == vocabulary.control_id(PAD)
    ids = vocabulary.text_tokenizer.encode("one two, three")
    assert tokenizer("one two, three", add_special_tokens=False).input_ids == ids
    assert tokenizer.decode(ids) == "one two, three"


def test_text_that_spells_a_token_is_plain_when_asked_for(family: Any) -> None:
    tokenizer, vocabulary, names = family
    hostile = f"{names.controls['<sosp>']} {names.unit(7)} {tokenizer.eos_token} one"
    plain = vocabulary.text_tokenizer.encode(hostile)
    found = tokenizer(hostile, add_special_tokens=False, split_special_tokens=True).input_ids
    assert found == plain
    spelt = tokenizer(hostile, add_special_tokens=False).input_ids
    assert {vocabulary.unit_id(7), vocabulary.end_id} < set(spelt)  # transformers' way


def test_names_are_not_those_that_a_text_tokenizer_has(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "phi", FAMILIES["phi-3"])
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text())
    next_id = 1 + max(token["id"] for token in document["added_tokens"])
    taken = {**document["added_tokens"][0], "id": next_id, "content": "<unit_29>"}
    document["added_tokens"].append(taken)
    file.write_text(json.dumps(document))
    tokenizer, vocabulary, names = exported(folder, tmp_path / "out")
    assert names.controls["<|end|>"] == "<|cslm_end|>"
    assert names.controls["<sosp>"] == "<sosp>"
    assert names.unit(29) == "<cslm_unit_29>"
    assert tokenizer.eos_token == "<|end|>"  # Phi's own
    assert tokenizer.convert_tokens_to_ids("<cslm_unit_29>") == vocabulary.unit_id(29)


def test_holes_among_the_ids_of_text_shift_no_token(tmp_path: Path, own: Any) -> None:
    """`tokenizers` counts the tokens there are, and would give ours ids that are taken."""
    document = json.loads((tmp_path_of(own) / "tokenizer.json").read_text())
    vocab = document["model"]["vocab"]
    merged = {token for pair in document["model"]["merges"] for token in pair}
    merged |= {"".join(pair) for pair in document["model"]["merges"]}
    unused = [token for token in vocab if token not in merged][:4]
    assert len(unused) == 4
    holes = sorted(vocab.pop(token) for token in unused)
    assert holes[-1] < max(vocab.values())
    document["model"]["ignore_merges"] = True
    document["added_tokens"] = []
    folder = tmp_path / "holes"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(document))
    tokenizer, vocabulary, _ = exported(folder, tmp_path / "out")
    assert vocabulary.num_text == 1 + max(vocab.values())
    assert len(tokenizer) == vocabulary.size
    assert tokenizer.convert_tokens_to_ids("<unit_0>") == vocabulary.unit_id(0)
    assert tokenizer.convert_ids_to_tokens(holes) == [f"<unused {hole}>" for hole in holes]
    text = f"one two 三 <unused {holes[0]}>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids == vocabulary.text_tokenizer.encode(text)


def tmp_path_of(loaded: Any) -> Path:
    return Path(loaded[0].name_or_path)


def test_nothing_is_put_before_a_text_that_was_not_in_training(tmp_path: Path, own: Any) -> None:
    document = json.loads((tmp_path_of(own) / "tokenizer.json").read_text())
    start: dict[str, Any] = {"id": 300, "content": "<s>", "special": True, "normalized": False}
    start |= dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    document["added_tokens"] = [start]
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}},
    }
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(document))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert theirs.convert_ids_to_tokens(theirs("one").input_ids)[0] == "<s>"
    tokenizer, vocabulary, _ = exported(folder, tmp_path / "out")
    assert tokenizer("one").input_ids == vocabulary.text_tokenizer.encode("one")


def test_a_tokenizer_of_two_tokens_with_one_id_is_refused(tmp_path: Path, own: Any) -> None:
    document = json.loads((tmp_path_of(own) / "tokenizer.json").read_text())
    document["added_tokens"] = []
    document["model"]["vocab"]["twin"] = 5
    folder = tmp_path / "twins"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(CorruptArtefactError, match="cannot be extended"):
        exported(folder, tmp_path / "out")


# --- what a person writes ---------------------------------------------------------------------


def test_a_template_writes_turns_as_the_family_does(tmp_path: Path, own: Any) -> None:
    def write(tokenizer: Any, messages: list[dict[str, Any]], ask: bool = False) -> str:
        return tokenizer.apply_chat_template(  # type: ignore[no-any-return]
            messages, tokenize=False, add_generation_prompt=ask
        )

    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say: <sosp><unit_3><unit_1><eosp>"},
    ]
    assert write(own[0], asked, ask=True) == (
        "<|bos|><|system|>Be brief.<|end|><|user|>Say: <sosp><unit_3><unit_1><eosp><|end|>"
        "<|assistant|>"
    )
    answer = [
        {"type": "question", "text": "who?"},
        {"type": "speech", "units": [3, 1]},
    ]
    assert write(own[0], [{"role": "assistant", "content": answer}]) == (
        "<|bos|><|assistant|><|question|>who?<|answer|><sosp><unit_3><unit_1><eosp><|end|>"
    )
    folder = make_folder(tmp_path / "qwen", FAMILIES["qwen2.5"])
    qwen, _, _ = exported(folder, tmp_path / "out")
    assert write(qwen, asked, ask=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nSay: <sosp><unit_3><unit_1><eosp><|im_end|>\n<|im_start|>assistant\n"
    )
    original = AutoTokenizer.from_pretrained(folder)
    plain = [{"role": "user", "content": "one two\nthree"}]
    assert write(qwen, plain, ask=True) == write(original, plain, ask=True)


def test_speech_in_a_string_is_the_speech_of_a_part(own: Any) -> None:
    tokenizer, vocabulary, _ = own
    spelt = "Write:\n<sosp><unit_5><unit_29><eosp>"
    segments = [
        Segment(modality="text", language="en", role="user", trained=False, text="Write:\n"),
        Segment(
            modality="speech",
            language="en",
            role="user",
            trained=False,
            units=np.array([5, 29], np.uint16),
        ),
    ]
    expected = ids_of(vocabulary, frame(segments))
    messages = [{"role": "user", "content": spelt}]
    assert tokenizer.apply_chat_template(messages, tokenize=True) == expected
    assert expected[-5:-1] == [
        vocabulary.control_id("<sosp>"),
        vocabulary.unit_id(5),
        vocabulary.unit_id(29),
        vocabulary.control_id("<eosp>"),
    ]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "tool", "content": "x"}, "role tool: there are system, user, assistant"),
        ({"role": "user", "content": [{"type": "image"}]}, "content of type image"),
    ],
)
def test_what_was_never_trained_is_refused(own: Any, message: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says):
        own[0].apply_chat_template([message], tokenize=False)
