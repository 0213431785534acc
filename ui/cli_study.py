"""Commands about what to learn: path, why, skip, ready, unlocks, course, syllabus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from graph import Topic
from service import Service, open_service, wire
from ui.cli_graph import TopicName, resolve
from ui.links import address
from ui.terminal import AsJson, breadcrumb, console, note, plain, print_json, write_document

if TYPE_CHECKING:
    from study import FittedPath, Step, StudyPath, StudyTimes

Goals = Annotated[list[str], typer.Argument(help="Topics to reach: ids, ends of ids, or words.")]
Known = Annotated[list[str] | None, typer.Option(help="A topic that you know already (repeatable).")]
KnownTo = Annotated[str | None, typer.Option("--profile", help="A learner profile: what it knows is taken out.")]
Thorough = Annotated[bool, typer.Option(help="Add helpful prerequisites and the goals' subtopics.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="File to write; standard output if left out.")]
Site = Annotated[str, typer.Option(help="Where your GenAtlas is served: files link to its pages.")]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOCAL = "http://localhost:8501"
LAST_YEAR = 2199


class PathFormat(StrEnum):
    """What `path` prints."""

    text = "text"
    markdown = "markdown"
    html = "html"
    ics = "ics"
    csv = "csv"
    mermaid = "mermaid"
    anki = "anki"


class CourseFormat(StrEnum):
    """What `course` prints."""

    markdown = "markdown"
    html = "html"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("path")(plan)
    app.command("why")(why)
    app.command("skip")(skip)
    app.command("ready")(ready)
    app.command("unlocks")(unlocks)
    app.command("course")(course)
    app.command("syllabus")(syllabus)


@dataclass(frozen=True, slots=True)
class Time:
    """The time that a learner has: `times` where minutes a day are given, `budget` where there is an end to it."""

    times: "StudyTimes | None"
    budget: int | None


def plan(
    goals: Goals,
    known: Known = None,
    profile: KnownTo = None,
    thorough: Thorough = False,
    minutes: Annotated[
        int | None, typer.Option(min=5, max=960, help="Minutes a day, to lay the path out over days.")
    ] = None,
    on: Annotated[str | None, typer.Option(help="Days of the week to study on, such as mon,wed,sat.")] = None,
    start: Annotated[str | None, typer.Option(help="First day, such as 2026-03-02; today if left out.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day; what does not fit is left out by its worth.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3660, help="Days of study, instead of --until.")] = None,
    total: Annotated[int | None, typer.Option(min=1, help="Minutes in all, instead of --until.")] = None,
    reviews: Annotated[bool, typer.Option(help="Recall each topic after 1, 7, 16 and 35 days (ics, html).")] = True,
    format_: Annotated[PathFormat, typer.Option("--format", help="What to print.")] = PathFormat.text,
    output: Output = None,
    site: Site = LOCAL,
    json: AsJson = False,
) -> None:
    """Plan what to learn for one or more goals, in an order that never breaks a prerequisite."""
    from study import (
        fit_path,
        path_csv,
        path_deck,
        path_html,
        path_ics,
        path_json,
        path_markdown,
        path_mermaid,
        timetable,
    )

    time = _time(minutes, on, start, until, days, total, dated=format_ is PathFormat.ics)
    link = _link_to(site)
    service = open_service()
    path = _path(service, goals, known, profile, thorough)
    fitted = None if time.budget is None else fit_path(path, time.budget)
    path = fitted.path if fitted else path
    table = timetable(path, time.times, reviews) if time.times else ()
    left_out = fitted.left_out if fitted else ()
    if json:
        print_json(path_json(path) | wire.fitted(fitted) | wire.timetable(table))
    elif format_ is PathFormat.text:
        _print_path(service, path)
        _print_left_out(fitted)
    elif format_ is PathFormat.anki:
        if output is None:
            raise typer.BadParameter("an Anki deck is a file: name it, such as -o path.apkg", param_hint="--output")
        write_document(path_deck(path, service.store, link), output)
        _note_left_out(fitted)
    else:
        text = {
            PathFormat.markdown: lambda: path_markdown(path, service.store, minutes),
            PathFormat.html: lambda: path_html(path, service.store, table, left_out, link),
            PathFormat.ics: lambda: path_ics(path, service.store, table, link=link),
            PathFormat.csv: lambda: path_csv(path, service.store, table),
            PathFormat.mermaid: lambda: path_mermaid(path),
        }[format_]()
        write_document(text, output)
        _note_left_out(fitted)


def _path(
    service: Service, goals: Sequence[str], known: Sequence[str] | None, profile: str | None, thorough: bool
) -> "StudyPath":
    return service.path(_ids(service, goals), _known(service, known, profile), thorough)


def _known(service: Service, names: Sequence[str] | None, profile: str | None) -> list[str]:
    """What was named as known, and what a profile knows."""
    return _ids(service, names or ()) + (service.learners.known(profile) if profile is not None else [])


def _ids(service: Service, names: Sequence[str]) -> list[str]:
    return [resolve(service, each).id for each in names]


def _time(
    minutes: int | None,
    on: str | None,
    start: str | None,
    until: str | None,
    days: int | None,
    total: int | None,
    dated: bool,
) -> Time:
    """What the options say about time. Raises BadParameter where they contradict each other or lack the minutes."""
    from study import StudyTimes

    if sum(each is not None for each in (until, days, total)) > 1:
        raise typer.BadParameter("give one of --until, --days and --total", param_hint="--until")
    if minutes is None and (until or days or on):
        raise typer.BadParameter("say how many minutes a day: --minutes", param_hint="--minutes")
    first = _date(start, "--start") or date.today()
    last = _date(until, "--until")
    if last is not None and last < first:
        raise typer.BadParameter(f"{last} lies before the first day, {first}", param_hint="--until")
    if minutes is None and not dated:
        return Time(None, total)
    times = StudyTimes(first, minutes or 45, _weekdays(on), last)
    if days is not None:
        times = times.lasting(days)
    return Time(times, total if times.total is None else times.total)


def _date(text: str | None, option: str) -> date | None:
    try:
        day = date.fromisoformat(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"{text} is no date; write it as 2026-03-02", param_hint=option) from None
    if day is not None and day.year > LAST_YEAR:
        raise typer.BadParameter(f"{text} is too far off; the last year is {LAST_YEAR}", param_hint=option)
    return day


def _weekdays(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    names = [name.strip().lower()[:3] for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in WEEKDAYS]
    if wrong or not names:
        raise typer.BadParameter(f"days of the week are {', '.join(WEEKDAYS)}, with commas between", param_hint="--on")
    return frozenset(map(WEEKDAYS.index, names))


def _link_to(site: str) -> Callable[[str], str]:
    """The address of a topic's page at a site."""
    if urlsplit(site).scheme not in ("http", "https"):
        raise typer.BadParameter(f"{site} is no address; write it as {LOCAL}", param_hint="--site")
    return lambda topic_id: site.rstrip("/") + address("topic", topic_id)


def _print_path(service: Service, path: "StudyPath") -> None:
    out = console()
    for step in path.steps:
        topic = step.topic
        mark = "  [bold]goal[/bold]" if step.is_goal else "  [dim]the gist is enough[/dim]" if step.gist else ""
        time = f"{step.minutes} min" if topic.minutes else "no estimate"
        place = f"[dim]{time} · {plain(breadcrumb(topic))}[/dim]"
        out.print(f"{step.number:3}. [bold]{plain(topic.title)}[/bold]  {place}{mark}")
        for titles, reason in step.told_once(service.store):
            out.print(f"       for {plain(titles)}: {plain(reason)}")
    rest = f", {path.unestimated} of them without an estimate" if path.unestimated else ""
    out.print(f"\n{len(path.steps)} steps{rest}, about {path.minutes} minutes.")


def _print_left_out(fitted: "FittedPath | None") -> None:
    if fitted is None or not fitted.left_out:
        return
    out = console()
    missed = [goal for goal in fitted.path.goals if goal not in fitted.reaches]
    out.print(f"\nThere is no time for the rest within {fitted.minutes} minutes. Left out:")
    for each in fitted.left_out:
        more = f", {each.minutes_with_needs} with what it needs" if each.minutes_with_needs > each.step.minutes else ""
        out.print(f"  {plain(each.step.topic.title)} [dim]{each.step.minutes} min{more}[/dim]")
    if missed:
        out.print(f"Not reached: {', '.join(map(plain, missed))}. What stays is what leads nearest.")


def _note_left_out(fitted: "FittedPath | None") -> None:
    if fitted is not None and fitted.left_out:
        titles = ", ".join(each.step.topic.title for each in fitted.left_out[:5])
        more = f" and {len(fitted.left_out) - 5} more" if len(fitted.left_out) > 5 else ""
        note(f"Left out for lack of time: {titles}{more}")


def why(
    step: TopicName,
    goals: Goals,
    known: Known = None,
    profile: KnownTo = None,
    thorough: Thorough = False,
    json: AsJson = False,
) -> None:
    """Show the chain of reasons that leads from a step of a path to its goal."""
    from study import explain_step

    service = open_service()
    path = _path(service, goals, known, profile, thorough)
    topic = _step(service, step, path)
    chain = explain_step(service.store, path, topic.id)
    if json:
        links = [
            {"topic": link.step.topic.id, "needed_by": link.reason.needed_by, "why": link.reason.why,
             "strength": link.reason.strength, "depth": link.reason.depth, "instead": list(link.reason.instead)}
            for link in chain
        ]  # fmt: skip
        print_json({"topic": topic.id, "goals": list(path.goals), "chain": links})
        return
    out = console()
    if not chain:
        out.print(f"{plain(topic.title)} is a goal itself.")
        return
    for link in chain:
        onward = service.store.topic(link.reason.needed_by)
        marks = _marks(link.reason.strength, link.reason.depth, bool(link.reason.instead))
        out.print(f"[bold]{plain(link.step.topic.title)}[/bold] → {plain(onward.title)}{marks}")
        out.print(f"  {plain(link.reason.why)}")
        if link.reason.instead:
            others = ", ".join(plain(service.store.topic(other).title) for other in link.reason.instead)
            out.print(f"  [dim]In its place would serve: {others}[/dim]")
    others = len(chain[0].step.reasons) - 1
    if others:
        out.print(f"[dim]{others} more step{'s need' if others > 1 else ' needs'} it as well: genatlas path[/dim]")


def _step(service: Service, words: str, path: "StudyPath") -> Topic:
    """The topic that the user named: of several that the name fits one on the path, where there is one."""
    found = service.find_topic(words)
    steps = {step.topic.id for step in path.steps}
    on_path = [topic_id for topic_id in (found.topic.id, *found.others) if topic_id in steps]
    if found.how == "suffix" and on_path:
        return service.store.topic(on_path[0])
    return resolve(service, words)


def _marks(strength: str, depth: str, choice: bool) -> str:
    marks = ["helpful"] if strength == "helpful" else []
    marks += ["the gist is enough"] if depth == "gist" else []
    marks += ["one of several"] if choice else []
    return f" [dim]({', '.join(marks)})[/dim]" if marks else ""


def skip(
    step: TopicName,
    goals: Goals,
    known: Known = None,
    profile: KnownTo = None,
    thorough: Thorough = False,
    json: AsJson = False,
) -> None:
    """Show what loses its footing when a step of a path is skipped, with the reasons, and what time it saves."""
    from study import skip_step

    service = open_service()
    path = _path(service, goals, known, profile, thorough)
    topic = _step(service, step, path)
    found = skip_step(service.store, path, topic.id)
    if json:
        print_json(
            {
                "topic": found.step.topic.id,
                "minutes": found.minutes,
                "lost": [
                    {"topic": loss.step.topic.id, "missing": loss.missing.topic.id, "why": loss.reason.why}
                    for loss in found.lost
                ],
                "weakened": [{"topic": each.needed_by, "why": each.why} for each in found.weakened],
                "spared": [each.topic.id for each in found.spared],
            }
        )
        return
    out = console()
    saved = _titles(found.spared)
    out.print(
        f"Skipping [bold]{plain(topic.title)}[/bold] saves {found.minutes} minutes{f', with {saved}' * bool(saved)}."
    )
    if found.lost:
        out.print("\n[bold]Without footing then[/bold]")
    for loss in found.lost:
        goal = "  [bold]goal[/bold]" if loss.step.is_goal else ""
        out.print(f"  {loss.step.number}. {plain(loss.step.topic.title)}{goal}")
        out.print(f"     [dim]without {plain(loss.missing.topic.title)}:[/dim] {plain(loss.reason.why)}")
    if found.weakened:
        out.print("\n[bold]Harder then[/bold]")
    for each in found.weakened:
        out.print(f"  {plain(service.store.topic(each.needed_by).title)}: {plain(each.why)}")
    if not found.lost and not found.weakened:
        out.print("Nothing on the path rests on it.")


def _titles(steps: "Sequence[Step]") -> str:
    return ", ".join(plain(step.topic.title) for step in steps)


def ready(
    known: Known = None,
    profile: KnownTo = None,
    goal: Annotated[list[str] | None, typer.Option(help="Only what leads to this topic (repeatable).")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Topics to show.")] = 10,
    json: AsJson = False,
) -> None:
    """List what can be started now, first that on which most other topics rest."""
    service = open_service()
    found = service.ready(_known(service, known, profile), _ids(service, goal or ()))
    if json:
        print_json([wire.ready(each) for each in found[:k]])
        return
    out = console()
    for each in found[:k]:
        time = f"{each.topic.minutes} min · " if each.topic.minutes else ""
        out.print(f"[bold]{plain(each.topic.title)}[/bold]  [dim]{time}{plain(breadcrumb(each.topic))}[/dim]")
        opens = f", {each.opens} of them at once" if each.opens else ""
        out.print(f"  {each.supports} topics rest on it{opens}  [dim]{plain(each.topic.id)}[/dim]")
    if len(found) > k:
        out.print(f"\n{len(found) - k} more can be started: -k {min(100, len(found))}")
    if not found:
        out.print("Nothing is left to start: all of it is known.")


def unlocks(
    topic: TopicName,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Topics to list of those that rest on it.")] = 10,
    json: AsJson = False,
) -> None:
    """Show what a topic is good for: what needs it, with the reasons, and all that rests on it in the end."""
    service = open_service()
    found = service.unlocks(resolve(service, topic).id)
    if json:
        print_json(wire.unlocks(found))
        return
    out = console()
    if not found.direct:
        out.print(f"Nothing in the atlas needs {plain(found.topic.title)}: it is worth learning for its own sake.")
        return
    for edge in found.direct:
        marks = _marks(edge.strength, edge.depth, edge.group is not None)
        after = service.store.topic(edge.after)
        out.print(
            f"[bold]{plain(after.title)}[/bold]  [dim]{plain(breadcrumb(after))}[/dim]{marks}\n  {plain(edge.why)}"
        )
    sections = ", ".join(
        f"{plain(service.store.topic(section).title)} {count}" for section, count in found.by_section.items()
    )
    out.print(f"\n{len(found.supports)} topics rest on it in the end: {sections}")
    for each in _broadest(found.supports)[:k]:
        out.print(f"  {plain(each.title)} [dim]{plain(each.id)}[/dim]")


def _broadest(topics: Sequence[Topic]) -> list[Topic]:
    """Topics nearest to the root of the outline first: they stand for what is below them."""
    return sorted(topics, key=lambda topic: (topic.origin == "foundation", topic.depth, topic.position))


def course(
    goals: Goals,
    weeks: Annotated[int, typer.Option(min=1, max=104, help="Weeks to spread the topics over, as evenly as can be.")],
    known: Known = None,
    profile: KnownTo = None,
    thorough: Thorough = False,
    format_: Annotated[CourseFormat, typer.Option("--format", help="What to print.")] = CourseFormat.markdown,
    output: Output = None,
    site: Site = LOCAL,
    json: AsJson = False,
) -> None:
    """Plan a course for one or more goals: weeks with topics, outcomes, demos and readings."""
    from study import course_html, course_json, course_markdown, plan_course

    link = _link_to(site)
    service = open_service()
    planned = plan_course(_path(service, goals, known, profile, thorough), service.store, weeks)
    if json:
        print_json(course_json(planned))
    elif format_ is CourseFormat.html:
        write_document(course_html(planned, service.store, link), output)
    else:
        write_document(course_markdown(planned, service.store), output)


def syllabus(
    file: Annotated[
        typer.FileText, typer.Argument(encoding="utf-8", help="A text with one topic a line; - for standard input.")
    ],
    known: Known = None,
    json: AsJson = False,
) -> None:
    """Hold a syllabus against the atlas: what it covers, misses and teaches too early, and a repaired order."""
    from study import syllabus_json

    service = open_service()
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file.name} is no UTF-8 text: byte {error.start}", param_hint="FILE") from None
    report = service.syllabus(text, _ids(service, known or ()))
    if json:
        print_json(syllabus_json(report))
        return
    out = console()
    out.print(f"{len(report.covered)} of {len(report.lines)} lines teach a topic of the atlas.")
    if report.unsure:
        out.print("\n[bold]Not sure what is meant[/bold]")
    for line in report.unsure:
        taken, *others = (plain(title) for title in line.titles)
        out.print(f"  {line.number}. {plain(line.text)}: taken as {taken}; or {', '.join(others[:2])}")
    if report.unknown:
        out.print("\n[bold]Not in the atlas[/bold]")
    for line in report.unknown:
        out.print(f"  {line.number}. {plain(line.text)}")
    if report.repeats:
        out.print("\n[bold]Taught twice[/bold]")
    for each in report.repeats:
        out.print(f"  {each.line.number}. {plain(each.line.text)}: as line {each.first.number}")
    if report.too_early:
        out.print("\n[bold]Too early[/bold]")
    for each in report.too_early:
        out.print(f"  {each.line.number}. {plain(each.line.text)} needs {each.needs.number}. {plain(each.needs.text)}")
        out.print(f"     {plain(each.why)}")
    if report.missing:
        out.print("\n[bold]Missing[/bold]")
    for each in report.missing:
        if each.is_direct:
            out.print(f"  {plain(each.step.topic.title)} for line {each.line.number}, {plain(each.line.text)}")
            out.print(f"     {plain(each.chain[0].reason.why)} [dim]{plain(each.step.topic.id)}[/dim]")
    behind = [each.step for each in report.missing if not each.is_direct]
    if behind:
        out.print(f"  And before these: {_titles(behind)}")
    if report.floor:
        out.print(f"\n[bold]Learners must bring[/bold]\n  {_titles([each.step for each in report.floor])}")
    if report.missing or report.too_early:
        out.print("\n[bold]Repaired order[/bold]")
        for number, slot in enumerate(report.repaired, start=1):
            where = f"line {slot.line.number}" if slot.line else "new"
            out.print(f"{number:3}. {plain(slot.topic.title)} [dim]{where}[/dim]")
    elif not report.unknown and not report.unsure:
        out.print("Nothing is missing, and nothing comes too early.")
