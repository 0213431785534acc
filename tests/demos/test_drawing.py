"""Figures as text: every mark stands where the data says."""

import math

import pytest

from demos.contract import Bars, Figure, Heatmap, Images, Lines, Scatter
from demos.drawing import HEIGHT, figure_text

FIGURES: list[Figure] = [
    Lines("A title that goes on", "x", "y", list(range(300)), {"a" * 30: [0.1] * 300, "b" * 40: list(range(300))}),
    Scatter("s", "x", "y", {"one": [(1.0, 2.0)]}),
    Bars("b", "x", "y", ["a long label of a bar", "short"], {"first": [1.0, -2.0], "second": [0.0, math.nan]}),
    Heatmap("h", "x", "y", [[float(x * y) for x in range(200)] for y in range(3)], ["row"] * 3, ["first", "last"]),
    Images("i", [[[[0.5] * 8] * 8] * 12, [[[[1.0, 0.0, 0.0]] * 100] * 4]], ["a", "b"], [f"t = {n}" for n in range(12)]),
]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.kind)
@pytest.mark.parametrize("width", [40, 80, 133])
def test_no_line_is_wider_than_asked(figure: Figure, width: int) -> None:
    lines = figure_text(figure, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0] == figure.title[:width]


def test_a_rising_line_runs_from_the_lower_left_to_the_upper_right() -> None:
    lines = figure_text(Lines("t", "steps", "loss", [0.0, 10.0], {"up": [0.0, 1.0]}), 60).splitlines()
    plot = [line.partition("┤")[2] for line in lines[2 : 2 + HEIGHT]]
    columns = [row.index("*") for row in plot]
    assert columns == sorted(columns, reverse=True)
    assert plot[-1][0] == "*"
    assert plot[0].endswith("*")
    assert len(plot[0]) == 60 - len("0.5 ┤")
    assert lines[-1] == "* up"


def test_a_logarithmic_axis_makes_a_power_law_straight() -> None:
    at = [1.0, 10.0, 100.0, 1000.0]
    log = figure_text(Lines("t", "x", "y", at, {"a": [value**2 for value in at]}, log="xy"), 60)
    straight = figure_text(Lines("t", "x", "y", [0.0, 1.0, 2.0, 3.0], {"a": [0.0, 2.0, 4.0, 6.0]}), 60)
    marks = [
        [line.partition("┤")[2].count("*") for line in text.splitlines() if "┤" in line] for text in (log, straight)
    ]
    assert [bool(count) for count in marks[0]] == [bool(count) for count in marks[1]]
    assert "1e+06" in log


def test_points_without_a_place_are_left_out_and_counted() -> None:
    text = figure_text(Lines("t", "x", "y", [0.0, 1.0, 2.0], {"a": [math.nan, -1.0, 1.0]}, log="y"), 60)
    assert "(left out, having no place: 2)" in text
    assert figure_text(Scatter("t", "x", "y", {"a": [(math.inf, 0.0)]})).endswith("(no point to draw, 1 left out)")


def test_bars_are_as_long_as_their_values() -> None:
    lines = figure_text(Bars("t", "class", "share", ["a", "b"], {"real": [1.0, 0.5]}), 80).splitlines()
    full, half = (line.count("█") for line in lines[2:])
    assert abs(full - 2 * half) <= 1
    assert lines[3].endswith(" 0.5")


def test_darker_cells_stand_for_larger_values() -> None:
    lines = figure_text(Heatmap("t", "key", "query", [[0.0, 0.25, 0.5, 0.75, 1.0, math.nan]]), 80).splitlines()
    assert lines[2] == "   ░░▒▒▓▓██??"


def test_pictures_that_do_not_fit_side_by_side_go_on_below() -> None:
    picture = [[1.0] * 8] * 8
    lines = figure_text(Images("t", [[picture] * 3], (), ["a", "b", "c"]), 40).splitlines()
    assert lines[1] == "█" * 16 + " " + "█" * 16
    assert lines[9].split() == ["a", "b"]
    assert lines[11] == "█" * 16
