"""The shared U-Net against diffusers' blocks and torch's attention, and what the demos rely on."""

from typing import Any

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from demos.shared.unet import Attention, Block, UNet, embed_time
from tests.demos.outcomes import rng


def filled(module: nn.Module) -> Any:
    """The module with every weight random, also those that start at 0 or 1."""
    for number, weight in enumerate(module.parameters()):
        nn.init.normal_(weight, std=0.2, generator=rng(number))
    return module


@torch.no_grad()
@pytest.mark.parametrize("outputs", [16, 8])
def test_a_block_is_diffusers_block_with_scale_and_shift(outputs: int) -> None:
    ours = filled(Block(16, outputs, 32))
    theirs: Any = ResnetBlock2D(
        in_channels=16, out_channels=outputs, temb_channels=32, groups=8, eps=1e-5, time_embedding_norm="scale_shift"
    )
    state: dict[str, torch.Tensor] = ours.state_dict()
    renamed = {k.replace("adapt", "time_emb_proj").replace("skip", "conv_shortcut"): v for k, v in state.items()}
    theirs.load_state_dict(renamed)
    x, e = torch.randn(4, 16, 8, 8, generator=rng()), torch.randn(4, 32, generator=rng(1))
    # theirs takes the embedding before its SiLU, ours after it
    torch.testing.assert_close(ours(x, nn.functional.silu(e)), theirs(x, e), rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_is_torchs_kernel() -> None:
    ours = filled(Attention(16))
    x = torch.randn(3, 16, 4, 4, generator=rng())
    q, k, v = ours.qkv(ours.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
    seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(ours(x), x + ours.out(seen), rtol=0, atol=1e-5)


def test_the_embedding_of_time_is_that_of_diffusers() -> None:
    t = torch.tensor([0.0, 0.005, 0.5, 1.0])
    theirs = get_timestep_embedding(t, 32, max_period=1000, scale=1000)
    torch.testing.assert_close(embed_time(t, 32), theirs, rtol=0, atol=2e-4)  # angles up to 1,000 in float32


@torch.no_grad()
@pytest.mark.parametrize("size", [8, 12, 16])
def test_shapes_and_the_start(size: int) -> None:
    net = UNet(3, 2, rng(), width=16)
    x, t = torch.randn(4, 3, size, size, generator=rng()), torch.rand(4, generator=rng())
    assert torch.equal(net(x, t), torch.zeros(4, 2, size, size))  # predicts 0 before it learned anything


@torch.no_grad()
def test_everything_that_is_given_counts() -> None:
    net = filled(UNet(1, 1, rng(), width=8))
    x, t, c = torch.randn(2, 1, 8, 8, generator=rng()), torch.rand(2, generator=rng()), torch.ones(2, 32)
    base = net(x, t)
    for other in (net(x + 0.1, t), net(x, t / 2), net(x, t, c)):
        assert (other - base).abs().max() > 1e-3
    assert torch.equal(net(x, t, torch.zeros(2, 32)), base)
    torch.testing.assert_close(net(x[:1], t[:1]), base[:1], rtol=0, atol=1e-5)  # images do not see each other


def test_every_weight_is_drawn_from_the_generator_and_learns() -> None:
    one, same, other = (UNet(1, 1, rng(seed), width=8) for seed in (0, 0, 1))
    x, t = torch.randn(8, 1, 8, 8, generator=rng()), torch.rand(8, generator=rng())
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        zeroed = "norm" in name or name.endswith("bias") or name in ("last.weight", "attention.out.weight")
        assert torch.equal(a, c) == (zeroed or name.endswith("conv2.weight")), name
    sgd: Any = torch.optim.SGD(one.parameters(), lr=0.1)
    for _ in range(3):  # zeroed layers let gradients through only once they have moved
        sgd.zero_grad()
        torch.autograd.backward((one(x, t) - x).square().mean())
        sgd.step()
    assert all(weight.grad is not None and weight.grad.count_nonzero() > 0 for weight in one.parameters())
