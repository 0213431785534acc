"""What the atlas tells a language model, as Markdown in small pages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graph import AtlasError, Comparison, Prerequisite, Topic
from search import Answer, Ranking
from search.comparison import AspectTable
from service import Service, draw_figure, wire

if TYPE_CHECKING:
    from demos import Outcome, Table

PAGE = 4500
"""Characters of a page. The densest texts (ids, formulas) take one token for 2.3 of them, so that a page stays below
2,000 tokens."""
LIST = 12
"""Entries of a list that is told before the rest is only counted."""
FIGURE_COLUMNS = 72


class CursorUnknown(AtlasError):
    """A cursor that no answer gave, or one of another build."""


def page(text: str, cursor: str | None, build: str) -> str:
    """A page of a text, with the cursor of the next one where there is more. Raises CursorUnknown.

    A cursor is where to go on, and the build that it goes on in.
    """
    begin = 0
    if cursor is not None:
        number, _, of = cursor.partition("@")
        if not number.isdecimal() or of != build[:8] or not 0 < int(number) < len(text):
            raise CursorUnknown(f'"{cursor}" is no cursor of this answer. Call again without one.')
        begin = int(number)
    if len(text) - begin <= PAGE:
        return text[begin:]
    end = text.rfind("\n", begin + PAGE // 2, begin + PAGE)
    end = begin + PAGE if end < 0 else end + 1
    return f"{text[begin:end]}\n(There is more: call again with cursor={end}@{build[:8]})"


def ranking_text(ranking: Ranking) -> str:
    """Topics found, each with where it stands and what it is about."""
    if ranking.abstained:
        nearest = "".join(f"\n- {hit.topic.title} (`{hit.topic.id}`)" for hit in ranking.nearest[:3])
        return f"The atlas does not cover this.{' Nearest:' + nearest if nearest else ''}"
    return "\n".join(
        f"{hit.rank}. **{hit.topic.title}** (`{hit.topic.id}`)\n   {' › '.join(hit.topic.title_path[:-1])}\n"
        f"   {hit.topic.summary or hit.passage.text}"
        for hit in ranking.hits
    )


def answer_text(service: Service, answer: Answer) -> str:
    """An answer, its table or formula, and the topics and works that it rests on."""
    numbers = {topic: number for number, topic in enumerate(answer.citations, start=1)}
    parts = [" ".join(f"{each.text} [{numbers.get(each.topic, 1)}]" for each in answer.sentences) or answer.text]
    if answer.table is not None:
        parts.append(table_text(answer.table))
    if answer.formula:
        parts.append(f"$${answer.formula}$$")
    if numbers:
        parts.append("## Sources\n" + "\n".join(_source(service, topic, n) for topic, n in numbers.items()))
    if answer.demo is not None:
        parts.append(f"Demo `{answer.demo.demo}`: {answer.demo.look_at}")
    return "\n\n".join(parts)


def topic_text(service: Service, topic: Topic) -> str:
    """A topic with its text, what to learn first, what it opens, and where it comes from."""
    store = service.store
    about = [topic.level or "", f"{topic.minutes} minutes" if topic.minutes else "", f"id `{topic.id}`"]
    parts = [
        f"# {topic.title}\n{' › '.join(topic.title_path[:-1])}\n{' · '.join(filter(None, about))}",
        topic.summary or "Nobody has written about this topic yet.",
        f"$${topic.formula}$$" if topic.formula else "",
        topic.detail,
        f"**People get wrong:** {topic.misconception}" if topic.misconception else "",
        _list("Learn first", [_needed(service, edge) for edge in store.effective_prerequisites(topic.id)]),
        _list("Subtopics", [_named(child) for child in store.children(topic.id)]),
        _list("Needed by", [_named(store.topic(edge.after)) for edge in store.dependents(topic.id)]),
        _list("Compared", [f"{each.question} (`{' '.join(each.between)}`)" for each in store.comparisons(topic.id)]),
        f"## Demo\n`{topic.demo.demo}`: {topic.demo.look_at}" if topic.demo else "",
        _list("Works", [_work(wire.cite(work), work.link) for work in service.references(topic.refs)]),
    ]
    return "\n\n".join(part for part in parts if part)


def prerequisites_text(service: Service, topic: Topic, edges: Sequence[Prerequisite]) -> str:
    """What a topic needs, with the reason for each."""
    if not edges:
        return f"{topic.title} needs nothing that the atlas has."
    return f"# Before {topic.title}\n" + "\n".join(f"- {_needed(service, edge)}" for edge in edges)


def table_text(table: AspectTable) -> str:
    """The rows of a comparison, authored or not."""
    return _rows(["", *table.titles], [[row.aspect, *row.values] for row in table.rows])


def comparison_text(service: Service, comparison: Comparison) -> str:
    """Topics beside each other, aspect by aspect."""
    titles = [service.store.topic(side).title for side in comparison.between]
    parts = [
        f"# {comparison.question}",
        _rows(["", *titles], [[aspect.name, *aspect.values] for aspect in comparison.aspects]),
        f"**The same:** {comparison.same}" if comparison.same else "",
        f"**Which to take:** {comparison.choose}" if comparison.choose else "",
        _list("Works", [_work(wire.cite(work), work.link) for work in service.references(comparison.refs)]),
    ]
    return "\n\n".join(part for part in parts if part)


def outcome_text(outcome: "Outcome") -> str:
    """What a demo run measured: claims first, then numbers, tables, and figures drawn as text."""
    result = outcome.result
    params = ", ".join(f"{name}={value}" for name, value in outcome.params.items())
    claims = [
        f"- {'holds' if claim.holds else 'NOT REACHED in this run'}: {claim.statement}: "
        f"{claim.measured:.4g} (asked {claim.relation} {claim.bound:g})"
        for claim in result.claims
    ]
    metrics = [f"- {metric.name}: {metric.value:.4g} {metric.unit}".rstrip() for metric in result.metrics]
    parts = [
        f"# {outcome.title}\nDemo `{outcome.demo_id}`, run with {params}",
        "## Claims, checked in this run\n" + "\n".join(claims),
        "## Measured\n" + "\n".join(metrics) if metrics else "",
        *(f"## {table.title}\n{_table(table)}" for table in result.tables),
        *(f"```\n{draw_figure(figure, FIGURE_COLUMNS)}\n```" for figure in result.figures if figure.kind != "images"),
    ]
    return "\n\n".join(part for part in parts if part)


def _list(heading: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    more = f"\n- and {len(entries) - LIST} more" if len(entries) > LIST else ""
    return f"## {heading}\n" + "\n".join(f"- {entry}" for entry in entries[:LIST]) + more


def _named(topic: Topic) -> str:
    return f"{topic.title} (`{topic.id}`)"


def _needed(service: Service, edge: Prerequisite) -> str:
    marks = [mark for mark, true in (("helpful", edge.strength == "helpful"), ("gist", edge.depth == "gist"),
                                     ("one of several", edge.group is not None)) if true]  # fmt: skip
    told = f" [{', '.join(marks)}]" if marks else ""
    return f"{_named(service.store.topic(edge.before))}{told}: {edge.why}"


def _source(service: Service, topic_id: str, number: int) -> str:
    topic = service.store.topic(topic_id)
    works = "; ".join(_work(wire.cite(work), work.link) for work in service.references(topic.refs)[:2])
    return f"[{number}] {_named(topic)}{': ' + works if works else ''}"


def _work(cited: str, link: str) -> str:
    return f"{cited} {link}".strip()


def _table(table: "Table") -> str:
    rows = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.rows]
    return _rows(table.columns, rows)


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )
