"""A study path as data and text to take along: JSON, CSV, Markdown, Mermaid."""

import csv
import io
import re
from collections.abc import Sequence
from datetime import date
from itertools import groupby
from typing import Any

from graph import GraphStore
from study.path import Step, StudyPath
from study.schedule import StudyDay, schedule


def path_json(path: StudyPath) -> dict[str, Any]:
    """Return the path as JSON-able data: goals, totals, and each step with its reasons."""
    return {
        "goals": list(path.goals),
        "depth": "thorough" if path.thorough else "minimal",
        "known": list(path.known),
        "minutes": path.minutes,
        "unestimated": path.unestimated,
        "steps": [step_json(step) for step in path.steps],
    }


def step_json(step: Step) -> dict[str, Any]:
    """Return a step with its reasons. `minutes` is its study time on this path, None for a topic without estimate."""
    topic = step.topic
    return {
        "number": step.number,
        "topic": topic.id,
        "title": topic.title,
        "title_path": list(topic.title_path),
        "minutes": step.minutes if topic.minutes else None,
        "level": topic.level,
        "goal": step.is_goal,
        "gist": step.gist,
        "demo": topic.demo.demo if topic.demo else None,
        "reasons": [
            {
                "needed_by": reason.needed_by,
                "why": reason.why,
                "strength": reason.strength,
                "depth": reason.depth,
                "instead": list(reason.instead),
            }
            for reason in step.reasons
        ],
    }


CSV_COLUMNS = (
    "number", "date", "topic", "title", "section", "minutes", "level", "goal", "gist", "needed_by", "reasons", "demo"
)  # fmt: skip


def path_csv(path: StudyPath, store: GraphStore, days: Sequence[StudyDay] = ()) -> str:
    """Return one row a step (RFC 4180), with the date on which it begins where `days` has it.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front. Several reasons stand in one cell,
    a line each.
    """
    begins: dict[int, date] = {}
    for day in days:
        for session in day.sessions:
            begins.setdefault(session.step.number, day.date)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(CSV_COLUMNS)
    for step in path.steps:
        topic = step.topic
        cells = [
            step.number,
            begins.get(step.number, ""),
            topic.id,
            topic.title,
            topic.title_path[0],
            step.minutes,
            topic.level or "",
            "yes" if step.is_goal else "",
            "yes" if step.gist else "",
            "\n".join(reason.needed_by for reason in step.reasons),
            "\n".join(f"for {titles}: {why}" for titles, why in step.told_once(store)),
            topic.demo.demo if topic.demo else "",
        ]
        rows.writerow([_no_formula(str(cell)) for cell in cells])
    return text.getvalue()


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def path_mermaid(path: StudyPath) -> str:
    """Return the path as a Mermaid flowchart: a box for each section, arrows for needs, dotted ones for mere helps."""
    names = {step.topic.id: f"s{step.number}" for step in path.steps}
    sections: dict[str, list[Step]] = {}
    for step in path.steps:
        sections.setdefault(step.topic.title_path[0], []).append(step)
    lines = ["flowchart LR"]
    for number, (title, steps) in enumerate(sections.items()):
        lines.append(f'  subgraph section{number}["{_box_text(title)}"]')
        lines += [f'    {names[step.topic.id]}["{step.number}. {_box_text(step.topic.title)}"]' for step in steps]
        lines.append("  end")
    lines += [
        f"  {names[step.topic.id]} {'-->' if reason.strength == 'needed' else '-.->'} {names[reason.needed_by]}"
        for step in path.steps
        for reason in step.reasons
        if reason.needed_by in names
    ]
    lines += [f"  style {names[step.topic.id]} stroke-width:3px" for step in path.steps if step.topic.id in path.goals]
    return "\n".join(lines) + "\n"


def _box_text(title: str) -> str:
    """A title with what Mermaid would read as syntax written as its entity codes."""
    return re.sub(r'["#&;<>`\[\]{}|]', lambda found: f"#{ord(found.group())};", title)


def path_markdown(path: StudyPath, store: GraphStore, minutes_a_day: int | None = None) -> str:
    """Return the path as a Markdown checklist, under a heading for each day when `minutes_a_day` is given."""
    goals = " and ".join(plain(store.topic(goal).title) for goal in path.goals)
    lines = [
        f"# Study path to {goals}",
        "",
        f"{len(path.steps)} steps, about {sum(step.minutes for step in path.steps)} minutes.",
        "",
    ]
    if minutes_a_day is None:
        lines += [line for step in path.steps for line in _markdown_step(step, step.minutes, store)]
    else:
        for day, sessions in groupby(schedule(path, minutes_a_day), key=lambda session: session.day):
            lines += [f"## Day {day}", ""]
            for session in sessions:
                if session.continues:
                    title = plain(session.step.topic.title)
                    lines.append(f"- [ ] {session.step.number}. {title}, continued ({session.minutes} min)")
                else:
                    lines += _markdown_step(session.step, session.minutes, store)
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _markdown_step(step: Step, minutes: int, store: GraphStore) -> list[str]:
    guess = "" if step.topic.minutes else ", a guess"
    mark = " — the goal" if step.is_goal else " — the gist is enough" if step.gist else ""
    lines = [f"- [ ] {step.number}. **{plain(step.topic.title)}** ({minutes} min{guess}){mark}"]
    lines.append(f"  {plain(' › '.join(step.topic.title_path[:-1]))}" if step.topic.parent else "  Section")
    lines += [f"  - for {plain(titles)}: {why}" for titles, why in step.told_once(store)]
    if step.topic.demo:
        lines.append(f"  - demo: `genatlas demo run {step.topic.demo.demo}` — {step.topic.demo.look_at}")
    return lines


def plain(title: str) -> str:
    """A title in Markdown, with its signs as they are."""
    return re.sub(r"[\\`*_\[\]<>|]", r"\\\g<0>", title)
