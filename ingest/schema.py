"""The format of authored content: one model for each kind of entry, and the JSON Schemas for editors made from them.

`python -m ingest.schema [FOLDER]` writes the JSON Schemas, to corpus/schema if no folder is named.
"""

import json
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from graph import Level, nearest_ids
from ingest.positions import Positions
from ingest.problems import Problem

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
    between: list[TopicId] = Field(min_length=2, max_length=5, description="The sides, two to five topics")
    question: Text = Field(description="What somebody who has to choose would type")
    same: Text = Field(description="What the sides share")
    aspects: list[AspectEntry] = Field(min_length=2, description="Questions that one decides by")
    choose: Text = Field(description="When to take which")
    refs: list[Text] = Field(default_factory=list)


class DemoEntry(_Model):
    """A planned or built demo."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: Text
    question: Text


class FieldEntry(_Model):
    """A field beside the atlas that it does not cover."""

    field: Text
    questions: list[Text] = Field(min_length=1, description="Questions that belong there and that no topic answers")


Group = Annotated[list[TopicId], Field(min_length=2, description="One concept in several places, the canonical first")]

ENTRY = TypeAdapter(Entry)
COMPARISON = TypeAdapter(ComparisonEntry)
DEMO = TypeAdapter(DemoEntry)
FIELD = TypeAdapter(FieldEntry)
GROUP: TypeAdapter[list[str]] = TypeAdapter(Group)


def schema_problems(error: ValidationError, positions: Positions, index: int) -> Iterator[Problem]:
    """What the schema refused in entry `index` of a file, in words and with the line that it stands on."""
    for each in error.errors(include_url=False):
        what, instead = _wording(each, error.title)
        yield Problem(positions.file, positions.line((index, *each["loc"])), what, instead)


_NESTED: dict[str, type[_Model]] = {
    "demo": DemoLine,
    "prerequisites": Need,
    "aspects": AspectEntry,
    "measured": MeasuredBy,
}
_WHOLE: dict[str, type[_Model]] = {model.__name__: model for model in (Entry, ComparisonEntry, DemoEntry, FieldEntry)}


def _wording(error: ErrorDetails, title: str) -> tuple[str, str]:
    """What is wrong and what to write instead; `title` names the model that was read."""
    keys = [part for part in error["loc"] if isinstance(part, str)]
    key = keys[-1] if keys else ""
    holder = _NESTED[keys[-2]] if len(keys) > 1 and keys[-2] in _NESTED else _WHOLE.get(title)
    message = re.sub(r"^(Value error, |(Input|String|List|Dictionary) should )", "", error["msg"])
    if error["type"] == "extra_forbidden":
        known = sorted(_keys(holder)) if holder else []
        return f'unknown key "{key}"', did_you_mean(key, known) or f"Known here: {', '.join(known)}."
    if error["type"] == "missing":
        description = _keys(holder).get(key, "") if holder else ""
        return f'"{key}" is missing', f"Write {key}: …" + (f" ({description})" if description else "")
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else message, ""
    if error["type"] == "string_pattern_mismatch":
        form = "a month such as 2025-09" if key == "as_of" else "lower-case words joined by hyphens"
        return f'{key} "{error["input"]}" has another form than it should', f"Write {form}."
    if error["type"] in ("model_type", "model_attributes_type"):
        form = "{key: value, …}" if key else '"- id: …" and the other keys below it'
        return f"{key or 'an entry'} should be keys with values", f"Write {form}."
    return f"{key or 'an entry'} should {message}", _hint(error)


def _hint(error: ErrorDetails) -> str:
    given: object = error["input"]
    if error["type"] == "string_type":
        if isinstance(given, dict):
            return 'Quote the text: it holds ": ".'
        return "Write a text." if given is None or isinstance(given, list) else f'Quote it: "{given!s}"'
    if error["type"] == "list_type":
        return "Write a list: [one, another], or a line with - for each."
    return f"{given!r} is not." if isinstance(given, bool | int | float | str) else ""


def _keys(model: type[_Model]) -> dict[str, str]:
    """The keys of a model as they are written, with their descriptions."""
    return {info.alias or name: info.description or "" for name, info in model.model_fields.items()}


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A question that offers the nearest known name, "" when none is near."""
    near = nearest_ids(name, known, 1)
    return f'did you mean "{near[0]}"?' if near else ""


def write_schemas(folder: Path) -> None:
    """Write the JSON Schema of each kind of file into a folder, for editors."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, TypeAdapter[Any]] = {
        "topics": TypeAdapter(list[Entry]),
        "comparisons": TypeAdapter(list[ComparisonEntry]),
        "concepts": TypeAdapter(list[Group]),
        "demos": TypeAdapter(list[DemoEntry]),
        "boundary": TypeAdapter(list[FieldEntry]),
    }
    for name, adapter in files.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **adapter.json_schema(by_alias=True)}
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        (folder / f"{name}.schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1] if len(sys.argv) > 1 else "corpus/schema"))
