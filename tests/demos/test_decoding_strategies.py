"""decoding-strategies against transformers' logits warpers, and decoders that have become greedy."""

import itertools
import math

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from demos.contract import Cell, Result
from demos.shared.grammar import draw_text
from demos.transformers.decoding_strategies import (
    Params,
    Trigrams,
    V,
    beam_search,
    distinct_2,
    keep_nucleus,
    keep_top_k,
    repetition,
    run,
    warp,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

VARIED = "Nucleus text is more varied than greedy's"
EMPTY = torch.LongTensor(1, 0)


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "decoding-strategies")


def test_with_one_candidate_left_nucleus_is_greedy() -> None:
    outcome = result(**Params.presets["p near 0"].values)
    assert failed(outcome) == [VARIED]
    assert metric(outcome, "distinct-2") < 0.2  # of words equally likely either may be the one


def test_a_low_temperature_gives_likelier_and_less_varied_text() -> None:
    cold, usual = result(**Params.presets["cold"].values), result()
    assert metric(cold, "distinct-2") < metric(usual, "distinct-2") - 0.1
    assert metric(cold, "mean log-probability") > metric(usual, "mean log-probability") + 0.1


def test_a_high_temperature_gives_varied_and_unlikely_text() -> None:
    hot, usual = result(**Params.presets["hot"].values), result()
    assert failed(hot) == []
    assert metric(hot, "mean log-probability") < metric(usual, "mean log-probability") - 0.5


def test_one_beam_gains_nothing() -> None:
    assert failed(result(**Params.presets["one beam"].values)) == ["Beam search finds likelier text than greedy"]


@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_what_is_kept_is_what_transformers_keeps(k: int, p: float, temperature: float) -> None:
    logits = 3 * torch.randn(40, V, generator=rng())
    cooled = TemperatureLogitsWarper(temperature)(EMPTY, logits) if temperature != 1.0 else logits
    torch.testing.assert_close(keep_top_k(logits / temperature, k), TopKLogitsWarper(k)(EMPTY, cooled))
    torch.testing.assert_close(keep_nucleus(logits / temperature, p), TopPLogitsWarper(p)(EMPTY, cooled))
    params = Params.model_validate({"k": k, "p": p, "temperature": temperature})
    torch.testing.assert_close(warp(logits, "nucleus", params), TopPLogitsWarper(p)(EMPTY, cooled))


def test_the_distribution_of_the_corpus_page() -> None:
    logits = torch.tensor([[0.50, 0.20, 0.15, 0.10, 0.05]]).log()
    assert keep_nucleus(logits, 0.9).isfinite().numpy().tolist() == [[True, True, True, True, False]]
    top = keep_top_k(logits, 2).softmax(dim=1)[0].numpy().tolist()
    assert top == pytest.approx([0.714, 0.286, 0, 0, 0], abs=1e-3)


def test_a_narrow_beam_can_miss_what_trying_all_continuations_finds() -> None:
    model = Trigrams(draw_text(500, False, rng()))
    prompt = torch.tensor([[0, 1]])
    words = torch.tensor(list(itertools.product(range(20), repeat=2)))
    every = torch.cat([prompt.repeat(len(words), 1), words], dim=1)
    best = model.score(every, 2).max().item()
    assert model.score(beam_search(model, prompt, V * V, 2), 2).item() >= best - 1e-5


def test_every_row_of_the_model_is_a_distribution() -> None:
    model = Trigrams(draw_text(500, True, rng()))
    torch.testing.assert_close(model.log_p.exp().sum(dim=2), torch.ones(V, V).double(), rtol=0, atol=1e-9)


def test_variety_and_repetition_of_known_texts() -> None:
    loop, fresh = torch.tensor([[0, 1] * 5]), torch.arange(10)[None]
    assert (distinct_2(loop), distinct_2(fresh)) == (pytest.approx(2 / 9), 1)
    assert (repetition(loop), repetition(fresh)) == (pytest.approx(5 / 7), 0)
    assert math.isclose(distinct_2(torch.cat([loop, fresh])), (2 + 9) / 18)
