"""`cslm-train`: from mixes to trained models, answers and scores."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import (
    answers,
    shell,
    tables,
    train_average,
    train_export,
    train_plan,
    train_tables,
)
from cslm_cli.shell import JsonOption, StageName, WorkspaceOption
from cslm_cli.train_options import ConfigOption, MixOption, SettingsOption

if TYPE_CHECKING:
    from cslm_train.evaluate import Evaluation

app = shell.make_app("Train on mixes in both alignment stages; generate, evaluate, export.")


class TaskName(StrEnum):
    """What to generate."""

    ASR = "asr"
    TTS = "tts"
    MT = "mt"
    ST = "st"
    S2ST = "s2st"
    CONTINUATION = "continuation"
    CHAT = "chat"


class AnswerForm(StrEnum):
    """What a chat is answered with."""

    SPEECH = "speech"
    TEXT = "text"


class PrecisionName(StrEnum):
    """How weights are held."""

    FP32 = "fp32"
    BF16 = "bf16"


StageOption = Annotated[StageName | None, typer.Option(help="Stage.", show_default=False)]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Run, by name or folder. Default: the stage that teaches the task; to evaluate, "
        "the last one trained.",
        show_default=False,
    ),
]
CheckpointOption = Annotated[
    str,
    typer.Option(help="Which checkpoint: last, best (the lowest validation loss) or its step."),
]
DeviceOption = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1.")]
PrecisionOption = Annotated[
    PrecisionName,
    typer.Option("--precision", help="Of the weights: fp32, or bf16, half the size, for a GPU."),
]
TemperatureOption = Annotated[
    float, typer.Option(min=0.0, help="0: always the likeliest token; 1: as the model says.")
]
TopPOption = Annotated[
    float,
    typer.Option(min=1e-9, max=1.0, help="Draw from the likeliest tokens that hold this share."),
]
FreeOption = Annotated[
    bool | None,
    typer.Option(
        "--free/--held",
        help="Any token may come, or only those that keep the form of the task's answer. "
        "Default: free for s2st and for chat with a spoken answer, else held.",
        show_default=False,
    ),
]


@app.command()
def run(
    workspace: WorkspaceOption = None,
    stage: Annotated[
        StageName | None,
        typer.Option(help="Train this stage alone. Default: both.", show_default=False),
    ] = None,
    config: ConfigOption = "smoke",
    mix: MixOption = None,
    settings: SettingsOption = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: runs/STAGE in the workspace.")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Run whose weights sft begins with. Default: runs/pretrain."),
    ] = None,
    init_checkpoint: Annotated[
        str, typer.Option(help="At which of its checkpoints: last, best or a step.")
    ] = "last",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run in this folder.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a stage, or both one after the other. The same command goes on with a stopped run."""
    from cslm_data.errors import UsageError
    from cslm_data.shards import MixInfo

    given = {"--mix": mix, "--output-dir": output_dir, "--init-from": init_from}
    for option, value in given.items():
        if stage is None and value is not None:
            raise UsageError(f"{option} is of one stage: name it with --stage")
    if init_checkpoint != "last" and stage is StageName.PRETRAIN and init_from is None:
        raise UsageError("--init-checkpoint: of which run? name it with --init-from")
    from cslm_train.config_files import load_config

    where = shell.workspace_of(workspace)
    stages = [stage] if stage is not None else list(StageName)
    configs = {each: load_config(config, settings or (), stage=each.value) for each in stages}
    for each in stages:
        # Before the first is trained for hours, and before torch is loaded.
        MixInfo.load(where.mixes / (mix or each.value))
    from cslm_train.train import run_training

    summaries = []
    for each in stages:
        summary = run_training(
            where,
            stage=each.value,
            config=configs[each],
            mix=mix,
            output_dir=output_dir,
            init_from=init_from,
            init_checkpoint=init_checkpoint,
            overwrite=overwrite,
        )
        summaries.append(summary)
        if not summary.finished:
            break
    if not shell.is_first():
        return
    if json:
        tables.print_json(summaries)
    else:
        train_tables.print_runs(summaries)


@app.command()
def generate(
    task: Annotated[TaskName, typer.Argument(help="What to generate.")],
    workspace: WorkspaceOption = None,
    text: Annotated[str | None, typer.Option(help="What the user types.")] = None,
    audio: Annotated[str | None, typer.Option(help="What the user says: a recording.")] = None,
    utt: Annotated[
        str | None, typer.Option("--utt", help="What the user says: an utterance of the catalog.")
    ] = None,
    lang: Annotated[
        str | None, typer.Option("--lang", help="Language of the user, e.g. en.")
    ] = None,
    answer_lang: Annotated[
        str | None,
        typer.Option(
            help="Language of the answer. Default: the user's; to translate, the run's other one."
        ),
    ] = None,
    answer_form: Annotated[
        AnswerForm | None,
        typer.Option(
            "--answer",
            help="Answer a chat with text and speech by turns (speech), or in writing (text). "
            "Default: speech.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Folder of your own wordings: asr.yaml, chat.yaml … in place of ours; those that "
            "the mix was built with."
        ),
    ] = None,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn, and of the wording.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 1000,
    piece_units: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Speech comes in pieces of so many units, for a vocoder that can begin early. "
            "Default: in whole chunks.",
            show_default=False,
        ),
    ] = None,
    free: FreeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    checkpoint: CheckpointOption = "last",
    device: DeviceOption = "cpu",
    precision: PrecisionOption = PrecisionName.FP32,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each chunk, as it comes.")
    ] = False,
) -> None:
    """Answer a recording, an utterance or a text, chunk by chunk.

    asr: speech to text; tts: text to units; mt: text to text of another language; st: speech to
    text of another language; s2st: speech to text and speech of another language by turns;
    continuation: speech to the units that go on from it; chat: speech or text to the text of the
    question, then text and speech of the answer by turns, or its text alone.
    """
    from cslm_data.templates import load_prompts

    own = load_prompts(prompts) if prompts is not None else None
    from cslm_train.generating.questions import pose, seconds_per_unit
    from cslm_train.run_choice import choose_checkpoint, choose_run
    from cslm_train.run_folder import RunInfo

    where = shell.workspace_of(workspace)
    run_dir = choose_run(where, run=run, stage=stage.value if stage else None, task=task.value)
    info = RunInfo.load(run_dir)
    step = choose_checkpoint(run_dir, checkpoint)
    question = pose(
        where,
        info,
        task.value,
        text=text,
        audio=audio,
        utterance=utt,
        language=lang,
        answer_language=answer_lang,
        answer_form=None if answer_form is None else answer_form.value,
        seed=seed,
        prompts=own,
    )
    from cslm_train.generate import SPOKEN, answer
    from cslm_train.generating.chunks import Chunk
    from cslm_train.generating.sampling import Sampling
    from cslm_train.models.loading import load_run

    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    loaded = load_run(run_dir, step=step, device=device)
    spoken = question.task in SPOKEN
    unit_s = seconds_per_unit(where, info, question.answer_language) if spoken else None
    events = answer(
        loaded,
        question,
        sampling=sampling,
        max_tokens=max_tokens,
        free=free,
        piece_units=piece_units,
        seconds_per_unit=unit_s,
    )
    for event in events:
        if json:
            kind = "chunk" if isinstance(event, Chunk) else "end"
            answers.print_line(answers.safe_json({"event": kind, **dataclasses.asdict(event)}))
        elif isinstance(event, Chunk):
            answers.print_line(answers.chunk_line(event))
        else:
            typer.echo(answers.end_line(event, question), err=True)


@app.command()
def evaluate(
    workspace: WorkspaceOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    checkpoint: CheckpointOption = "last",
    split: Annotated[str, typer.Option(help="Held-out split: test, valid or train.")] = "test",
    mix: Annotated[
        str | None,
        typer.Option(help="Mix to measure on. Default: the run's own.", show_default=False),
    ] = None,
    tasks: Annotated[
        str, typer.Option(help="Tasks to measure, e.g. asr,mt. Default: all.", show_default=False)
    ] = "",
    max_samples: Annotated[
        int, typer.Option(min=0, help="Samples of each task and languages that are answered.")
    ] = 40,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    free: FreeOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers decoded together.")] = 32,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = PrecisionName.FP32,
    json: JsonOption = False,
) -> None:
    """Measure loss, error rates, translation and the form of answers on a held-out split."""
    from cslm_train.run_choice import choose_checkpoint, choose_run

    where = shell.workspace_of(workspace)
    run_dir = choose_run(where, run=run, stage=stage.value if stage else None)
    step = choose_checkpoint(run_dir, checkpoint)
    from cslm_train.evaluate import evaluate as run_evaluate
    from cslm_train.generating.sampling import Sampling
    from cslm_train.models.loading import load_run

    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    evaluation = run_evaluate(
        where,
        load_run(run_dir, step=step, device=device),
        run_dir,
        split=split,
        mix=mix,
        tasks=[task.strip() for task in tasks.split(",") if task.strip()],
        max_samples=max_samples,
        sampling=sampling,
        free=free,
        batch_size=batch_size,
    )
    if json:
        tables.print_json(evaluation)
    else:
        _print_evaluation(evaluation)


def _print_evaluation(evaluation: Evaluation) -> None:
    tables.print_table(
        ["task", "languages", "samples", "loss", "answered", "scores"],
        [
            (group.task, group.languages, group.num_samples, group.loss, group.num_answered)
            + (", ".join(f"{name} {_short(value)}" for name, value in group.scores.items()),)
            for group in evaluation.groups
        ],
        title=f"{evaluation.run}, step {evaluation.step}, on {evaluation.mix}/{evaluation.split}",
    )
    for path in evaluation.written:
        typer.echo(str(path))


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


train_average.register(app)
train_export.register(app)
train_plan.register(app)


def main() -> None:
    """Entry point of `cslm-train`."""
    shell.run(app)


if __name__ == "__main__":
    main()
