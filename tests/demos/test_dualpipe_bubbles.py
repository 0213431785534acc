"""dualpipe-bubbles against table 2 of the DeepSeek-V3 report, small cases by hand, and autograd."""

import pytest

from demos.contract import Cell, Heatmap, Result
from demos.deepseek.dualpipe_bubbles import (
    SCHEDULES,
    Params,
    Schedule,
    Timed,
    bubble,
    chart,
    gradient_gap,
    held,
    orders,
    run,
    simulate,
)  # fmt: skip
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

PLAIN = Params.model_validate({})


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def bubbles(outcome: Result) -> dict[Cell, float]:
    return {row[0]: float(row[1]) for row in outcome.tables[0].rows}


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "dualpipe-bubbles")


def test_a_fusion_slower_than_its_parts_loses() -> None:
    assert failed(result(**Params.presets["bad-fusion"].values)) == [
        "DualPipe waits (PP/2−1)(F&B+B−3W)",  # table 2 counts on a fusion no slower than its parts
        "DualPipe waits less than ZB1P",
    ]


def test_the_numbers_of_sixteen_stages() -> None:
    outcome = result(**Params.presets["deepseek-v3"].values)
    assert failed(outcome) == []
    assert bubbles(outcome) == pytest.approx({"gpipe": 45, "1f1b": 45, "zb1p": 15, "dualpipe": 11.2})


@pytest.mark.parametrize(("overlap", "expected"), [(3.0, 6.0), (2.6, 4.8), (2.2, 3.6)])
def test_a_better_fusion_shortens_the_bubble(overlap: float, expected: float) -> None:
    assert bubbles(result(overlap=overlap))["dualpipe"] == pytest.approx(expected)


def test_parameters_twice_and_activations_of_every_schedule() -> None:
    rows = {row[0]: row[3:5] for row in result(stages=8, microbatches=20).tables[0].rows}
    assert rows == {"gpipe": ["1×", 20], "1f1b": ["1×", 8], "zb1p": ["1×", 8], "dualpipe": ["2×", 9]}  # table 2: PP + 1


@pytest.mark.parametrize("params", [{"stages": 3, "microbatches": 5}, {"stages": 2}, {"w": 5.0}, {"microbatches": 64}])
def test_gradients_are_right_at_other_sizes(params: dict[str, float]) -> None:
    assert not [name for name in failed(result(**params)) if name.startswith("A real")]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("stages", "m"), [(2, 4), (6, 14)])
def test_every_device_does_every_job_once(schedule: Schedule, stages: int, m: int) -> None:
    batches = {(way, i) for way in range(2) for i in range(m // 2)} if schedule == "dualpipe" else {
        (0, i) for i in range(m)
    }  # fmt: skip
    for chunks in orders(schedule, stages, m):
        jobs = [job for chunk in chunks for job in chunk]
        assert len(jobs) == len(set(jobs))
        forward, full, inputs, weights = ({job[1:] for job in jobs if job[0] == kind} for kind in "FBIW")
        assert forward == full | inputs == batches
        assert inputs == weights
        assert not full & inputs


def test_one_f_one_b_by_hand() -> None:
    ran = simulate(orders("1f1b", 2, 2), PLAIN)
    first = [(one.start, one.end, one.chunk[0][0]) for one in ran if one.device == 0]
    assert first == [(0, 1, "F"), (1, 2, "F"), (4, 6, "B"), (7, 9, "B")]
    assert [(one.start, one.end) for one in ran if one.device == 1] == [(1, 2), (2, 4), (4, 5), (5, 7)]
    assert bubble(ran) == 3
    assert [held(ran, device) for device in range(2)] == [2, 1]


def test_devices_that_wait_for_each_other_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="for ever"):
        simulate([[(("F", 0, 0),), (("B", 0, 0),)], [(("B", 0, 0),), (("F", 0, 0),)]], PLAIN)


def test_a_lost_weight_gradient_is_seen() -> None:
    ran = simulate(orders("zb1p", 4, 8), PLAIN)
    lost = next(one for one in ran if one.chunk[0][0] == "W")
    assert gradient_gap(ran, 4, 8, rng()) <= 1e-5 < gradient_gap([one for one in ran if one is not lost], 4, 8, rng())


def test_the_chart_shows_who_does_what_and_when() -> None:
    ran = [Timed(0, 0, 1, (("F", 0, 0),)), Timed(1, 1, 2, (("F", 0, 0), ("B", 0, 0)))]
    top, bottom = chart(ran, 2)
    assert top == [1.0] * 48 + [0.0] * 48
    assert bottom == [0.0] * 48 + [4.0] * 48
    gantt = result(schedule="1f1b").figures[0]
    assert isinstance(gantt, Heatmap)
    idle = sum(row.count(0.0) for row in gantt.values) / 8 / 96
    assert idle == pytest.approx(metric(result(schedule="1f1b"), "share of the time idle"), abs=0.02)
