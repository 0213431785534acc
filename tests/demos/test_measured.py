"""What a comparison says was measured: the run that it names takes these parameters and prints that metric."""

import importlib
import json
from collections import defaultdict
from typing import Any

import pytest

from demos import catalogue
from demos.contract import Result
from ingest import read_corpus
from tests.ingest.folders import ROOT


def runs() -> dict[tuple[str, str], set[str]]:
    """The metrics that comparisons name, by demo and parameters; of demos that are built."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    built = catalogue().keys()
    for comparison in read_corpus(ROOT / "corpus").comparisons:
        for aspect in comparison.aspects:
            if aspect.measured is not None and aspect.measured.demo in built:
                params = json.dumps(aspect.measured.params, sort_keys=True)
                found[aspect.measured.demo, params].add(aspect.measured.metric)
    return found


RUNS = runs()


@pytest.mark.parametrize(("demo", "params"), sorted(RUNS), ids=lambda value: value.replace("-", "_"))
def test_a_measured_aspect_can_be_measured_again(demo: str, params: str) -> None:
    spec = catalogue()[demo]
    module: Any = importlib.import_module(f"demos.{spec.family}.{spec.path.stem}")
    result: Result = module.run(module.Params.model_validate_json(params))
    assert RUNS[demo, params] <= {metric.name for metric in result.metrics}
