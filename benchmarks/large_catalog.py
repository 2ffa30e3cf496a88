"""A catalog of as many rows as one likes, made in a minute or two: what mixes are planned from.

Transcribed speech with units, translations and instructions of English, Mandarin and German, always
the same. Rows go through the statements that `ingest` ends with, so keys and hashes are its own;
units are parts as `quantize` writes them. There is no audio. For other programs the same rows lie
beside it in `theirs/`, with a number of tokens each, so that they need not count.
"""

# R rows of a chunk, P phrases of a row, N units of a chunk

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from large_manifest import english_phrases, mandarin_phrases

from cslm_data.audio import resampler_identity
from cslm_data.catalog import Connection, open_catalog
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.features import load_extractor
from cslm_data.ingesting.normal_forms import choose_rules, register_normal_forms
from cslm_data.ingesting.statements import run_sql
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.text_tokenizer import OWN_NAME, train_text_tokenizer
from cslm_data.tokenizers import tokenizer_folders
from cslm_data.units.encoding import UNIT_COLUMNS
from cslm_data.workspace import Workspace

LANGUAGES, SHARES = ("en", "zh", "de"), (0.5, 0.3, 0.2)
NUM_UNITS = 500
NUM_RECORDINGS = 1000
FRAMES_OF_UNIT = 2.5
THEIRS = "theirs"

_CHUNK = 100_000
_PHRASES = 6000
_REPEATED_SHARE, _NUM_REPEATED = 0.05, 20_000
_GERMAN = """der die das und in zu den von mit sich des auf für ist im dem nicht ein eine als auch
es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum
war haben nur oder aber vor zur bis mehr durch man sein wurde sei Jahr Zeit Haus Wasser Morgen
Fenster Brief Garten Straße Schiff Berg Frage Stadt Woche Freund Weg Hand Kind Tag Leben sagte
ging kam konnte wollte sollte drei zwei vier immer wieder hier dort heute gestern schon gegen
während zwischen"""

_RAW = {
    "utterances": """
        insert into raw_utterances by name
        select 'line ' || number as place, 'u' || number as utt_id, 'speech-' || language as corpus,
            'recording-' || number % {recordings} as audio, number * 0.01 as offset_s, duration_s,
            language, 'speaker-' || number % 5000 as speaker, text, 'human' as kind,
            'CC0-1.0' as license,
        from given
    """,
    "bitext": """
        insert into raw_bitext by name
        select 'line ' || number as place, 'p' || number as pair_id, 'translations' as corpus,
            'en' as src_lang, language as tgt_lang, src, tgt, 'CC0-1.0' as license,
        from given
    """,
    "dialogues": """
        insert into raw_dialogues by name
        select 'line ' || number as place, 'd' || number as dialogue_id, 'instructions' as corpus,
            [
                {'role': 'user', 'language': language, 'text': asked, 'audio': null,
                 'offset_s': 0.0, 'speaker': null, 'utt_id': null},
                {'role': 'assistant', 'language': language, 'text': answered, 'audio': null,
                 'offset_s': 0.0, 'speaker': null, 'utt_id': null},
            ] as turns, 'CC0-1.0' as license,
        from given
    """,
}
_NOTHING_REFUSED = """
    create or replace temp table verdicts (row_id bigint);
    create or replace temp table headers as
    select 'recording-' || i as audio, 1e9 as duration_s, 16000 as sample_rate_hz,
        1 as num_channels, 'v1' as audio_version, null::varchar as reason, null::varchar as detail,
    from range({recordings}) as r (i)
"""


class Texts:
    """Sentences put together from phrases; a twentieth of them is said again and again."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        words = _GERMAN.split()
        german = [" ".join(rng.choice(words, n)) for n in rng.integers(1, 4, _PHRASES)]
        self._phrases = pa.array([*english_phrases(rng), *mandarin_phrases(rng), *german])
        self._repeated = rng.integers(0, _PHRASES, (_NUM_REPEATED, 40))

    def make(
        self, rng: np.random.Generator, languages_R: np.ndarray, shortest: int, longest: int
    ) -> pa.Array:
        """A sentence of so many phrases for each row: int (R,), indices into LANGUAGES."""
        size = len(languages_R)
        lengths_R = rng.integers(shortest, longest + 1, size)
        ids_RP = rng.integers(0, _PHRASES, (size, longest))
        again_R = rng.random(size) < _REPEATED_SHARE
        which = rng.integers(0, _NUM_REPEATED, again_R.sum())
        ids_RP[again_R] = self._repeated[which, :longest]
        lengths_R[again_R] = shortest + which % (longest - shortest + 1)
        ids_RP += languages_R[:, None] * _PHRASES
        flat = ids_RP[np.arange(longest)[None] < lengths_R[:, None]]
        offsets = np.concatenate([[0], np.cumsum(lengths_R)]).astype(np.int32)
        pieces = pa.ListArray.from_arrays(pa.array(offsets), self._phrases.take(pa.array(flat)))
        is_zh = pa.array(languages_R == LANGUAGES.index("zh"))
        joined = pc.utf8_capitalize(pc.binary_join(pieces, pc.if_else(is_zh, "，", " ")))
        return pc.binary_join_element_wise(joined, pc.if_else(is_zh, "。", "."), "")


def make_catalog(
    workspace: Workspace, *, utterances: int, pairs: int, dialogues: int, mean_units: int
) -> None:
    """Fill a new workspace with so many rows, and `theirs/` beside it."""
    tokenizer = _add_tokenizer(workspace)
    units = workspace.units / tokenizer.tokenizer_id
    units.mkdir(parents=True)
    theirs = workspace.root.parent / THEIRS
    theirs.mkdir(exist_ok=True)
    texts = Texts()
    rng = np.random.default_rng(2)
    sample = texts.make(rng, rng.choice(3, _CHUNK, p=SHARES), 4, 9)
    folder = workspace.text_tokenizers / OWN_NAME
    folder.parent.mkdir(parents=True, exist_ok=True)
    train_text_tokenizer(sample.to_pylist(), folder=folder)
    made = {
        "utterances": _utterances(texts, utterances, mean_units, tokenizer.frame_rate_hz, units),
        "bitext": _bitext(texts, pairs),
        "dialogues": _dialogues(texts, dialogues),
    }
    with open_catalog(workspace, write=True, doing="make a large catalog") as connection:
        register_normal_forms(connection, choose_rules(connection, None))
        connection.execute(_NOTHING_REFUSED.replace("{recordings}", str(NUM_RECORDINGS)))
        for kind, chunks in made.items():
            _fill(connection, kind, chunks, theirs / f"{kind}.parquet")


def _fill(connection: Connection, kind: str, chunks: Iterator[pa.Table], beside: Path) -> None:
    """Chunks of rows → a table of the catalog, and the same for other programs."""
    num_rows, writer = 0, None
    for chunk in chunks:
        run_sql(connection, "ingest_raw")
        connection.register("given", chunk)
        connection.execute(_RAW[kind].replace("{recordings}", str(NUM_RECORDINGS)))
        connection.unregister("given")
        if kind == "utterances":
            run_sql(connection, "ingest_complete")
        run_sql(connection, f"ingest_incoming_{kind}", names={"source": kind})
        connection.execute(f"insert into all_{kind} by name select * from incoming")
        num_rows += len(chunk)
        names = [name for name in chunk.schema.names if name not in ("duration_s", "text")]
        counted = chunk.select([name for name in names if name not in _TEXTS])
        writer = writer or pq.ParquetWriter(beside, counted.schema)
        writer.write_table(counted)
    if writer:
        writer.close()
    connection.execute("insert into sources values (?, 'made', ?, ?, 0)", [kind, kind, num_rows])


_TEXTS = ("src", "tgt", "asked", "answered")


def _utterances(
    texts: Texts, count: int, mean_units: int, frame_rate_hz: float, folder: Path
) -> Iterator[pa.Table]:
    """Rows of `utterances`; their units are written by the way."""
    for numbers_R, rng in _chunks(count, seed=3):
        languages_R = rng.choice(3, len(numbers_R), p=SHARES)
        text = texts.make(rng, languages_R, 4, 9)
        lengths_R = rng.integers(mean_units // 2, mean_units * 3 // 2 + 1, len(numbers_R))
        offsets = np.concatenate([[0], np.cumsum(lengths_R)]).astype(np.int32)
        steps_N = rng.integers(1, NUM_UNITS, offsets[-1], dtype=np.int64)
        units_N = (np.cumsum(steps_N) % NUM_UNITS).astype(np.uint16)  # neighbours differ
        durations_N = rng.integers(1, 5, offsets[-1]).astype(np.uint16)
        frames_R = np.add.reduceat(durations_N.astype(np.int64), offsets[:-1])
        ids = pc.binary_join_element_wise("u", pa.array(numbers_R).cast(pa.string()), "")
        none = pa.nulls(len(numbers_R), pa.string())
        columns = [
            ids,
            *(pa.ListArray.from_arrays(offsets, values) for values in (units_N, durations_N)),
            frames_R.astype(np.uint32),
            pa.array(["v1"] * len(numbers_R)),
            none,
            none,
        ]
        name = f"part-0000-{numbers_R[0] // _CHUNK:05d}.parquet"
        part = pa.table(columns, schema=UNIT_COLUMNS)
        pq.write_table(part, folder / name, compression="zstd", use_dictionary=False)
        yield pa.table(
            {
                "number": numbers_R,
                "id": ids,
                "language": _names(languages_R),
                "duration_s": frames_R / frame_rate_hz,
                "text": text,
                "text_tokens": _tokens(text),
                "num_units": lengths_R.astype(np.uint32),
            }
        )


def _bitext(texts: Texts, count: int) -> Iterator[pa.Table]:
    for numbers_R, rng in _chunks(count, seed=4):
        languages_R = rng.choice([1, 2], len(numbers_R), p=[0.6, 0.4])
        src = texts.make(rng, np.zeros_like(languages_R), 4, 9)
        tgt = texts.make(rng, languages_R, 4, 9)
        columns = {"number": numbers_R, "language": _names(languages_R), "src": src, "tgt": tgt}
        yield pa.table({**columns, "num_tokens": pc.add(_tokens(src), _tokens(tgt))})


def _dialogues(texts: Texts, count: int) -> Iterator[pa.Table]:
    for numbers_R, rng in _chunks(count, seed=5):
        languages_R = rng.choice(3, len(numbers_R), p=SHARES)
        asked = texts.make(rng, languages_R, 4, 12)
        answered = texts.make(rng, languages_R, 10, 40)
        columns = {"number": numbers_R, "language": _names(languages_R), "asked": asked}
        tokens = pc.add(_tokens(asked), _tokens(answered))
        yield pa.table({**columns, "answered": answered, "num_tokens": tokens})


def _chunks(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
    """Numbers of rows, chunk by chunk, and the randomness of each."""
    for first, end in itertools.pairwise([*range(0, count, _CHUNK), count]):
        yield np.arange(first, end), np.random.default_rng([seed, first])


def _names(languages_R: np.ndarray) -> pa.Array:
    return pa.array(LANGUAGES).take(pa.array(languages_R))


def _tokens(text: pa.Array) -> pa.Array:
    """About the tokens of a text and its frame: given away, so no exact count is needed."""
    return pc.add(pc.divide(pc.binary_length(text), 3), 4).cast(pa.uint32())


def _add_tokenizer(workspace: Workspace) -> SpeechTokenizer:
    """A tokenizer of the right shape: nothing is encoded with it."""
    features = load_extractor("mfcc", layer=None, device="cpu")
    centroids = np.random.default_rng(0).standard_normal((NUM_UNITS, 39), np.float32)
    made = SpeechTokenizer(
        extractor="mfcc",
        extractor_identity=dict(features.identity),
        layer=None,
        frame_rate_hz=features.frame_rate_hz,
        resampler=resampler_identity(),
        normalisation=Normalisation(),
        centroids_KE=centroids,
    )
    return tokenizer_folders.add_to_workspace(workspace, made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    for name in ("utterances", "pairs", "dialogues", "mean-units"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = vars(parser.parse_args())
    make_catalog(Workspace(options.pop("workspace").absolute()), **options)


if __name__ == "__main__":
    main()
