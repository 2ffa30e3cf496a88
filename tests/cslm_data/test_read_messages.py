from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_trees import messages, query, reasons, sharegpt
from small_files import write_rows

from cslm_data.corpora import Defaults
from cslm_data.ingest import ingest
from cslm_data.workspace import Workspace

TURNS = "select dialogue_id, [t.role || ':' || t.text for t in turns] from dialogues order by 1"


def said(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def test_openai_messages_and_sharegpt_conversations_become_dialogues(
    workspace: Workspace, tmp_path: Path
) -> None:
    summary = ingest(workspace, [messages(tmp_path), sharegpt(tmp_path)])
    assert {source.format for source in summary.sources} == {"messages"}
    assert query(workspace, TURNS) == [
        ("g1", ["user:Hi", "assistant:Hello"]),
        ("m1", ["system:Be kind.", "user:Hi", "assistant:Hello"]),
    ]


def test_sides_of_all_kinds_and_parts_of_text_are_understood(
    workspace: Workspace, tmp_path: Path
) -> None:
    parts = [{"type": "text", "text": "Eins"}, {"type": "text", "text": "zwei"}]
    sides = [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]
    sides += [{"from": "user", "value": "Q"}, {"from": "Assistant", "value": "A"}]
    rows = [
        {"id": "parts", "messages": said(("user", parts), ("assistant", " A "))},
        {"id": "sides", "system": "Sei knapp.", "conversations": sides, "tools": "[]"},
        {
            "id": "developer",
            "messages": said(("developer", "D"), ("user", "Q"), ("assistant", "A")),
        },
    ]
    path = write_rows(tmp_path / "c.jsonl", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    ingest(workspace, [path], defaults=Defaults(language="de", license="CC0", split="test"))
    assert query(workspace, TURNS) == [
        ("developer", ["system:D", "user:Q", "assistant:A"]),
        ("parts", ["user:Eins\nzwei", "assistant: A "]),
        ("sides", ["system:Sei knapp.", "user:问", "assistant:答", "user:Q", "assistant:A"]),
    ]
    assert query(workspace, "select distinct corpus, language, license, split from dialogues") == [
        ("c", "de", "CC0", "test")
    ]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (said(("user", "Q")), "bad_turns"),
        (said(("assistant", "A"), ("user", "Q")), "bad_turns"),
        (said(("user", "Q"), ("user", "Q"), ("assistant", "A")), "bad_turns"),
        (said(("system", "S")), "bad_turns"),
        (said(("user", "Q"), ("narrator", "A")), "bad_turns"),
        (["Q", "A"], "bad_turns"),
        ("Q", "bad_turns"),
        ([], "bad_turns"),
        (said(("user", " "), ("assistant", "A")), "empty_text"),
        (said(("user", "Q"), ("assistant", None)), "empty_text"),
        (said(("user", "Q"), ("tool", "4"), ("assistant", "A")), "tool_turn"),
        ([*said(("user", "Q")), {"role": "assistant", "tool_calls": [{}]}], "tool_turn"),
        (said(("user", [{"type": "image_url", "image_url": {}}]), ("assistant", "A")), "not_text"),
        (said(("user", {"type": "input_audio"}), ("assistant", "A")), "not_text"),
        (said(("user", ["Q"]), ("assistant", "A")), "not_text"),
        (said(("user", 7), ("assistant", "A")), "not_text"),
    ],
)
def test_what_is_no_dialogue_in_text_is_refused(
    workspace: Workspace, tmp_path: Path, turns: Any, reason: str
) -> None:
    first = {"id": "good", "messages": said(("user", "Q"), ("assistant", "A"))}
    path = write_rows(tmp_path / "c.jsonl", [first, {"id": "bad", "messages": turns}])
    ingest(workspace, [path], defaults=Defaults(language="en"))
    assert reasons(workspace) == {"bad": reason}


def test_images_and_tools_beside_the_turns_are_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    turns = [{"from": "human", "value": "<image> what?"}, {"from": "gpt", "value": "A cat."}]
    rows = [
        {"id": "image", "image": "cat.png", "conversations": turns},
        {"id": "tools", "tools": json.dumps([{"name": "f"}]), "conversations": turns},
    ]
    ingest(workspace, [write_rows(tmp_path / "c.jsonl", rows)], defaults=Defaults(language="en"))
    assert reasons(workspace) == {"image": "not_text", "tools": "tool_turn"}


def test_a_dialogue_without_id_or_language(workspace: Workspace, tmp_path: Path) -> None:
    rows = [{"messages": said(("user", f"Q{n}"), ("assistant", "A"))} for n in (0, 1, 0)]
    path = write_rows(tmp_path / "c.jsonl", rows)
    ingest(workspace, [path])
    assert set(reasons(workspace).values()) == {"no_language"}
    ingest(workspace, [path], defaults=Defaults(language="en"))
    assert query(workspace, "select count(*) from dialogues where dialogue_id like 'c/%'") == [(2,)]
    assert set(reasons(workspace).values()) == {"duplicate_id"}
