"""The command eval: the search of the open atlas measured on judged questions."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import open_service
from ui.terminal import AsJson, console, note, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from search.evaluation import Estimate
    from service.evaluate import Evaluation


def register(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command("eval")(evaluate)


def evaluate(
    files: Annotated[list[Path], typer.Argument(help="JSONL files of judged questions; see docs/formats.md.")],
    page: Annotated[
        Path | None, typer.Option("--misses", help="Markdown file to write each miss to, with what came instead.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure the search on judged questions: hits, ranks, sides found, abstention, with 95 % intervals."""
    from service.evaluate import evaluate, misses, read_judged

    judged = [each for file in files for each in read_judged(file)]
    evaluation = evaluate(open_service(), judged)
    if evaluation.unknown:
        shown = ", ".join(evaluation.unknown[:5])
        note(f"{len(evaluation.unknown)} topics that the judgements name are not in this atlas: {shown}")
    if page is not None:
        page.write_text(misses(evaluation), encoding="utf-8")
    if json:
        print_json(evaluation.as_json())
    else:
        _print(evaluation)


def _print(evaluation: "Evaluation") -> None:
    from rich.box import SIMPLE
    from rich.table import Column, Table

    def table(name: str, measures: Iterable[str]) -> Table:
        columns = [Column(measure, no_wrap=True, justify="right") for measure in ("n", *measures)]
        return Table(Column(name, no_wrap=True), *columns, box=SIMPLE, padding=(0, 1))

    out = console()
    out.width = max(out.width, 150)
    tables: list[Table] = []
    if evaluation.graded:
        tables.append(table("graded", evaluation.graded["overall"]))
        for name, values in evaluation.graded.items():
            _add(tables[-1], name, values, intervals=name == "overall")
    if evaluation.compared:
        tables.append(table("comparisons", evaluation.compared))
        _add(tables[-1], "", evaluation.compared, intervals=True)
    if evaluation.abstained:
        tables.append(table("foreign", ["abstained"]))
        for kind, value in evaluation.abstained.items():
            _add(tables[-1], kind, {"abstained": value}, intervals=True)
    for each in tables:
        out.print(each)
    if evaluation.separation is not None:
        out.print(f"Evidence separates covered from foreign questions: area under the ROC {evaluation.separation:.3f}")


def _add(table: "Table", name: str, values: "Mapping[str, Estimate]", intervals: bool) -> None:
    table.add_row(name, *_counted(values), *(f"{value.mean:.3f}" for value in values.values()))
    if intervals:
        table.add_row("  95 %", "", *(f"{value.low:.2f}–{value.high:.2f}" for value in values.values()))


def _counted(values: "Mapping[str, Estimate]") -> list[str]:
    return [str(next(iter(values.values())).n)]
