"""Commands about demos: list, show, run, source."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import draw_figure, open_service, wire
from ui.terminal import AsJson, console, note, plain, print_json

if TYPE_CHECKING:
    from demos import Description, Outcome, Parameter, Progress

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run the demos that the topics link to.")

DemoId = Annotated[str, typer.Argument(help="Id of a demo, such as vae-digits.")]


@app.command("list")
def list_demos(
    ready: Annotated[bool, typer.Option("--ready", help="Only those that can be run.")] = False, json: AsJson = False
) -> None:
    """List the demos of the atlas."""
    infos = [info for info in open_service().demos() if info.ready or not ready]
    if json:
        print_json([wire.demo_line(info) for info in infos])
        return
    out = console()
    for info in infos:
        state = "" if info.ready else "  [dim](coming)[/dim]"
        out.print(
            f"[bold]{info.demo.id}[/bold]{state}  {plain(info.demo.title)} [dim]· {len(info.topics)} topics[/dim]"
        )


@app.command("show")
def show(demo: DemoId, json: AsJson = False) -> None:
    """Show what a demo asks, claims and takes, and the topics that it serves."""
    service = open_service()
    info = service.demo(demo)
    description = service.describe_demo(demo) if info.ready else None
    if json:
        print_json(wire.demo_page(info, description))
        return
    out = console()
    out.print(f"[bold]{plain(info.demo.title)}[/bold]\n{plain(info.demo.question)}")
    if info.spec is None or description is None:
        out.print("\nThis demo is planned and not built yet.")
    else:
        out.print(f"[dim]{plain(info.spec.source)}[/dim]\n\n[bold]Watch[/bold]  {plain(info.spec.watch)}")
        out.print("\n[bold]Claims[/bold]")
        for claim in info.spec.claims:
            out.print(f"  {plain(claim.statement)} {claim.relation} {claim.bound:g}")
        _print_parameters(description)
    out.print("\n[bold]Topics[/bold]")
    for topic in info.topics:
        look_at = topic.demo.look_at if topic.demo else ""
        out.print(f"  {plain(topic.title)} [dim]{plain(topic.id)}[/dim]\n    {plain(look_at)}")


def _print_parameters(description: "Description") -> None:
    out = console()
    out.print("\n[bold]Parameters[/bold]")
    for parameter in description.parameters:
        default, text = plain(str(parameter.default)), plain(parameter.description)
        out.print(f"  [bold]{parameter.name}[/bold] = {default}  [dim]{_span(parameter)}[/dim]  {text}")
    if description.presets:
        out.print("\n[bold]Presets[/bold]")
    for name, preset in description.presets.items():
        values = ", ".join(f"{key}={value}" for key, value in preset.values.items())
        out.print(f"  [bold]{name}[/bold] ({plain(values)})  {plain(preset.shows)}")


def _span(parameter: "Parameter") -> str:
    if parameter.choices:
        return " | ".join(parameter.choices)
    if parameter.minimum is None or parameter.maximum is None:
        return parameter.kind
    return f"{parameter.minimum:g} to {parameter.maximum:g}"


@app.command("source")
def source(demo: DemoId) -> None:
    """Print the demo's file."""
    service = open_service()
    info = service.demo(demo)
    if info.spec is None:
        note(f"The demo {demo} is planned and not built yet.")
        raise typer.Exit(1)
    sys.stdout.write(info.spec.code)


@app.command("run")
def run(
    demo: DemoId,
    param: Annotated[list[str] | None, typer.Option("--param", help="name=value (repeatable).")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings of the demo; --param goes over them.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run although an equal run is kept.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for result.json, report.html and PNG figures; or one .json or .html file."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Run a demo and check its claims against what this run measured."""
    service = open_service()
    params: dict[str, object] = {}
    if preset is not None:
        params.update(service.preset(demo, preset))
    params.update(_read_param(each) for each in param or ())
    outcome = _run_shown(service.run_demo, demo, params, fresh)
    if out is not None:
        from ui.report import write_report

        for file in write_report(outcome, service.demo(demo).spec, out):
            note(f"Wrote {file}")
    if json:
        print_json(outcome.to_json())
    else:
        _print_outcome(outcome)


def _read_param(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise typer.BadParameter(f'"{text}" is not name=value', param_hint="--param")
    return name.strip(), value.strip()


def _run_shown(run: Any, demo: str, params: dict[str, object], fresh: bool) -> "Outcome":
    """Run with a progress line on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{demo}: starting", total=1.0)

        def show_progress(seen: "Progress") -> None:
            live = "  ".join(f"{name} {points[-1][1]:.4g}" for name, points in seen.live.items() if points)
            bar.update(task, completed=seen.fraction, description=plain(f"{demo}: {seen.message}  {live}"))

        return run(demo, params, show_progress, fresh)


def _print_outcome(outcome: "Outcome") -> None:
    from rich.table import Table

    screen = console()
    kept = " [dim](kept from an equal run)[/dim]" if outcome.cached else ""
    screen.print(f"[bold]{plain(outcome.title)}[/bold]{kept}")
    for figure in outcome.result.figures:
        sys.stdout.write(f"\n{draw_figure(figure, min(screen.width, 100))}\n")
    for table in outcome.result.tables:
        drawn = Table(*map(plain, table.columns), title=plain(table.title))
        for row in table.rows:
            drawn.add_row(*(plain(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in row))
        screen.print(drawn)
    screen.print()
    for metric in outcome.result.metrics:
        screen.print(f"  {plain(metric.name)}: [bold]{metric.value:.4g}[/bold] {plain(metric.unit)}")
    screen.print()
    for claim in outcome.result.claims:
        verdict = "[green]holds[/green]" if claim.holds else "[red]not reached in this run[/red]"
        screen.print(
            f"  {verdict}  {plain(claim.statement)}: {claim.measured:.4g} (asked {claim.relation} {claim.bound:g})"
        )
    screen.print(f"\n[dim]{outcome.cpu_seconds:.1f} CPU s, {outcome.peak_bytes / 2**20:,.0f} MiB[/dim]")
