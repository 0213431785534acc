"""What the tests of demos ask of a result."""

import torch

from demos.contract import Result
from demos.registry import find_demo


def rng(seed: int = 0) -> torch.Generator:
    """A random generator of its own."""
    return torch.Generator().manual_seed(seed)


def metric(outcome: Result, name: str) -> float:
    """The measured number of this name."""
    return {metric.name: metric.value for metric in outcome.metrics}[name]


def failed(outcome: Result) -> list[str]:
    """The claims that do not hold, each up to its colon."""
    return [claim.statement.split(":")[0] for claim in outcome.claims if not claim.holds]


def assert_claims_hold_as_listed(outcome: Result, demo_id: str) -> None:
    """Every claim holds, and they are those that a list of demos shows before any run."""
    assert failed(outcome) == []
    assert [(claim.statement, claim.relation, claim.bound) for claim in outcome.claims] == [
        (claim.statement, claim.relation, claim.bound) for claim in find_demo(demo_id).claims
    ]
