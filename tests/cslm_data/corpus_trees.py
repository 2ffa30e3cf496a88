"""Small corpora in the exact layouts of others, all of them sound; tests break them further."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from small_files import write_rows, write_tone

from cslm_data.catalog import open_catalog
from cslm_data.workspace import Workspace


def query(workspace: Workspace, sql: str) -> list[tuple[Any, ...]]:
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute(sql).fetchall()


def reasons(workspace: Workspace) -> dict[str, str]:
    return dict(query(workspace, "select key, reason from rejects"))


def tone_bytes(*, seconds: float = 0.5, rate: int = 16000, hz: float = 440.0) -> bytes:
    """A flac file of a tone."""
    time = np.arange(int(seconds * rate)) / rate
    buffer = io.BytesIO()
    soundfile.write(buffer, (0.3 * np.sin(2 * np.pi * hz * time)), rate, format="FLAC")
    return buffer.getvalue()


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def librispeech(root: Path) -> Path:
    """Two subsets, three chapters."""
    corpus = root / "LibriSpeech"
    write_text(corpus / "SPEAKERS.TXT", "; ID |SEX| SUBSET\n1272 | M | dev-clean\n")
    for subset, speaker, chapter in (
        ("dev-clean", "1272", "128104"),
        ("train-clean-100", "103", "1240"),
        ("train-clean-100", "103", "1241"),
    ):
        folder = corpus / subset / speaker / chapter
        lines = []
        for number in range(2):
            key = f"{speaker}-{chapter}-{number:04d}"
            write_tone(folder / f"{key}.flac", hz=300 + 10 * number)
            lines.append(f"{key} LINE {number} OF {chapter}\n")
        write_text(folder / f"{speaker}-{chapter}.trans.txt", "".join(lines))
    return corpus


def mls(root: Path) -> Path:
    """Two splits of a language."""
    corpus = root / "mls_polish_opus"
    for split, speaker in (("train", "8"), ("test", "9")):
        lines = []
        for number in (1, 0):
            key = f"{speaker}_77_{number:06d}"
            write_tone(corpus / split / "audio" / speaker / "77" / f"{key}.flac")
            lines.append(f"{key}\tzdanie {number}\n")
        write_text(corpus / split / "transcripts.txt", "".join(lines))
        write_text(corpus / split / "segments.txt", "not read\n")
    return corpus


def aishell(root: Path) -> Path:
    """A recording in each split."""
    corpus = root / "data_aishell"
    lines = []
    for split, speaker in (("train", "S0002"), ("dev", "S0724"), ("test", "S0764")):
        key = f"BAC009{speaker}W0122"
        write_tone(corpus / "wav" / split / speaker / f"{key}.wav")
        lines.append(f"{key} 而 对 楼市 成交\n")
    write_text(corpus / "transcript" / "aishell_transcript_v0.8.txt", "".join(lines))
    return corpus


def kaldi(root: Path) -> Path:
    """Two recordings, three segments."""
    folder = root / "dev"
    for name, rate in (("a", 16000), ("b", 8000)):
        write_tone(root / "audio" / f"{name}.wav", seconds=2.0, rate=rate)
    wavs = "".join(f"rec-{name} {root / 'audio' / name}.wav\n" for name in ("a", "b"))
    write_text(folder / "wav.scp", wavs)
    write_text(folder / "segments", "u1 rec-a 0.0 0.5\nu2 rec-a 0.5 1.5\nu3 rec-b 1.0 -1\n")
    write_text(folder / "text", "u1 one  two\nu2 three\nu3 four\n")
    write_text(folder / "utt2spk", "u1 spk1\nu2 spk1\nu3 spk2\n")
    write_text(folder / "utt2lang", "u1 en\nu2 en\nu3 en\n")
    write_text(folder / "spk2gender", "spk1 m\nspk2 f\n")
    return folder


def recording(path: Path, **said: Any) -> dict[str, Any]:
    """As Lhotse writes it."""
    info = soundfile.info(str(path))
    return {
        "id": path.stem,
        "sources": [{"type": "file", "channels": [0], "source": str(path)}],
        "sampling_rate": info.samplerate,
        "num_samples": info.frames,
        "duration": info.duration,
        "channel_ids": [0],
        **said,
    }


def lhotse(root: Path) -> Path:
    """A cut of two supervisions and one of none, gzipped."""
    import gzip

    audio = write_tone(root / "audio" / "long.wav", seconds=4.0)
    supervisions = [
        {
            "id": f"s{n}",
            "recording_id": "long",
            "start": 0.5 * n,
            "duration": 0.5,
            "channel": 0,
            "text": f"text {n}",
            "language": "English",
            "speaker": f"spk{n}",
        }
        for n in (0, 1)
    ]
    cut = {"channel": 0, "recording": recording(audio), "type": "MonoCut"}
    cuts = [
        {"id": "c0", "start": 1.0, "duration": 2.0, "supervisions": supervisions, **cut},
        {"id": "c1", "start": 3.0, "duration": 1.0, "supervisions": [], **cut},
    ]
    path = root / "cuts_train.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(cut) + "\n" for cut in cuts).encode()))
    return path


def lhotse_pair(root: Path) -> Path:
    """The same as a folder of two manifests."""
    audio = write_tone(root / "audio" / "long.wav", seconds=4.0)
    said = {"recording_id": "long", "channel": 0, "language": "en", "text": "hello"}
    folder = root / "manifests"
    write_rows(folder / "x_recordings_dev.jsonl", [recording(audio)])
    write_rows(
        folder / "x_supervisions_dev.jsonl",
        [{"id": f"p{n}", "start": float(n), "duration": 1.0, **said} for n in (0, 1)],
    )
    return folder


def hf_parquet(root: Path, **columns: list[Any]) -> Path:
    """Three rows with their audio inside, two row groups."""
    audio = [{"bytes": tone_bytes(hz=300 + n), "path": f"clip {n}.flac"} for n in range(3)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "audio": pa.array(columns.pop("audio", audio), kind),
            "sentence": [f"Sentence {n}." for n in range(3)],
            "client_id": ["a", "a", "b"],
            "locale": ["en", "zh-CN", "German"],
            **columns,
        }
    )
    path = root / "my_corpus" / "data" / "validation-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def messages(root: Path) -> Path:
    said = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]
    turns = [{"role": role, "content": text} for role, text in said]
    return write_rows(root / "chat.jsonl", [{"id": "m1", "language": "en", "messages": turns}])


def sharegpt(root: Path) -> Path:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    path = root / "sharegpt.json"
    return write_text(path, json.dumps([{"id": "g1", "language": "en", "conversations": turns}]))


LONG_TEXTGRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "say ""item [2]"""
        intervals [3]:
            xmin = 0.5
            xmax = 1.0
            text = "größer"
    item [2]:
        class = "TextTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        points: size = 1
        points [1]:
            number = 0.5
            mark = "x = 3"
    item [3]:
        class = "IntervalTier"
        name = "phone"
        xmin = 0
        xmax = 1.0
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = "sil"
        intervals [2]:
            xmin = 0.25
            xmax = 1.0
            text = "ʃ"
'''

SHORT_TEXTGRID = """File type = "ooTextFile"
"TextGrid"

0
1.0
<exists>
1
"IntervalTier"
"spk 1 - words"
0
1.0
2
0
0.5
"one"
0.5
1.0
"two"
"""


def textgrid(root: Path) -> Path:
    return write_text(root / "one.TextGrid", LONG_TEXTGRID)


def textgrids(root: Path) -> Path:
    """As MFA writes them: a folder a speaker."""
    write_text(root / "aligned" / "spk1" / "one.TextGrid", LONG_TEXTGRID)
    write_text(root / "aligned" / "spk1" / "two.TextGrid", SHORT_TEXTGRID)
    return root / "aligned"


def ctm(root: Path) -> Path:
    lines = [";; a comment", "u1 1 0.10 0.20 hello 0.9", "u1 1 0.35 0.15 you 0.8"]
    return write_text(root / "words.ctm", "\n".join([*lines, "u2 A 0 0.5 yes"]) + "\n")


def manifest(root: Path) -> Path:
    write_tone(root / "a.wav")
    return write_rows(root / "m.jsonl", [{"id": "a", "audio": "a.wav", "language": "en"}])


def alignment_rows(root: Path) -> Path:
    return write_rows(root / "x.align.jsonl", [{"id": "u1", "words": [[0.0, 0.1, "a"]]}])


def bitext(root: Path) -> Path:
    row = {"src_lang": "en", "tgt_lang": "zh", "src": "Hi.", "tgt": "嗨。"}
    return write_rows(root / "pairs.jsonl", [row])


def instructions(root: Path) -> Path:
    return write_rows(root / "i.jsonl", [{"language": "en", "prompt": "Q", "response": "A"}])


def dialogues(root: Path) -> Path:
    turns = [
        {"role": "user", "language": "en", "text": "Hi"},
        {"role": "assistant", "language": "en", "text": "Hello"},
    ]
    return write_rows(root / "talk.jsonl", [{"id": "d", "turns": turns}])


TREES = {
    "librispeech": [librispeech],
    "mls": [mls],
    "aishell": [aishell],
    "kaldi": [kaldi],
    "lhotse": [lhotse, lhotse_pair],
    "hf_parquet": [hf_parquet],
    "messages": [messages, sharegpt],
    "textgrid": [textgrid, textgrids],
    "ctm": [ctm],
    "manifest": [manifest],
    "alignments": [alignment_rows],
    "bitext": [bitext],
    "instructions": [instructions],
    "dialogues": [dialogues],
}
"""What each format looks like on disk."""
