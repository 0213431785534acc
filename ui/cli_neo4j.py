"""Commands about the Neo4j server: a development server of one's own, and the atlas on it or on any other."""

from typing import Annotated

import typer

from service import Settings
from ui.terminal import AsJson, console, note, plain, print_json, progress_bar

app = typer.Typer(no_args_is_help=True, help="The atlas on a Neo4j server; a server of your own for development.")


@app.command("start")
def start(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of Bolt on 127.0.0.1; 0 takes a free one.")] = 7687,
    heap: Annotated[int, typer.Option(min=256, help="Java heap in MiB; 1,024 serve 100,000 topics.")] = 1024,
    cache: Annotated[int, typer.Option(min=32, help="Page cache in MiB.")] = 512,
) -> None:
    """Start a Neo4j server of your own in the home, fetched by Maven the first time (120 MB)."""
    from service import neo4j_server

    home = Settings.read().home
    status = neo4j_server.start(home, port, heap, cache, say=note)
    note(f"Neo4j {status.version} answers at {status.url} (user {neo4j_server.USER}).")
    note(f"Its password: {status.folder}/password")
    note("Load the atlas: genatlas neo4j load")


@app.command("stop")
def stop() -> None:
    """Stop the server that `start` started; its data stay."""
    from service import neo4j_server

    stopped = neo4j_server.stop(Settings.read().home)
    note("Stopped." if stopped else "No server that was started here runs.")


@app.command("status")
def status(json: AsJson = False) -> None:
    """Tell which server is used, whether it answers, and what it serves."""
    from service.on_neo4j import examine

    found = examine(Settings.read())
    if json:
        print_json(found)
    else:
        for name, value in found.items():
            console().print(f"{name:>10}  {plain(str(value))}")
    if not found["answers"]:
        raise typer.Exit(1)


@app.command("load")
def load(json: AsJson = False) -> None:
    """Load the atlas that was built onto the server and let it serve there; run it again after an interruption."""
    from service.on_neo4j import load_current

    settings = Settings.read()
    with progress_bar("Reading the snapshot") as show:
        report = load_current(settings, show)
    if json:
        print_json(report)
    elif not report.changed:
        note(f"The build {report.build[:12]} serves already.")
    else:
        note(
            f"Loaded {report.nodes:,} nodes and {report.relationships:,} relationships in {report.seconds:.1f} s; "
            f"the build {report.build[:12]} serves. Use it: GENATLAS_STORE=neo4j"
        )
