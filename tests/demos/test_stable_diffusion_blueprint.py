"""stable-diffusion-blueprint against diffusers and transformers: all names, shapes, small outputs."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from demos.contract import Cell, Result
from demos.stable_diffusion.stable_diffusion_blueprint import VAE, Params, TextEncoder, UNet, blocks, run, size
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

UNET: Any = UNet2DConditionModel
KL: Any = AutoencoderKL
CLIP: Any = CLIPTextModel
V1_VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2, "latent_channels": 4,
}  # fmt: skip


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def clip_config(**settings: int) -> CLIPTextConfig:
    return CLIPTextConfig(hidden_act="quick_gelu", max_position_embeddings=77, **settings)  # pyright: ignore[reportArgumentType]


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Their weights by the names that ours have."""
    state = model.state_dict()
    return {name.removeprefix("text_model."): value for name, value in state.items() if "position_ids" not in name}


def small(model: Any, ours: nn.Module) -> Any:
    """A small library model with random weights, copied into ours."""
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1, generator=rng(weight.numel()))
    ours.load_state_dict(weights(model))  # strict: every name and shape
    return model.eval()


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "stable-diffusion-blueprint")
    assert outcome.metrics[0].value == 859_520_964 + 83_653_863 + 123_060_480


def test_every_weight_of_the_full_size_has_the_name_and_shape_that_the_libraries_give_it() -> None:
    with torch.device("meta"):
        pairs: list[tuple[nn.Module, Any]] = [
            (UNet(), UNET(sample_size=64, cross_attention_dim=768, attention_head_dim=8)),
            (VAE(), KL(block_out_channels=[128, 256, 512, 512], **V1_VAE)),
            (TextEncoder(), CLIP(clip_config(hidden_size=768, intermediate_size=3072, num_attention_heads=12,
                                             num_hidden_layers=12))),
        ]  # fmt: skip
    for ours, theirs in pairs:
        mine = {name: value.shape for name, value in ours.state_dict().items()}
        assert mine == {name: value.shape for name, value in weights(theirs).items()}


def test_a_small_unet_predicts_what_that_of_diffusers_does() -> None:
    ours = UNet([8, 16, 32, 32], c_words=12, heads=2, groups=4)
    theirs = small(UNET(block_out_channels=[8, 16, 32, 32], cross_attention_dim=12, attention_head_dim=2,
                        norm_num_groups=4), ours)  # fmt: skip
    z, words, t = (
        torch.randn(2, 4, 16, 16, generator=rng()),
        torch.randn(2, 77, 12, generator=rng(1)),
        torch.tensor([7, 900]),
    )
    with torch.no_grad():
        expected = theirs(z, t, encoder_hidden_states=words).sample
        torch.testing.assert_close(ours(z, t, words), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_a_small_vae_encodes_and_decodes_as_that_of_diffusers_does() -> None:
    ours = VAE([8, 16, 16, 16], groups=4)
    theirs = small(KL(block_out_channels=[8, 16, 16, 16], norm_num_groups=4, **V1_VAE), ours)
    x, z = torch.rand(1, 3, 32, 32, generator=rng()), torch.randn(1, 4, 4, 4, generator=rng(1))
    with torch.no_grad():
        mean, logvar = ours.encode(x)
        expected = theirs.encode(x).latent_dist
        torch.testing.assert_close(mean, expected.mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logvar.clamp(-30, 20), expected.logvar, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, rtol=1e-4, atol=1e-4)


def test_a_small_text_encoder_gives_what_that_of_transformers_does() -> None:
    ours = TextEncoder(c=16, layers=3, heads=4, vocabulary=50)
    theirs = small(CLIP(clip_config(hidden_size=16, intermediate_size=64, num_attention_heads=4, num_hidden_layers=3,
                                    vocab_size=50)), ours)  # fmt: skip
    ids = torch.randint(50, (2, 77), generator=rng())
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(input_ids=ids).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["vae", "unet", "text"])
def test_a_part_shows_its_own_tables_and_every_parameter_is_in_one_block(part: str) -> None:
    outcome = result(part=part, show="parameters", image_size="256")
    table = outcome.tables[0]
    name = {"vae": "VAE", "unet": "U-Net", "text": "Text encoder"}[part]
    assert table.title == f"{name}: parameters"
    assert sum(int(row[1]) for row in table.rows) == {m.name: m.value for m in outcome.metrics}[f"parameters, {name}"]
    assert len(outcome.tables) == 3
    assert len(outcome.figures) == 2


def test_a_larger_image_moves_larger_tensors_through_the_same_weights() -> None:
    outcome = result(**Params.presets["a thousand pixels"].values)
    assert failed(outcome) == []
    rows = {str(row[0]): row for row in outcome.tables[1].rows}
    assert list(rows["conv_in"][1:]) == ["4x128x128", "320x128x128"]
    assert rows["mid_block"][2] == "1280x16x16"
    assert rows["down_blocks.0"][1] == "320x128x128, 1280, 77x768"
    with torch.device("meta"):
        unet = UNet()
    assert sum(size(block) for _, block in blocks(unet)) == size(unet)
