"""The verdict of a claim is computed, and parameters are frozen and strict."""

import math

import pytest
from pydantic import Field, ValidationError

from demos.contract import Bound, Claim, DemoParams


@pytest.mark.parametrize(
    ("relation", "below", "at", "above"),
    [
        ("<=", True, True, False),
        (">=", False, True, True),
        ("<", True, False, False),
        (">", False, False, True),
        ("==", False, True, False),
    ],
)
def test_a_claim_holds_when_its_number_keeps_the_bound(relation: Bound, below: bool, at: bool, above: bool) -> None:
    assert [Claim("c", value, relation, 0.5).holds for value in (0.4, 0.5, 0.6)] == [below, at, above]


@pytest.mark.parametrize("relation", ["<=", ">=", "<", ">", "=="])
def test_nan_keeps_no_bound(relation: Bound) -> None:
    assert not Claim("c", math.nan, relation, 0.5).holds
    assert not Claim("c", math.nan, relation, math.nan).holds


def test_infinity_is_an_ordinary_number() -> None:
    assert Claim("c", math.inf, ">", 1e308).holds
    assert not Claim("c", math.inf, "<=", 1e308).holds


def test_parameters_refuse_unknown_names_and_changes() -> None:
    class Params(DemoParams):
        steps: int = Field(10, ge=1)

    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Params(step=3)  # pyright: ignore[reportCallIssue] (the mistake under test)
    params = Params(steps=3)
    with pytest.raises(ValidationError, match="frozen"):
        params.steps = 4  # pyright: ignore[reportAttributeAccessIssue] (the mistake under test)
