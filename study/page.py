"""A study path or a course as one HTML page to print: no script, nothing fetched, formulas as MathML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graph import GraphStore, Reference
from study.budget import LeftOut
from study.course import Course
from study.formula import formula_mathml
from study.path import Step, StudyPath
from study.schedule import StudyDay

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = Path(__file__).with_name("handout.html")

Link = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A step as the page shows it."""

    step: Step
    minutes: int
    continued: bool
    place: str
    because: Sequence[tuple[str, str]]
    formula: "Markup | None"
    works: Sequence[Reference]
    link: str | None


@dataclass(frozen=True, slots=True)
class _Part:
    """A heading and what stands under it."""

    heading: str
    entries: Sequence[_Entry]
    recall: str = ""
    outcomes: Sequence[str] = ()


def path_html(
    path: StudyPath,
    store: GraphStore,
    days: Sequence[StudyDay] = (),
    left_out: Sequence[LeftOut] = (),
    link: Link | None = None,
) -> str:
    """Return the path as a page with a heading for each of `days`, or as one list. `link` addresses a topic's page."""
    entry = _entries(store, link)
    if days:
        parts = [
            _Part(
                f"{day.date:%A} {day.date.isoformat()}, {day.minutes} min",
                [entry(session.step, session.minutes, session.continues) for session in day.sessions],
                ", ".join(step.topic.title for step in day.reviews),
            )
            for day in days
        ]
    else:
        parts = [_Part("", [entry(step, step.minutes) for step in path.steps])]
    goals = " and ".join(store.topic(goal).title for goal in path.goals)
    minutes = sum(step.minutes for step in path.steps)
    return _render(f"Study path to {goals}", f"{len(path.steps)} steps, about {minutes} minutes.", parts, left_out)


def course_html(course: Course, store: GraphStore, link: Link | None = None) -> str:
    """Return a course plan as a page, week by week."""
    entry = _entries(store, link)
    parts = [
        _Part(
            f"Week {week.number}, {week.minutes} min",
            [entry(step, step.minutes) for step in week.steps],
            outcomes=week.outcomes,
        )
        for week in course.weeks
    ]
    goals = " and ".join(store.topic(goal).title for goal in course.path.goals)
    lead = f"{len(course.weeks)} weeks, {len(course.path.steps)} topics."
    return _render(f"Course on {goals}", lead, parts)


def _entries(store: GraphStore, link: Link | None) -> Callable[..., _Entry]:
    from markupsafe import Markup

    works: Mapping[str, Reference] = {work.key: work for work in store.references()}

    def entry(step: Step, minutes: int, continued: bool = False) -> _Entry:
        topic = step.topic
        return _Entry(
            step,
            minutes,
            continued,
            " › ".join(topic.title_path[:-1]) or "Section",
            step.told_once(store),
            Markup(formula_mathml(topic.formula)) if topic.formula else None,  # noqa: S704 (it lets only MathML through)
            [works[key] for key in topic.refs if key in works],
            link(topic.id) if link else None,
        )

    return entry


def _render(title: str, lead: str, parts: Sequence[_Part], left_out: Sequence[LeftOut] = ()) -> str:
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, lead=lead, parts=parts, left_out=left_out) + "\n"
