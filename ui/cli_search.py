"""Commands that search and answer: search, ask, and batch for many questions at once."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from graph import AtlasError, DemoLink, Level
from search import Answer, Filters, Ranking
from service import Service, open_service, wire
from ui.cli_graph import resolve
from ui.terminal import AsJson, breadcrumb, console, note, plain, print_json, print_json_line

batch = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Many questions from a JSONL file, one answer a line."
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("search")(search)
    app.command("suggest")(suggest)
    app.command("ask")(ask)


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words or symbols.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many topics.")] = 10,
    section: Annotated[str | None, typer.Option(help="Only in this section (its id).")] = None,
    under: Annotated[str | None, typer.Option(help="Only in this topic and below it (its id).")] = None,
    level: Annotated[str | None, typer.Option(help="Only of this level: beginner, intermediate or advanced.")] = None,
    starred: Annotated[
        bool | None, typer.Option("--starred/--not-starred", help="Only supplementary topics, or none.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Find topics by meaning and by words."""
    service = open_service()
    filters = Filters(section=section, level=_level(level), starred=starred, subtree=under)
    ranking = service.search(query, k, filters)
    if json:
        print_json(wire.ranking(ranking))
    else:
        _print_ranking(ranking)


def suggest(
    typed: Annotated[str, typer.Argument(help="The beginning of a title, an alias or a word in one.")],
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="How many names.")] = 8,
    json: AsJson = False,
) -> None:
    """List names of topics that go on as typed."""
    found = open_service().suggest(typed, k)
    if json:
        print_json(msgspec.to_builtins(found))
        return
    for suggestion in found:
        console().print(f"{plain(suggestion.name)}  [dim]{plain(suggestion.topic)}[/dim]")
    if not found:
        note(f'No name goes on from "{typed}". By meaning: genatlas search "{typed}"')


def _level(name: str | None) -> Level | None:
    match name:
        case None | "beginner" | "intermediate" | "advanced":
            return name
        case _:
            raise typer.BadParameter(f'"{name}" is none of beginner, intermediate, advanced', param_hint="--level")


def _print_ranking(ranking: Ranking) -> None:
    out = console()
    _note_corrections(ranking.corrections, ranking.meaning_off)
    if ranking.abstained:
        out.print("The atlas does not seem to cover this. Nearest topics:")
    for hit in ranking.nearest if ranking.abstained else ranking.hits:
        out.print(f"{hit.rank:3}. [bold]{plain(hit.topic.title)}[/bold]  [dim]{plain(breadcrumb(hit.topic))}[/dim]")
        text = hit.passage.text if len(hit.passage.text) <= 160 else f"{hit.passage.text[:159]}…"
        out.print(f"     {plain(text)}")
        twins = f"  · also in {len(hit.twins)} other place{'s' if len(hit.twins) > 1 else ''}" if hit.twins else ""
        out.print(f"     [dim]{plain('; '.join(hit.reasons))}{twins}  {plain(hit.topic.id)}[/dim]")


def _note_corrections(corrections: tuple[tuple[str, str], ...], meaning_off: bool) -> None:
    for typed, read in corrections:
        note(f'"{typed}" read as "{read}"')
    if meaning_off:
        note("The encoder is missing, so this search went by words alone. Make it again: genatlas build")


def ask(
    question: Annotated[str, typer.Argument(help="A question, as you would ask a person.")],
    after: Annotated[
        str | None, typer.Option(help='The topic asked about before, for a follow-up such as "and its loss?".')
    ] = None,
    llm: Annotated[
        bool, typer.Option("--llm", help="Let the language model of the settings tell it; every sentence is checked.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Answer a question in the atlas's own sentences, each cited."""
    service = open_service()
    answer = service.ask(question, after=None if after is None else resolve(service, after).id)
    if llm:
        _retell(service, answer, json)
    elif json:
        print_json(wire.answer(service, answer))
    else:
        _print_answer(service, answer)


def _retell(service: Service, answer: Answer, json: bool) -> None:
    """Print each sentence of the model as it stands the check, then the whole answer with its sources."""
    if json:
        print_json(wire.retelling(service, service.retell(answer)))
        return
    told = service.retell(answer, lambda sentence: note(sentence.text))
    _print_answer(service, told.answer)
    cost = "" if told.cost is None else f", cost {told.cost:.4f}"
    if not told.by_model:
        note("Nothing that the model wrote is carried by the sources: this is the atlas's own answer.")
    note(f"{told.model}: {told.prompt_tokens} tokens read, {told.completion_tokens} written{cost}.")
    if told.left_out:
        note(f"Left out, as the sources do not carry them: {' '.join(told.left_out)}")


def _print_answer(service: Service, answer: Answer) -> None:
    from rich.table import Table

    out = console()
    _note_corrections((), answer.meaning_off)
    if answer.read_as:
        note(f'Read as "{answer.read_as}"')
    number_of = {topic_id: number for number, topic_id in enumerate(answer.citations, start=1)}
    if answer.sentences:
        out.print(plain(" ".join(f"{sentence.text} [{number_of[sentence.topic]}]" for sentence in answer.sentences)))
    if answer.formula:
        out.print(f"\n  {plain(answer.formula)}")
    if answer.table is not None:
        table = Table("", *map(plain, answer.table.titles), show_lines=True)
        for row in answer.table.rows:
            table.add_row(plain(row.aspect), *map(plain, row.values))
        out.print(table)
    if answer.demo is not None:
        out.print(f"\n[bold]Demo[/bold]  {_command(service, answer.demo)} — {plain(answer.demo.look_at)}")
    if answer.note:
        out.print(f"\n{plain(answer.note)}")
    out.print()
    for topic_id, number in number_of.items():
        topic = service.store.topic(topic_id)
        out.print(f"\\[{number}] {plain(topic.title)} [dim]{plain(topic_id)}[/dim]")
        for work in service.references(topic.refs):
            out.print(f"    [dim]{plain(wire.cite(work))} {work.link}[/dim]")
    for heading, ids in (("Nearest", answer.nearest), ("See also", answer.related)):
        if ids:
            out.print(f"[dim]{heading}: {plain(', '.join(service.store.topic(each).title for each in ids))}[/dim]")


def _command(service: Service, link: DemoLink) -> str:
    """How to run a topic's demo, or that it is still to come."""
    if not service.demo(link.demo).ready:
        return f"{link.demo} (coming)"
    params = "".join(
        f" --param {name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in link.params.items()
    )
    return plain(f"genatlas demo run {link.demo}{params}")


class LineUnreadable(AtlasError):
    """A line of a batch file is not what the command reads."""


BatchFile = Annotated[Path, typer.Argument(help="JSONL file; - for standard input.")]
MAX_LINE = 100_000


@batch.command("search")
def batch_search(file: BatchFile) -> None:
    """{"id", "question"} in; {"id", "ranked", "ms"} out. Abstained: "ranked" is empty."""
    service = open_service()
    said: set[str] = set()

    def one(row: dict[str, Any]) -> dict[str, Any]:
        begin = time.perf_counter()
        ranking = service.search(row["question"])
        took = (time.perf_counter() - begin) * 1000
        if ranking.meaning_off and not said:
            said.add("off")
            _note_corrections((), True)
        return {"id": row["id"], "ranked": [hit.topic.id for hit in ranking.hits], "ms": round(took, 3)}

    _run_batch(file, "question", one)


@batch.command("ask")
def batch_ask(file: BatchFile) -> None:
    """{"id", "question"} in; {"id", "ranked", "ms", "answer", "intent", "citations", "abstained"} out."""
    service = open_service()

    def one(row: dict[str, Any]) -> dict[str, Any]:
        begin = time.perf_counter()
        answer = service.ask(row["question"])
        took = (time.perf_counter() - begin) * 1000
        return {
            "id": row["id"],
            "ranked": list(answer.ranked),
            "ms": round(took, 3),
            "answer": answer.text,
            "intent": answer.intent,
            "citations": list(answer.citations),
            "abstained": answer.abstained,
        }

    _run_batch(file, "question", one)


@batch.command("path")
def batch_path(file: BatchFile) -> None:
    """{"id", "goal"} in; {"id", "goal", "path"} out, topic ids in study order."""
    service = open_service()

    def one(row: dict[str, Any]) -> dict[str, Any]:
        path = service.path([service.find_topic(row["goal"]).topic.id])
        return {"id": row["id"], "goal": row["goal"], "path": [step.topic.id for step in path.steps]}

    _run_batch(file, "goal", one)


def _run_batch(file: Path, field: str, one: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer each line; a line that cannot be answered is told with its number and ends the run with exit code 1."""
    failed = 0
    for number, line in _lines(file):
        try:
            print_json_line(one(_row(line, field)))
        except AtlasError as error:
            failed += 1
            note(f"{file}:{number}: {error}")
    if failed:
        note(f"{failed} line{'s' if failed > 1 else ''} could not be answered.")
        raise typer.Exit(1)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    if str(file) == "-":
        yield from ((number, line) for number, line in enumerate(sys.stdin, start=1) if line.strip())
        return
    if not file.is_file():
        raise LineUnreadable(f"No file at {file}.")
    with file.open(encoding="utf-8") as lines:
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _row(line: str, field: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise LineUnreadable(f"a line of {len(line):,} characters; at most {MAX_LINE:,} are read")
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise LineUnreadable(f"not a JSON object: {error}") from error
    if "id" not in row or not isinstance(row.get(field), str):
        raise LineUnreadable(f'a line needs "id" and, as text, "{field}"')
    return row
