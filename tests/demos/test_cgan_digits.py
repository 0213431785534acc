"""cgan-digits: its losses against torch's own, its ways to condition, and what happens without one."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from demos.contract import Cell, Images, Lines, Result
from demos.gans.cgan_digits import (
    LETTERS,
    WORDS,
    Condition,
    Discriminator,
    Generator,
    Params,
    d_loss,
    draw_weights,
    generate,
    obeyed,
    read,
    run,
)
from demos.shared.digits import load_digits
from demos.shared.judge import train_judge
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "cgan-digits")
    grid, many, by_class = outcome.figures[:3]
    assert isinstance(grid, Images)
    assert isinstance(by_class, Lines)
    assert grid.row_labels[7] == "7: 0000000100"
    assert many.title == "Many drawings of 7"
    assert list(by_class.series) == [str(digit) for digit in range(10)]


def test_without_the_condition_the_request_is_met_by_chance() -> None:
    outcome = result(steps=500, **Params.presets["no condition"].values)
    assert failed(outcome) == [
        "Samples are recognised as the class asked for",
        "So are those of the worst class",
        "The same noise draws another digit under another label",
    ]
    assert metric(outcome, "obeyed") == metric(outcome, "obeyed without a condition")


def test_words_with_mismatched_pairs_are_obeyed() -> None:
    outcome = result(**Params.presets["words"].values)
    assert "Samples are recognised as the class asked for" not in failed(outcome)
    assert [row[1] for row in outcome.tables[0].rows] == WORDS


def test_the_losses_are_torchs_binary_cross_entropy() -> None:
    real, fake, wrong = torch.randn(3, 20, generator=rng())
    ones, zeros = torch.ones(20), torch.zeros(20)
    plain = bce(real, ones) + bce(fake, zeros)
    torch.testing.assert_close(d_loss(real, fake), plain)
    both = bce(real, ones) + (bce(fake, zeros) + bce(wrong, zeros)) / 2
    torch.testing.assert_close(d_loss(real, fake, wrong), both)


def test_words_are_spelled_letter_by_letter() -> None:
    spelled = ["".join(chr(96 + int(letter)) for letter in row if letter) for row in LETTERS]
    assert spelled == WORDS


@pytest.mark.parametrize("kind", ["one-hot", "embedding", "words", "none"])
@torch.no_grad()
def test_each_way_to_condition_reaches_both_networks(kind: str) -> None:
    G, D = Generator(kind).eval(), Discriminator(kind)
    draw_weights(G, rng())
    draw_weights(D, rng(1))
    z, x = torch.randn(4, 16, generator=rng(2)), load_digits()[0][:4]
    one, other = torch.full((4,), 1), torch.full((4,), 2)
    assert torch.equal(G(z, one), G(z, other)) == (kind == "none")
    assert torch.equal(D(x, one), D(x, other)) == (kind == "none")
    assert len(Condition(kind)(torch.arange(10)).unique(dim=0)) == (1 if kind == "none" else 10)


def test_a_grid_has_one_noise_for_each_column_and_one_label_for_each_row() -> None:
    G = Generator("one-hot")
    draw_weights(G, rng())
    z = torch.randn(3, 16, generator=rng(1))
    images = generate(G, z)
    assert G.training
    with torch.no_grad():
        G.eval()
        torch.testing.assert_close(images[4, 2], G(z[2:3], torch.tensor([4]))[0])


def test_real_digits_are_read_as_what_they_are() -> None:
    x, y = load_digits()
    rows = torch.stack([x[y == digit][:100] for digit in range(10)])
    assert obeyed(read(train_judge(0), rows)).min() > 0.93


def test_obedience_is_counted_row_by_row() -> None:
    seen = torch.arange(10)[:, None].repeat(1, 4)
    seen[3, :3] = 8
    assert obeyed(seen).numpy().tolist() == [1, 1, 1, 0.25, 1, 1, 1, 1, 1, 1]
