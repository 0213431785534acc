from functools import cache

import pytest
import torch

from demos.contract import Result
from demos.language_models.contextual_embeddings import (
    AT,
    CLUE_IDS,
    LSTM,
    SENSES,
    VOCABULARY,
    BiLM,
    Params,
    accuracy,
    learn_mix,
    mix,
    run,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "contextual-embeddings")


def test_the_table_of_words_cannot_tell_senses_apart() -> None:
    outcome = run(Params.model_validate({**Params.presets["static"].values, "steps": 50}))
    assert {"Vectors in context can", "And both directions are not"} <= set(failed(outcome))
    assert metric(outcome, "sense-accuracy") <= 0.6


@pytest.mark.parametrize("word", ["bat", "spring", "light"])
def test_other_words_have_two_senses_too(word: str) -> None:
    outcome = run(Params.model_validate({"word": word, "steps": 120}))
    assert metric(outcome, "sense-accuracy") >= 0.9
    assert metric(outcome, "clue to the right, forward alone") <= 0.65


@torch.no_grad()
def test_the_layer_is_torch_s_lstm() -> None:
    ours, theirs = LSTM(8, rng()), torch.nn.LSTM(8, 8, batch_first=True)
    theirs.load_state_dict({
        "weight_ih_l0": ours.weight[:, :8], "weight_hh_l0": ours.weight[:, 8:],
        "bias_ih_l0": ours.bias, "bias_hh_l0": torch.zeros(32),
    })  # fmt: skip
    x = torch.randn(3, 7, 8, generator=rng(1))
    assert torch.allclose(ours(x), theirs(x)[0], atol=1e-5)


@torch.no_grad()
def test_forward_vectors_see_the_left_alone_and_backward_ones_the_right() -> None:
    model, words = BiLM(rng()), write(20, None, "both", rng(1))[0]
    other = words.clone()
    other[:, AT + 1 :] = 5  # another right side
    (ahead, back), (ahead_other, back_other) = model.layers(words), model.layers(other)
    assert torch.equal(ahead[:, :, : AT + 1], ahead_other[:, :, : AT + 1])
    assert not torch.allclose(back[1:, :, AT], back_other[1:, :, AT])
    assert torch.equal(ahead[0], back[0])  # one table of words serves both
    mirrored = words.clone()
    mirrored[:, :AT] = 5
    assert torch.equal(back[:, :, AT:], model.layers(mirrored)[1][:, :, AT:])


def test_the_loss_is_that_of_guessing_for_a_model_that_knows_nothing() -> None:
    model = BiLM(rng())
    torch.nn.init.zeros_(model.words.weight)
    words, _ = write(8, None, "both", rng(1))
    assert model.loss(words).item() == pytest.approx(torch.tensor(float(len(VOCABULARY))).log().item())


def test_clues_belong_to_the_sense_and_stand_where_they_were_asked() -> None:
    for clues in ("both", "right"):
        words, sense = write(500, "bat", clues, rng())
        assert (words[:, AT] == VOCABULARY.index("bat")).all()
        mine, other = CLUE_IDS[list(SENSES).index("bat")][sense], CLUE_IDS[list(SENSES).index("bat")][1 - sense]
        is_clue = (words[:, :, None] == mine[:, None]).any(dim=2)
        assert not (words[:, :, None] == other[:, None]).any()
        assert is_clue[:, AT + 1 : -1].float().mean().item() == pytest.approx(0.5, abs=0.05)
        assert is_clue[:, 1:AT].float().mean().item() == pytest.approx(0.5 if clues == "both" else 0, abs=0.05)


def test_the_mix_learns_which_layer_tells() -> None:
    sense = torch.arange(60) % 2
    layers = torch.randn(3, 60, 4, generator=rng())
    layers[1, :, 0] = 4 * (2 * sense - 1)  # the middle layer knows
    s = learn_mix(layers, sense)
    assert s.sum().item() == pytest.approx(1)
    assert s.argmax() == 1
    assert torch.allclose(mix(layers, torch.eye(3)[1]), layers[1])


def test_accuracy_is_by_the_nearest_mean() -> None:
    known, sense = torch.tensor([[0.0], [2], [10], [12]]), torch.tensor([0, 0, 1, 1])
    new, truth = torch.tensor([[5.0], [7], [0], [20]]), torch.tensor([0, 1, 1, 1])
    assert accuracy(known, sense, new, truth) == 0.75
