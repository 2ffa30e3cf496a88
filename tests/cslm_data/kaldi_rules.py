"""What Kaldi's validate_data_dir.sh and validate_text.pl demand, written anew for the tests."""

from __future__ import annotations

import re
from pathlib import Path


def check_data_dir(folder: Path, *, with_text: bool) -> dict[str, dict[str, str]]:
    """File → id → rest of its line. Fails where Kaldi's scripts would."""
    names = ["utt2spk", "spk2utt", "segments", "wav.scp", "utt2lang"]
    tables = {name: _table(folder / name) for name in (*names, *(["text"] if with_text else []))}
    assert (folder / "text").exists() == with_text
    utts = list(tables["utt2spk"])
    assert utts, "utt2spk is empty"
    assert all(len(line.split()) == 2 for line in _lines(folder / "utt2spk"))
    # LC_ALL=C sort -k2: by the speaker, then by the whole line.
    pairs = [(spk.encode(), utt.encode()) for utt, spk in tables["utt2spk"].items()]
    assert pairs == sorted(pairs), "utt2spk is not sorted by speaker"
    expanded = {utt: spk for spk, said in tables["spk2utt"].items() for utt in said.split()}
    assert list(expanded.items()) == list(tables["utt2spk"].items())
    for name in ("text", "segments", "utt2lang"):
        if name in tables:
            assert list(tables[name]) == utts, f"{name} has other utterances than utt2spk"
    for line in _lines(folder / "text") if with_text else []:
        assert not re.search(r"[^\S\t\n ]", line), "blanks that are not allowed"
        for symbol in ("<s>", "</s>", "#0"):
            assert not re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", line, re.ASCII)
    for line in _lines(folder / "segments"):
        fields = line.split()
        assert len(fields) == 4
        assert float(fields[3]) > float(fields[2]) >= 0
    recordings = {said.split()[0] for said in tables["segments"].values()}
    assert recordings == set(tables["wav.scp"])
    assert not any(where.startswith("~") for where in tables["wav.scp"].values())
    return tables


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return data.decode("utf-8").removesuffix("\n").split("\n")


def _table(path: Path) -> dict[str, str]:
    """A file by the first field of its lines, which are sorted by their bytes, each once."""
    fields = [line.split(" ", 1) for line in _lines(path)]
    keys = [key for key, *_ in fields]
    assert keys == sorted(set(keys), key=str.encode), f"{path.name} is not sorted"
    assert not any(re.search(r"\s", key) for key in keys)
    return {key: rest[0] if rest else "" for key, *rest in fields}
