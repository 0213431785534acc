"""How the command line prints: JSON for programs, rich text for people, errors on standard error."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from graph import Topic

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from rich.console import Console

    from graph.progress import Progress

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def console() -> "Console":
    """A console on standard output, without colour where that is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(document: Any) -> None:
    """Print a document as indented UTF-8 JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def print_json_line(document: Any) -> None:
    """Print a document as one line of JSON, at once, so that a reader of the pipe need not wait."""
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


def write_document(document: str | bytes, output: "Path | None") -> None:
    """Write a document to a file, and say so, or to standard output if none is named.

    Raises typer.BadParameter for a file that cannot be written.
    """
    data = document.encode() if isinstance(document, str) else document
    if output is None:
        sys.stdout.buffer.write(data)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}", param_hint="--output") from None
    note(f"{output}: {len(data):,} bytes")


def note(text: str) -> None:
    """Tell the person something that is no part of the output, on standard error."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def progress_bar(first: str) -> "Generator[Progress]":
    """A bar on standard error, and what moves it; off a terminal each stage is a line."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    terminal = Console(stderr=True)
    with Bar(*columns, console=terminal, transient=terminal.is_terminal) as bar:
        task = bar.add_task(first, total=1.0)
        said: set[str] = set()

        def show(stage: str, fraction: float) -> None:
            if stage not in said and not terminal.is_terminal:
                note(f"{stage} …")
            said.add(stage)
            bar.update(task, description=stage, completed=fraction)

        yield show


def plain(text: str) -> str:
    """Text with what rich would read as markup escaped."""
    from rich.markup import escape

    return escape(text)


def breadcrumb(topic: Topic) -> str:
    """Where a topic stands: the titles above it."""
    return " › ".join(topic.title_path[:-1])
