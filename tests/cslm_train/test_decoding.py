from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq2.nn import BatchLayout
from tiny_run import make_run

from cslm_data.errors import UsageError
from cslm_data.framing import BOS, END, QUESTION, SPEECH_START
from cslm_data.keys import keyed_rng
from cslm_train.config import RopeScaling
from cslm_train.generating.cache import ReadSequences
from cslm_train.generating.decoding import Prompt, decode_batch, room, stream
from cslm_train.generating.grammar import CHAIN, SPEECH_ANSWER, TEXT_ANSWER, TEXT_CHAIN, Grammar
from cslm_train.generating.sampling import Sampling, choose
from cslm_train.models.family import create_model
from cslm_train.models.loading import LoadedRun, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> LoadedRun:
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "pretrain", tokenizer_folder))


def make_prompts(run: LoadedRun, count: int = 7, *, max_tokens: int = 24) -> list[Prompt]:
    """Prompts of 3 to 21 random ids."""
    prompts = []
    for index in range(count):
        rng = keyed_rng(7, str(index))
        length = 3 + 3 * ((index * 5) % 7)
        ids = rng.integers(0, run.vocabulary.size, length, dtype=np.int32)
        prompts.append(Prompt(key=f"p{index}", ids=ids, max_tokens=max_tokens))
    return prompts


@torch.inference_mode()
def greedy_by_full_forward(run: LoadedRun, prompt: Prompt) -> list[int]:
    """The likeliest tokens, each from a plain forward pass over everything before it."""
    ids = prompt.ids.tolist()
    answer: list[int] = []
    while len(answer) < prompt.max_tokens:
        seqs = torch.tensor([ids + answer])
        token = int(run.model(seqs, BatchLayout.of(seqs))[0, -1].argmax())
        answer.append(token)
        if token == run.vocabulary.control_id(END):
            break
    return answer


def test_the_cache_changes_nothing(run: LoadedRun) -> None:
    for prompt in make_prompts(run):
        expected = greedy_by_full_forward(run, prompt)
        assert list(stream(run, prompt)) == expected
        assert list(stream(run, prompt, cached=False)) == expected


LLAMA3 = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=32)


def with_architecture(run: LoadedRun, **changes: Any) -> LoadedRun:
    """Another model of random weights, biases and norms, far from uniform."""
    config = dataclasses.replace(run.info.config.model, **changes)
    torch.manual_seed(6)
    model = create_model(config, run.vocabulary).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(3 * parameter if parameter.ndim > 1 else torch.rand_like(parameter) + 1)
    info = dataclasses.replace(run.info, config=dataclasses.replace(run.info.config, model=config))
    return dataclasses.replace(run, model=model, info=info)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "llama", "rope_scaling": LLAMA3, "num_kv_heads": 4, "tied_embeddings": False},
        {"kind": "qwen2", "qkv_bias": True, "num_kv_heads": 1},
        {"kind": "qwen3", "qk_norm": True, "head_dim": 16, "rope_theta": 1e6},
    ],
)
def test_base_models_of_every_kind_are_decoded_as_by_their_forward_pass(
    run: LoadedRun, changes: dict[str, Any]
) -> None:
    other = with_architecture(run, **changes)
    prompts = make_prompts(other, 4)
    expected = [greedy_by_full_forward(other, prompt) for prompt in prompts]
    assert [list(answer.ids) for answer in decode_batch(other, prompts)] == expected


def test_weights_may_be_held_in_bf16(tmp_path: Path, tokenizer_folder: Path) -> None:
    folder = make_run(tmp_path / "run", tokenizer_folder)
    exact, half = load_run(folder), load_run(folder, precision="bf16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    ids_BS = torch.arange(20)[None]
    logits = [
        ReadSequences(run.model, num_sequences=1, capacity=20).read(ids_BS).float()
        for run in (exact, half)
    ]
    # bf16 holds 8 bits: two digits and a half, here through two layers.
    assert (logits[0] - logits[1]).abs().max() < 0.1 * logits[0].abs().max()
    assert logits[0].tolist() != logits[1].tolist()
    (prompt,) = make_prompts(half, 1)
    assert len(list(stream(half, prompt, sampling=Sampling(temperature=1.0, top_p=0.7)))) == 24


def test_the_cache_reads_stretches_of_any_length_as_the_forward_pass_does(run: LoadedRun) -> None:
    ids_BS = torch.from_numpy(keyed_rng(1, "ids").integers(0, run.vocabulary.size, (3, 12)))
    logits_BSV = run.model(ids_BS, BatchLayout.of(ids_BS))
    read = ReadSequences(run.model, num_sequences=3, capacity=12)
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        expected_BV = logits_BSV[:, end - 1]
        torch.testing.assert_close(
            read.read(ids_BS[:, begin:end]), expected_BV, atol=2e-5, rtol=1e-5
        )
    read.keep([2, 0])
    torch.testing.assert_close(
        read.read(ids_BS[[2, 0], 9:]), logits_BSV[[2, 0], -1], atol=2e-5, rtol=1e-5
    )


def test_a_longer_prompt_is_read_on_after_the_others_are_answered(run: LoadedRun) -> None:
    rng = keyed_rng(8, "lengths")
    prompts = [
        Prompt(
            key=f"p{length}",
            ids=rng.integers(0, run.vocabulary.size, length, dtype=np.int32),
            max_tokens=limit,
        )
        for length, limit in ((3, 2), (12, 3), (20, 6))
    ]
    together = decode_batch(run, prompts)
    assert [list(a.ids) for a in together] == [greedy_by_full_forward(run, p) for p in prompts]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, top_p=0.9, seed=3)])
@pytest.mark.parametrize("max_spread", [0, 4, 64])
def test_prompts_of_different_lengths_are_answered_together_as_one_by_one(
    run: LoadedRun, sampling: Sampling, max_spread: int
) -> None:
    prompts = make_prompts(run)
    alone = [list(stream(run, prompt, sampling=sampling)) for prompt in prompts]
    together = decode_batch(run, prompts, sampling=sampling, batch_size=4, max_spread=max_spread)
    assert [list(answer.ids) for answer in together] == alone
    assert [answer.key for answer in together] == [prompt.key for prompt in prompts]


def test_sampling_depends_on_the_seed_and_the_key_alone(run: LoadedRun) -> None:
    prompts = make_prompts(run)
    warm = Sampling(temperature=1.0, seed=1)
    first = decode_batch(run, prompts, sampling=warm)
    again = decode_batch(run, prompts[::-1][:3], sampling=warm)
    assert [a.ids for a in again] == [a.ids for a in first[::-1][:3]]
    other_seed = decode_batch(run, prompts, sampling=Sampling(temperature=1.0, seed=2))
    assert [a.ids for a in other_seed] != [a.ids for a in first]
    renamed = Prompt(key="another", ids=prompts[0].ids, max_tokens=24)
    assert list(stream(run, renamed, sampling=warm)) != list(first[0].ids)


def test_draws_have_the_probabilities_of_the_softmax_and_top_p_cuts_the_tail() -> None:
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    logits = probabilities.log()
    rng = [keyed_rng(0, "draws")]

    def share(sampling: Sampling, count: int = 4000) -> list[float]:
        drawn = [choose(logits, sampling, rng)[1][0] for _ in range(count)]
        return [drawn.count(token) / count for token in range(4)]

    # Four standard deviations of a share of 4000 draws are at most 0.032.
    assert share(Sampling(temperature=1.0)) == pytest.approx([0.1, 0.5, 0.15, 0.25], abs=0.032)
    # At temperature 1/2 the probabilities are squared: 1 : 25 : 2.25 : 6.25.
    assert share(Sampling(temperature=0.5)) == pytest.approx(
        [1 / 34.5, 25 / 34.5, 2.25 / 34.5, 6.25 / 34.5], abs=0.032
    )
    # 0.5 + 0.25 is the smallest set that holds 0.6.
    assert share(Sampling(temperature=1.0, top_p=0.6)) == pytest.approx(
        [0, 2 / 3, 0, 1 / 3], abs=0.032
    )
    assert share(Sampling(temperature=1.0, top_p=1e-9), 20) == [0, 1, 0, 0]
    assert share(Sampling(temperature=1e-300), 20) == [0, 1, 0, 0]


def draw_by_the_book(logits: np.ndarray, sampling: Sampling, uniform: float) -> int:
    """The nucleus of a row, its tokens from the likeliest on, and where a number falls in it."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    weights = np.exp((logits[order].astype(np.float64) - logits.max()) / sampling.temperature)
    shares = weights / weights.sum()
    kept = 0
    while kept < len(order) and shares[:kept].sum() < sampling.top_p:
        kept += 1
    sums = np.cumsum(shares[:kept])
    return order[int(np.searchsorted(sums, uniform * sums[-1], side="right"))]


@pytest.mark.parametrize("top_p", [0.1, 0.7, 0.999])
@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
def test_a_nucleus_is_drawn_from_alike_wherever_it_ends(top_p: float, spread: float) -> None:
    rng = keyed_rng(2, "nucleus")
    logits = (spread * rng.standard_normal((40, 1000))).astype(np.float32)
    logits[:10] = np.round(logits[:10])  # many are as likely as each other
    logits[10:20, 5:] = -np.inf  # what a grammar forbids
    sampling = Sampling(temperature=0.9, top_p=top_p)
    keys = [f"row{row}" for row in range(len(logits))]
    rngs = [keyed_rng(3, key) for key in keys]
    on_device, drawn = choose(torch.from_numpy(logits), sampling, rngs)
    assert on_device.tolist() == drawn
    uniform = [keyed_rng(3, key).random() for key in keys]
    assert drawn == [
        draw_by_the_book(row, sampling, number) for row, number in zip(logits, uniform, strict=True)
    ]


def test_decoding_stops_at_the_end_at_the_limit_and_where_the_model_ends(run: LoadedRun) -> None:
    (prompt,) = make_prompts(run, 1, max_tokens=5)
    assert len(list(stream(run, prompt))) == 5
    (answer,) = decode_batch(run, [prompt])
    assert answer.stop == "max_tokens"
    full = Prompt(key="full", ids=np.zeros(120, np.int32), max_tokens=500)
    assert room(run, full.ids) == 8
    assert len(list(stream(run, full))) == 8
    over = Prompt(key="over", ids=np.zeros(128, np.int32), max_tokens=5)
    assert decode_batch(run, [over, prompt])[0].ids == ()
    bos = np.array([run.vocabulary.control_id(BOS)], np.int32)
    held = Prompt(key="held", ids=bos, max_tokens=100, grammar=Grammar(run.vocabulary, TEXT_ANSWER))
    for seed in range(50):
        (answer,) = decode_batch(run, [held], sampling=Sampling(temperature=1.0, seed=seed))
        if answer.stop == "end":
            break
    assert answer.ids[-1] == run.vocabulary.control_id(END)
    assert answer.ids.count(run.vocabulary.control_id(END)) == 1


def test_a_grammar_holds_every_answer_to_its_form(run: LoadedRun) -> None:
    vocabulary = run.vocabulary
    warm = Sampling(temperature=3.0, seed=4)
    forms = [
        (TEXT_ANSWER, {"text"}),
        (SPEECH_ANSWER, {"control", "units"}),
        (TEXT_CHAIN, {"text", "control"}),
        (CHAIN, {"text", "control", "units"}),
    ]
    for rules, allowed in forms:
        grammar = Grammar(vocabulary, rules)
        prompts = [
            Prompt(key=p.key, ids=p.ids, max_tokens=100, grammar=grammar)
            for p in make_prompts(run, 6)
        ]
        answers = decode_batch(run, prompts, sampling=warm)
        assert all(grammar.accepts(list(a.ids)) for a in answers if a.stop == "end")
        for answer in answers:
            kinds = {vocabulary.kind(token) for token in answer.ids[:-1]}
            assert kinds <= allowed
    free = [Prompt(key=p.key, ids=p.ids, max_tokens=60) for p in make_prompts(run, 6)]
    answers = decode_batch(run, free, sampling=warm)
    assert not all(Grammar(vocabulary, CHAIN).accepts(list(a.ids)) for a in answers)


def test_answers_of_one_batch_may_follow_different_grammars(run: LoadedRun) -> None:
    grammars = [Grammar(run.vocabulary, rules) for rules in (TEXT_ANSWER, SPEECH_ANSWER)]
    prompts = [
        Prompt(key=p.key, ids=p.ids, max_tokens=20, grammar=grammars[index % 2])
        for index, p in enumerate(make_prompts(run))
    ]
    together = decode_batch(run, prompts)
    assert [list(a.ids) for a in together] == [list(stream(run, p)) for p in prompts]
    starts = [run.vocabulary.kind(a.ids[0]) for a in together]
    assert starts == ["text", "control", "text", "control", "text", "control", "text"]
    assert together[1].ids[0] == run.vocabulary.control_id(SPEECH_START)


def ids_of(run: LoadedRun, *names: str) -> list[int]:
    """Controls by name, a token of text, a unit."""
    table = {"text": 65, "units": run.vocabulary.unit_id(3)}
    return [table.get(name) or run.vocabulary.control_id(name) for name in names]


def test_a_chain_needs_its_text_and_its_speech_and_may_have_its_question(run: LoadedRun) -> None:
    chain = Grammar(run.vocabulary, CHAIN)
    ids = functools.partial(ids_of, run)
    question = (QUESTION, "text", "<|answer|>")
    spoken = ("text", "text", "<sosp>", "units", "<eosp>")
    assert chain.accepts(ids(*question, *spoken, END))
    assert chain.accepts(ids(*question, *spoken, *spoken, END))
    assert chain.accepts(ids(*spoken, END))
    assert chain.accepts(ids(*spoken, *spoken, END))
    for broken in (
        (*question, END),
        (*question, "text", END),
        (*question, *spoken),
        (*question, *spoken, "text", END),
        (*question, *spoken[1:-1], END),
        ("<|answer|>", *spoken, END),
        (*spoken, *question, *spoken, END),
        (END,),
        (QUESTION, "<|answer|>", *spoken, END),
        (*question, "<sosp>", "units", "<eosp>", END),
        (*question, "text", "<sosp>", "<eosp>", END),
        (*question, *spoken, END, END),
        (),
    ):
        assert not chain.accepts(ids(*broken))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_impossible_sampling_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"must be"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_a_written_answer_is_text_and_may_have_its_question(run: LoadedRun) -> None:
    written = Grammar(run.vocabulary, TEXT_CHAIN)
    question = (QUESTION, "text", "text", "<|answer|>")
    assert written.accepts(ids_of(run, *question, "text", END))
    assert written.accepts(ids_of(run, "text", "text", END))
    for broken in (
        (*question, END),
        (QUESTION, "<|answer|>", "text", END),
        (*question, "text"),
        (*question, "text", *question, "text", END),
        ("text", "<|answer|>", "text", END),
        (*question, "text", "<sosp>", "units", "<eosp>", END),
        ("<sosp>", "units", "<eosp>", END),
    ):
        assert not written.accepts(ids_of(run, *broken))
