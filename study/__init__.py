"""What to learn, in which order and why."""

from study.budget import FittedPath, LeftOut, fit_path
from study.course import Course, Week, course_json, course_markdown, plan_course
from study.deck import path_deck
from study.errors import NothingFits, NotOnPath, TooLittleTime, UnreachableGoal
from study.explain import Because, Loss, Ready, Skipped, Unlocks, explain_step, ready_topics, skip_step, unlocked_by
from study.export import path_csv, path_json, path_markdown, path_mermaid
from study.ics import path_ics
from study.page import course_html, path_html
from study.path import Reason, Step, StudyPath, plan_path
from study.schedule import Session, StudyDay, StudyTimes, schedule, timetable
from study.syllabus import (
    Missing,
    Repeat,
    Slot,
    SyllabusLine,
    SyllabusReport,
    TooEarly,
    check_syllabus,
    syllabus_json,
    syllabus_lines,
)

__all__ = [
    "Because",
    "Course",
    "FittedPath",
    "LeftOut",
    "Loss",
    "Missing",
    "NotOnPath",
    "NothingFits",
    "Ready",
    "Reason",
    "Repeat",
    "Session",
    "Skipped",
    "Slot",
    "Step",
    "StudyDay",
    "StudyPath",
    "StudyTimes",
    "SyllabusLine",
    "SyllabusReport",
    "TooEarly",
    "TooLittleTime",
    "Unlocks",
    "UnreachableGoal",
    "Week",
    "check_syllabus",
    "course_html",
    "course_json",
    "course_markdown",
    "explain_step",
    "fit_path",
    "path_csv",
    "path_deck",
    "path_html",
    "path_ics",
    "path_json",
    "path_markdown",
    "path_mermaid",
    "plan_course",
    "plan_path",
    "ready_topics",
    "schedule",
    "skip_step",
    "syllabus_json",
    "syllabus_lines",
    "timetable",
    "unlocked_by",
]
