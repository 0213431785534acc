"""Commands about reviews: what is due, what to ask, and how a recall went."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service import Service, open_service, wire
from ui.cli_graph import TopicName, resolve
from ui.cli_learner import ProfileOption, of_learner
from ui.terminal import AsJson, console, note, plain, print_json

if TYPE_CHECKING:
    from study import Learner
    from study.cards import Card
    from study.memory import Rating

FORECAST_DAYS = 7
RATINGS = {"1": "again", "2": "hard", "3": "good", "4": "easy"}

app = typer.Typer(
    no_args_is_help=True, help="Reviews: recall what you know before it fades (FSRS, aware of the graph)."
)


@app.command("add")
def add(
    topics: Annotated[list[str] | None, typer.Argument(help="Topics: ids, ends of ids, or words.")] = None,
    known: Annotated[bool, typer.Option("--known", help="All topics that are marked as known.")] = False,
    profile: ProfileOption = None,
) -> None:
    """Take topics into the reviews."""
    service = open_service()
    name = of_learner(service, profile)
    ids = [resolve(service, each).id for each in topics or []]
    if known:
        ids += service.learners.known(name)
    if not ids:
        raise typer.BadParameter("Name topics, or --known when some are marked so: genatlas mark known TOPIC")
    before = len(service.learners.learner(name).memories)
    after = len(service.learners.enrol(name, ids).memories)
    note(f"{after - before} more in review, {after} in all.")


@app.command("due")
def due(profile: ProfileOption = None, json: AsJson = False) -> None:
    """List what is due, the faintest first, and what the next days bring."""
    service = open_service()
    learner = service.learners.learner(of_learner(service, profile))
    topic_ids = service.learners.due(learner)
    days = service.learners.due_by_day(learner, FORECAST_DAYS)
    if json:
        print_json({"due": topic_ids, "in_review": len(learner.memories), "by_day": days})
        return
    for topic_id in topic_ids:
        console().print(f"{plain(service.store.topic(topic_id).title)}  [dim]{plain(topic_id)}[/dim]")
    if not learner.memories:
        console().print("Nothing is in review yet: genatlas review add TOPIC, or --known")
    else:
        ahead = ", ".join(map(str, days[1:]))
        console().print(f"{len(topic_ids)} due now; {days[0]} within a day, then day by day: {ahead}")


@app.command("next")
def next_card(profile: ProfileOption = None, json: AsJson = False) -> None:
    """Show what to ask now, with its answer."""
    service = open_service()
    learner = service.learners.learner(of_learner(service, profile))
    card = service.learners.next_card(learner)
    if json:
        print_json(wire.card(card) if card else None)
    elif card is None:
        console().print("Nothing is due.")
    else:
        _ask(card)
        _answer(card)


@app.command("rate")
def rate(
    topic: TopicName,
    rating: Annotated[str, typer.Argument(help="How the recall went: again, hard, good or easy.")],
    profile: ProfileOption = None,
    json: AsJson = False,
) -> None:
    """Keep how the recall of a topic went."""
    from study.memory import Rating

    if rating not in Rating.__members__:
        raise typer.BadParameter(f"{rating} is none of {', '.join(Rating.__members__)}", param_hint="rating")
    service = open_service()
    name = of_learner(service, profile)
    topic_id = resolve(service, topic).id
    learner = service.learners.review(name, topic_id, Rating[rating])
    if json:
        print_json(wire.reviewed(service, learner, topic_id, Rating[rating]))
    else:
        _kept(service, learner, topic_id, Rating[rating])


@app.command("start")
def start(
    limit: Annotated[int, typer.Option(min=1, max=500, help="Questions at most.")] = 20, profile: ProfileOption = None
) -> None:
    """Ask what is due, one after the other: think, look, and say how it went."""
    from study.memory import Rating

    service = open_service()
    name = of_learner(service, profile)
    for number in range(limit):
        card = service.learners.next_card(service.learners.learner(name))
        if card is None:
            console().print("Nothing is due." if number == 0 else f"Done: {number} reviewed, nothing more is due.")
            return
        _ask(card)
        if typer.prompt("Enter shows the answer, q ends", default="", show_default=False).strip() == "q":
            return
        _answer(card)
        said = typer.prompt("1 again, 2 hard, 3 good, 4 easy, q ends", default="3").strip()
        while said not in (*RATINGS, "q"):
            said = typer.prompt("One of 1, 2, 3, 4, q", default="3").strip()
        if said == "q":
            return
        rating = Rating[RATINGS[said]]
        _kept(service, service.learners.review(name, card.topic.id, rating), card.topic.id, rating)


def _ask(card: "Card") -> None:
    place = " › ".join(card.topic.title_path)
    console().print(f"\n[dim]{plain(place)}[/dim]\n[bold]{plain(card.question)}[/bold]")


def _answer(card: "Card") -> None:
    from rich.table import Table

    out = console()
    out.print(plain(card.answer))
    if card.formula:
        out.print(f"    {plain(card.formula)}")
    if card.aspects:
        table = Table("", *(plain(side.title) for side in card.sides), show_lines=True)
        for aspect in card.aspects:
            table.add_row(plain(aspect.name), *map(plain, aspect.values))
        out.print(table)


def _kept(service: Service, learner: "Learner", topic_id: str, rating: "Rating") -> None:
    topic_id = service.learners.in_review(learner, topic_id)
    memory = learner.memories[topic_id]
    days = round((memory.due - memory.last_review) / timedelta(days=1))
    title = plain(service.store.topic(topic_id).title)
    console().print(f"{title}: {rating.name}, due again in {days} {'day' if days == 1 else 'days'}")
    weak = None if rating.recalled else service.learners.weakest(learner, topic_id)
    if weak is not None:
        title = service.store.topic(weak.topic).title
        console().print(f"It rests on {plain(title)}, which you remember with {weak.recall:.0%}: look there first.")
        console().print(f"    genatlas topic {plain(weak.topic)}")
