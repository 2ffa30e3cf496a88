"""Malicious transcripts, paths and manifests through the real commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_files import write_rows, write_tone

ESCAPE = "\x1b[31mred\x1b[0m \x1b]0;title\x07"
DROP = "'; drop table all_utterances; --"


def cslm_data(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "cslm_cli.data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def works(*arguments: object, timeout: float = 120) -> str:
    """What a command prints that must succeed."""
    done = cslm_data(*arguments, timeout=timeout)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def asked(workspace: Path, query: str) -> list[dict[str, object]]:
    return json.loads(works("sql", query, "-o", "json", "--workspace", workspace))  # type: ignore[no-any-return]


IDS = {
    "sql": DROP,
    "up": "../../../../tmp/cslm-escaped",
    "absolute": "/tmp/cslm-escaped",
    "nul": "a\0b",
    "newline": "two\nlines\tand a tab",
    "long": "x" * 5000,
    "dots": "..",
    "escape": ESCAPE,
    "bidi": "abc\u202edcba\u2066",
    "markup": "[red]not red[/red] [link=https://example.com]x[/link]",
    "empty-like": "\u200b",
    "format": "{where} {table} %s $id ?",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace `ws` whose utterances have those ids, each as its transcript, too."""
    place = tmp_path_factory.mktemp("hostile")
    rows: list[dict[str, object]] = []
    for number, (name, key) in enumerate(IDS.items()):
        write_tone(place / "corpus" / f"{name}.wav", seconds=0.5, seed=number)
        row: dict[str, object] = {"id": key, "audio": f"{name}.wav", "text": f"hello {key}"}
        rows.append({**row, "language": "en", "speaker": key[:50], "corpus": "c"})
    write_rows(place / "corpus" / "speech.jsonl", rows)
    works("ingest", place / "corpus", "--workspace", place / "ws", "--max-reject-rate", 1)
    return place


def test_ids_and_texts_are_data_whatever_they_say(hostile: Path) -> None:
    ws = hostile / "ws"
    rows = asked(ws, "select utt_id, text from utterances")
    refused = asked(ws, "select key, reason from rejects")
    kept = {str(row["utt_id"]) for row in rows}
    assert len(rows) + len(refused) == len(IDS)
    assert {IDS[name] for name in ("sql", "up", "absolute", "newline", "long", "markup")} <= kept
    assert all(row["text"] == f"hello {row['utt_id']}" for row in rows)
    for key in sorted(kept):
        if "\0" in key:
            continue  # no argument of a command can hold it
        assert json.loads(works("show", "--json", "--workspace", ws, "--", key))["utt_id"] == key
        told = json.loads(works("sql", "--explain-row", key, "--json", "--workspace", ws))
        assert told["row"][0]["utt_id"] == key


@pytest.mark.parametrize(
    "arguments",
    [
        ["sql", "select utt_id, text, speaker from utterances"],
        ["sql", 'select utt_id as "[red]a", text as "\x1b[31mb" from utterances limit 1'],
        ["sql", "--explain-row", ESCAPE],
        ["show", ESCAPE],
        ["show", IDS["bidi"]],
        ["show", IDS["markup"]],
        ["show", "\x1b[31mnobody"],
        ["sql", 'select * from "\x1b[31mnothing"'],
        ["sql", "select text from utterances", "-o", "json"],
        ["audit"],
    ],
)
def test_nothing_of_a_corpus_moves_colours_or_hides_on_a_terminal(
    hostile: Path, arguments: list[str]
) -> None:
    done = cslm_data(*arguments, "--workspace", hostile / "ws")
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    codes = {ord(c) for c in shown}
    assert not codes & {*range(9), *range(11, 32), *range(0x7F, 0xA0)}
    assert not codes & {0x202E, 0x2066}
    if "sql" in arguments and "--explain-row" not in arguments and done.returncode == 0:
        assert "[red]" in shown


def test_units_pictures_and_exports_are_written_where_they_belong(hostile: Path) -> None:
    ws, out = hostile / "ws", hostile / "out"
    works("quantize", "--num-units", 5, "--num-workers", 1, "--workspace", ws)
    works("listen", "--limit", len(IDS), "--workspace", ws, "--out", out / "heard")
    keys = [key for key in IDS.values() if "\0" not in key]
    works("listen", "--workspace", ws, "--out", out / "named", "--", *keys)
    for format in ("fairseq", "slamkit", "textless"):
        export = cslm_data(
            *("export-units", "--format", format, "--cut", "--max-reject-rate", 1),
            *("--workspace", ws, out / format),
        )
        assert export.returncode == 0, export.stderr
    assert list(Path("/tmp").glob("cslm-escaped*")) == []
    beside = {path.name for path in hostile.iterdir()}
    assert beside == {"corpus", "ws", "out"}
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 3 * len(keys)
    assert all(path.resolve().is_relative_to(out.resolve()) for path in written)


def test_filters_and_dedup_take_such_ids_and_reasons(hostile: Path) -> None:
    ws = hostile / "ws"
    works(
        *("filter", "utt_id like '%drop table%'", "--reason", f"{ESCAPE} [red]{DROP}"),
        *("--workspace", ws),
    )
    listed = cslm_data("filter", "--list", "--workspace", ws).stdout
    assert "\x1b" not in listed and "[red]" in listed
    works("dedup", "--within", "all", "--workspace", ws)
    assert "\x1b" not in works("filter", "--undo", 1, "--workspace", ws)
    names = {row["name"] for row in asked(ws, "select table_name as name from duckdb_tables()")}
    assert "all_utterances" in names


AUDIO = {
    "pipe": "touch CANARY |",
    "pipe before": "| touch CANARY",
    "shell": "$(touch CANARY).wav",
    "up": "../../../../../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "device": "/dev/zero",
    "random": "/dev/random",
    "terminal": "/dev/stdin",
    "process": "/proc/self/mem",
    "folder": ".",
    "fifo": "fifo.wav",
    "loop": "loop.wav",
    "nul": "a\0.wav",
    "long": "x" * 5000 + ".wav",
    "home": "~nobody-of-this-name/a.wav",
    "scheme": "nonsense://a/b.wav",
    "file": "file:///dev/zero",
    "chain": "simplecache::file:///dev/zero",
    "local": "local:///dev/zero",
    "template": "reference://a.wav::file:///etc/passwd",
    "http": "http://127.0.0.1:1/a.wav",
    "data": "data:audio/wav;base64,AAAA",
    "zip": "zip://a.wav::/etc/passwd",
}


def test_audio_that_is_none_is_refused_without_being_run_or_hung_on(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_tone(corpus / "good.wav")
    os.mkfifo(corpus / "fifo.wav")
    (corpus / "loop.wav").symlink_to("loop.wav")
    audio = {name: path.replace("CANARY", str(tmp_path / "canary")) for name, path in AUDIO.items()}
    rows: list[dict[str, object]] = [
        {"id": name, "audio": path, "text": "a", "language": "en"} for name, path in audio.items()
    ]
    write_rows(corpus / "speech.jsonl", [*rows, {**rows[0], "id": "good", "audio": "good.wav"}])
    ws = tmp_path / "ws"
    works("ingest", corpus, "--workspace", ws, "--max-reject-rate", 1, timeout=60)
    assert [row["utt_id"] for row in asked(ws, "select utt_id from utterances")] == ["good"]
    refused = {row["key"]: row["reason"] for row in asked(ws, "select key, reason from rejects")}
    assert set(refused) == set(AUDIO)
    assert set(refused.values()) <= {"missing", "unreadable", "empty", "no_audio"}
    assert not (tmp_path / "canary").exists()


def test_a_manifest_that_is_a_pipe_or_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")
    for path in (tmp_path / "fifo.jsonl", Path("/dev/zero"), Path("/dev/stdin")):
        done = cslm_data(
            "ingest", path, "--format", "manifest", "--workspace", tmp_path / "ws", timeout=30
        )
        assert done.returncode == 2 and done.stderr.startswith("error: ")


NUMBERS = ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "-1", "-0.5", "1e308", '"abc"']
FINE = ["-0", "0", "0.0", "0.1", '"0.1"', "null", '""']


def test_impossible_times_are_refused_and_zeros_of_all_kinds_are_zero(tmp_path: Path) -> None:
    write_tone(tmp_path / "c" / "a.wav", seconds=1.0)
    lines = [
        f'{{"id": "{field} {value.replace(chr(34), chr(39))}", "audio": "a.wav", "text": "a", '
        f'"language": "en", "{field}": {value}, "{other}": {number}}}'
        for field, other, number in (("offset", "duration", 0.5), ("duration", "offset", 0.2))
        for value in (*NUMBERS, *FINE)
    ]
    (tmp_path / "c" / "speech.jsonl").write_text("\n".join(lines) + "\n")
    ws = tmp_path / "ws"
    works("ingest", tmp_path / "c", "--workspace", ws, "--max-reject-rate", 1)
    found = asked(ws, "select utt_id, offset_s, duration_s from utterances order by utt_id")
    ids = {str(row["utt_id"]) for row in found}
    bad = {
        f"{field} {n.replace(chr(34), chr(39))}"
        for field in ("offset", "duration")
        for n in NUMBERS
    }
    assert not ids & bad
    assert {"offset -0", "offset 0", "offset 0.1"} <= ids
    assert all(0 <= float(str(r["offset_s"])) < 1 for r in found)
    assert all(0 < float(str(r["duration_s"])) <= 1 for r in found)


def test_gigantic_and_bottomless_lines_are_refused_and_the_next_line_is_read(
    tmp_path: Path,
) -> None:
    write_tone(tmp_path / "c" / "a.wav")
    good = {"id": "good", "audio": "a.wav", "text": "a", "language": "en"}
    deep = (
        '{"id": "deep", "audio": "a.wav", "language": "en", "x": ' + "[" * 100_000 + "]" * 100_000
    )
    parts = [
        json.dumps({**good, "id": "first"}),
        deep + "}",
        "{" * 100_000,
        '{"id": "twice", "audio": "nowhere.wav", "audio": "a.wav", "text": "b", "language": "en"}',
        '{"id": "half", "audio": "a.wav", "text": "\\ud800 alone", "language": "en"}',
        json.dumps(good),
    ]
    path = tmp_path / "c" / "speech.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        stream.write(parts[0] + "\n")
        stream.write('{"id": "huge", "audio": "a.wav", "language": "en", "text": "')
        for _ in range(120):
            stream.write("x" * 1_000_000)
        stream.write('"}\n' + "\n".join(parts[1:]) + "\n")
    ws = tmp_path / "ws"
    command = [sys.executable, "-m", "cslm_cli.data", "ingest", str(path), "--workspace", str(ws)]
    wrapped = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", wrapped, *command, "--max-reject-rate", "1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1_500_000, "kB: the huge line is not kept"
    ids = {row["utt_id"] for row in asked(ws, "select utt_id from utterances")}
    assert {"first", "good"} <= ids and not ids & {"huge", "half"}
    deep = asked(ws, "select text from utterances where utt_id = 'deep'")
    assert all(row["text"] is None for row in deep), "a field of no meaning may be as deep as it is"
    places = asked(ws, "select key, reason from rejects order by key")
    assert len(places) + len(ids) == 7
    assert "line_too_long" in {row["reason"] for row in places}


def test_times_of_turns_and_fields_of_other_kinds_are_refused_too(tmp_path: Path) -> None:
    write_tone(tmp_path / "c" / "a.wav", seconds=1.0)
    lines = []
    for number, offset in enumerate([*NUMBERS, *FINE]):
        turns = (
            f'[{{"role": "user", "text": "a", "audio": "a.wav", "offset": {offset}, '
            f'"language": "en", "speaker": {{"a": [1]}}}}, '
            '{"role": "assistant", "text": "b", "language": "en"}]'
        )
        lines.append(f'{{"id": "d{number}", "turns": {turns}}}')
    lines += ['{"id": "x", "turns": [1, null]}', '{"id": "y", "turns": {"a": 1}}', "[]", "null"]
    (tmp_path / "c" / "talk.jsonl").write_text("\n".join(lines) + "\n")
    ws = tmp_path / "ws"
    works("ingest", tmp_path / "c", "--workspace", ws, "--max-reject-rate", 1)
    ids = {row["id"] for row in asked(ws, "select dialogue_id as id from dialogues")}
    # A time beyond the end of the recording is the utterance's affair; the dialogue has its text.
    beyond = f"d{NUMBERS.index('1e308')}"
    assert ids == {f"d{len(NUMBERS) + number}" for number in range(len(FINE))} | {beyond}
    assert f"d{len(NUMBERS)}" in ids
