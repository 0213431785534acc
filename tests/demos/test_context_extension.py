from functools import cache
from typing import Any

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import LlamaConfig, modeling_llama

from demos.contract import Heatmap, Result
from demos.gpt.context_extension import (
    ASK,
    HEADS,
    MARK,
    WIDTH,
    WORDS,
    Attention,
    Method,
    Params,
    draw_texts,
    rescale,
    rotate,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

llama: Any = modeling_llama  # untyped
INIT: Any = ROPE_INIT_FUNCTIONS


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "context-extension")
    methods, stages = result().tables
    assert [row[0] for row in methods.rows] == ["none", "pi", "ntk", "yarn"]
    assert [list(row[:3]) for row in stages.rows[-2:]] == [["yarn", 2, 48], ["yarn", 4, 96]]
    assert methods.rows[3][-1] == stages.rows[-1][-1] == metric(result(), "recall of long texts, rescaled and tuned")


def test_the_grid_is_good_inside_and_bad_beyond_until_rescaled_and_tuned() -> None:
    alone, tuned = (figure for figure in result().figures if isinstance(figure, Heatmap))
    assert alone.column_labels == tuned.column_labels == ["12", "24", "48", "72", "96"]
    raw, mended = (torch.tensor(figure.values).mean(dim=0) for figure in (alone, tuned))
    assert raw[:2].min() > 0.95 > 0.6 > raw[-1]
    assert mended.min() > 0.85


def test_without_rescaling_brief_tuning_is_not_enough() -> None:
    outcome = run(Params.model_validate(Params.presets["no rescaling"].values))
    assert failed(outcome) == ["Rescaled and briefly tuned, it reads long texts", "The slowest pair meets no new angle"]


def configured(kind: str, window: int, width: int, base: float, factor: float, **more: float) -> Any:
    return LlamaConfig(
        hidden_size=4 * width,
        num_attention_heads=4,
        max_position_embeddings=window,
        rope_parameters={
            "rope_type": kind, "rope_theta": base, "factor": factor, "original_max_position_embeddings": window, **more,
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("window", "width", "base", "factor", "fast", "slow"),
    [(4096, 64, 10_000.0, 40.0, 32.0, 1.0), (2048, 128, 10_000.0, 16.0, 32.0, 1.0), (24, 24, 50.0, 4.0, 4.0, 1.0)],
)
def test_rescaled_rotations_are_those_of_transformers(
    window: int, width: int, base: float, factor: float, fast: float, slow: float
) -> None:
    config = configured("yarn", window, width, base, factor, beta_fast=fast, beta_slow=slow)
    speed, sharpen = INIT["yarn"](config, torch.device("cpu"))
    ours = rescale("yarn", factor, window, width, base, fast, slow)
    torch.testing.assert_close(ours[0], speed, rtol=1e-5, atol=1e-9)
    assert ours[1] == pytest.approx(sharpen, abs=1e-6)
    speed, sharpen = INIT["linear"](configured("linear", window, width, base, factor), torch.device("cpu"))
    ours = rescale("pi", factor, window, width, base, fast, slow)
    torch.testing.assert_close(ours[0], speed, rtol=1e-5, atol=1e-9)
    # at a text s times as long, "dynamic" with factor 1 has the base of NTK
    speed, _ = INIT["dynamic"](
        configured("dynamic", window, width, base, 1.0), torch.device("cpu"), seq_len=int(factor * window)
    )
    ours = rescale("ntk", factor, window, width, base, fast, slow)
    torch.testing.assert_close(ours[0], speed, rtol=1e-4, atol=1e-9)


def test_pairs_of_deepseek_v3_are_kept_mixed_and_slowed_as_the_atlas_says() -> None:
    shares = rescale("yarn", 40, 4096, 64, 10_000.0, 32, 1)[0] / rescale("none", 1, 4096, 64, 10_000.0, 32, 1)[0]
    assert (shares > 0.999).nonzero().flatten().numpy().tolist() == list(range(11))
    assert (shares < 1.001 / 40).nonzero().flatten().numpy().tolist() == list(range(23, 32))


def test_rotation_is_that_of_llama() -> None:
    speed, _ = rescale("yarn", 4, 24, WIDTH // HEADS, 50.0, 4, 1)
    x = torch.randn(2, HEADS, 30, WIDTH // HEADS, generator=rng())
    angle = torch.arange(30)[:, None] * torch.cat([speed, speed])
    expected, _ = llama.apply_rotary_pos_emb(x, x, angle.cos()[None], angle.sin()[None])
    torch.testing.assert_close(rotate(x, (speed, 1.0)), expected)
    torch.testing.assert_close(rotate(x, (speed, 1.5)), 1.5 * expected)


def test_without_turning_it_is_torchs_attention() -> None:
    layer, x = Attention(), torch.randn(2, 9, WIDTH, generator=rng(1))
    theirs = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    theirs.load_state_dict({
        "in_proj_weight": layer.qkv.weight, "in_proj_bias": layer.qkv.bias,
        "out_proj.weight": layer.out.weight, "out_proj.bias": layer.out.bias,
    })  # fmt: skip
    later, inside = torch.ones(9, 9, dtype=torch.bool).triu(1), layer.norm(x)
    expected = x + theirs(inside, inside, inside, attn_mask=later, need_weights=False)[0]
    still = torch.zeros(WIDTH // HEADS // 2)
    torch.testing.assert_close(layer(x, (still, 1.0)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn"])
def test_the_slowest_pair_goes_no_further_and_only_pi_slows_the_fastest(method: Method) -> None:
    before, after = (rescale(one, 4, 24, 24, 50.0, 4, 1)[0] for one in ("none", method))
    assert (before[-1] / after[-1]).item() == pytest.approx(4, rel=1e-5)
    assert (before[0] / after[0]).item() == pytest.approx(4 if method == "pi" else 1)


@pytest.mark.parametrize("task", ["passkey", "reorder", "sort"])
def test_texts_hold_their_answer_behind_the_marks(task: str) -> None:
    texts, answers = draw_texts(300, 25, task, rng())
    K = answers.shape[1]
    assert texts.shape == (300, 25)
    assert (texts[:, 25 - K] == ASK).all()
    assert torch.equal(texts[:, 26 - K :], answers[:, :-1])
    for text, answer in zip(texts, answers, strict=True):
        places = ((text >= MARK) & (text < ASK)).nonzero().flatten()
        behind = text[places + 1][text[places].argsort(stable=True)]
        assert torch.equal(behind.sort().values if task == "sort" else behind, answer)
        assert len(set(answer.numpy().tolist())) == K
        assert (answer < WORDS).all()


def test_the_needle_stands_at_the_depth_asked_for() -> None:
    for depth, place in ((0.0, 0), (0.5, 12), (1.0, 22)):
        texts, _ = draw_texts(20, 25, "passkey", rng(), depth)
        assert (texts[:, place] == MARK).all()
        texts, answers = draw_texts(20, 27, "reorder", rng(), depth)
        assert torch.equal(texts[:, place + 1], answers[:, 0])
