"""unet-anatomy against diffusers' UNet2DModel, and what goes when a part is taken out."""

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from demos.contract import Cell, Images, Result, Table
from demos.diffusion.unet_anatomy import CHANNELS, GROUPS, Attention, Norm, Params, UNet, influence, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def random_unet(**params: Cell) -> UNet:
    """A network far from the identity at which its blocks start."""
    network = UNet(Params.model_validate(params), rng())
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.2, generator=rng(weight.numel()))
    return network


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "unet-anatomy")


def test_the_network_is_diffusers_with_copied_weights() -> None:
    ours = random_unet()
    theirs: Any = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(CHANNELS, 2 * CHANNELS),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=GROUPS,
        attention_head_dim=2 * CHANNELS,
    )
    blocks = {
        "down_blocks.0.resnets.0": ours.down_block1,
        "down_blocks.1.resnets.0": ours.down_block2,
        "mid_block.resnets.0": ours.middle_block1,
        "mid_block.resnets.1": ours.middle_block2,
        "up_blocks.0.resnets.0": ours.up_block1,
        "up_blocks.0.resnets.1": ours.up_block2,
        "up_blocks.1.resnets.0": ours.up_block3,
        "up_blocks.1.resnets.1": ours.up_block4,
    }
    parts: dict[str, nn.Module] = {
        "conv_in": ours.down_conv,
        "time_embedding.linear_1": ours.mlp[0],
        "time_embedding.linear_2": ours.mlp[2],
        "down_blocks.0.downsamplers.0.conv": ours.down_shrink,
        "up_blocks.0.upsamplers.0.conv": ours.up_grow,
        "mid_block.attentions.0.group_norm": ours.middle_attention.norm,
        "mid_block.attentions.0.to_q": ours.middle_attention.q,
        "mid_block.attentions.0.to_k": ours.middle_attention.k,
        "mid_block.attentions.0.to_v": ours.middle_attention.v,
        "mid_block.attentions.0.to_out.0": ours.middle_attention.out,
        "conv_norm_out": ours.norm,
        "conv_out": ours.up_conv,
    }
    for name, block in blocks.items():
        parts |= {f"{name}.norm1": block.norm1, f"{name}.conv1": block.conv1, f"{name}.time_emb_proj": block.time}
        parts |= {f"{name}.norm2": block.norm2, f"{name}.conv2": block.conv2}
        if not isinstance(block.shortcut, nn.Identity):
            parts[f"{name}.conv_shortcut"] = block.shortcut
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    theirs.load_state_dict(state)  # strict: nothing is missing, nothing left over
    x, t = torch.randn(3, 1, 8, 8, generator=rng()), torch.tensor([1, 70, 200])
    with torch.no_grad():
        reference: Tensor = theirs(x, t).sample
        noise = ours(x, t, torch.zeros(3, dtype=torch.int64))["up_conv"]
    torch.testing.assert_close(noise, reference, rtol=1e-4, atol=1e-4)


def test_attention_is_torchs_kernel() -> None:
    attention = Attention(16)
    x = torch.randn(2, 16, 3, 5, generator=rng())
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    mixed = nn.functional.scaled_dot_product_attention(attention.q(tokens), attention.k(tokens), attention.v(tokens))
    expected = x + attention.out(mixed).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-5)


def test_a_held_norm_has_the_same_values_and_passes_no_slope_through_its_statistics() -> None:
    norm = Norm(8)
    nn.init.normal_(norm.weight, generator=rng())
    x = torch.randn(2, 8, 3, 3, generator=rng()).requires_grad_()
    free = norm(x)
    norm.held = True
    torch.testing.assert_close(norm(x), free, rtol=0, atol=1e-5)
    (slope,) = torch.autograd.grad(norm(x)[0, 0, 0, 0], x)
    assert slope.count_nonzero() == 1


@pytest.mark.parametrize("attention", [False, True])
def test_influence_without_attention_ends_at_the_receptive_field(attention: bool) -> None:
    reached = influence(random_unet(attention=attention), torch.randn(1, 1, 96, 96, generator=rng())) > 0
    if attention:
        assert reached.all()
    else:
        rows = reached.any(dim=1).nonzero()
        assert 50 < rows.max() - rows.min() < 75  # 27 convolutions of 3 x 3, ten of them at half the size


def test_context_and_time_enter_only_when_they_are_switched_on() -> None:
    x, t = torch.randn(1, 1, 8, 8, generator=rng()), torch.tensor([100])
    for params, by_time, by_label in (({"time": False}, False, False), ({"context": True}, True, True)):
        network = random_unet(**params)
        with torch.no_grad():
            base = network(x, t, torch.tensor([3]))["up_conv"]
            assert (
                bool((network(x, torch.tensor([7]), torch.tensor([3]))["up_conv"] - base).abs().max() > 1e-4) == by_time
            )
            assert bool((network(x, t, torch.tensor([4]))["up_conv"] - base).abs().max() > 1e-4) == by_label


def test_parts_taken_out_fail_where_they_should() -> None:
    assert "Without skips the denoising loss is higher" in failed(result(steps=20, skips=False))
    assert "With attention every pixel reaches the middle one" in failed(result(steps=20, attention=False))


@pytest.mark.parametrize("block", ["down", "middle", "up"])
def test_the_part_shown_is_the_one_asked_for(block: str) -> None:
    outcome = result(steps=10, block=block, context=True)
    maps, table = outcome.figures[0], outcome.tables[0]
    assert isinstance(maps, Images)
    assert isinstance(table, Table)
    assert all(label.startswith(block) for label in maps.column_labels)
    assert list(maps.column_labels) == [row[0] for row in table.rows]
    assert len(maps.column_labels) == {"down": 4, "middle": 4, "up": 6}[block]
    assert metric(outcome, "parameters") > 10_000
