"""language-model-ladder against counts by hand, the exact entropy of its source, and models that know the answer."""

from functools import cache

import pytest
import torch
from torch import Tensor

from demos.contract import Result
from demos.language_models.language_model_ladder import (
    BACK,
    WINDOW,
    FeedForward,
    Params,
    Recurrent,
    V,
    agreement,
    count,
    cut,
    perplexity,
    run,
    write,
)
from demos.shared.grammar import CLASSES, ID, WORDS, draw_text, spell
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "language-model-ladder")


def test_networks_learn_little_text_by_heart() -> None:
    outcome = run(Params.model_validate(Params.presets["little text"].values))
    assert "GPT agrees over a clause" in failed(outcome)
    assert metric(outcome, "perplexity of GPT, 2018") > metric(outcome, "perplexity of trigram, 1948")


def test_after_few_steps_the_gpt_does_not_agree() -> None:
    assert "GPT agrees over a clause" in failed(run(Params.model_validate(Params.presets["stopped early"].values)))


def test_counts_are_those_of_the_text_and_give_probabilities() -> None:
    text = torch.tensor([0, 1, 2, 0, 1, 3, 0, 1, 2])
    unigram, trigram = count(text)
    words = torch.tensor([[0, 1], [5, 6]])
    for model in (unigram, trigram):
        assert torch.allclose(model(words).exp().sum(dim=2), torch.ones(2, 2), atol=1e-5)
    assert unigram(words)[0, 0, 1].exp().item() == pytest.approx((3 + 0.1) / (9 + 0.1 * V))
    one = (2 + 0.1) / (9 + 0.1 * V)  # of word 2
    after_1 = (2 + 2 * one) / (3 + 2)  # twice of three times
    after_01 = (2 + 2 * after_1) / (3 + 2)
    assert trigram(words)[0, 1, 2].exp().item() == pytest.approx(after_01, rel=1e-5)
    assert torch.allclose(trigram(words)[1, 1].exp(), trigram(torch.tensor([[7, 6]]))[0, 1].exp())  # unseen pairs


def test_perplexity_is_the_number_of_equally_likely_words() -> None:
    windows = cut(draw_text(300, False, rng()))
    assert windows.shape[1] == WINDOW + 1
    assert torch.equal(windows[0, -1:], windows[1, :1])
    assert perplexity(lambda words: torch.zeros(*words.shape, V), windows) == pytest.approx(V, rel=1e-4)

    def knows(words: Tensor) -> Tensor:
        following = torch.cat([windows[:, 1:WINDOW], windows[:, -1:]], dim=1)
        return 50 * torch.nn.functional.one_hot(following, V).float() + 0 * words[..., None]

    assert perplexity(knows, windows) == pytest.approx(1)


def test_agreement_is_asked_of_the_subject_and_not_of_the_nearest_noun() -> None:
    def by_noun(number: int) -> float:
        """What a model scores whose verbs agree with the noun at one place of the prompt."""

        def model(words: Tensor) -> Tensor:
            plural = torch.tensor([WORDS[int(word)] in CLASSES["N"] for word in words[:, number]])
            logits = torch.zeros(*words.shape, V)
            for letters, rows in (("vi", ~plural), ("VI", plural)):
                for word in (word for letter in letters for word in CLASSES[letter]):
                    logits[rows, -1, ID[word]] = 5.0
            return logits

        return agreement(model)

    assert by_noun(2) == 1
    assert by_noun(5) == 0


@torch.no_grad()
def test_each_network_sees_as_far_back_as_it_says_and_never_ahead() -> None:
    words = draw_text(100, False, rng())[: 2 * WINDOW].view(2, WINDOW)
    for network, back in ((FeedForward(rng(1)), BACK), (Recurrent(rng(1)), WINDOW)):
        other = words.clone()
        other[:, 10] = (other[:, 10] + 1) % V
        moved = (network(words) - network(other)).abs().amax(dim=(0, 2)) > 1e-7
        assert not moved[:10].any()
        assert moved[10 : 10 + min(back, 4)].all()
        assert not moved[10 + back :].any()


def test_a_sentence_ends_at_its_stop() -> None:
    text = draw_text(2000, False, rng())
    rows = write(count(text)[1], 50, rng(1))
    assert all(row.index(".") == len(row) - 1 for row in rows if "." in row)
    assert sum("." in row for row in rows) > 40
    assert set(spell(text)) == set(WORDS[:V]) - {"capital", "of", "is"}


def test_the_floor_is_the_entropy_of_the_grammar() -> None:
    assert metric(result(), "perplexity of the source") == pytest.approx(3.316, abs=5e-4)
