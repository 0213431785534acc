"""Commands about the atlas as a whole: build, import, check, stats, doctor, ui."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import Settings, open_service
from ui.terminal import AsJson, console, note, plain, print_json, progress_bar

if TYPE_CHECKING:
    from service.build import Source


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("build")(build)
    app.command("import")(import_file)
    app.command("check")(check)
    app.command("stats")(stats)
    app.command("doctor")(doctor)
    app.command("ui")(start_ui)
    app.command("serve")(serve)
    app.command("mcp")(mcp)


CorpusFolder = Annotated[
    Path | None, typer.Option("--corpus", help="Folder of the corpus; GENATLAS_CORPUS if left out.")
]


def build(
    corpus: CorpusFolder = None,
    force: Annotated[
        bool, typer.Option(help="Build although nothing changed, and encode every passage again.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Build the atlas from its corpus and let it serve."""
    from service.build import corpus_source

    settings = Settings.read()
    _build(settings, corpus_source(corpus or settings.corpus), force, json)


def import_file(
    file: Annotated[Path, typer.Argument(help="An exported atlas (.json, .graphml) or an outline (.txt, .md, .opml).")],
    json: AsJson = False,
) -> None:
    """Build the atlas from one file, an outline of your own or an exported atlas, and let it serve."""
    from service.build import file_source

    _build(Settings.read(), file_source(file), force=False, json=json)


def _build(settings: Settings, source: "Source", force: bool, json: bool) -> None:
    from service import build as builder

    with progress_bar("Looking for changes") as show:
        report = builder.build(settings, source, force, show)
    counts = report.snapshot.manifest.counts
    if json:
        print_json(
            {
                "snapshot": report.snapshot.manifest.id,
                "changed": report.changed,
                "embedded": report.embedded,
                "reused": report.reused,
                "lost_text": list(report.lost_text),
                "counts": counts,
            }
        )
        return
    if not report.changed:
        note(f"Nothing changed: {counts['topics']:,} topics serve already.")
        return
    note(
        f"Built {counts['topics']:,} topics, {counts['prerequisites']:,} prerequisites, "
        f"{counts['passages']:,} passages ({report.embedded:,} encoded, {report.reused:,} taken over)."
    )
    if report.lost_text:
        note(f"{len(report.lost_text)} topics had text before and have none now: {', '.join(report.lost_text[:10])}")


def check(
    corpus: CorpusFolder = None,
    demos: Annotated[
        bool, typer.Option(help="Check each demo line against the demo's parameters too (loads torch).")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check a corpus without building it: every problem with its place, then what deserves a second look."""
    from service.check import check_corpus

    settings = Settings.read()
    report = check_corpus(corpus or settings.corpus, settings.home if demos else None)
    if json:
        print_json(report.as_json())
    else:
        for remark in report.remarks:
            sys.stdout.write(f"{remark}\n")
        note(report.summary)
    if report.failed:
        raise typer.Exit(1)


def stats(json: AsJson = False) -> None:
    """Count what the atlas holds, section by section."""
    service = open_service()
    document = service.stats()
    if json:
        print_json(document)
        return
    from rich.table import Table

    out = console()
    table = Table("section", "topics", "starred", "written", "demo ready", title="The atlas")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["by_section"]:
        numbers = [f"{row[name]:,}" for name in ("topics", "starred", "written", "demo_ready")]
        table.add_row(plain(row["title"]), *numbers)
    out.print(table)
    for name in (
        "topics",
        "starred",
        "sections",
        "foundations",
        "hierarchy",
        "prerequisites",
        "comparisons",
        "passages",
    ):
        out.print(f"{name:>15}  {document[name]:,}")


def doctor(json: AsJson = False) -> None:
    """Check the installation: settings, snapshot, encoder, demo library."""
    from service.doctor import examine

    findings = examine()
    if json:
        print_json([{"part": f.part, "ok": f.ok, "detail": f.detail} for f in findings])
    else:
        for finding in findings:
            mark = "[green]ok[/green]  " if finding.ok else "[red]FAIL[/red]"
            console().print(f"{mark} {finding.part}: {plain(finding.detail)}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def start_ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open the Streamlit app; ends with Ctrl-C."""
    open_service(Settings.read())  # a missing or damaged atlas is told here, not in a browser
    note(f"GenAtlas: http://{address}:{port}")
    command = [sys.executable, "-m", "ui", "--server.port", str(port), "--server.address", address]
    process = subprocess.Popen(command)
    try:
        raise typer.Exit(process.wait())
    except KeyboardInterrupt:
        process.terminate()
        process.wait()


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    public: Annotated[
        bool, typer.Option("--public", help="Let anybody read; without it other machines need a key.")
    ] = False,
) -> None:
    """Answer over HTTP under /v1 (described at /docs and /openapi.json) and over MCP at /mcp. Ends with Ctrl-C."""
    from api.server import serve as serve_http

    serve_http(Settings.read(), address, port, public, say=note)


def mcp() -> None:
    """Answer a language model's program over standard input and output (MCP). `serve` does the same at /mcp."""
    from api.mcp_server import serve_stdio
    from service import LiveService

    serve_stdio(LiveService(Settings.read()))
