"""The command line `genatlas`. Exit codes: 0 done, 1 not found or refused, 2 wrong usage."""

import os
import sys
from typing import Annotated

import typer

from ui import (
    cli_demo,
    cli_eval,
    cli_graph,
    cli_keys,
    cli_learner,
    cli_neo4j,
    cli_review,
    cli_search,
    cli_study,
    cli_system,
)
from ui.terminal import note

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A knowledge graph, search and demos over 2,063 generative-AI study topics.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"genatlas {version('genatlas')}\n")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


for commands in (cli_system, cli_search, cli_graph, cli_study, cli_learner, cli_eval):
    commands.register(app)
app.add_typer(cli_demo.app, name="demo")
app.add_typer(cli_keys.app, name="key")
app.add_typer(cli_neo4j.app, name="neo4j")
app.add_typer(cli_review.app, name="review")
app.add_typer(cli_search.batch, name="batch")


def main() -> None:
    """Run the command line; a user's mistake ends in one message on standard error and exit code 1."""
    try:
        app()
    except BrokenPipeError:  # the reader of our output has gone; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        note("Stopped.")
        sys.exit(130)
    except Exception as error:
        from service import user_message

        message = user_message(error)
        if message is None:
            raise
        note(message)
        sys.exit(1)


if __name__ == "__main__":
    main()
