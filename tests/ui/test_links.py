from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.links import PAGES, address, asked_for, demo_params, query

values = st.text(min_size=1).filter(lambda text: text == text.strip() and text.isprintable())


@pytest.mark.parametrize(
    ("page", "value", "written"),
    [
        ("explore", "gan/wgan", "/?topic=gan%2Fwgan"),
        ("topic", "gan/wgan", "/topic?id=gan%2Fwgan"),
        ("ask", "what is β & why?", "/ask?q=what%20is%20%CE%B2%20%26%20why%3F"),
        ("path", "gan", "/path?goal=gan"),
        ("place", "gan", "/place?topic=gan"),
        ("demo", "gan", "/demo?topic=gan"),
    ],
)
def test_an_address_is_written_as_the_design_says(page: str, value: str, written: str) -> None:
    assert address(page, value) == written


@given(page=st.sampled_from(sorted(PAGES)), value=values)
def test_what_an_address_names_is_read_back(page: str, value: str) -> None:
    read = {name: each[0] for name, each in parse_qs(urlsplit(address(page, value)).query).items()}
    assert asked_for(page, read) == value
    assert query(page, value) == read


@pytest.mark.parametrize("params", [{}, {"id": ""}, {"id": "  "}, {"topic": "gan"}])
def test_an_address_that_names_nothing_gives_nothing(params: dict[str, str]) -> None:
    assert asked_for("topic", params) is None


def test_demo_settings_are_what_stands_beside_the_topic() -> None:
    assert demo_params({"topic": "gan", "steps": "150", "seed": "0"}) == {"steps": "150", "seed": "0"}
    assert demo_params({"demo": "gan-loss", "steps": "150"}) == {"steps": "150"}
