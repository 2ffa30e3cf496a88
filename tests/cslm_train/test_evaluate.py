from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq2.nn import BatchLayout
from tiny_run import make_run, speech, text

from cslm_data.errors import NoDataError, TokenizerMismatchError, UsageError
from cslm_data.framing import TEMPLATE_VERSION, frame
from cslm_data.keys import content_id
from cslm_data.records import Sample, Segment
from cslm_data.shards import write_shard
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_data.workspace import Workspace, write_json
from cslm_train.evaluate import Evaluation, Group, evaluate
from cslm_train.evaluating.predictions import first_answer
from cslm_train.models.loading import LoadedRun, load_run
from cslm_train.run_folder import RunInfo

TOKENIZER_ID, NUM_UNITS = "mfcc-20-0123456789ab", 20


def asked(segment: Segment) -> Segment:
    return replace(segment, role="user", trained=False)


def sample(key: str, task: str, languages: str, *segments: Segment) -> Sample:
    return Sample(key=key, task=task, languages=languages, segments=segments)


SAMPLES = [
    sample("a1", "asr", "en", asked(speech("en", [1, 2])), text("en", "one two")),
    sample("a2", "asr", "zh", asked(speech("zh", [3, 4, 5])), text("zh", "三四")),
    sample("a3", "asr", "en", asked(speech("en", [6])), text("en", "six")),
    sample("t1", "tts", "en", asked(text("en", "one")), speech("en", [1, 2, 3, 4])),
    sample("m1", "mt", "en-zh", asked(text("en", "three four")), text("zh", "三四")),
    sample("i1", "instruct", "en", asked(text("en", "two?")), text("en", "two")),
    sample(
        "c1",
        "s2s",
        "en-zh",
        asked(speech("en", [7, 8])),
        text("en", "seven eight", "tq"),
        text("zh", "七", "ta"),
        speech("zh", [7], "sa"),
        text("zh", "八", "ta"),
        speech("zh", [8, 9], "sa"),
    ),
]


def build_mix(
    workspace: Workspace,
    tokenizer_folder: Path,
    samples: list[Sample],
    *,
    name: str = "pretrain",
    split: str = "test",
    tokenizer_id: str = TOKENIZER_ID,
) -> str:
    """Write `mixes/<name>` with one shard; its id."""
    folder = workspace.mixes / name
    (folder / "shards").mkdir(parents=True)
    text_tokenizer_id = load_text_tokenizer(tokenizer_folder).text_tokenizer_id
    entry = write_shard(
        folder / "shards" / f"{split}-000000.tar",
        samples,
        split=split,  # type: ignore[arg-type]
        tokenizer_id=tokenizer_id,
        num_units=NUM_UNITS,
        text_tokenizer_id=text_tokenizer_id,
    )
    row: dict[str, Any] = {
        "name": name,
        "stage": "pretrain",
        "languages": ["en", "zh"],
        "seed": 1,
        "recipe": {},
        "tokenizer_id": tokenizer_id,
        "num_units": NUM_UNITS,
        "frame_rate_hz": 50.0,
        "text_tokenizer_id": text_tokenizer_id,
        "text_tokenizer": str(tokenizer_folder),
        "template_version": TEMPLATE_VERSION,
        "splits": {split: {"num_samples": len(samples), "num_tokens": 0}},
        "realised": [],
        "shards": [vars(entry)],
        "counts": {},
    }
    mix_id = content_id(row)
    write_json(folder / "mix.json", {"mix_id": mix_id, **row})
    return mix_id


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A workspace with a mix, a run that knows it by heart and one that knows nothing."""
    workspace = Workspace(tmp_path_factory.mktemp("built") / "workspace")
    mix_id = build_mix(workspace, tokenizer_folder, SAMPLES)
    lessons = [one.segments for one in SAMPLES]
    make_run(workspace.runs / "pretrain", tokenizer_folder, mix_id=mix_id, lessons=lessons)
    make_run(workspace.runs / "untaught", tokenizer_folder, mix_id=mix_id)
    return workspace.root


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(built, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def measure(workspace: Workspace, run: str = "pretrain", **options: Any) -> Evaluation:
    folder = workspace.runs / run
    return evaluate(workspace, load_run(folder), folder, **{"mix": "pretrain", **options})


def by_name(evaluation: Evaluation) -> dict[str, Group]:
    return {f"{group.task}/{group.languages}": group for group in evaluation.groups}


def loss_of(run: LoadedRun, one: Sample) -> tuple[float, int]:
    """Summed loss and trained tokens of one sample, by a plain forward pass over it alone."""
    ids, trained = run.vocabulary.encode(frame(one.segments))
    seqs = torch.from_numpy(ids.astype(np.int64))[None]
    with torch.inference_mode():
        log_probabilities = run.model(seqs, BatchLayout.of(seqs))[0].log_softmax(-1)
    places = [place for place in range(1, len(ids)) if trained[place]]
    return -sum(float(log_probabilities[p - 1, int(ids[p])]) for p in places), len(places)


def test_a_model_that_knows_the_answers_scores_perfectly(workspace: Workspace) -> None:
    groups = by_name(measure(workspace))
    assert list(groups) == ["asr/en", "asr/zh", "instruct/en", "mt/en-zh", "s2s/en-zh", "tts/en"]
    assert groups["asr/en"].scores == {"wer": 0.0, "exact_match": 1.0}
    assert groups["asr/zh"].scores == {"cer": 0.0, "exact_match": 1.0}
    assert groups["tts/en"].scores == {"unit_error_rate": 0.0}
    translation = groups["mt/en-zh"].scores
    assert translation["chrf"] == pytest.approx(100)
    assert translation["off_target"] == 0
    assert "bleu" in translation
    assert groups["s2s/en-zh"].scores == {
        "well_formed": 1.0,
        "off_target": 0.0,
        "question_wer": 0.0,
        "chrf": pytest.approx(100),
    }
    assert groups["instruct/en"].num_answered == 0
    assert groups["asr/en"].num_samples == groups["asr/en"].num_answered == 2


def test_the_loss_is_the_mean_over_trained_tokens(workspace: Workspace) -> None:
    run = load_run(workspace.runs / "untaught")
    evaluation = measure(workspace, "untaught", max_samples=0)
    for group in evaluation.groups:
        own = [s for s in SAMPLES if (s.task, s.languages) == (group.task, group.languages)]
        losses = [loss_of(run, one) for one in own]
        num_targets = sum(count for _, count in losses)
        assert group.num_targets == num_targets
        assert group.loss == pytest.approx(sum(loss for loss, _ in losses) / num_targets, rel=1e-4)
        assert group.num_answered == 0
    asr = [loss_of(run, one) for one in SAMPLES if one.task == "asr"]
    expected = sum(loss for loss, _ in asr) / sum(count for _, count in asr)
    assert evaluation.task_losses["asr"] == pytest.approx(expected, rel=1e-4)


def test_reports_and_predictions_are_written_and_repeat_to_the_byte(workspace: Workspace) -> None:
    evaluation = measure(workspace)
    report, rows = evaluation.written
    assert (report.name, rows.name) == ("evaluation-test.json", "predictions-test.jsonl")
    first = report.read_bytes(), rows.read_bytes()
    written = json.loads(first[0])
    assert written["split"] == "test"
    assert written["groups"][0]["scores"] == {"wer": 0.0, "exact_match": 1.0}
    found = {row["key"]: row for row in map(json.loads, first[1].decode().splitlines())}
    assert set(found) == {"a1", "a2", "a3", "t1", "m1", "c1"}
    assert found["a1"]["reference"] == found["a1"]["hypothesis"] == "one two"
    assert found["t1"]["hypothesis"] == [1, 2, 3, 4]
    assert found["c1"]["hypothesis"] == {
        "question": "seven eight",
        "answer": "七八",
        "units": [7, 8, 9],
    }
    assert found["c1"]["well_formed"] is True
    measure(workspace, batch_size=1)
    assert (report.read_bytes(), rows.read_bytes()) == first
    assert list(report.parent.glob(".*.tmp")) == []


def test_tasks_and_the_first_samples_of_each_can_be_chosen(workspace: Workspace) -> None:
    evaluation = measure(workspace, tasks=["asr"], max_samples=1)
    groups = by_name(evaluation)
    assert list(groups) == ["asr/en", "asr/zh"]
    assert (groups["asr/en"].num_samples, groups["asr/en"].num_answered) == (2, 1)
    rows = evaluation.written[1].read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["key"] for row in rows] == ["a1", "a2"]


def test_answers_of_an_untaught_model_have_no_form_and_end_at_the_limit(
    workspace: Workspace,
) -> None:
    groups = by_name(measure(workspace, "untaught"))
    assert groups["s2s/en-zh"].scores["well_formed"] == 0
    rows = (workspace.runs / "untaught" / "predictions-test.jsonl").read_text(encoding="utf-8")
    found = {row["key"]: row for row in map(json.loads, rows.splitlines())}
    assert found["t1"]["hypothesis"] != []
    # At most twice the reference and 20: `<sosp>`, 4 units, `<eosp>`, `<|end|>` are 7 tokens.
    assert len(found["t1"]["hypothesis"]) <= 34


def test_an_answer_ends_with_the_first_turn_of_the_assistant() -> None:
    turns = (
        asked(text("en", "one?")),
        text("en", "two"),
        text("en", "three"),
        asked(text("en", "four?")),
        text("en", "five"),
    )
    assert first_answer(turns) == turns[:3]


def test_samples_longer_than_the_model_are_left_out_and_counted(
    workspace: Workspace, tokenizer_folder: Path
) -> None:
    long = sample("long", "tts", "en", asked(text("en", "one")), speech("en", [1, 2] * 80))
    mix_id = build_mix(workspace, tokenizer_folder, [long, SAMPLES[3]], name="long")
    evaluation = measure(workspace, mix="long")
    (group,) = evaluation.groups
    assert (group.num_samples, group.num_too_long, group.num_answered) == (2, 1, 1)
    assert group.scores == {"unit_error_rate": 0.0}
    assert evaluation.mix_id == mix_id
    assert evaluation.written[0].name == "evaluation-long-test.json"


def test_what_cannot_be_measured_is_said(
    workspace: Workspace, tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NoDataError, match=r"split valid holds no sample; there are: test \(7\)"):
        measure(workspace, split="valid")
    with pytest.raises(UsageError, match="split 'dev' is not one of train, valid, test"):
        measure(workspace, split="dev")
    with pytest.raises(NoDataError, match="no t2s in its split test; there are asr, instruct, mt"):
        measure(workspace, tasks=["asr", "t2s"])
    build_mix(workspace, tokenizer_folder, SAMPLES, name="other", tokenizer_id="mfcc-20-ffff")
    with pytest.raises(TokenizerMismatchError, match="mfcc-20-ffff"):
        measure(workspace, mix="other")
    assert "built again" not in caplog.text
    shutil.rmtree(workspace.mixes / "pretrain")
    build_mix(workspace, tokenizer_folder, SAMPLES[:1])
    measure(workspace, mix=None)
    assert "mixes/pretrain was built again after pretrain was trained on it" in caplog.text


def test_the_run_is_named_with_its_identity(workspace: Workspace) -> None:
    evaluation = measure(workspace, max_samples=0)
    info = RunInfo.load(workspace.runs / "pretrain")
    assert (evaluation.run, evaluation.run_id, evaluation.step) == ("pretrain", info.run_id, 3)
