"""What to learn, in which order and why."""

from study.errors import UnreachableGoal
from study.export import path_ics, path_json, path_markdown
from study.path import Reason, Step, StudyPath, plan_path
from study.schedule import Session, schedule

__all__ = [
    "Reason",
    "Session",
    "Step",
    "StudyPath",
    "UnreachableGoal",
    "path_ics",
    "path_json",
    "path_markdown",
    "plan_path",
    "schedule",
]
