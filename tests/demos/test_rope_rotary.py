"""rope-rotary against transformers' two layouts, and its failures without rotation."""

import math
from typing import Any

import pytest
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.llama import LlamaConfig, modeling_llama

from demos.contract import Cell, Heatmap, Result
from demos.deepseek.rope_rotary import Layout, Params, envelope, frequencies, rotate, run, score_in_closed_form
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

llama: Any = modeling_llama  # untyped
deepseek: Any = modeling_deepseek_v3


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "rope-rotary")


def test_added_sinusoids_depend_on_the_place() -> None:
    assert failed(result(**Params.presets["added"].values)) == [
        "Query and key moved together keep their score",
        "Scores follow from the distance alone, eq. (16)",
        "Rotation keeps the length",
    ]


def test_where_nothing_turns_nothing_falls_off() -> None:
    outcome = result(**Params.presets["none"].values)
    assert failed(outcome) == ["Far keys can score less"]
    assert metric(outcome, "like vectors: score at distance 256 over that at 0") == pytest.approx(1)


def test_a_part_that_does_not_turn_holds_its_score() -> None:
    outcome = result(**Params.presets["partial"].values)
    assert failed(outcome) == []
    name = "like vectors: score at distance 256 over that at 0"
    assert metric(outcome, name) > 48 / 64 - 0.1 > metric(result(), name)
    angles = outcome.figures[2]
    assert isinstance(angles, Heatmap)
    assert {value for row in angles.values[8:] for value in row} == {1.0}  # cos 0: these pairs stand still
    assert min(min(row) for row in angles.values[:2]) < -0.9


@pytest.mark.parametrize("params", [{"dim": 5, "rotated": 3}, {"dim": 256, "offset": 256}, {"theta": 1e6}])
def test_the_exact_claims_hold_at_other_sizes(params: dict[str, float]) -> None:
    assert set(failed(result(**params))) <= {"Far keys can score less"}


@pytest.mark.parametrize(
    ("layout", "apply"),
    [("half-split", llama.apply_rotary_pos_emb), ("interleaved", deepseek.apply_rotary_pos_emb_interleave)],
)
def test_scores_are_those_of_transformers(layout: Layout, apply: Any) -> None:
    q, k = (torch.randn(20, 32, generator=rng(seed)) for seed in (0, 1))
    position = torch.arange(20) + 100
    angle = position[:, None] * frequencies(32, 10_000.0).repeat(2)  # their table holds every angle twice
    theirs_q, theirs_k = apply(q[None, None], k[None, None], angle.cos()[None], angle.sin()[None])
    ours_q, ours_k = (rotate(x, position, 10_000.0, layout) for x in (q, k))
    torch.testing.assert_close(ours_q @ ours_k.T, (theirs_q @ theirs_k.mT)[0, 0], rtol=0, atol=1e-5)
    if layout == "half-split":  # the other is stored in another order there
        torch.testing.assert_close(ours_q, theirs_q[0, 0], rtol=0, atol=1e-5)


def test_frequencies_are_those_of_llama() -> None:
    make: Any = LlamaConfig
    rotary: Any = llama.LlamaRotaryEmbedding(make(hidden_size=64, num_attention_heads=2, rope_theta=500_000.0))
    torch.testing.assert_close(frequencies(32, 500_000.0), rotary.inv_freq)


@pytest.mark.parametrize(("width", "reached"), [(2, 0.99), (32, 0.05)])
def test_the_envelope_bounds_every_score(width: int, reached: float) -> None:
    q, k = (torch.randn(1000, width, generator=rng(seed)) for seed in (2, 3))
    distance = torch.tensor([1.0, 9.0, 80.0])
    products = torch.complex(q[:, 0::2], q[:, 1::2]) * torch.complex(k[:, 0::2], -k[:, 1::2])
    steps = torch.diff(products, dim=1, append=torch.zeros(1000, 1)).abs().amax(dim=1)  # eq. (36)
    bound = steps[:, None] * width / 2 * envelope(width, distance, 10_000.0)
    share = score_in_closed_form(q, k, distance, 10_000.0).abs() / bound
    assert reached < share.max() <= 1 + 1e-5  # with one pair the bound is reached


def test_at_distance_zero_the_partial_sums_count_the_pairs() -> None:
    assert envelope(8, torch.zeros(1), 100.0).item() == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_a_quarter_turn() -> None:
    turned = rotate(torch.tensor([[1.0, 2.0]]), torch.tensor([math.pi / 2]), 100.0)
    torch.testing.assert_close(turned, torch.tensor([[-2.0, 1.0]]))
