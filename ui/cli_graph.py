"""Commands about topics and the edges between them: topic, prereq, compare, export."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from graph import Prerequisite, Topic
from service import Service, open_service, wire
from ui.terminal import AsJson, breadcrumb, console, note, plain, print_json, progress_bar, write_document

TopicName = Annotated[str, typer.Argument(help="A topic: its id, the end of its id, or words.")]


class Format(StrEnum):
    """What `export` writes."""

    json = "json"
    graphml = "graphml"
    jsonld = "jsonld"
    cypher = "cypher"
    opml = "opml"
    mermaid = "mermaid"
    site = "site"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("topic")(show_topic)
    app.command("prereq")(show_prerequisites)
    app.command("compare")(compare)
    app.command("export")(export)


def resolve(service: Service, words: str) -> Topic:
    """The topic that the user named; how it was understood is said on standard error."""
    found = service.find_topic(words)
    if found.how == "words":
        note(f'"{words}" taken as {found.topic.id}')
    if found.how == "suffix" and found.others:
        note(f'"{words}" taken as {found.topic.id}; also: {", ".join(found.others[:5])}')
    return found.topic


def show_topic(topic: TopicName, json: AsJson = False) -> None:
    """Show a topic: its text, what to learn first, what it unlocks, its demo."""
    service = open_service()
    found = resolve(service, topic)
    page = wire.topic_page(service, found)
    if json:
        print_json(page)
        return
    out = console()
    out.print(f"[bold]{plain(found.title)}[/bold]{' *' if found.starred else ''}  [dim]{plain(found.id)}[/dim]")
    out.print(f"[dim]{plain(breadcrumb(found))}[/dim]\n")
    out.print(plain(found.summary or "The text of this topic is not written yet."))
    if found.formula:
        out.print(f"\n  {plain(found.formula)}")
    if found.detail:
        from rich.markdown import Markdown

        out.print()
        out.print(Markdown(found.detail))
    if found.misconception:
        out.print(f"\n[bold]Often got wrong:[/bold] {plain(found.misconception)}")
    facts = [
        found.level or "",
        f"{found.minutes} min" if found.minutes else "",
        f"as of {found.as_of}" if found.as_of else "",
    ]
    if any(facts):
        out.print(f"\n[dim]{' · '.join(fact for fact in facts if fact)}[/dim]")
    _print_needs(service, "Learn first", service.store.effective_prerequisites(found.id), before=True)
    _print_needs(service, "Unlocks", service.store.dependents(found.id), before=False)
    _print_topics("Contains", service.store.children(found.id))
    _print_topics("The same concept elsewhere", service.store.twins(found.id))
    for comparison in service.store.comparisons(found.id):
        out.print(f"\n[bold]Compare:[/bold] {plain(comparison.question)}  [dim]{comparison.id}[/dim]")
    if found.demo:
        out.print(f"\n[bold]Demo:[/bold] {found.demo.demo} — {plain(found.demo.look_at)}")
    for reference in service.references(found.refs):
        out.print(f"[dim]{plain(wire.cite(reference))} {reference.link}[/dim]")


def _print_needs(service: Service, heading: str, edges: Sequence[Prerequisite], before: bool) -> None:
    if not edges:
        return
    out = console()
    out.print(f"\n[bold]{heading}[/bold]")
    for edge in edges:
        other = service.store.topic(edge.before if before else edge.after)
        mark = "" if edge.strength == "needed" else " (helpful)"
        out.print(f"  {plain(other.title)}{mark} [dim]{plain(other.id)}[/dim]\n    {plain(edge.why)}")


def _print_topics(heading: str, topics: Sequence[Topic]) -> None:
    if topics:
        out = console()
        out.print(f"\n[bold]{heading}[/bold]")
        for each in topics:
            out.print(f"  {plain(each.title)} [dim]{plain(each.id)}[/dim]")


def show_prerequisites(
    topic: TopicName,
    all_: Annotated[bool, typer.Option("--all", help="Follow the prerequisites of prerequisites.")] = False,
    json: AsJson = False,
) -> None:
    """Show what a topic needs, with the reason for each."""
    from graph import transitive_prerequisites

    service = open_service()
    found = resolve(service, topic)
    edges = (
        transitive_prerequisites(service.store, found.id) if all_ else service.store.effective_prerequisites(found.id)
    )
    if json:
        print_json({"topic": found.id, "prerequisites": [wire.edge(edge) for edge in edges]})
        return
    if not edges:
        console().print(f"{plain(found.title)} needs nothing that the atlas has recorded: you can start here.")
        return
    out = console()
    for edge in edges:
        before, after = service.store.topic(edge.before), service.store.topic(edge.after)
        marks = [
            mark
            for mark in (
                edge.strength,
                "the gist is enough" if edge.depth == "gist" else "",
                "one of several" if edge.group else "",
            )
            if mark
        ]
        out.print(f"[bold]{plain(before.title)}[/bold] → {plain(after.title)} [dim]({', '.join(marks)})[/dim]")
        out.print(f"  {plain(edge.why)}\n  [dim]{plain(before.id)}[/dim]")


def compare(one: TopicName, other: TopicName, json: AsJson = False) -> None:
    """Set two topics beside each other, aspect by aspect."""
    service = open_service()
    comparison = service.compare(resolve(service, one).id, resolve(service, other).id)
    if json:
        print_json(wire.comparison(service, comparison))
        return
    from rich.table import Table

    out = console()
    out.print(f"[bold]{plain(comparison.question)}[/bold]\n\n{plain(comparison.same)}\n")
    table = Table("", *(plain(service.store.topic(side).title) for side in comparison.between), show_lines=True)
    for aspect in comparison.aspects:
        table.add_row(plain(aspect.name), *map(plain, aspect.values))
    out.print(table)
    out.print(f"\n[bold]Choose:[/bold] {plain(comparison.choose)}")


def export(
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="json and graphml hold the whole atlas and read back; jsonld is SKOS and schema.org; cypher loads a "
            "Neo4j; opml is the outline; mermaid draws the sections, or a topic; site is a folder of web pages.",
        ),
    ] = Format.json,
    topic: Annotated[str | None, typer.Option(help="The topic whose neighbourhood mermaid draws.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Where the site will be published: for its sitemap, and for names in jsonld.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write (for a site a folder); standard output if left out."),
    ] = None,
) -> None:
    """Write the atlas in another format."""
    if topic is not None and format_ is not Format.mermaid:
        raise typer.BadParameter("only mermaid draws a topic; leave --topic out", param_hint="--topic")
    if base_url is not None and format_ not in (Format.site, Format.jsonld):
        raise typer.BadParameter("only site and jsonld have addresses; leave it out", param_hint="--base-url")
    if base_url is not None and not base_url.startswith(("https://", "http://")):
        raise typer.BadParameter("it begins with https:// or http://", param_hint="--base-url")
    if format_ is Format.site:
        _export_site(output, base_url)
    elif format_ is Format.mermaid:
        write_document(_picture(open_service(), topic), output)
    else:
        write_document(open_service().export(format_.value, base_url), output)


def _picture(service: Service, topic: str | None) -> str:
    from graph import to_mermaid, to_mermaid_sections

    if topic is None:
        return to_mermaid_sections(service.opened.atlas())
    return to_mermaid(service.neighbourhood(resolve(service, topic).id))


def _export_site(folder: Path | None, base_url: str | None) -> None:
    from ui.website import write_site

    if folder is None:
        raise typer.BadParameter("a site is a folder: name it", param_hint="--output")
    with progress_bar("Reading the atlas") as show:
        report = write_site(open_service(), folder, base_url, show)
    size = f"{report.bytes / 2**20:,.0f} MiB"
    note(f"{folder}: {report.topics:,} topics, {report.files:,} files, {size}. Open {folder / 'index.html'}")
