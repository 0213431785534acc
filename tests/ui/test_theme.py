"""Contrast after WCAG 2.2: text at least 4.5 : 1, marks of a picture at least 3 : 1."""

import re
import tomllib

import pytest

from tests.conftest import ROOT
from ui.widgets import graphview
from ui.widgets.treemap import section_colour

THEME = tomllib.loads((ROOT / "ui" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
CAPTION = 0.6
"""Streamlit writes a caption at this opacity."""

Colour = tuple[float, float, float]


def rgb(text: str) -> Colour:
    return int(text[1:3], 16) / 255, int(text[3:5], 16) / 255, int(text[5:7], 16) / 255


def luminance(colour: Colour) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(front: Colour, back: Colour, opacity: float) -> Colour:
    red, green, blue = (f * opacity + b * (1 - opacity) for f, b in zip(front, back, strict=True))
    return red, green, blue


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast(rgb("#000000"), rgb("#ffffff")) == pytest.approx(21)
    assert contrast(rgb("#767676"), rgb("#ffffff")) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("back", ["backgroundColor", "secondaryBackgroundColor"])
def test_text_is_readable_on_both_backgrounds(theme: str, back: str) -> None:
    colours = {name: rgb(colour) for name, colour in THEME[theme].items()}
    for name in ("textColor", "grayTextColor", "primaryColor"):
        assert contrast(colours[name], colours[back]) >= 4.5, name
    if back == "backgroundColor":
        assert contrast(over(colours["textColor"], colours[back], CAPTION), colours[back]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_marks_of_relations_stand_out(theme: str) -> None:
    css = vars(graphview)["_CSS"]
    of_dark = re.search(r"\.genatlas-graph\.dark \{(.*?)\}", css, re.DOTALL)
    assert of_dark
    block = of_dark[1] if theme == "dark" else css[: of_dark.start()]
    found = dict(re.findall(r"--kind-(\w+): (#[0-9a-f]{6})", block))
    assert {"before", "after", "parent", "child", "compare", "concept"} <= found.keys()
    for kind in found.keys() - {"other", "star"}:
        assert contrast(rgb(found[kind]), rgb(THEME[theme]["backgroundColor"])) >= 3, kind


def test_white_names_are_readable_on_every_section_of_the_map() -> None:
    for place in range(12):
        assert contrast(rgb(section_colour(place)), (1, 1, 1)) >= 4.5, place
