"""batching-padding against torch's padding and encoder layer, and what padding does without its mask."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from demos.contract import Cell, Result
from demos.transformers.batching_padding import (
    LONGEST,
    PAD,
    WIDTH,
    Params,
    Reader,
    draw_lengths,
    gradients_of_each,
    make_batches,
    pad,
    run,
    waste,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

SENTENCES = [torch.tensor([3, 1, 4, 1, 5]), torch.tensor([9, 2, 6]), torch.tensor([5, 3, 5, 8])]


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "batching-padding")


def test_without_the_mask_outputs_depend_on_the_company() -> None:
    outcome = result(**Params.presets["no mask"].values)
    assert failed(outcome) == ["A sentence gives the same alone and in a padded batch"]


def test_bucketed_batches_are_masked_too() -> None:
    assert failed(result(**Params.presets["bucketed"].values)) == []


def test_padding_is_torchs() -> None:
    assert torch.equal(pad(SENTENCES, "dynamic"), pad_sequence(SENTENCES, batch_first=True, padding_value=PAD))
    static = pad(SENTENCES, "static")
    assert static.shape == (3, LONGEST)
    assert (static[:, 5:] == PAD).all()


def test_the_masked_layer_is_torchs_with_a_padding_mask() -> None:
    ours = Reader(mask=True, rng=rng())
    theirs = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, dropout=0.0, batch_first=True)
    names = {"qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "up.": "linear1.", "down.": "linear2."}
    weights = {
        name: weight for name, weight in ours.state_dict().items() if name.split(".")[0] not in ("words", "places")
    }
    for here, there in names.items():
        weights = {name.replace(here, there): weight for name, weight in weights.items()}
    theirs.load_state_dict(weights)
    batch = pad(SENTENCES, "dynamic")
    x = ours.words(batch) + ours.places.weight[: batch.shape[1]]
    expected = theirs(x, src_key_padding_mask=batch == PAD)
    real = batch != PAD
    torch.testing.assert_close(ours(batch)[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("strategy", ["static", "dynamic", "bucketed"])
def test_an_epoch_holds_every_sentence_once(strategy: str) -> None:
    lengths = draw_lengths(100, rng())
    batches = make_batches(lengths, 7, Params.model_validate({"strategy": strategy}).strategy, rng(1))
    assert torch.cat(batches).sort().values.numpy().tolist() == list(range(100))


def test_waste_of_a_known_epoch() -> None:
    lengths = torch.tensor([4, 8])
    assert waste(lengths, 2, "dynamic", rng()) == (pytest.approx(4 / 16), pytest.approx(128 / 80))
    assert waste(lengths, 1, "dynamic", rng()) == (0, 1)
    assert waste(lengths, 2, "static", rng())[0] == pytest.approx(1 - 12 / 128)


def test_gradients_of_single_sentences_average_to_that_of_the_mean_loss() -> None:
    model, targets = Reader(mask=True, rng=rng()), torch.tensor([1, 2, 3])
    each = gradients_of_each(model, SENTENCES, targets)
    logits = [model(some[None])[0].mean(dim=0) @ model.words.weight.T for some in SENTENCES]
    loss = nn.functional.cross_entropy(torch.stack(logits), targets)
    together = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(each.mean(dim=0), together, rtol=0, atol=1e-5)
