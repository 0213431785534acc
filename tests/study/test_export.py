import csv
import io
import json
from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from graph import Atlas, NetworkXStore, Prerequisite
from study import (
    StudyPath,
    StudyTimes,
    path_csv,
    path_json,
    path_markdown,
    path_mermaid,
    plan_path,
    schedule,
    timetable,
)
from tests.graph.atlases import ATLAS, topic

STORE = NetworkXStore(ATLAS)
PATH = plan_path(STORE, ["vae/loss"])


@given(st.integers(5, 120))
def test_a_schedule_keeps_order_fits_each_day_and_loses_no_minute(minutes_a_day: int) -> None:
    sessions = schedule(PATH, minutes_a_day)
    assert [s.step.number for s in sessions] == sorted(s.step.number for s in sessions)
    days = sorted({session.day for session in sessions})
    assert days == list(range(1, len(days) + 1))
    for day in days:
        assert sum(s.minutes for s in sessions if s.day == day) <= minutes_a_day
    for step in PATH.steps:
        assert sum(s.minutes for s in sessions if s.step == step) == step.minutes


def test_markdown_lists_each_step_with_its_reason_and_marks_a_guessed_time() -> None:
    text = path_markdown(PATH, STORE)
    assert text.startswith("# Study path to Loss\n")
    assert "- [ ] 1. **Transport** (15 min)\n" in text
    assert "for Loss: The critic estimates a transport cost." in text
    assert "- [ ] 2. **Dcgan** (10 min, a guess)" in text
    assert "genatlas demo run gan-demo" in text


def test_markdown_by_day_has_a_heading_for_each_day() -> None:
    headings = [line for line in path_markdown(PATH, STORE, minutes_a_day=20).splitlines() if line.startswith("## ")]
    assert headings == ["## Day 1", "## Day 2", "## Day 3"]


def test_json_holds_the_goals_and_each_steps_reasons() -> None:
    document = json.loads(json.dumps(path_json(PATH)))
    assert document["goals"] == ["vae/loss"]
    assert [step["topic"] for step in document["steps"]] == [step.topic.id for step in PATH.steps]
    assert document["steps"][1]["reasons"][0]["why"] == "The networks are a DCGAN's."
    assert document["minutes"] == sum(step["minutes"] or 0 for step in document["steps"]) == 40


def odd_path(title: str) -> tuple[NetworkXStore, StudyPath]:
    """A path whose first step has a title that means something to spreadsheets, Mermaid, Markdown or HTML."""
    odd = topic("odd", 0, minutes=10)
    odd = replace(odd, title=title, title_path=(title,), summary=title, formula=title, questions=(title,))
    atlas = Atlas("T", (odd, topic("goal", 1)), (Prerequisite("odd", "goal", "Why: " + title),))
    store = NetworkXStore(atlas)
    return store, plan_path(store, ["goal"])


def test_csv_has_a_row_a_step_with_the_date_on_which_it_begins() -> None:
    days = timetable(PATH, StudyTimes(date(2026, 3, 2), 20))
    rows = list(csv.DictReader(io.StringIO(path_csv(PATH, STORE, days))))
    assert [row["topic"] for row in rows] == [step.topic.id for step in PATH.steps]
    assert [row["date"] for row in rows] == ["2026-03-02", "2026-03-02", "2026-03-03", "2026-03-03"]
    assert [row["minutes"] for row in rows] == ["15", "10", "5", "20"]
    assert rows[1]["reasons"] == "for Loss: The networks are a DCGAN's."
    assert [row["gist"] for row in rows] == ["", "", "yes", ""]


def test_csv_holds_nothing_that_a_spreadsheet_would_run() -> None:
    store, path = odd_path('=HYPERLINK("http://x","y")')
    row = next(csv.DictReader(io.StringIO(path_csv(path, store))))
    assert row["title"] == '\'=HYPERLINK("http://x","y")'


def test_mermaid_boxes_the_sections_and_draws_each_need() -> None:
    lines = path_mermaid(PATH).splitlines()
    assert lines[0] == "flowchart LR"
    assert '  subgraph section0["Transport"]' in lines
    assert '    s4["4. Loss"]' in lines
    assert {line.strip() for line in lines if "-->" in line} == {"s1 --> s3", "s2 --> s3", "s3 --> s4"}


def test_a_title_cannot_end_a_box_of_mermaid() -> None:
    _, path = odd_path('a"] --> &amp; evil[("')
    assert 's1["1. a#34;#93; --#62; #38;amp#59; evil#91;(#34;"]' in path_mermaid(path)


def test_a_title_cannot_become_a_link_or_a_tag_in_markdown() -> None:
    store, path = odd_path("[x](javascript:1) <b>_y_</b>")
    assert r"**\[x\](javascript:1) \<b\>\_y\_\</b\>**" in path_markdown(path, store)
