"""Catalogs of small recordings for the tests of quantize, and what a run left on disk."""

from __future__ import annotations

import numpy as np
import soundfile

from cslm_data.audio import audio_version, probe
from cslm_data.catalog import open_catalog
from cslm_data.errors import AudioError
from cslm_data.keys import key64
from cslm_data.quantize import quantize
from cslm_data.workspace import Workspace


def write_speech(path, seed, duration_s=1.0, rate_hz=16_000, **options):
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * rate_hz)
    loudness = np.repeat(rng.uniform(0.01, 0.3, num_samples // 800 + 1), 800)[:num_samples]
    soundfile.write(path, rng.standard_normal(num_samples) * loudness, rate_hz, **options)
    return path


def describe(path):
    """What ingest would put into the catalog."""
    try:
        header, version = probe(str(path)), audio_version(str(path))
    except AudioError:
        return 1.0, 16_000, 1, "unknown"
    return header.duration_s, header.sample_rate_hz, header.num_channels, version


def copy_catalog(workspace, root):
    """A workspace with the catalog of another, and nothing else of it."""
    copy = Workspace(root)
    copy.root.mkdir()
    copy.catalog.write_bytes(workspace.catalog.read_bytes())
    return copy


def add(workspace, path, utt_id, **options):
    add_rows(workspace, [(path, utt_id, options)])


def add_rows(workspace, rows):
    with open_catalog(workspace, write=True, doing="test") as connection:
        for path, utt_id, options in rows:
            duration_s, rate_hz, num_channels, version = describe(path)
            connection.execute("delete from all_utterances where utt_id = ?", [utt_id])
            connection.execute(
                "insert into all_utterances by name select ? as utt_id, 'test' as corpus, "
                "? as audio, ? as offset_s, ? as duration_s, ? as sample_rate_hz, "
                "? as num_channels, ? as language, ? as speaker, 'human' as kind, "
                "? as audio_version, ?::ubigint as key_hash, 'm.jsonl' as source_uri, "
                "'m.jsonl:1' as place, 0 as row_hash",
                [
                    utt_id,
                    str(path),
                    options.get("offset_s", 0.0),
                    options.get("duration_s", duration_s),
                    rate_hz,
                    num_channels,
                    options.get("language", "en"),
                    options.get("speaker"),
                    version,
                    key64("test", utt_id),
                ],
            )


def add_said(workspace, path, utt_id, text, **options):
    """Put a recording and its transcript into the catalog."""
    add_rows(workspace, [(path, utt_id, options)])
    set_text(workspace, utt_id, text)


def set_text(workspace, utt_id, text):
    with open_catalog(workspace, write=True, doing="test") as connection:
        connection.execute("update all_utterances set text = ? where utt_id = ?", [text, utt_id])


def add_many(workspace, folder, count, duration_s=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        language = "zh" if index % 4 == 0 else "en"
        path = write_speech(folder / f"{index}.wav", index, duration_s)
        rows.append((path, f"utt-{index}", {"language": language}))
    add_rows(workspace, rows)


def files(workspace):
    """Every plan and part with its bytes."""
    found = sorted(workspace.units.glob("*/*.parquet"))
    return {str(path.relative_to(workspace.units)): path.read_bytes() for path in found}


def units(workspace):
    with open_catalog(workspace, doing="test") as connection:
        return connection.execute("select * from units order by utt_id").fetchall()


def run(workspace, **options):
    return quantize(workspace, **{"num_units": 8, "num_workers": 1, **options})


def adds_up(summary):
    counted = summary.num_out + summary.num_rejected + summary.num_already
    return summary.num_in == counted


def forget(workspace):
    """Remove the units of the only tokenizer, as if it were new."""
    (folder,) = workspace.units.iterdir()
    for path in folder.iterdir():
        path.unlink()
