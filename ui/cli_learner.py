"""Commands about one learner: profile, mark, note, place."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from graph import TopicNotFound
from service import Service, open_service, wire
from ui.cli_graph import TopicName, resolve
from ui.terminal import AsJson, breadcrumb, console, note, plain, print_json, write_document

if TYPE_CHECKING:
    from study import Learner
    from study.placement import Placement

Name = Annotated[str, typer.Argument(help="A profile.")]
ProfileOption = Annotated[str | None, typer.Option(help="Learner profile; GENATLAS_PROFILE if left out.")]

profiles = typer.Typer(no_args_is_help=True, help="Learner profiles: what each knows, learns, plans and has noted.")


class Marking(StrEnum):
    """What `mark` says about topics."""

    known = "known"
    learning = "learning"
    planned = "planned"
    nothing = "nothing"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.add_typer(profiles, name="profile")
    app.command("mark")(mark)
    app.command("note")(take_note)
    app.command("place")(place)


def of_learner(service: Service, profile: str | None) -> str:
    """The profile that the user named, or that of the settings."""
    return profile or service.learners.default


def mark(
    marking: Annotated[Marking, typer.Argument(help="What the topics are to you; nothing takes the mark off.")],
    topics: Annotated[list[str], typer.Argument(help="Topics: ids, ends of ids, or words.")],
    profile: ProfileOption = None,
    json: AsJson = False,
) -> None:
    """Mark topics as known, being learned or planned, or take the mark off."""
    service = open_service()
    name = of_learner(service, profile)
    learner = service.learners.learner(name)
    ids = [_named(service, learner, each) for each in topics]
    if marking is Marking.nothing:
        learner = service.learners.unmark(name, ids)
    else:
        learner = service.learners.mark(name, ids, marking.value)
    if json:
        print_json(wire.learner(service, learner))
        return
    for topic_id in ids:
        console().print(f"{plain(topic_id)}: {marking.value if marking is not Marking.nothing else 'no mark'}")


def take_note(
    topic: TopicName,
    text: Annotated[str | None, typer.Argument(help='What to keep; shows the note if left out, "" deletes it.')] = None,
    profile: ProfileOption = None,
    json: AsJson = False,
) -> None:
    """Keep a note about a topic, or show it."""
    service = open_service()
    name = of_learner(service, profile)
    learner = service.learners.learner(name)
    topic_id = _named(service, learner, topic)
    if text is not None:
        learner = service.learners.note(name, topic_id, text)
    kept = learner.notes.get(topic_id, "")
    if json:
        print_json({"topic": topic_id, "note": kept})
    else:
        console().print(plain(kept) if kept else f"No note about {plain(topic_id)}.")


def place(
    section: Annotated[str, typer.Argument(help="A section, or any topic with all beneath it.")],
    answer: Annotated[
        list[str] | None, typer.Option("--answer", help="TOPIC=yes or TOPIC=no, asked before the rest (repeatable).")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep what was found without asking whether to.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Take off what placements have inferred here.")] = False,
    profile: ProfileOption = None,
    json: AsJson = False,
) -> None:
    """Find out with at most twelve questions what you know of a section, and mark it. With --json nothing is asked."""
    service = open_service()
    name = of_learner(service, profile)
    learner = service.learners.learner(name)
    root = resolve(service, section)
    if forget:
        before = len(learner.marks)
        learner = service.learners.forget_inferred(name, root.id)
        note(f"{before - len(learner.marks)} inferred marks are off {root.id}.")
        return
    answers = dict(_answered(service, each) for each in answer or ())
    if not json:
        _ask_all(service, learner, root.id, answers)
    found = service.learners.place(learner, root.id, answers)
    if json:
        print_json(wire.placement(service, found, answers))
    else:
        _print_placement(service, found, answers)
    if answers and (keep or (not json and typer.confirm("Keep this?", default=True))):
        service.learners.keep_placement(name, root.id, answers)
        note(f"Kept. What is inferred stands apart: genatlas profile show {name}; off again: genatlas place {root.id} "
             "--forget")  # fmt: skip


def _ask_all(service: Service, learner: "Learner", section: str, answers: dict[str, bool]) -> None:
    """Ask until it is enough or the learner ends it; `answers` fills."""
    from study.cards import question_about

    order: list[str] = []
    while (found := service.learners.place(learner, section, answers)).ask is not None:
        asked = service.store.topic(found.ask)
        console().print(f"\n[dim]{plain(breadcrumb(asked))} · {found.left} left at most[/dim]")
        console().print(f"[bold]{plain(asked.title)}[/bold]\n{plain(question_about(asked))}")
        said = ""
        while said not in ("y", "n", "b", "q"):
            said = typer.prompt("Could you answer that? y, n, b for the one before, q ends", default="n")
            said = said.strip().lower()[:1]
        if said == "q":
            return
        if said == "b" and order:
            answers.pop(order.pop())
        elif said != "b":
            answers[asked.id] = said == "y"
            order.append(asked.id)


def _answered(service: Service, text: str) -> tuple[str, bool]:
    """A topic and what was said about it, from TOPIC=yes or TOPIC=no."""
    words, _, said = text.rpartition("=")
    if not words or said not in ("yes", "no"):
        raise typer.BadParameter(f"{text} is not TOPIC=yes or TOPIC=no", param_hint="--answer")
    return resolve(service, words).id, said == "yes"


def _print_placement(service: Service, found: "Placement", answers: Mapping[str, bool]) -> None:
    out = console()
    told = [topic_id for topic_id, known in answers.items() if known]
    lists = {"Known, as you say": told, "Known, it seems": list(found.inferred)}
    for heading, topic_ids in lists.items():
        if topic_ids:
            out.print(f"\n[bold]{heading}[/bold]")
        for topic_id in topic_ids:
            sure = f"  {min(0.99, found.chances[topic_id]):.0%}" if topic_id not in answers else ""
            out.print(f"  {plain(service.store.topic(topic_id).title)}{sure}  [dim]{plain(topic_id)}[/dim]")
    out.print(
        f"\n{len(answers)} asked: {len(told)} known as you say, {len(found.inferred)} more as it seems, of "
        f"{len(found.chances)} topics. Judging every one of them now, {found.unsure:.0f} would be judged wrongly."
    )


def _named(service: Service, learner: "Learner", words: str) -> str:
    """The id of a topic of the atlas, or of one that the atlas has no longer and the learner still has."""
    try:
        return resolve(service, words).id
    except TopicNotFound:
        if words in learner.topics:
            return words
        raise


@profiles.command("new")
def new_profile(name: Name) -> None:
    """Begin an empty profile."""
    open_service().learners.create(name)
    note(f"Profile {name} is there. Use it: --profile {name}, or GENATLAS_PROFILE={name}")


@profiles.command("list")
def list_profiles(json: AsJson = False) -> None:
    """List the profiles with what each has."""
    found = open_service().learners.profiles()
    if json:
        print_json([msgspec.to_builtins(each) for each in found])
        return
    for each in found:
        counts = f"{each.known} known, {each.learning} learning, {each.planned} planned, {each.in_review} in review"
        console().print(f"[bold]{plain(each.name)}[/bold]  {counts}")
    if not found:
        console().print("There is no profile yet; the first mark begins one: genatlas mark known TOPIC")


@profiles.command("show")
def show_profile(
    name: Annotated[str | None, typer.Argument(help="A profile; GENATLAS_PROFILE if left out.")] = None,
    history: Annotated[bool, typer.Option(help="Show what happened, last things first.")] = False,
    json: AsJson = False,
) -> None:
    """Show what a learner knows, learns, plans and has noted."""
    service = open_service()
    learner = service.learners.learner(of_learner(service, name))
    if json:
        events = {"history": msgspec.to_builtins(service.learners.history(learner.name))} if history else {}
        print_json(wire.learner(service, learner) | events)
    elif history:
        for event in reversed(service.learners.history(learner.name)):
            said = ", ".join(f"{key} {value}" for key, value in event.detail.items())
            console().print(f"{event.at:%Y-%m-%d %H:%M} {event.kind} {plain(event.topic)} [dim]{plain(said)}[/dim]")
    else:
        _print_learner(service, learner)


def _print_learner(service: Service, learner: "Learner") -> None:
    out = console()
    gone = set(service.learners.gone(learner))
    told = [each for each in learner.having("known") if learner.marks[each].origin == "told"]
    lists: list[tuple[str, Sequence[str]]] = [
        ("Known", told),
        ("Known, it seems (from a placement)", [each for each in learner.having("known") if each not in set(told)]),
        ("Learning", learner.having("learning")),
        ("Planned", learner.having("planned")),
    ]
    out.print(f"[bold]{plain(learner.name)}[/bold]")
    for heading, topic_ids in lists:
        if topic_ids:
            out.print(f"\n[bold]{heading}[/bold]")
        for topic_id in topic_ids:
            out.print(_line(service, topic_id, gone, learner.marks[topic_id].probability))
    if learner.notes:
        out.print("\n[bold]Notes[/bold]")
    for topic_id, text in learner.notes.items():
        out.print(f"{_line(service, topic_id, gone)}\n    {plain(text)}")
    if not learner.topics:
        out.print("Nothing is kept here yet: genatlas mark known TOPIC")


def _line(service: Service, topic_id: str, gone: set[str], probability: float | None = None) -> str:
    sure = "" if probability is None else f"  {min(0.99, probability):.0%}"  # nothing inferred is certain
    if topic_id in gone:
        return f"  {plain(topic_id)}{sure}  [dim]no longer in the atlas[/dim]"
    return f"  {plain(service.store.topic(topic_id).title)}{sure}  [dim]{plain(topic_id)}[/dim]"


@profiles.command("delete")
def delete_profile(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether you are sure.")] = False
) -> None:
    """Delete a profile with all that belongs to it, history included."""
    service = open_service()
    service.learners.learner(name)
    if not yes:
        typer.confirm(f"Delete {name} with all marks, notes, reviews and history?", abort=True)
    service.learners.delete(name)
    note(f"Profile {name} is deleted.")


@profiles.command("export")
def export_profile(
    name: Name,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File; standard output if left out.")] = None,
) -> None:
    """Write all of a learner's data as JSON, which `profile import` reads."""
    write_document(open_service().learners.exported(name), output)


@profiles.command("import")
def import_profile(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="An exported profile; - for standard input.")],
    as_: Annotated[str | None, typer.Option("--as", help="Another name for the profile.")] = None,
) -> None:
    """Add a profile from what `profile export` wrote."""
    learner = open_service().learners.restore(file.read(), as_)
    note(f"Profile {learner.name} is there, with {len(learner.topics)} topics.")
