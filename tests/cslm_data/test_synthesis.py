"""Texts of a catalog that get speech: what is chosen, left on disk, seen by the catalog."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_files import write_tone
from spoken_workspace import (
    adds_up,
    ask,
    command_of,
    files,
    ingest_rows,
    instruction,
    needs_espeak,
)

from cslm_data.audio import decode
from cslm_data.errors import NoDataError, UsageError
from cslm_data.quantize import quantize
from cslm_data.synthesize import synthesize

BACKEND = "spoken_workspace:sine"


def run(workspace, **options):
    defaults = {"languages": ["en", "zh"], "backend": BACKEND, "num_workers": 1}
    return synthesize(workspace, **{**defaults, "voices": ["a", "bb", "ccc"], **options})


def speech_of(workspace):
    return ask(
        workspace,
        "select utt_id, corpus, language, text, speaker, kind, license, split, duration_s "
        "from utterances order by utt_id",
    )


def test_questions_and_answers_are_spoken_by_two_voices_and_linked(workspace, tmp_path):
    rows = [
        instruction(f"q{i}", f"ask {i}", "say", license="CC0-1.0", split="train") for i in range(9)
    ]
    ingest_rows(workspace, tmp_path, "talk", rows)
    summary = run(workspace)
    assert (summary.num_in, summary.num_out, summary.num_rejected) == (9, 9, 0)
    speech = speech_of(workspace)
    assert len(speech) == 18
    assert {row[1:3] + row[5:8] for row in speech} == {
        ("talk-spoken-workspace-sine", "en", "synthetic", "CC0-1.0", "train")
    }
    # 0.1 s a character.
    assert {row[3]: round(row[8], 6) for row in speech} == {
        "say": 0.3,
        **{f"ask {i}": 0.5 for i in range(9)},
    }
    voices = [
        (asked, answered)
        for (asked, answered) in ask(
            workspace,
            "select max(speaker) filter (role = 'user'), max(speaker) filter (role = 'assistant') "
            "from dialogue_turns where utt_id is not null group by dialogue_id",
        )
    ]
    assert len(voices) == 9
    assert all(asked != answered for asked, answered in voices)
    assert len({asked for asked, _ in voices}) > 1
    # The texts stay as they were, beside their speech.
    assert ask(workspace, "select corpus, count(*) from dialogues group by all order by all") == [
        ("talk", 9),
        ("talk-spoken-workspace-sine", 9),
    ]
    (audio,) = ask(workspace, "select audio from utterances where text = 'ask 3'")[0]
    waveform_T = decode(audio)
    assert len(waveform_T) == 8000
    assert 0.45 < np.abs(waveform_T).max() < 0.55


def test_the_same_command_does_nothing_twice_and_new_rows_are_added(workspace, tmp_path):
    template, log = command_of(tmp_path)
    rows = [instruction(f"q{i}", f"question {i}", "answer") for i in range(5)]
    ingest_rows(workspace, tmp_path, "talk", rows[:3])
    options = {"backend": "command", "command": template}
    first = run(workspace, **options)
    before, said = files(workspace), log.read_text()
    again = run(workspace, **options)
    assert (again.num_out, again.num_already, again.new_seconds) == (0, 3, 0.0)
    assert files(workspace) == before
    assert log.read_text() == said
    ingest_rows(workspace, tmp_path, "talk", rows)
    more = run(workspace, **options)
    assert (more.num_in, more.num_out, more.num_already) == (5, 2, 3)
    assert len(log.read_text().splitlines()) == 10
    assert adds_up(first)
    assert adds_up(more)
    assert len(speech_of(workspace)) == 10


def test_a_text_that_changed_is_spoken_anew_and_takes_the_place_of_the_old(workspace, tmp_path):
    ingest_rows(workspace, tmp_path, "talk", [instruction("q", "old", "answer")])
    run(workspace)
    ingest_rows(workspace, tmp_path, "talk", [instruction("q", "renewed", "answer")])
    summary = run(workspace)
    assert (summary.num_in, summary.num_out) == (1, 1)
    assert [row[3] for row in speech_of(workspace)] == ["renewed", "answer"]


def test_rows_that_fail_are_rejects_with_reasons_and_the_others_go_on(workspace, tmp_path):
    rows = [
        instruction("good", "hello", "hi"),
        instruction("fails", "please raise", "hi"),
        instruction("broken", "nan", "hi"),
        instruction("code", "how?", "```\nx\n```"),
        instruction("long", "hello", "word " * 20),
        instruction("dots", "...", "hi"),
    ]
    ingest_rows(workspace, tmp_path, "talk", rows)
    summary = run(workspace, max_seconds=5.0)
    assert summary.reject_reasons == {
        "bad_audio": 1,
        "code": 1,
        "no_words": 1,
        "too_long": 1,
        "tts_failed": 1,
    }
    assert (summary.num_in, summary.num_out, summary.num_failed) == (6, 1, 2)
    refused = dict(ask(workspace, "select key, stage || ': ' || detail from rejects"))
    assert set(refused) == {"fails", "broken", "code", "long", "dots"}
    assert refused["fails"].startswith("synthesize: turn 0 (user, en, ")
    assert "no such luck" in refused["fails"]
    assert "9.9 s > --max-seconds 5" in refused["long"]
    retried = run(workspace, max_seconds=5.0, retry_rejected=True)
    assert (retried.num_in, retried.num_rejected) == (6, 5)
    assert len(speech_of(workspace)) == 2


def test_hostile_texts_reach_the_program_as_data_alone(workspace, tmp_path, monkeypatch):
    template, log = command_of(tmp_path / "tts")
    monkeypatch.chdir(tmp_path)
    texts = [
        "; touch HACKED",
        "--out=HACKED",
        "$(touch HACKED)",
        "{voice} {out} x",
        "a\nb",
        "x\u0000",
    ]
    rows = [instruction(f"q{i}", text, "answer") for i, text in enumerate(texts)]
    ingest_rows(workspace, tmp_path / "in", "talk", rows)
    summary = run(workspace, backend="command", command=template)
    said = set(log.read_text().splitlines())
    rejected = {key for (key,) in ask(workspace, "select key from rejects")}
    assert {"; touch HACKED", "--out=HACKED", "$(touch HACKED)", "{voice} {out} x", "a, b"} <= said
    assert summary.num_rejected == len(rejected) <= 1
    assert not list(tmp_path.rglob("HACKED"))


def test_dialogues_keep_their_system_turn_as_text_and_their_first_exchanges(workspace, tmp_path):
    turns = [{"role": "system", "content": "Be kind."}]
    for index in range(3):
        turns += [{"role": "user", "content": f"u{index}"}]
        turns += [{"role": "assistant", "content": f"a{index}"}]
    row = {"id": "d", "language": "en", "messages": turns}
    ingest_rows(workspace, tmp_path, "chat", [row])
    run(workspace, exchanges=2)
    found = ask(
        workspace,
        "select role, text, speaker, utt_id is not null from dialogue_turns "
        "where corpus <> 'chat' order by turn",
    )
    assert [(role, text, spoken) for role, text, _, spoken in found] == [
        ("system", "Be kind.", False),
        ("user", "u0", True),
        ("assistant", "a0", True),
        ("user", "u1", True),
        ("assistant", "a1", True),
    ]
    # One voice a role.
    assert found[1][2] == found[3][2] != found[2][2] == found[4][2]
    with pytest.raises(NoDataError, match="no text-only dialogues"):
        run(workspace, what="instructions")


def test_both_sides_of_translations_become_parallel_speech(workspace, tmp_path):
    row = {"id": "p", "src_lang": "en", "tgt_lang": "zh", "src": "cat", "tgt": "猫和狗"}
    other = {"id": "r", "src_lang": "en", "tgt_lang": "de", "src": "dog", "tgt": "Hund"}
    ingest_rows(workspace, tmp_path, "pairs", [row, other])
    summary = run(workspace, what="bitext")
    assert (summary.num_chosen, summary.num_out) == (1, 1)
    # A pair is found by its sentences, whoever wrote them where.
    found = ask(
        workspace,
        "select asked.text, answered.text, asked.speaker = answered.speaker from bitext "
        "join utterances as asked on asked.text_key = src_key and asked.language = src_lang "
        "join utterances as answered on answered.text_key = tgt_key and "
        "answered.language = tgt_lang",
    )
    assert found == [("cat", "猫和狗", True)]


def test_transcripts_are_spoken_again_but_never_those_of_synthetic_speech(workspace, tmp_path):
    write_tone(tmp_path / "a.wav")
    rows = [
        {"id": "human", "audio": "a.wav", "language": "en", "text": "hello"},
        {"id": "silent", "audio": "a.wav", "language": "en", "offset": 0.1, "duration": 0.2},
    ]
    ingest_rows(workspace, tmp_path, "read", rows)
    assert run(workspace, what="utterances", languages=["en"]).num_out == 1
    # Another seed is another job: more speech of the same texts.
    assert run(workspace, what="utterances", languages=["en"], seed=1).num_chosen == 1
    spoken = [row[2:4] + row[5:6] for row in speech_of(workspace) if "@" in row[0]]
    assert spoken == [("en", "hello", "synthetic")] * 2


def test_rows_are_chosen_by_language_corpus_predicate_and_keyed_limit(workspace, tmp_path):
    rows = [
        instruction(f"q{i}", f"ask {i}", "say", corpus="odd" if i % 2 else "even")
        for i in range(20)
    ]
    rows.append(instruction("zh", "你好", "好", language="zh", corpus="odd"))
    ingest_rows(workspace, tmp_path, "talk", rows)
    where = "num_characters = 9 and corpus = 'even'"
    chosen = run(workspace, languages=["en"], where=where)
    # "ask 10" to "ask 18" and "say".
    assert (chosen.num_chosen, chosen.num_out) == (5, 5)
    chosen = run(workspace, languages=["en"], corpus="odd")
    assert (chosen.num_chosen, chosen.num_in) == (10, 15)
    few = run(workspace, languages=["en"], limit=4, seed=5)
    chosen = {row[0].split("@")[0] for row in speech_of(workspace) if few.job in row[0]}
    more = run(workspace, languages=["en"], limit=6, seed=5)
    grown = {row[0].split("@")[0] for row in speech_of(workspace) if few.job in row[0]}
    assert (few.num_out, more.num_out, more.num_already) == (4, 2, 4)
    assert chosen < grown
    with pytest.raises(UsageError, match="--where 'no_column > 1'"):
        run(workspace, where="no_column > 1")
    with pytest.raises(UsageError, match="may not read"):
        run(workspace, where="exists (from read_text('/etc/passwd'))")
    with pytest.raises(NoDataError, match="--corpus nobody"):
        run(workspace, corpus="nobody")


SCRIPT = """
import sys
from pathlib import Path
from cslm_data.synthesize import synthesize
from cslm_data.workspace import Workspace
if __name__ == "__main__":
    synthesize(Workspace(Path(sys.argv[1])), languages=["en"], backend="command",
               command=sys.argv[2], voices=["a", "b"], num_workers=1, part_seconds=1.0)
"""


def test_kill_in_the_middle_and_other_workers_lose_and_repeat_nothing(workspace, tmp_path):
    template, log = command_of(tmp_path)
    ingest_rows(
        workspace,
        tmp_path,
        "t",
        [instruction(f"q{i}", f"ask {i}", "the answer") for i in range(7)],
    )
    whole = type(workspace)(tmp_path / "whole" / "workspace")
    shutil.copytree(workspace.root, whole.root)
    command = [sys.executable, "-c", SCRIPT, str(workspace.root), template]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(workspace.synthesized.glob("*/part-*.parquet"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {name for name in files(workspace) if "/part-" in name and name.endswith("parquet")}
    said_before = len(log.read_text().splitlines())
    assert speech_of(workspace) == []
    options = {"languages": ["en"], "backend": "command", "command": template}
    options |= {"voices": ["a", "b"], "part_seconds": 1.0}
    summary = run(workspace, num_workers=2, **options)
    assert (summary.num_in, adds_up(summary)) == (7, True)
    assert summary.num_already >= len(done) >= 2
    # What was finished is not spoken again.
    assert len(log.read_text().splitlines()) - said_before == 2 * summary.num_out
    run(whole, num_workers=1, **options)
    assert files(workspace) == files(whole)
    assert len([name for name in files(whole) if name.endswith(".pack")]) > 3
    assert len(speech_of(workspace)) == 14


@needs_espeak
def test_spoken_dialogues_become_candidates_of_chat(workspace, tmp_path):
    rows = [
        instruction("en", "How are you today?", "I am well.", parallel_id="1"),
        instruction("zh", "你今天好吗？", "我很好。", language="zh", parallel_id="1"),
    ]
    turns = [
        {
            "id": row["id"],
            "parallel_id": "1",
            "language": row["language"],
            "turns": [
                {"role": "user", "text": row["prompt"]},
                {"role": "assistant", "text": row["response"]},
            ],
        }
        for row in rows
    ]
    ingest_rows(workspace, tmp_path, "talk", turns)
    summary = run(workspace, backend="espeak", voices=2)
    assert (summary.made_by[:9], summary.num_out) == ("espeak-ng", 2)
    quantize(workspace, num_units=8, num_workers=1)
    pairs = ask(
        workspace,
        "with spoken as (select parallel_id, t.role, t.language, len(u.units) as n "
        "from dialogues join dialogue_turns as t using (dialogue_id) "
        "join units as u on u.utt_id = t.utt_id) "
        "select q.language, a.language from spoken as q join spoken as a using (parallel_id) "
        "where q.role = 'user' and a.role = 'assistant' and q.n > 10 and a.n > 10 order by all",
    )
    assert pairs == [("en", "en"), ("en", "zh"), ("zh", "en"), ("zh", "zh")]
