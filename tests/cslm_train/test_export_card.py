"""What a model card states is what the files of the run say, and the code in it runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cslm_cli.train import app
from huggingface_hub import ModelCard
from tiny_run import make_run, speech, text
from typer.testing import CliRunner

from cslm_data.ingest import ingest
from cslm_data.mix import build_mix
from cslm_data.records import Segment
from cslm_data.shards import MixInfo
from cslm_data.workspace import Workspace
from cslm_train.export import export_run
from cslm_train.exporting.model_card import base_name
from cslm_train.run_folder import RunInfo

RECIPE = """
stage: pretrain
splits: {by: manifest}
sources:
  - {task: asr, weight: 0.5, languages: each, max_epochs: 1}
  - {task: tts, weight: 0.5, languages: each, max_epochs: 1}
  - {task: instruct, weight: 0.2, languages: each, max_epochs: 1}
"""
LICENCE = "CC-BY 4.0 | with a bar"


@pytest.fixture(scope="module")
def trained(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, Path, MixInfo]:
    """A run on a mix that was built from a catalog, with metrics and an evaluation."""
    folder = tmp_path_factory.mktemp("card")
    workspace = Workspace(folder / "workspace")
    shutil.copytree(corpus, workspace.root)
    rows = [
        {"prompt": f"<sosp> count to {n}", "response": "one", "language": "en", "license": LICENCE}
        for n in range(3)
    ]
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest(workspace, [questions])
    (folder / "recipe.yaml").write_text(RECIPE)
    mix = build_mix(workspace, languages=["en"], recipe=folder / "recipe.yaml", num_workers=1).info
    run_dir = make_run(
        workspace.runs / "pretrain",
        mix.text_tokenizer_path(),
        mix_id=mix.mix_id,
        tokenizer_id=mix.tokenizer_id,
        num_units=mix.num_units,
        max_seq_len=192,
        lessons=[
            [
                Segment(modality="text", language="en", role="user", trained=False, text="a"),
                text("en", "b"),
                speech("en", [1]),
            ]
        ],
    )
    metrics = run_dir / "metrics"
    metrics.mkdir()
    names = ("Step", "nll", "nll/asr/en", "ppl/instruct/en")
    valid = [(0, 7.25, 7.5, 9.0), (3, 2.5, 3.125, 4.5), (4, 1.0, 1.0, 1.0)]
    lines = [json.dumps(dict(zip(names, values, strict=True))) + "\n" for values in valid]
    (metrics / "valid.jsonl").write_text("".join(lines))
    row = {"Step": 3, "nll": 2.0, "total_num_elements": 3000.0, "total_num_targets": 1234.0}
    (metrics / "train.jsonl").write_text(json.dumps(row) + "\n")
    for name, step in (("test", 3), ("valid", 2)):
        group = {
            "task": "asr",
            "languages": "en",
            "num_samples": 7,
            "num_answered": 5,
            "loss": 3.5,
            "scores": {"wer": 0.25 * step, "exact_match": None},
        }
        evaluation = {
            "run_id": RunInfo.load(run_dir).run_id,
            "step": step,
            "mix": "pretrain",
            "mix_id": mix.mix_id,
            "split": name,
            "groups": [group],
            "sampling": {"temperature": 0.0, "top_p": 1.0, "seed": 0},
        }
        (run_dir / f"evaluation-{name}.json").write_text(json.dumps(evaluation))
    return workspace, run_dir, mix


@pytest.fixture(scope="module")
def out(trained: tuple[Workspace, Path, MixInfo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export by the command, with the publisher's word."""
    workspace, _, _ = trained
    out = tmp_path_factory.mktemp("out") / "model"
    done = CliRunner().invoke(
        app,
        ["export", str(out), "--workspace", str(workspace.root), "--json", "--license"]
        + ["apache-2.0", "--base-model", "meta-llama/Llama-3.1-8B-Instruct", "--step", "3"],
    )
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["num_different"] == 0
    assert sorted(made["files"]) == sorted(
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()
    )
    return out


def test_front_matter_is_as_the_hub_reads_it(out: Path) -> None:
    data = ModelCard.load(out / "README.md").data.to_dict()
    assert data == {
        "license": "apache-2.0",
        "language": ["en", "zh"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["cslm", "speech", "speech-language-model", "speech-units"],
        "base_model": "meta-llama/Llama-3.1-8B-Instruct",
        "base_model_relation": "finetune",
    }


def test_tables_say_what_the_files_say(trained: tuple[Workspace, Path, MixInfo], out: Path) -> None:
    workspace, _, mix = trained
    card = (out / "README.md").read_text()
    rows = pq.read_table(mix.folder / "mix.parquet", filters=[("split", "=", "train")]).to_pylist()
    total = sum(row["num_tokens"] for row in rows)
    for task in ("asr", "tts", "instruct"):
        tokens = [row["num_tokens"] for row in rows if row["task"] == task]
        share = f"{100 * sum(tokens) / total:.1f} %"
        assert f" | {share} | {sum(tokens):,} | {len(tokens)} |" in _line(card, f"| {task} | en |")
    spoken = {id for row in rows if row["task"] != "instruct" for id in row["source_ids"]}
    assert f"| utterances | not stated | {len(spoken)} |" in card
    assert "| questions | CC-BY 4.0 \\| with a bar | 3 |" in card
    assert "| all | 7.25 | 2.5 |" in card
    assert "| asr/en | 7.5 | 3.125 |" in card  # of step 3, not of what came after
    assert "| en | 9 | 4.5 |" in card
    assert "| asr | en | 7 | 3.5 | 5 | wer 0.75 |" in card  # of step 3, not of step 2
    assert card.count("wer ") == 1
    assert "| tokens | 3,000 read, 1,234 of them trained |" in card
    assert str(workspace.root) not in card
    # Three instructions spell a token: they are not compared.
    compared = sum(entry.num_samples for entry in mix.entries) - 3
    assert f"of {compared} samples of the mix, {compared} are the same to the token" in card


def _line(card: str, start: str) -> str:
    return next(line for line in card.splitlines() if line.startswith(start))


def test_the_code_in_the_card_runs(
    out: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(out)
    source = "\n".join(blocks).replace("question.wav", str(corpus.parent / "u0.wav"))
    names: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), names)
    typed, spoken = capsys.readouterr().out.splitlines()[0], names["messages"]
    assert typed
    assert len(spoken[0]["content"][-1]["units"]) > 3
    assert spoken[0]["content"][-1]["units"] == names["units"]


def test_what_is_not_known_is_said_to_be_not_known(
    trained: tuple[Workspace, Path, MixInfo], tmp_path: Path
) -> None:
    _, run_dir, _ = trained
    alone = tmp_path / "alone"
    shutil.copytree(run_dir, alone, ignore=shutil.ignore_patterns("metrics", "evaluation-*"))
    nowhere = Workspace(tmp_path / "nowhere")
    export_run(nowhere, alone, tmp_path / "out", step=3, without_speech_tokenizer=True)
    card = (tmp_path / "out" / "README.md").read_text()
    data = ModelCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "not-stated")
    assert "base_model" not in data
    for said in (
        "The mix was not at hand",
        "corpora and licences are not known",
        "No validation loss was recorded",
        "This step was not evaluated",
        "no sample of the mix was at hand",
        "No licence is stated for the weights",
    ):
        assert said in card
    assert not (tmp_path / "out" / "speech_tokenizer").exists()
    assert "speech_tokenizer" not in card


@pytest.mark.parametrize(
    ("base", "given", "name"),
    [
        ("/models/hub/models--Qwen--Qwen2.5-0.5B/snapshots/ab12", None, "Qwen/Qwen2.5-0.5B"),
        ("/models/llama", None, None),
        ("/models/llama", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("", None, None),
    ],
)
def test_the_base_model_is_named_as_on_the_hub(base: str, given: str | None, name: str) -> None:
    assert base_name(base, given) == name
