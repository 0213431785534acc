"""The format of authored content: one model for each kind of file. The JSON Schema for editors is generated from it.

`python -m ingest.schema FOLDER` writes the JSON Schemas.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from graph import Level

Text = Annotated[str, Field(min_length=1)]
TopicId = Annotated[str, Field(min_length=1, description="Id of a topic, such as transformer-architecture/…")]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, str_strip_whitespace=True
    )


def _params(value: object) -> object:
    """A parameter is a number, text or truth value, or a list or mapping of these."""
    if not isinstance(value, dict):
        raise ValueError("parameters are written as {name: value, …}")
    for name, given in cast("dict[str, object]", value).items():
        parts: list[object] = [given]
        if isinstance(given, dict):
            parts = list(cast("dict[str, object]", given).values())
        elif isinstance(given, list):
            parts = cast("list[object]", given)
        if not all(isinstance(part, bool | int | float | str) for part in parts):
            raise ValueError(f'"{name}" is neither a number, text or true/false nor a list or mapping of these')
    return cast("object", value)


Params = Annotated[dict[str, Any], BeforeValidator(_params)]


class DemoLine(_Model):
    """A topic's demo."""

    run: Text = Field(description="Id of the demo")
    params: Params = Field(default_factory=dict, alias="with", description="Parameters of the run")
    look_at: Text = Field(description="What to look at in the result")


class Need(_Model):
    """A prerequisite: one topic, or several of which one is enough."""

    topic: TopicId | None = Field(default=None, description="What to learn first")
    any_of: list[TopicId] | None = Field(default=None, min_length=2, description="Alternatives: either one will do")
    why: Text = Field(description="What here cannot be followed without it")
    strength: Literal["needed", "helpful"] = "needed"
    depth: Literal["gist", "full"] = Field(default="full", description="gist: the idea suffices")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.topic is None) == (self.any_of is None):
            raise ValueError("a prerequisite has either `topic` or `any_of`")
        return self

    @property
    def alternatives(self) -> list[str]:
        """The topics named, one or several."""
        return [self.topic] if self.topic is not None else list(self.any_of or ())


class Entry(_Model):
    """What was written about one topic."""

    id: TopicId
    summary: Text | None = Field(default=None, description="40 to 110 words that stand on their own")
    detail: Text | None = Field(default=None, description="Markdown with $LaTeX$: derivation, steps, worked example")
    formula: Text | None = Field(default=None, description="LaTeX without dollar signs")
    aliases: list[Text] = Field(default_factory=list, description="Other names of the topic")
    questions: list[Text] = Field(default_factory=list, max_length=5, description="As a learner would type them")
    level: Level | None = None
    minutes: int | None = Field(default=None, ge=1, le=240, description="Study time of this topic alone")
    prerequisites: list[Need] = Field(default_factory=list[Need])
    outcomes: list[Text] = Field(default_factory=list, max_length=3, description="What a learner can do afterwards")
    misconception: Text | None = Field(default=None, description="What people get wrong, and what is so")
    refs: list[Text] = Field(default_factory=list, description="Keys of references.bib")
    as_of: str | None = Field(default=None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="Month of a moving fact")
    demo: DemoLine | None = None


class MeasuredBy(_Model):
    """The demo run that produces an aspect's numbers."""

    demo: Text
    metric: Text
    params: Params = Field(default_factory=dict, alias="with")


class AspectEntry(_Model):
    """One question answered for every side."""

    name: Text
    values: list[Text] = Field(min_length=2, description="One per side, in the order of `between`")
    measured: MeasuredBy | None = None


class ComparisonEntry(_Model):
    """Topics set beside each other."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    between: list[TopicId] = Field(min_length=2, max_length=5)
    question: Text
    same: Text = Field(description="What the sides share")
    aspects: list[AspectEntry] = Field(min_length=2)
    choose: Text = Field(description="When to take which")
    refs: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _a_value_a_side(self) -> Self:
        for aspect in self.aspects:
            if len(aspect.values) != len(self.between):
                raise ValueError(f'"{aspect.name}" has {len(aspect.values)} values for {len(self.between)} sides')
        return self


class DemoEntry(_Model):
    """A planned or built demo."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: Text
    question: Text


Group = Annotated[list[TopicId], Field(min_length=2, description="One concept in several places, the canonical first")]

SCHEMAS: dict[str, TypeAdapter[list[Entry]] | TypeAdapter[list[ComparisonEntry]] | TypeAdapter[list[Group]]] = {
    "topics": TypeAdapter(list[Entry]),
    "comparisons": TypeAdapter(list[ComparisonEntry]),
    "concepts": TypeAdapter(list[Group]),
}


def write_schemas(folder: Path) -> None:
    """Write the JSON Schema of each kind of file into a folder, for editors."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, adapter in SCHEMAS.items():
        text = json.dumps(adapter.json_schema(by_alias=True), indent=2, ensure_ascii=False)
        (folder / f"{name}.schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
