"""pipeline-trace against diffusers' StableDiffusionPipeline and schedulers, and what each planted fault breaks."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import nn

from demos.contract import Cell, Images, Result
from demos.stable_diffusion.pipeline_trace import (
    ALPHA_BAR,
    LENGTH,
    VAE,
    Params,
    Parts,
    T,
    TextEncoder,
    Trace,
    UNet,
    generate,
    plan,
    run,
    tokenize,
    training_step,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

V1: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler(**V1, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "pndm": PNDMScheduler(**V1, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
    "ddpm": DDPMScheduler(**V1, clip_sample=False, steps_offset=1),
}


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def random_weights(net: nn.Module) -> Any:
    """The same network with weights of our own."""
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1, generator=rng(weight.numel()))
    return net.eval()


@pytest.fixture(scope="module")
def nets() -> tuple[Any, Any]:
    """A small U-Net and a small autoencoder of diffusers."""
    kl: Any = AutoencoderKL
    unet: Any = UNet2DConditionModel
    return random_weights(
        unet(sample_size=4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12,
             down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
             up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    ), random_weights(
        kl(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
           down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    )  # fmt: skip


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "pipeline-trace")


@pytest.mark.parametrize(
    ("scheduler", "guidance", "steps"),
    [("ddim", 7.5, 10), ("ddim", 1.0, 7), ("ddim", 7.5, 1), ("pndm", 7.5, 10), ("pndm", 3.0, 2), ("ddpm", 7.5, 10)],
)  # fmt: skip
def test_the_loop_draws_the_image_that_the_pipeline_of_diffusers_draws(
    nets: tuple[Any, Any], scheduler: Any, guidance: float, steps: int
) -> None:
    unet, vae = nets
    words, z_T = torch.randn(2, LENGTH, 12, generator=rng(1)), torch.randn(1, 4, 4, 4, generator=rng(2))
    pipeline: Any = StableDiffusionPipeline(
        vae=vae, unet=unet, scheduler=SCHEDULERS[scheduler], text_encoder=None, tokenizer=None,  # pyright: ignore[reportArgumentType]
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        prompt_embeds=words[1:], negative_prompt_embeds=words[:1], height=32, width=32, latents=z_T,
        num_inference_steps=steps, guidance_scale=guidance, output_type="pt", generator=rng(3),
    ).images  # fmt: skip
    dice = rng(3)
    params = Params.model_validate({"scheduler": scheduler, "guidance": guidance, "steps": steps})
    noise = torch.stack([torch.randn(z_T.shape, generator=dice) for _ in plan(scheduler, steps)])
    parts = Parts(
        text=lambda ids: words[-len(ids) :],
        unet=lambda z, t, of: unet(z, t, encoder_hidden_states=of).sample,
        decode=lambda z: vae.decode(z).sample,
        scale=vae.config.scaling_factor,
    )
    ours, path = generate(parts, torch.zeros(2, LENGTH, dtype=torch.long), z_T, noise, params, Trace([], []))
    torch.testing.assert_close(ours, image, rtol=0, atol=1e-4)
    assert ours.std() > 0.01
    assert len(path) == len(SCHEDULERS[scheduler].timesteps) + 1


def test_the_noise_levels_are_those_of_the_library() -> None:
    torch.testing.assert_close(ALPHA_BAR, SCHEDULERS["ddim"].alphas_cumprod, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "ddpm"])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_times_are_those_of_the_library(scheduler: Any, steps: int) -> None:
    SCHEDULERS[scheduler].set_timesteps(steps)
    assert [t for t, _, _ in plan(scheduler, steps)] == SCHEDULERS[scheduler].timesteps.numpy().tolist()


def test_the_training_step_is_the_noising_and_loss_of_the_library() -> None:
    nets = TextEncoder(), UNet(), VAE()
    x = torch.randn(8, 3, 16, 16, generator=rng())
    ids = torch.tensor([tokenize("red disc left")] * 8)
    seen: list[torch.Tensor] = []
    nets[1].enter.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss, predicted, eps, t = training_step(x, ids, nets, 0.5, rng(4), Trace([], []))
    with torch.no_grad():
        z_0 = 0.5 * nets[2].encode(x, rng(4))
    torch.testing.assert_close(seen[0], SCHEDULERS["ddpm"].add_noise(z_0, eps, t), rtol=0, atol=1e-5)
    torch.testing.assert_close(loss, nn.functional.mse_loss(predicted, eps))
    assert t.min() >= 0
    assert t.max() < T
    assert len(set(t.numpy().tolist())) > 4


def test_the_scale_gives_latents_of_deviation_one() -> None:
    rows = {str(row[0]): row for row in result(mode="train").tables[0].rows}
    assert rows["z_0: encoded, drawn, times the scale"][1:2] == ["8x4x4x4"]
    assert float(rows["z_0: encoded, drawn, times the scale"][3]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("fault", ["not scaled back", "prompts swapped", "time as index"])
def test_a_planted_fault_is_found(fault: str) -> None:
    outcome = result(fault=fault)
    assert failed(outcome) == ["The loop gives the image of the same run in σ"]
    assert metric(outcome, "difference") > 0.02


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "ddpm"])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_every_scheduler_gives_the_same_image_in_sigma(scheduler: str, steps: int) -> None:
    assert failed(result(scheduler=scheduler, steps=steps)) == []


def test_without_guidance_one_pass_is_enough() -> None:
    outcome = result(guidance=1.0)
    assert failed(outcome) == ["Guidance asks the U-Net twice at each time"]
    assert metric(outcome, "U-Net passes") == 10


def test_the_mode_only_changes_what_leads() -> None:
    generation, training = result(), result(mode="train")
    assert generation.metrics == training.metrics
    assert generation.tables[0].title == "Generation: every tensor in order"
    assert training.tables[0].title == "Training: every tensor in order"
    first = training.figures[0]
    assert isinstance(first, Images)
    assert (len(first.pixels), len(first.pixels[0])) == (4, 6)
    steps = result(steps=20).tables[1].rows
    assert len(steps) == 20  # one row per step


def test_a_prompt_is_start_words_end_and_padding() -> None:
    ids = tokenize("red disc left")
    assert len(ids) == LENGTH
    assert ids[:6] == [0, 2, 6, 9, 1, 1]
