"""gan-blueprints against the sizes that the authors' code has, and its wiring on real numbers."""

import pytest
import torch
from torch import nn

from demos.contract import Cell, Result
from demos.gans.gan_blueprints import (
    Blur,
    Params,
    Residual,
    StyledLayer,
    StyleGAN,
    UNet,
    cyclegan,
    dcgan,
    run,
    size,
    trace,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "gan-blueprints")
    assert metric(outcome, "parameters") == 11_378_179
    layers, detail, summary = outcome.tables
    assert [row[1] for row in layers.rows][:4] == ["c7s1-64", "d128", "d256", "R256 (1)"]
    assert [row[3] for row in layers.rows][2:4] == ["256x64x64", "256x64x64"]
    assert [row[0] for row in detail.rows] == ["ReflectionPad2d", "Conv2d 7x7", "InstanceNorm2d", "ReLU"]
    assert [row[2] for row in summary.rows] == ["3x64x64", "3x256x256", "3x256x256", "3x1024x1024"]


def test_the_sizes_are_those_of_the_authors_code() -> None:
    with torch.device("meta"):
        # DCGAN: gw, gg, gb, gw2 … gwx of the authors' faces/train_uncond_dcgan.py, added up by hand
        shapes = 100 * 16_384 + 2 * 16_384 + 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 2 * (512 + 256 + 128)
        assert size(dcgan()) == shapes == 18_885_760
        assert f"{size(UNet()) / 1e6:.3f} M" == "54.414 M"  # what the authors' code prints for unet_256, batch norm
        assert (size(cyclegan(9)), size(cyclegan(6))) == (11_378_179, 7_837_699)
        assert size(StyleGAN(1024)) == 26_219_627  # what pretrained_example.py of the authors prints


def test_every_parameter_is_in_the_table() -> None:
    for network in ("dcgan", "pix2pix", "cyclegan", "stylegan"):
        outcome = result(network=network)
        assert sum(int(row[4]) for row in outcome.tables[0].rows) == metric(outcome, "parameters")


def test_six_blocks_miss_the_nine_block_size() -> None:
    outcome = result(**Params.presets["six blocks"].values)
    assert failed(outcome) == ["CycleGAN's generator has the published nine-block size"]
    assert metric(outcome, "parameters") == 7_837_699


def test_a_smaller_picture_has_fewer_layers() -> None:
    outcome = result(**Params.presets["small faces"].values)
    assert failed(outcome) == [
        "StyleGAN's generator has the size that its code prints at 1024x1024",
        "Its synthesis network is 18 layers deep",
    ]
    assert len(outcome.tables[0].rows) == 8 + 1 + 14 + 1 + 1


def test_layer_four_of_cyclegan_is_a_residual_block() -> None:
    detail = result(**Params.presets["inside a residual block"].values).tables[1]
    pair = ["ReflectionPad2d", "Conv2d 3x3", "InstanceNorm2d"]
    assert [row[0] for row in detail.rows] == [*pair, "ReLU", *pair]
    assert detail.rows[1][2] == 590_080


def test_a_layer_past_the_last_shows_the_last() -> None:
    assert result(network="dcgan", layer=30).tables[1].title.startswith("Layer 5, up to 3")


@torch.no_grad()
def test_multiplications_are_counted_as_by_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for net, x in ((dcgan(), torch.zeros(1, 100)), (cyclegan(1), torch.zeros(1, 3, 16, 16))):
        layers, _ = trace(net, x)
        ours = sum(step.work for steps in layers.values() for step in steps)
        with FlopCounterMode(display=False) as counter:
            net(x)
        assert 2 * ours == counter.get_total_flops()  # torch counts the additions too


@torch.no_grad()
def test_a_residual_block_adds_its_input() -> None:
    block, x = Residual(4), torch.randn(2, 4, 8, 8, generator=rng())
    torch.testing.assert_close(block(x) - x, block.f(x))
    assert block.f(x).mean(dim=(2, 3)).abs().max() < 1e-5  # the norm comes last


@torch.no_grad()
def test_a_styled_layer_sets_mean_and_deviation_of_each_map() -> None:
    layer, w = StyledLayer(512, 8, up=True), torch.randn(2, 512, generator=rng())
    y = layer(torch.randn(2, 512, 8, 8, generator=rng(1)), w)
    scale, shift = layer.style(w).chunk(2, dim=1)
    assert y.shape == (2, 8, 16, 16)
    torch.testing.assert_close(y.mean(dim=(2, 3)), shift, rtol=0, atol=1e-5)
    torch.testing.assert_close(y.std(dim=(2, 3), correction=0), (1 + scale).abs(), rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_the_blur_keeps_flat_areas_and_spreads_a_point() -> None:
    x = torch.zeros(1, 2, 5, 5)
    x[0, 0, 2, 2], x[0, 1] = 16, 1
    y = Blur()(x)
    assert y[0, 0, 1:4, 1:4].numpy().tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    assert y[0, 1, 1:4, 1:4].unique().numpy().tolist() == [1]


@torch.no_grad()
def test_the_u_nets_decoder_reads_the_encoder() -> None:
    net, seen = UNet().eval(), dict[str, torch.Tensor]()
    for name in ("e1", "d2", "d1"):
        module = net.get_submodule(name)

        def note(_: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor, name: str = name) -> None:
            seen[f"{name} in"], seen[name] = given[0], out

        module.register_forward_hook(note)
    image = net(torch.randn(1, 3, 256, 256, generator=rng()))
    assert torch.equal(seen["d1 in"], torch.cat([seen["d2"], seen["e1"]], dim=1))
    assert image.abs().max() <= 1


@pytest.mark.parametrize(("resolution", "layers"), [(64, 10), (256, 14), (512, 16), (1024, 18)])
def test_synthesis_has_two_layers_for_each_resolution(resolution: int, layers: int) -> None:
    with torch.device("meta"):
        assert len(StyleGAN(resolution).synthesis) == layers
