"""catalog texts → text tokenizer, and text ↔ ids. Reads the catalog, writes text_tokenizers/.

Any `tokenizer.json` of the `tokenizers` library will do: the byte-level BPE trained here when there
is nothing else, or the one of a Hugging Face model. Text is data: what looks like one of the
tokenizer's own added tokens (`<|eot_id|>`) is encoded as the characters it is made of. Where a
folder has a chat template, turns are framed as it says.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cslm_data.catalog import Connection, read_sql
from cslm_data.chat_template import derive_framing
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, NoDataError
from cslm_data.framing import OWN, TurnFraming
from cslm_data.keys import file_sha256
from cslm_data.workspace import Workspace, remove_leftovers, write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

OWN_NAME = "bpe"
FRAMING_FILE = "framing.json"
"""A framing that was derived before; a folder that has it needs no chat template."""
MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = 512, 4096
_TEXT_BYTES_PER_TOKEN = 32
"""A token of the vocabulary for every so many bytes of text: fewer are seen too rarely to learn."""


@dataclass(frozen=True, kw_only=True)
class TextTokenizer:
    """Text ↔ ids, with the identity that mixes and checkpoints carry."""

    text_tokenizer_id: str
    folder: Path
    vocab_size: int
    """One more than the largest id, added tokens included."""
    backend: Tokenizer

    @property
    def id(self) -> str:
        """The same as `text_tokenizer_id`."""
        return self.text_tokenizer_id

    @cached_property
    def framing(self) -> TurnFraming:
        """How turns are framed: by the folder's chat template where it has one, else our own way.

        Raises CorruptArtefactError for a framing.json that is none.
        """
        saved = self.folder / FRAMING_FILE
        try:
            framing = TurnFraming.from_dict(json.loads(saved.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return derive_framing(self.folder / "tokenizer.json") or OWN
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtefactError(f"{saved}: not a framing of turns ({error})") from None
        for name in framing.specials:
            self.special_id(name)
        return framing

    def special_id(self, name: str) -> int:
        """Id of a token that stands beside text, such as `<|eot_id|>`.

        Raises CorruptArtefactError when the tokenizer has none of this name.
        """
        token: int | None = self.backend.token_to_id(name)
        if token is None:
            raise CorruptArtefactError(
                f"{self.folder}: its text tokenizer has no token {name}, but turns are framed by it"
            )
        return token

    def encode(self, text: str) -> list[int]:
        """Ids of a text, every character of it plain, nothing added around it."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text: the same as `encode` of each, faster."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """Number of ids of each text."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=False)
        return text


def load_text_tokenizer(path: Path) -> TextTokenizer:
    """The tokenizer of a folder with a `tokenizer.json`, ours or of any Hugging Face model.

    Raises MissingArtefactError, CorruptArtefactError.
    """
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise MissingArtefactError(
            f"{path}: no tokenizer.json here; name a folder that holds one with --text-tokenizer "
            "(a Hugging Face model saved by save_pretrained), or leave the option out"
        )
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        kind = str(document["model"].get("type") or "tokenizer").lower()
        # Only tokens marked special can be told to be plain text, so mark them all.
        for token in document.get("added_tokens") or []:
            token["special"] = True
        backend = Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise CorruptArtefactError(
            f"{file}: not a tokenizer of the `tokenizers` library ({error})"
        ) from None
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    return TextTokenizer(
        text_tokenizer_id=f"{kind}-{vocab_size}-{file_sha256(str(file))[:12]}",
        folder=file.parent,
        vocab_size=vocab_size,
        backend=backend,
    )


def save_framing(framing: TurnFraming, folder: Path) -> None:
    """Write a framing into a copy of its tokenizer; our own needs no file."""
    if framing != OWN:
        write_json(folder / FRAMING_FILE, framing.as_dict())


def train_text_tokenizer(
    texts: Iterable[str], *, folder: Path, vocab_size: int | None = None
) -> TextTokenizer:
    """Train a byte-level BPE and save it as `folder`, which must not exist; same texts, same bytes.

    `vocab_size` None: by the amount of text. Raises NoDataError without a text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    collected = list(texts)
    num_bytes = sum(len(text.encode()) for text in collected)
    if num_bytes == 0:
        raise NoDataError(
            "no text in the catalog to train a text tokenizer on; ingest transcripts, "
            "translations or instructions, or name a tokenizer with --text-tokenizer"
        )
    size = vocab_size or default_vocab_size(num_bytes)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(collected, trainer=trainer)
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    backend.save(str(building / "tokenizer.json"))
    trained = load_text_tokenizer(building)
    meta: dict[str, Any] = {
        "text_tokenizer_id": trained.text_tokenizer_id,
        "vocab_size": trained.vocab_size,
        "num_texts": len(collected),
        "num_bytes": num_bytes,
    }
    write_json(building / "meta.json", meta)
    building.rename(folder)
    log.info(
        "text tokenizer %s: %s tokens from %s texts", folder, trained.vocab_size, len(collected)
    )
    return load_text_tokenizer(folder)


def default_vocab_size(num_bytes: int) -> int:
    """Vocabulary size for so many bytes of text."""
    return min(MAX_VOCAB_SIZE, max(MIN_VOCAB_SIZE, num_bytes // _TEXT_BYTES_PER_TOKEN))


def get_text_tokenizer(
    workspace: Workspace,
    option: str | Path | None,
    connection: Connection,
    *,
    prompts: Sequence[str] = (),
) -> TextTokenizer:
    """The tokenizer of `--text-tokenizer` (a path, or a name in the workspace), or the workspace's.

    Without an option, the workspace's own is trained on the catalog when it does not exist yet.
    `prompts` are texts that stand in front of every sample and weigh accordingly.
    """
    if option is not None:
        named = workspace.text_tokenizers / str(option)
        return load_text_tokenizer(named if named.is_dir() else Path(option).expanduser())
    folder = workspace.text_tokenizers / OWN_NAME
    if not folder.is_dir():
        with workspace.lock("text_tokenizers", "train a text tokenizer"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder.parent)
            if not folder.is_dir():
                train_text_tokenizer(_texts(connection, prompts), folder=folder)
    return load_text_tokenizer(folder)


_MOST_TEXTS = 1_000_000
"""A keyed sample of about so many texts is enough to train on."""


def _texts(connection: Connection, prompts: Sequence[str]) -> Iterator[str]:
    threshold = connection.execute(read_sql("mix_texts_share"), {"most": _MOST_TEXTS}).fetchone()
    query = connection.execute(
        read_sql("mix_texts"), {"threshold": threshold[0] if threshold else 0}
    )
    rows = [text for (text,) in query.fetchall()]
    yield from rows
    for _ in range(1 + len(rows) // 200 if rows else 0):
        yield from prompts
