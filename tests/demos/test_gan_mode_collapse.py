"""gan-mode-collapse against scipy and POT, and its two ways back to eight modes."""

import math

import ot
import pytest
import scipy.stats
import torch

from demos.contract import Cell, Heatmap, Result, Scatter
from demos.gans.gan_mode_collapse import MODES, STD, Params, draw_data, entropy, mode_shares, run
from demos.shared.plane import sliced_distance
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "gan-mode-collapse")
    cloud, histogram = outcome.figures[:2]
    assert isinstance(cloud, Scatter)
    assert list(cloud.series) == ["data", "update 120", "update 240", "update 360", "update 480", "update 600"]
    assert isinstance(histogram, Heatmap)
    assert (len(histogram.values), len(histogram.values[0])) == (8, 120) == (8, len(histogram.column_labels))


def test_one_generator_step_does_not_collapse() -> None:
    outcome = result(**Params.presets["one generator step"].values)
    assert failed(outcome) == ["The generator collapses", "It looks good all the same"]
    by_name = {metric.name: metric.value for metric in outcome.metrics}
    assert by_name["sliced distance to the data"] == by_name["sliced distance of the control"]  # it is the control


def test_packing_brings_the_modes_back() -> None:
    outcome = result(**Params.presets["packed"].values)
    assert failed(outcome) == ["The generator collapses", "It looks good all the same"]


def test_the_same_seed_repeats_the_run_and_another_does_not() -> None:
    first, again, other = (result(updates=100, pack=3, seed=seed) for seed in (0, 0, 1))  # 3 does not divide the batch
    assert first == again
    assert first != other


def test_shares_count_samples_within_four_deviations_of_each_mode() -> None:
    planted = torch.cat([MODES[[2, 2, 5]], MODES[:1] + torch.tensor([[4.1 * STD, 0.0]])])
    assert mode_shares(planted).numpy().tolist() == [0, 0, 0.5, 0, 0, 0.25, 0, 0]


def test_data_lie_on_all_eight_modes_alike() -> None:
    shares = mode_shares(draw_data(40_000, rng()))
    assert shares.sum() > 0.999
    torch.testing.assert_close(shares, torch.full((8,), 1 / 8), rtol=0, atol=0.01)


@pytest.mark.parametrize("shares", [[1.0] + [0.0] * 7, [1 / 8] * 8, [0.5, 0.1, 0.0, 0.2, 0.0, 0.0, 0.05, 0.0]])
def test_entropy_is_scipys(shares: list[float]) -> None:
    ours = entropy(torch.tensor(shares, dtype=torch.float64))
    assert ours == pytest.approx(float(scipy.stats.entropy(shares)), abs=1e-9)
    assert ours <= math.log(8) + 1e-9


def test_entropy_of_nothing_near_a_mode_is_zero() -> None:
    assert entropy(torch.zeros(8)) == 0


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_the_sliced_distance_is_that_of_pot(shift: float) -> None:
    x, y = draw_data(500, rng(1)), MODES[0] + shift + 0.3 * torch.randn(500, 2, generator=rng(2))
    reference = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), n_projections=2_000, p=2, seed=0)
    assert sliced_distance(x, y) == pytest.approx(reference, rel=0.05)


def test_progress_never_goes_back_over_both_trainings() -> None:
    fractions: list[float] = []

    def note(fraction: float, message: str, **live: float) -> None:
        assert message.startswith(("chosen setting", "control"))
        assert set(live) == {"modes", "near"}
        fractions.append(fraction)

    run(Params.model_validate({"updates": 100}), note)
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
