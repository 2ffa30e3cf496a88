"""Audits whose answer depends on amounts: too little data, counts of refusals, pairs of many."""

from __future__ import annotations

import pytest
from planted import Corpus, words

from cslm_data.auditing.runner import run_audits
from cslm_data.catalog import open_catalog
from cslm_data.keys import key64
from cslm_data.workspace import Workspace

WORDS_OF_ONE = ["i", "a", "o", "we", "it"]


def enough(workspace, *, hours, rows):
    """Speech of two languages, translations, instructions and spoken dialogues, by number."""
    with open_catalog(workspace, write=True, doing="test") as db:
        for language in ("en", "zh"):
            db.execute(
                "insert into all_utterances select $l || i, 'c', '/' || $l || i || '.wav', 0, "
                "$s / $n, 16000, 1, $l, 's', 't' || i, 't' || i, i, 'human', 'CC0', null, "
                "'v' || i, i, 'src', 'src:' || i, i from range($n) as r (i)",
                {"l": language, "s": hours * 3600, "n": rows},
            )
            for kind, spoken in (("ins", None), ("chat", "u")):
                db.execute(
                    "insert into all_dialogues select $k || $l || i, 'd', null, $l, list_transform("
                    "['user', 'assistant'], lambda role: {'role': role, 'language': $l, "
                    "'text': 't', 'text_key': 1, 'audio': null, 'offset_s': 0, 'speaker': null, "
                    "'utt_id': if($u is null, null, $l || i)}), 'CC0', null, i, 'src', 'src:1', i "
                    "from range($n) as r (i)",
                    {"k": kind, "l": language, "u": spoken, "n": rows},
                )
        db.execute(
            "insert into all_bitext select 'p' || i, 'b', 'en', 'zh', 't', 't', 1, 1, 'CC0', null, "
            "i, 'src', 'src:1', i from range($n) as r (i)",
            {"n": rows},
        )
    return workspace


def test_too_little_data_is_said_of_each_task_of_the_recipe(tmp_path):
    languages = ["en", "zh"]
    full = enough(Workspace(tmp_path / "full"), hours=1.1, rows=1000)
    for stage in ("pretrain", "sft"):
        [result] = run_audits(full, names=["too_little_data"], languages=languages, stage=stage)
        assert (result.skipped, result.count) == (None, 0 if stage == "pretrain" else 4)
    # Dialogues of one language each: nobody answers in the other one.
    assert {(row["task"], row["language"], row["answer_language"]) for row in result.records()} == {
        (task, *pair) for task in ("s2s", "t2s") for pair in (("en", "zh"), ("zh", "en"))
    }

    thin = enough(Workspace(tmp_path / "thin"), hours=0.9, rows=999)
    [result] = run_audits(thin, names=["too_little_data"], languages=languages)
    assert [
        (row["task"], row["language"], row["answer_language"], row["num_rows"])
        for row in result.records()
    ] == [
        ("asr", "en", "en", 999),
        ("asr", "zh", "zh", 999),
        ("instruct", "en", "en", 999),
        ("instruct", "zh", "zh", 999),
        ("mt", "en", "zh", 999),
        ("mt", "zh", "en", 999),
        ("tts", "en", "en", 999),
        ("tts", "zh", "zh", 999),
    ]


def test_refused_rows_and_answers_without_word_times_are_counted(tmp_path):
    workspace = enough(Workspace(tmp_path / "w"), hours=0.1, rows=2)
    with open_catalog(workspace, write=True, doing="test") as db:
        for key in ("a", "b"):
            row = ["ingest", "c", key, "missing", f"{key}.wav", "src"]
            db.execute("insert into ingest_rejects values (?, ?, ?, ?, ?, ?)", row)
    rejected, unaligned = run_audits(workspace, names=["rejected", "unaligned_answers"])
    assert [(r["reason"], r["refused"], r["example"]) for r in rejected.records()] == [
        ("missing", 2, "a")
    ]
    assert [(r["language"], r["answers"]) for r in unaligned.records()] == [("en", 2), ("zh", 2)]
    assert unaligned.hours == pytest.approx(0.2)


def test_near_duplicates_are_those_that_comparing_all_pairs_finds(tmp_path):
    corpus = Corpus(tmp_path / "corpus")
    rng = corpus.rng
    texts = []
    for _ in range(60):
        base = words(rng, 12).split()
        texts.append(" ".join(base))
        for _ in range(int(rng.integers(0, 4))):
            changed = list(base)
            for _ in range(int(rng.integers(1, 4))):
                changed[int(rng.integers(len(changed)))] = str(rng.choice(WORDS_OF_ONE))
            texts.append(" ".join(changed))
    workspace = Workspace(tmp_path / "workspace")
    with open_catalog(workspace, write=True, doing="test") as db:
        for index, text in enumerate(texts):
            db.execute(
                "insert into all_utterances values (?, 'c', '/a.wav', 0, 4, 16000, 1, 'en', 's', "
                "?, ?, ?, 'human', null, null, 'v', 1, 'src', 'src:1', 1)",
                [f"{index:04d}", text, text, key64(text)],
            )

    def grams(text):
        return {text[i : i + 5] for i in range(len(text) - 4)}

    def jaccard(a, b):
        return len(grams(a) & grams(b)) / len(grams(a) | grams(b))

    first = {text: f"{index:04d}" for index, text in reversed(list(enumerate(texts)))}
    all_pairs = {
        (later, earlier)
        for a, later in first.items()
        for b, earlier in first.items()
        if earlier < later and jaccard(a, b) >= 0.8
    }
    [result] = run_audits(workspace, names=["near_duplicate_transcripts"], limit=1000)
    pairs = {tuple(row["utt_ids"]) for row in result.records()}
    assert pairs <= all_pairs
    expected = {later for later, _ in all_pairs}
    assert len(expected) > 30
    assert len({later for later, _ in pairs}) >= 0.95 * len(expected)
