"""What a demo can be told: descriptions asked of a process, and values settled before anything is run."""

from pathlib import Path

import pytest
import yaml

import demos
from demos.parameters import Description, Parameter, describe, describe_all, settle
from demos.registry import catalogue

SAMPLES = Path(__file__).parent / "sample_demos"
TOPICS = Path(__file__).parents[2] / "corpus" / "topics"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def counts(cache: Path) -> Description:
    return describe("counts", cache, SAMPLES)


def test_a_description_names_kind_range_choices_and_presets(counts: Description) -> None:
    assert counts.parameters == (
        Parameter("to", "int", 5, "The number to count to", 1.0, 100.0),
        Parameter("step", "float", 1.0, "Size of a step", 0.5, 2.0),
        Parameter("loud", "bool", False, "Print while counting"),
        Parameter("order", "choice", "up", "Direction", choices=("up", "down")),
        Parameter("work", "int", 0, "Numbers to add up in each step", 0.0, 1000000.0),
        Parameter("word", "text", "count", "What to call a step; never 'forbidden'"),
    )
    assert {name: (preset.shows, preset.values) for name, preset in counts.presets.items()} == {
        "far": ("A longer line", {"to": 50})
    }
    assert counts.schema["additionalProperties"] is False


def test_a_description_is_kept_until_the_code_changes(tmp_path: Path) -> None:
    family = tmp_path / "demos" / "faults"
    family.mkdir(parents=True)
    code = (SAMPLES / "faults" / "counts.py").read_text()
    (family / "counts.py").write_text(code)
    assert describe("counts", tmp_path / "cache", tmp_path / "demos").defaults["to"] == 5
    (kept,) = (tmp_path / "cache" / "parameters").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])  # a damaged file is not believed
    assert describe("counts", tmp_path / "cache", tmp_path / "demos").defaults["to"] == 5
    (family / "counts.py").write_text(code.replace("to: int = Field(5,", "to: int = Field(7,"))
    assert describe("counts", tmp_path / "cache", tmp_path / "demos").defaults["to"] == 7


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Field(5, ge=1", "Field(500, ge=1", "less than or equal to 100"),
        ('{"to": 50}', '{"to": 500}', "less than or equal to 100"),
        ("ge=1, le=100", "gt=0, le=100", "its range as ge and le"),
        ("import Mapping", "import Nothing", "ImportError"),
        ('Field(5, ge=1, le=100, description="The number to count to")', "5", "a description"),
    ],
)
def test_a_file_whose_parameters_break_a_rule_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    family = tmp_path / "demos" / "faults"
    family.mkdir(parents=True)
    code = (SAMPLES / "faults" / "counts.py").read_text()
    assert old in code
    (family / "counts.py").write_text(code.replace(old, new))
    with pytest.raises(demos.BadDemoFile, match=problem) as caught:
        describe("counts", tmp_path / "cache", tmp_path / "demos")
    assert str(family / "counts.py") in str(caught.value)


def test_values_are_read_as_their_kind_and_the_rest_takes_defaults(counts: Description) -> None:
    given = {"to": " 9 ", "step": 2, "loud": "True", "order": "down", "word": " a word "}
    assert settle(counts, given) == {**given, "to": 9, "step": 2.0, "loud": True, "work": 0}
    settled = settle(counts, {"to": 9.0})
    assert settled == {"to": 9, "step": 1.0, "loud": False, "order": "up", "work": 0, "word": "count"}
    assert type(settled["to"]) is int


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("to", 900, "to must be between 1 and 100, got 900"),
        ("to", 0, "to must be between 1 and 100, got 0"),
        ("to", "900", "to must be between 1 and 100, got 900"),
        ("to", "many", 'to must be a whole number between 1 and 100, got "many"'),
        ("to", 1.5, "to must be a whole number between 1 and 100, got 1.5"),
        ("to", True, "to must be a whole number between 1 and 100, got True"),
        ("to", "", "to must be a whole number between 1 and 100, got nothing"),
        ("to", None, "to must be a whole number between 1 and 100, got nothing"),
        ("to", float("inf"), "to must be a whole number between 1 and 100, got inf"),
        ("step", 0.4999, "step must be between 0.5 and 2, got 0.4999"),
        ("step", float("nan"), "step must be a number between 0.5 and 2, got nan"),
        ("step", "1,5", 'step must be a number between 0.5 and 2, got "1,5"'),
        ("loud", "maybe", 'loud must be true or false, got "maybe"'),
        ("loud", 1, "loud must be true or false, got 1"),
        ("order", "sideways", 'order must be one of up, down, got "sideways"'),
        ("word", 3, "word must be text, got 3"),
        ("too", 3, 'there is no parameter "too" (did you mean "to"?)'),
        ("zzzzzz", 3, 'there is no parameter "zzzzzz"'),
    ],
)
def test_a_bad_value_is_refused_with_what_is_wanted(counts: Description, name: str, value: object, wanted: str) -> None:
    with pytest.raises(demos.BadParams) as caught:
        settle(counts, {name: value})
    assert caught.value.problems == (wanted,)
    assert str(caught.value) == f"counts: {wanted}. Nothing was run. All parameters: genatlas demo show counts"


def test_all_bad_values_are_reported_at_once(counts: Description) -> None:
    with pytest.raises(demos.BadParams) as caught:
        settle(counts, {"to": 900, "order": "left", "speed": 1})
    assert len(caught.value.problems) == 3


def test_every_demo_can_be_described_and_takes_what_the_topics_set(cache: Path) -> None:
    descriptions = describe_all(cache)
    assert set(descriptions) == set(catalogue())
    problems: list[str] = []
    lines = 0
    for file in sorted(TOPICS.glob("*/*.yaml")):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
            line = entry.get("demo")
            if line and line["run"] in descriptions:
                lines += 1
                try:
                    settle(descriptions[line["run"]], line.get("with") or {})
                except demos.BadParams as bad:
                    problems.append(f"{file}: {entry['id']}: {bad}")
    assert problems == []
    assert lines > 50
