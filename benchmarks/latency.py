"""Until the first complete chunk of speech: interleaved against full chain of modality.

The paper (arXiv:2604.11096) says that a chunk of speech can play 2.93 times sooner when text and
speech come by turns than when all text comes first and then all speech. One model is trained on
speech recognition and synthesis, then twice on the same spoken dialogues, once with answers in
chunks and once in full; the two differ in nothing else. The questions are of the test split. The
dialogues are those of the demo corpus, one to five questions asked at once and answered at once.

Three things are measured, by the number of words in the answer:

- tokens of the true answers: no model has a part in it;
- seconds over the true answers: each run is made to say its true answer, token by token;
- tokens and seconds of the answers that the two runs give by themselves, with the paper's sampling.

Full chains could also be played before they are complete: "full, early" counts the tokens until as
many units are there as the first chunk has. Then it is said whether generation keeps ahead of what
has been generated being played.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from paired import report

from cslm_data.audio import SAMPLE_RATE_HZ, decode
from cslm_data.demo import lay_out
from cslm_data.framing import frame
from cslm_data.ingest import ingest
from cslm_data.keys import keyed_rng
from cslm_data.mix import build_mix
from cslm_data.quantize import quantize
from cslm_data.shards import iter_samples
from cslm_data.text.words import split_words
from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.generating.chunks import Chunk, chunks
from cslm_train.generating.decoding import Prompt, room, stream
from cslm_train.generating.playback import SpeechReady, play
from cslm_train.generating.questions import seconds_per_unit
from cslm_train.generating.sampling import GREEDY, Sampling
from cslm_train.models.loading import LoadedRun, load_run
from cslm_train.train import run_training
from cslm_train.vocabulary import Ids, JointVocabulary

MODES = ("chunk", "full")
MOST_QUESTIONS = 5
BINS = ((1, 15), (16, 30), (31, 45), (46, 99))
PAPER = Sampling(temperature=1.0, top_p=0.7)
PAUSE_S = 0.3


# --- data -------------------------------------------------------------------------------------


def lay_out_dialogues(demo: Path, folder: Path, num_dialogues: int) -> None:
    """Dialogues of several of the demo's English questions at a time, with their word times."""
    rows = [json.loads(line) for line in (demo / "dialogues.jsonl").open(encoding="utf-8")]
    times = {
        row["id"]: row["words"]
        for row in map(json.loads, (demo / "speech_en.align.jsonl").open(encoding="utf-8"))
    }
    singles = [row["turns"] for row in rows if {t["language"] for t in row["turns"]} == {"en"}]
    (folder / "audio").mkdir(parents=True)
    speech, aligned, dialogues = [], [], []
    for number in range(num_dialogues):
        count = number % MOST_QUESTIONS + 1
        chosen = keyed_rng(5, "dialogue", str(number)).permutation(len(singles))[:count]
        turns = []
        for place, role in enumerate(("user", "assistant")):
            spoken = [singles[index][place] for index in chosen]
            name = f"long/{role}_{number:03d}"
            waves, words, start_s = [], [], 0.0
            for turn in spoken:
                wave_T = decode(str(demo / turn["audio"]))
                where = times[f"demo/en/{Path(turn['audio']).stem}"]
                words += [[a + start_s, b + start_s, word] for a, b, word in where]
                waves += [wave_T, np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)]
                start_s += len(wave_T) / SAMPLE_RATE_HZ + PAUSE_S
            audio = f"audio/{role}_{number:03d}.wav"
            soundfile.write(folder / audio, np.concatenate(waves), SAMPLE_RATE_HZ)
            text = " ".join(turn["text"] for turn in spoken)
            turn = {"role": role, "language": "en", "text": text, "audio": audio}
            turns.append(turn)
            speech.append({**turn, "id": name, "speaker": role, "corpus": "long"})
            aligned.append({"id": name, "language": "en", "words": words})
        dialogues.append({"id": f"long/{number:03d}", "corpus": "long", "turns": turns})
    for name, written in (
        ("speech.jsonl", speech),
        ("speech.align.jsonl", aligned),
        ("dialogues.jsonl", dialogues),
    ):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
        (folder / name).write_text(lines, encoding="utf-8")


def recipe(folder: Path, stage: str, tasks: Iterable[str], interleave: str) -> Path:
    """A recipe of equal shares, one pass."""
    shares = list(tasks)
    sources = "".join(
        f"  - {{task: {task}, weight: {1 / len(shares)}, languages: each}}\n" for task in shares
    )
    path = folder / f"{stage}-{interleave}.yaml"
    path.write_text(
        f"stage: {stage}\ninterleave: {interleave}\n"
        "splits: {by: content, valid: 0.03, test: 0.1}\n"
        f"sources:\n{sources}"
    )
    return path


def prepare(root: Path, num_dialogues: int) -> Workspace:
    """The corpus as a mix of recognition and synthesis, and as chains in both forms."""
    workspace = Workspace(root / "workspace")
    if (workspace.mixes / MODES[-1] / "mix.json").exists():
        return workspace
    lay_out(root / "demo")
    lay_out_dialogues(root / "demo", root / "corpus", num_dialogues)
    ingest(workspace, [root / "corpus"])
    quantize(workspace)
    build_mix(
        workspace,
        languages=["en"],
        recipe=recipe(root, "pretrain", ("asr", "tts"), "chunk"),
    )
    for mode in MODES:
        build_mix(
            workspace,
            languages=["en"],
            stage="sft",
            name=mode,
            recipe=recipe(root, "sft", ("s2s",), mode),
        )
    return workspace


def train(workspace: Workspace, base_steps: int, sft_steps: int) -> dict[str, LoadedRun]:
    """The base, and from it a run for each form."""
    for mode, stage, steps in (
        ("pretrain", "pretrain", base_steps),
        *((mode, "sft", sft_steps) for mode in MODES),
    ):
        settings = (
            "data.pack_length=2048",
            f"trainer.num_steps={steps}",
            f"validation.every_n_steps={steps}",
            f"checkpoint.every_n_steps={steps}",
            "metrics.tensorboard=false",
        )
        summary = run_training(
            workspace,
            stage=stage,
            config=load_config("smoke", settings, stage=stage),
            mix=mode,
            output_dir=workspace.runs / mode,
        )
        print(
            f"{mode}: {summary.steps} steps, {summary.tokens} tokens in {summary.seconds:.0f} s, "
            f"loss {summary.first_train_loss:.2f} → {summary.last_train_loss:.2f}"
        )
    return {mode: load_run(workspace.runs / mode) for mode in MODES}


# --- answers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A question and its true answer, in one form."""

    key: str
    words: int
    prompt: Ids
    answer: Ids


def read_samples(
    workspace: Workspace, vocabulary: JointVocabulary, mode: str, splits: Iterable[str]
) -> list[Sample]:
    """The chains of some splits, in the same order for both forms."""
    found = []
    folder = workspace.mixes / mode
    for sample in (sample for split in splits for sample in iter_samples(folder, split)):
        ids, trained = vocabulary.encode(frame(sample.segments, vocabulary.framing))
        first = int(np.argmax(trained))
        text = "".join(s.text for s in sample.segments if s.part == "ta")
        words = sum(any(c.isalnum() for c in piece) for piece in split_words(text, "en"))
        found.append(Sample(sample.key, words, ids[:first], ids[first:]))
    return sorted(found, key=lambda sample: sample.key)


class Script:
    """In place of a grammar: nothing but these tokens may come."""

    def __init__(self, tokens: Ids, size: int) -> None:
        self.tokens, self.size = tokens.tolist(), size

    def forbidden(self, device: torch.device) -> Script:
        """Asked by state."""
        return self

    def __getitem__(self, state: int) -> torch.Tensor:
        mask_V = torch.ones(self.size, dtype=torch.bool)
        mask_V[self.tokens[state]] = False
        return mask_V

    def following(self, state: int, token: int) -> int:
        """The next place in the script."""
        return state + 1


@dataclass(frozen=True)
class Heard:
    """What came of an answer's speech."""

    first: Chunk
    speech: list[SpeechReady]
    num_tokens: int
    ended: bool


def hear(tokens: Iterator[int], vocabulary: JointVocabulary) -> Heard | None:
    """All of an answer; None without speech."""
    seen: list[int] = []

    def listening() -> Iterator[int]:
        for token in tokens:
            seen.append(token)
            yield token

    found = [
        chunk
        for chunk in chunks(listening(), vocabulary, language="en", answer_language="en")
        if chunk.part == "sa"
    ]
    if not found:
        return None
    speech = [SpeechReady(c.num_tokens, c.seconds_since_start, c.tokens_since_start) for c in found]
    return Heard(found[0], speech, len(seen), seen[-1] == vocabulary.end_id)


def say(run: LoadedRun, sample: Sample, *, script: bool) -> Heard | None:
    """An answer by the run: the true one, or its own."""
    prompt = Prompt(
        key=sample.key,
        ids=sample.prompt,
        max_tokens=len(sample.answer) if script else room(run, sample.prompt),
        grammar=Script(sample.answer, run.vocabulary.size) if script else None,  # type: ignore[arg-type]
    )
    sampling = GREEDY if script else PAPER
    return hear(stream(run, prompt, sampling=sampling), run.vocabulary)


# --- tables -----------------------------------------------------------------------------------


def print_by_words(title: str, rows: list[tuple[int, dict[str, float]]], form: str) -> None:
    """Medians of columns, by the number of words in the answer; `a : b` is the median ratio."""
    names = list(rows[0][1])
    print(f"\n{title}")
    print(f"{'words':>8} {'answers':>8}", *(f"{name:>14}" for name in names))
    for low, high in (*BINS, (BINS[0][0], BINS[-1][1])):
        found = [row for words, row in rows if low <= words <= high]
        if found:
            middle = {name: statistics.median(row[name] for row in found) for name in names}
            cells = (f"{v:>14.2f}" if ":" in n else f"{v:>14{form}}" for n, v in middle.items())
            print(f"{f'{low}–{high}':>8} {len(found):>8}", *cells)


def compare_tokens(samples: dict[str, list[Sample]], vocabulary: JointVocabulary) -> None:
    """Tokens of the true answers."""
    rows = []
    for chunked, whole in zip(*(samples[mode] for mode in MODES), strict=True):
        assert chunked.key == whole.key
        first, full = (
            hear(iter(sample.answer.tolist()), vocabulary).first for sample in (chunked, whole)
        )
        assert full.num_tokens > 0
        early = full.tokens_since_start - full.num_tokens - 1 + first.num_tokens
        row = {
            "chunk": first.tokens_since_start,
            "full": full.tokens_since_start,
            "full, early": early,
            "full : chunk": full.tokens_since_start / first.tokens_since_start,
            "early : chunk": early / first.tokens_since_start,
        }
        rows.append((chunked.words, row))
    print_by_words("True answers: tokens until the first complete speech (medians)", rows, ".0f")


def compare_seconds(samples: dict[str, list[Sample]], runs: dict[str, LoadedRun]) -> None:
    """Seconds until speech, each run made to say its true answer."""
    rows = []
    for pair in zip(*(samples[mode] for mode in MODES), strict=True):
        heard = [say(runs[m], sample, script=True) for m, sample in zip(MODES, pair, strict=True)]
        assert [h.num_tokens for h in heard] == [len(sample.answer) for sample in pair]
        chunk_s, full_s = (h.first.seconds_since_start for h in heard)
        row = {"chunk": chunk_s, "full": full_s, "full : chunk": full_s / chunk_s}
        rows.append((pair[0].words, row))
    print_by_words("True answers: seconds until the first complete speech (medians)", rows, ".3f")


def compare_own(
    samples: dict[str, list[Sample]], runs: dict[str, LoadedRun], unit_s: float
) -> tuple[float, float]:
    """Ratios of tokens and of seconds over the answers that the runs give."""
    pairs = []
    for chunked, whole in zip(samples["chunk"], samples["full"], strict=True):
        pair = [say(runs[m], s, script=False) for m, s in (("chunk", chunked), ("full", whole))]
        if all(heard is not None and heard.ended for heard in pair):
            pairs.append(pair)
    total = len(samples["chunk"])
    print(f"\nOwn answers: {len(pairs)} of {total} questions were answered to the end by both runs")
    for index, mode in enumerate(MODES):
        heard = [pair[index] for pair in pairs]
        spoken = [play(each.speech, unit_s) for each in heard]
        margins = [p.smallest_margin_s for p in spoken if p.smallest_margin_s is not None]
        middle = statistics.median
        print(
            f"{mode:>6}: first speech after {middle(p.first_speech_tokens for p in spoken):.0f} "
            f"tokens, {middle(p.first_speech_s for p in spoken):.3f} s (medians); "
            f"{middle(p.units_per_second for p in spoken):.0f} units a second generated, "
            f"{1 / unit_s:.1f} played; answers with gaps: {sum(p.num_gaps > 0 for p in spoken)}; "
            + (f"smallest margin {min(margins):.2f} s" if margins else "one chunk each")
        )
    tokens = [b.first.tokens_since_start / a.first.tokens_since_start for a, b in pairs]
    seconds = [b.first.seconds_since_start / a.first.seconds_since_start for a, b in pairs]
    return statistics.median(tokens), statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on with it")
    parser.add_argument("--dialogues", type=int, default=150)
    parser.add_argument("--base-steps", type=int, default=150)
    parser.add_argument("--sft-steps", type=int, default=100)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(options.folder or Path(folder), options.dialogues)
        print(f"corpus and mixes: {time.monotonic() - begun:.0f} s")
        runs = train(workspace, options.base_steps, options.sft_steps)
        vocabulary = runs["chunk"].vocabulary
        whole_mix, samples = (
            {mode: read_samples(workspace, vocabulary, mode, splits) for mode in MODES}
            for splits in (("train", "valid", "test"), ("test",))
        )
        unit_s = seconds_per_unit(workspace, runs["chunk"].info, "en")
        compare_tokens(whole_mix, vocabulary)
        compare_seconds(samples, runs)
        tokens, seconds = compare_own(samples, runs, unit_s)
    print(f"\n{time.monotonic() - begun:.0f} s in all\n")
    report("tokens until the first complete chunk of speech, full : interleaved", tokens, 3)
    report("seconds until the first complete chunk of speech, full : interleaved", seconds, 3)


if __name__ == "__main__":
    main()
