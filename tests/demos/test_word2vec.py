"""word2vec against the formula of its loss, by hand; gensim trains with free-running threads and is not installed."""

import math
from functools import cache

import pytest
import torch

from demos.contract import Result
from demos.language_models.word2vec import (
    ANALOGIES,
    KINDS,
    SENTENCES,
    SUBSAMPLE,
    Params,
    check_loss,
    loss,
    nearest,
    run,
    subsample,
    windows,
    write_text,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "word2vec")


@pytest.mark.parametrize("preset", ["no negatives", "four dimensions", "window 1"])
def test_analogies_need_noise_dimensions_and_more_than_the_next_word(preset: str) -> None:
    outcome = run(Params.model_validate(Params.presets[preset].values))
    assert failed(outcome) == ["Differences of vectors mean something"]
    assert metric(outcome, "analogies in first place") < 0.5


def test_without_noise_the_loss_reaches_zero() -> None:
    outcome = run(Params.model_validate({**Params.presets["no negatives"].values, "epochs": 2}))
    assert metric(outcome, "last loss") < 0.01


def test_cbow_finds_the_analogies_too() -> None:
    assert failed(run(Params.model_validate(Params.presets["cbow"].values))) == []


def test_the_gradient_moves_a_word_to_its_neighbour_and_away_from_noise() -> None:
    h, u, noise = (
        torch.randn(*shape, generator=rng(n)).double() for n, shape in enumerate(((6, 5), (6, 5), (6, 3, 5)))
    )
    h.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(h, u, noise).sum(), h)
    towards = (torch.sigmoid((u * h).sum(1)) - 1)[:, None] * u
    away = (torch.sigmoid((noise * h[:, None]).sum(2))[:, :, None] * noise).sum(1)
    assert torch.allclose(gradient, towards + away)


def test_the_loss_of_undecided_vectors_is_ln_2_for_each_word_asked_about() -> None:
    h, zero = torch.randn(4, 5, generator=rng()), torch.zeros(4, 3, 5)
    assert loss(h, zero[:, 0], zero).numpy() == pytest.approx(4 * math.log(2), abs=1e-6)
    v, u = torch.randn(2, 9, 4, generator=rng())
    assert max(check_loss(v, u, 3, rng(1))) < 1e-6


def test_windows_stay_in_their_sentence_and_near_words_are_met_more_often() -> None:
    tokens, sentence = torch.arange(10, 18), torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    assert windows(tokens, sentence, 1, rng()).numpy().tolist() == [
        [-1, 11], [10, 12], [11, 13], [12, 14], [13, -1], [-1, 16], [15, 17], [16, -1]
    ]  # fmt: skip
    many = windows(torch.zeros(4000, dtype=torch.long), torch.zeros(4000), 4, rng())
    met = (many >= 0).float().mean(dim=0)  # offsets −4 … −1, 1 … 4
    assert met.numpy() == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25], abs=0.03)


def test_frequent_words_are_dropped_as_eq_5_says() -> None:
    counts = torch.tensor([9900.0, 100.0])
    tokens = torch.tensor([0] * 9900 + [1] * 100)
    kept = subsample(tokens, counts, rng())
    assert kept[:9900].float().mean().item() == pytest.approx((SUBSAMPLE / 0.99) ** 0.5, abs=0.01)
    assert kept[9900:].all()


def test_the_text_says_nothing_of_pairs() -> None:
    text = write_text(rng())
    assert len(text) == SENTENCES
    pairs = [
        {a, b}
        for rows in (("his", "hers"), ("countries", "capitals"))
        for a, b in zip(*map(KINDS.get, rows), strict=True)
    ]
    assert not any(pair <= set(words) for words in text for pair in pairs)
    assert len(ANALOGIES) == 2 * 8 * 7
    assert ("man", "woman", "king", "queen") in ANALOGIES


def test_nearest_is_by_direction_alone() -> None:
    v = torch.tensor([[10.0, 0], [0.1, 0.1], [-3, 1], [0, 5]])
    assert nearest(v, torch.tensor([1.0, 0.2])).numpy().tolist() == [0, 1, 3, 2]
