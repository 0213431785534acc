from functools import cache

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, embedding

from demos.contract import Result
from demos.shared.grammar import CLASSES, ID, WORDS
from demos.transformers.token_embeddings import (
    NextWord,
    Params,
    look_up,
    multiply,
    neighbours,
    plane,
    purity,
    rows_moved,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "token-embeddings")


def test_before_training_neighbours_are_chance() -> None:
    outcome = run(Params.model_validate(Params.presets["before training"].values))
    assert failed(outcome) == ["Words of one kind become neighbours"]
    assert metric(outcome, "nearest word of the same kind") == metric(outcome, "the same before training")


def test_two_numbers_are_too_few() -> None:
    outcome = run(Params.model_validate(Params.presets["two numbers"].values))
    assert failed(outcome) == ["Words of one kind become neighbours"]


def test_an_untied_output_doubles_the_numbers() -> None:
    outcome = run(Params.model_validate({"tied": False, "steps": 0}))
    assert metric(outcome, "numbers in table and output") == 2 * metric(result(), "numbers in table and output")
    assert metric(result(), "numbers in table and output") == len(WORDS) * 32


def test_looking_up_is_torchs_embedding_with_the_same_gradient() -> None:
    table = torch.randn(11, 5, generator=rng(), requires_grad=True)
    words = torch.randint(11, (4, 3), generator=rng(1))
    ours, theirs, product = look_up(table, words), embedding(words, table), multiply(table, words)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, product)
    gradients = [torch.autograd.grad(each.square().sum(), table)[0] for each in (ours, theirs)]
    assert torch.equal(*gradients)


def test_the_network_is_the_one_of_torchs_own_parts() -> None:
    model, words = NextWord(8, False, rng()), torch.randint(len(WORDS), (6, 2), generator=rng(1))
    own = nn.Sequential(nn.Embedding(len(WORDS), 8), nn.Flatten(), nn.Linear(16, 8, bias=False), nn.Tanh(),
                        nn.Linear(8, len(WORDS)))  # fmt: skip
    parts = (model.table, model.hidden.T, model.output, model.bias)
    with torch.no_grad():
        for mine, other in zip(parts, own.parameters(), strict=True):
            other.copy_(mine)
    torch.testing.assert_close(model(words), own(words))


def test_a_tied_output_moves_every_row_and_an_untied_one_only_those_of_the_batch() -> None:
    words, following = torch.tensor([[1, 2], [2, 3]]), torch.tensor([4, 5])
    untied = rows_moved(NextWord(8, False, rng()), words, following) > 0
    assert untied.nonzero()[:, 0].numpy().tolist() == [1, 2, 3]
    assert (rows_moved(NextWord(8, True, rng()), words, following) > 0).all()


def test_neighbours_are_nearest_first_and_never_the_word_itself() -> None:
    table = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.1]])
    assert neighbours(table)[0].numpy().tolist() == [1, 2, 3]
    assert all(word not in row for word, row in enumerate(neighbours(table).numpy().tolist()))


def test_purity_is_1_where_every_kind_has_a_direction_of_its_own() -> None:
    table = torch.randn(len(WORDS), 64, generator=rng()) * 0.01
    for axis, letters in enumerate(("a", "n", "N", "vi", "VI", "x", "y")):
        for letter in letters:
            for word in CLASSES[letter]:
                table[ID[word], axis] += 1
    assert purity(table) == 1


def test_the_map_keeps_the_distances_of_rows_that_lie_in_a_plane() -> None:
    table = torch.randn(9, 2, generator=rng()) @ torch.randn(2, 12, generator=rng(1))
    flat = torch.tensor(plane(table))
    torch.testing.assert_close(torch.cdist(flat, flat), torch.cdist(table, table), rtol=0, atol=1e-4)


def test_the_loss_after_training_is_below_that_of_word_counts() -> None:
    logits = torch.zeros(1, len(WORDS))
    assert metric(result(), "last loss") < cross_entropy(logits, torch.tensor([0])).item() / 2
    assert metric(result(), "nearest word of the same kind") == pytest.approx(1, abs=0.05)
