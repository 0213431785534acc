from functools import cache

import pytest
import torch

from demos.contract import Result
from demos.shared.transformer import Transformer
from demos.transformers.transformer_vs_rnn import (
    ASK,
    HEADS,
    KEYS,
    LAYERS,
    VALUES,
    WIDTH,
    Attention,
    Gru,
    Params,
    Reader,
    draw_texts,
    judge,
    products_in_line,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "transformer-vs-rnn")
    assert metric(outcome, "weights of GRU") == pytest.approx(metric(outcome, "weights of attention"), rel=0.05)


def test_two_facts_fit_into_the_gru() -> None:
    outcome = run(Params.model_validate(Params.presets["few facts"].values))
    assert failed(outcome) == ["The GRU falls behind"]


def test_the_gru_is_torchs() -> None:
    ours, vectors = Gru(WIDTH), torch.randn(3, 12, WIDTH, generator=rng())
    theirs = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
    names = {"ih": ours.inward, "hh": ours.onward}
    theirs.load_state_dict({
        f"{kind}_{name}_l0": getattr(part, kind) for name, part in names.items() for kind in ("weight", "bias")
    })  # fmt: skip
    torch.testing.assert_close(ours(vectors), theirs(vectors)[1][0], atol=1e-6, rtol=1e-5)


def test_attention_is_the_shared_transformer() -> None:
    theirs = Transformer(ASK + KEYS, 20, WIDTH, LAYERS, HEADS, rng(), causal=True)
    ours = Attention(20)
    ours.load_state_dict({name: weight for name, weight in theirs.state_dict().items() if "words" not in name})
    texts, _ = draw_texts(4, 9, KEYS, rng(1))
    torch.testing.assert_close(ours(theirs.words(texts)), theirs.hidden(texts)[:, -1])


def test_products_in_line_are_counted_on_the_longest_path() -> None:
    a, b, c = (torch.randn(3, 3, generator=rng(seed)).requires_grad_() for seed in range(3))
    assert products_in_line(a + b) == 0
    assert products_in_line(a @ b + c) == 1
    assert products_in_line((a @ b) @ c + a @ c) == 2
    assert products_in_line(((a @ b).relu() @ c) @ (a @ b)) == 3
    assert products_in_line(torch.nn.functional.linear(a, b, c[0])) == 1
    query = a.view(1, 1, 3, 3)
    assert products_in_line(torch.nn.functional.scaled_dot_product_attention(query @ b, query, query)) == 2


@pytest.mark.parametrize("words", [4, 31])
def test_a_gru_waits_once_a_word_and_attention_five_times_a_layer(words: int) -> None:
    vectors = torch.randn(2, words, WIDTH, generator=rng())
    assert products_in_line(Gru(5)(vectors)) == words
    assert products_in_line(Attention(40)(vectors)) == 5 * LAYERS  # in, attention (one kernel), out, up, down


def test_the_gradient_reaches_what_an_untrained_gru_read_last() -> None:
    _, norms = judge(Reader(Gru(WIDTH), rng()), 30, KEYS, 0)
    assert len(norms) == 32
    assert norms[0] < 0.1 * norms[-1]


def test_the_fact_asked_for_stands_first_and_never_again() -> None:
    texts, answers = draw_texts(500, 7, KEYS, rng())
    assert texts.shape == (500, 9)
    keys, values, asked = texts[:, :-1] // VALUES, texts[:, :-1] % VALUES, texts[:, -1] - ASK
    assert torch.equal((keys == asked[:, None]).sum(dim=1), torch.ones(500).long())
    assert torch.equal(keys[:, 0], asked)
    assert torch.equal(values[:, 0], answers)
    assert set(keys.flatten().numpy().tolist()) == set(range(KEYS))
    assert set(asked.numpy().tolist()) == set(range(KEYS))
