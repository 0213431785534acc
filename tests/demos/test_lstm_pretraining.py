"""lstm-pretraining against torch.nn.LSTM, against Bayes by enumeration, and without what makes it work."""

from functools import cache
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn

from demos.contract import Cell, Result
from demos.language_models import lstm_pretraining
from demos.language_models.lstm_pretraining import (
    FILLERS,
    LENGTH,
    LSTM,
    P_FILLER,
    TOPICS,
    WORDS,
    Direction,
    LanguageModel,
    Params,
    depth,
    least_loss,
    run,
    word_probabilities,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "lstm-pretraining")
    assert metric(outcome, "accuracy") > metric(outcome, "accuracy from scratch")
    deep = outcome.tables[0].rows[3]
    assert float(deep[1]) < float(deep[2])  # less than its context allows


HELPS, FEW = "Text without labels helps", "It learned what words are about"


@pytest.mark.parametrize(
    ("preset", "labels", "missed"),
    [("from scratch", 20, {HELPS, FEW}), ("both-deep", 20, {FEW}), ("many labels", 1000, {HELPS})],
)
def test_what_a_classifier_gains_depends_on_its_start(
    preset: str, labels: int, missed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstm_pretraining, "LABELS", (labels,))
    monkeypatch.setattr(lstm_pretraining, "DRAWS", 1)
    outcome = run(Params.model_validate({"steps": 80, **Params.presets[preset].values}))
    assert missed <= {*failed(outcome)}


def test_the_cell_is_torchs_lstm() -> None:
    ours, theirs = LSTM(5, 7), nn.LSTM(5, 7, batch_first=True)
    assert ours.read.bias is not None
    theirs.load_state_dict({
        "weight_ih_l0": ours.read.weight, "bias_ih_l0": ours.read.bias,
        "weight_hh_l0": ours.recur.weight, "bias_hh_l0": torch.zeros(28),
    })  # fmt: skip
    x = torch.randn(3, 9, 5, generator=rng())
    torch.testing.assert_close(ours(x), theirs(x)[0], atol=1e-5, rtol=0)


def test_words_follow_their_distribution() -> None:
    p = word_probabilities()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(TOPICS))
    words, topic = write(4_000, rng())
    assert words.shape == (4_000, LENGTH)
    assert (words >= TOPICS * WORDS).float().mean().item() == pytest.approx(P_FILLER, abs=0.01)
    assert words.max().item() < TOPICS * WORDS + FILLERS
    spoken = words[topic == 2]
    assert {*(spoken[spoken < TOPICS * WORDS] // WORDS).numpy().tolist()} == {2}


def test_the_least_loss_is_bayes_rule_over_all_topics() -> None:
    words, p = write(20, rng(1))[0], word_probabilities()
    everything = torch.ones(LENGTH, LENGTH, dtype=torch.bool)

    def joint(sentence: Tensor, places: list[int]) -> float:
        return sum(p[k, sentence[places]].prod().item() for k in range(TOPICS)) / TOPICS

    for mask in (everything.tril(-1), everything.triu(1), everything ^ torch.eye(LENGTH, dtype=torch.bool)):
        by_hand = 0.0
        for sentence, t in product(words, range(LENGTH)):
            seen: list[int] = mask[t].nonzero()[:, 0].numpy().tolist()
            by_hand -= torch.tensor(joint(sentence, [*seen, t]) / joint(sentence, seen)).log().item()
        assert least_loss(words, mask) == pytest.approx(by_hand / words.numel(), rel=1e-4)


@pytest.mark.parametrize(
    ("direction", "seen"),
    [
        ("forward", {0, 1, 2}),
        ("backward", {4, 5}),
        ("both-shallow", {0, 1, 2, 4, 5}),
        ("both-deep", {0, 1, 2, 3, 4, 5}),
    ],
)
def test_only_the_deep_model_sees_the_word_that_it_predicts(direction: Direction, seen: set[int]) -> None:
    model, words = LanguageModel(direction, rng()), write(1, rng(1))[0]
    beside = {"ahead": 3, "back": 5}  # the states just before and just after the word at 3, </s> and <s> counted

    def near(words: Tensor) -> Tensor:
        return torch.cat([h[:, beside[name]] for name, h in model.states(words).items()], dim=1)

    def changed(place: int) -> Tensor:
        other = words.clone()
        other[0, place] = (other[0, place] + 1) % WORDS
        return other

    assert {place for place in range(LENGTH) if not torch.equal(near(words), near(changed(place)))} == seen


def test_the_loss_starts_near_that_of_guessing_and_marks_are_never_asked_for() -> None:
    model, words = LanguageModel("forward", rng()), write(64, rng(1))[0]
    nn.init.zeros_(model.words.weight)
    assert model.loss(words).item() == pytest.approx(torch.tensor(float(model.words.num_embeddings)).log().item())


def test_the_longest_chain_is_counted_not_the_number_of_operations() -> None:
    x = torch.zeros(3, requires_grad=True)
    once = x.exp()
    both = once.sin() + once.cos()  # two side by side count once, then their sum
    assert depth(both.grad_fn, {}) == depth(once.grad_fn, {}) + 2
    lstm, x = LSTM(4, 4), torch.zeros(1, 20, 4, requires_grad=True)
    chains = [depth(lstm(x[:, :n])[0, -1].grad_fn, {}) for n in range(1, 20)]
    assert len({after - before for before, after in pairwise(chains)}) == 1  # the same for every further word
    assert chains[1] > chains[0]
