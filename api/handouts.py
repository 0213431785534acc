"""A study path as it was asked for: fitted to a time, laid out over days, as JSON or as a hand-out."""

from typing import Any

from api import documents as doc
from service import Service, wire
from study import (
    StudyPath,
    StudyTimes,
    fit_path,
    path_csv,
    path_html,
    path_ics,
    path_json,
    path_markdown,
    path_mermaid,
    timetable,
)


def handout(atlas: Service, path: StudyPath, wanted: doc.PathGoals, form: str) -> dict[str, Any] | str:
    """The path in one of the forms of `api.routes.PATH_TYPES`; JSON as its document. Raises NothingFits."""
    times = _times(wanted, dated=form == "ics")
    budget = wanted.total if wanted.total is not None else times.total if times else None
    fitted = None if budget is None else fit_path(path, budget)
    path = fitted.path if fitted else path
    days = timetable(path, times, wanted.reviews) if times else ()
    match form:
        case "markdown":
            return path_markdown(path, atlas.store, wanted.minutes)
        case "html":
            return path_html(path, atlas.store, days, fitted.left_out if fitted else (), None)
        case "ics":
            return path_ics(path, atlas.store, days)
        case "csv":
            return path_csv(path, atlas.store, days)
        case "mermaid":
            return path_mermaid(path)
        case _:
            return path_json(path) | wire.fitted(fitted) | wire.timetable(days)


def _times(wanted: doc.PathGoals, dated: bool) -> StudyTimes | None:
    """When the learner studies; None where nobody asked for days."""
    if wanted.minutes is None and not dated:
        return None
    times = StudyTimes(wanted.start, wanted.minutes or 45, frozenset(wanted.weekdays), wanted.until)
    return times if wanted.days is None else times.lasting(wanted.days)
