"""The transformer that demos share, against torch's own layer."""

import pytest
import torch
from torch import Tensor, nn

from demos.shared.transformer import Block, Transformer, extend, train
from tests.demos.outcomes import rng

WORDS, LENGTH = 11, 8


def model(*, causal: bool) -> Transformer:
    return Transformer(WORDS, LENGTH, 16, 2, 2, rng(), causal=causal)


def words(count: int) -> Tensor:
    return torch.randint(WORDS, (count, LENGTH), generator=rng())


def test_a_block_is_torchs_encoder_layer_with_the_norm_first() -> None:
    block = Block(16, 2)
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    attention = layer.self_attn
    theirs = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    ours = (block.qkv.weight, block.qkv.bias, block.out.weight, block.out.bias)
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            assert other is not None
            other.copy_(mine)
        for mine, other in ((block.up, layer.linear1), (block.down, layer.linear2)):
            other.weight.copy_(mine.weight)
            other.bias.copy_(mine.bias)
    x = torch.randn(3, LENGTH, 16, generator=rng())
    torch.testing.assert_close(block(x), layer(x), rtol=0, atol=1e-6)


def test_a_causal_model_does_not_see_later_words_and_an_encoder_does() -> None:
    given, changed = words(4), words(4)
    changed[:, -1] = (given[:, -1] + 1) % WORDS
    changed[:, :-1] = given[:, :-1]
    seen = {causal: (model(causal=causal)(given) - model(causal=causal)(changed))[:, :-1] for causal in (True, False)}
    assert seen[True].abs().max() == 0
    assert seen[False].abs().max() > 1e-3


def test_masked_words_change_nothing() -> None:
    encoder, given, changed = model(causal=False), words(4), words(4)
    changed[:, :5] = given[:, :5]
    changed[:, 5:] = (given[:, 5:] + 1) % WORDS
    mask = (torch.arange(LENGTH) < 5)[None, None, None]
    assert torch.equal(encoder(given, mask)[:, :5], encoder(changed, mask)[:, :5])


def test_training_lowers_the_loss_and_writing_repeats_what_was_learned() -> None:
    causal = model(causal=True)
    text = (torch.arange(LENGTH) + torch.arange(3)[:, None]) % WORDS  # each word is followed by the next one
    seen = list[float]()

    def loss() -> Tensor:
        return nn.functional.cross_entropy(causal(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    train(causal, loss, 60, 1e-2, lambda _, value: seen.append(value))
    assert len(seen) == 60
    assert seen[-1] < 0.1 < seen[0]
    assert torch.equal(extend(causal, text[:, :1], LENGTH - 1, 0, rng()), text)


@pytest.mark.parametrize("steps", [5, 10, 11, 30])
def test_training_takes_as_many_steps_as_were_asked_for(steps: int) -> None:
    causal, text = model(causal=True), words(4)
    seen = list[int]()

    def loss() -> Tensor:
        return nn.functional.cross_entropy(causal(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    train(causal, loss, steps, 1e-2, lambda step, _: seen.append(step))
    assert seen == list(range(steps))
