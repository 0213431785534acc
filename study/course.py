"""A teacher's plan: a study path cut into weeks of about equal length, with outcomes, demos and readings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from graph import DemoLink, GraphStore, Reference
from study.export import plain, step_json
from study.path import Step, StudyPath


@dataclass(frozen=True, slots=True)
class Week:
    """What one week covers. A demo or a work stands in the first week that has a use for it."""

    number: int
    steps: tuple[Step, ...]
    demos: tuple[DemoLink, ...]
    readings: tuple[Reference, ...]

    @property
    def minutes(self) -> int:
        """Study time of the week."""
        return sum(step.minutes for step in self.steps)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What learners can do afterwards, as the topics that are studied in full say it."""
        return tuple(outcome for step in self.steps if not step.gist for outcome in step.topic.outcomes)


@dataclass(frozen=True, slots=True)
class Course:
    """A study path over weeks."""

    path: StudyPath
    weeks: tuple[Week, ...]


def plan_course(path: StudyPath, store: GraphStore, weeks: int) -> Course:
    """Return the path cut into at most `weeks` weeks, as even as its order allows (least squares of minutes).

    A path of fewer steps has fewer weeks. Raises ValueError below one week.
    """
    if weeks < 1:
        raise ValueError(f"a course has at least 1 week, got {weeks}")
    works = {work.key: work for work in store.references()}
    demos_seen: set[str] = set()
    works_seen: set[str] = set()
    planned: list[Week] = []
    for number, steps in enumerate(_even_parts(path.steps, weeks), start=1):
        demos: list[DemoLink] = []
        readings: list[Reference] = []
        for step in steps:
            if step.topic.demo and step.topic.demo.demo not in demos_seen:
                demos_seen.add(step.topic.demo.demo)
                demos.append(step.topic.demo)
            for key in step.topic.refs:
                if key in works and key not in works_seen:
                    works_seen.add(key)
                    readings.append(works[key])
        planned.append(Week(number, tuple(steps), tuple(demos), tuple(readings)))
    return Course(path, tuple(planned))


def _even_parts(steps: Sequence[Step], count: int) -> list[Sequence[Step]]:
    """The steps in runs whose squared minutes sum to the least, by dynamic programming; of equal cuts the earliest."""
    count = min(count, len(steps))
    until = [0, *accumulate(step.minutes for step in steps)]
    best = [0] + [until[-1] ** 2 + 1] * len(steps)
    cuts: list[list[int]] = []
    for part in range(1, count + 1):
        row, cut = [until[-1] ** 2 + 1] * (len(steps) + 1), [0] * (len(steps) + 1)
        for end in range(part, len(steps) + 1):
            for start in range(end - 1, part - 2, -1):
                tail = (until[end] - until[start]) ** 2
                if tail > row[end]:
                    break  # a longer last part is only worse
                if best[start] + tail <= row[end]:
                    row[end], cut[end] = best[start] + tail, start
        best = row
        cuts.append(cut)
    parts: list[Sequence[Step]] = []
    end = len(steps)
    for cut in reversed(cuts):
        parts.append(steps[cut[end] : end])
        end = cut[end]
    return parts[::-1]


def course_json(course: Course) -> dict[str, Any]:
    """Return the course as JSON-able data."""
    return {
        "goals": list(course.path.goals),
        "weeks": [
            {
                "number": week.number,
                "minutes": week.minutes,
                "outcomes": list(week.outcomes),
                "steps": [step_json(step) for step in week.steps],
                "demos": [{"demo": demo.demo, "look_at": demo.look_at} for demo in week.demos],
                "readings": [{"title": work.title, "link": work.link} for work in week.readings],
            }
            for week in course.weeks
        ],
    }


def course_markdown(course: Course, store: GraphStore) -> str:
    """Return the course as Markdown: an overview table, then each week."""
    goals = " and ".join(plain(store.topic(goal).title) for goal in course.path.goals)
    lines = [
        f"# Course on {goals}",
        "",
        "| week | topics | minutes | demos | readings |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {week.number} | {', '.join(plain(step.topic.title) for step in week.steps)} | {week.minutes} | "
        f"{len(week.demos)} | {len(week.readings)} |"
        for week in course.weeks
    ]
    for week in course.weeks:
        lines += ["", f"## Week {week.number}", ""]
        for step in week.steps:
            mark = " — the gist is enough" if step.gist else ""
            lines.append(f"- **{plain(step.topic.title)}** ({step.minutes} min){mark}")
            lines += [f"  - for {plain(titles)}: {why}" for titles, why in step.told_once(store)]
        if week.outcomes:
            lines += ["", "Outcomes:", *(f"- {outcome}" for outcome in week.outcomes)]
        if week.demos:
            lines += ["", "Demos:", *(f"- `genatlas demo run {demo.demo}` — {demo.look_at}" for demo in week.demos)]
        if week.readings:
            lines += ["", "Readings:", *(f"- {plain(work.title)}. {work.link}" for work in week.readings)]
    return "\n".join(lines) + "\n"
