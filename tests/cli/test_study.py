import csv
import io
import json
import zipfile
from datetime import date
from pathlib import Path

import pytest

from tests.cli.readme import BLOCK, STUDY, renewed
from tests.conftest import Genatlas

RLHF = "gpt-family/rlhf"
KL = "foundations/information-theory/kl-divergence"


def test_why_shows_each_link_of_the_chain_to_the_goal(genatlas: Genatlas) -> None:
    chain = json.loads(genatlas("why", "foundations/probability/variance", RLHF, "--json").stdout)["chain"]
    assert chain[-1]["needed_by"] == RLHF
    assert [link["needed_by"] for link in chain[:-1]] == [link["topic"] for link in chain[1:]]
    text = genatlas("why", "foundations/probability/variance", RLHF).stdout
    assert all(link["why"] in text for link in chain)


def test_a_step_named_by_the_end_of_its_id_is_the_one_on_the_path(genatlas: Genatlas) -> None:
    assert json.loads(genatlas("why", "kl-divergence", RLHF, "--json").stdout)["topic"] == KL


def test_why_of_a_topic_off_the_path_says_why_it_is_off(genatlas: Genatlas) -> None:
    done = genatlas("why", "bert", RLHF)
    assert done.returncode == 1
    assert "nothing on it needs this topic" in done.stderr
    known = genatlas("why", KL, RLHF, "--known", KL)
    assert "counts as known" in known.stderr


def test_skip_lists_what_loses_its_footing_and_what_is_saved(genatlas: Genatlas) -> None:
    found = json.loads(genatlas("skip", KL, RLHF, "--json").stdout)
    assert RLHF in {loss["topic"] for loss in found["lost"]}
    assert "foundations/probability/jensen-s-inequality" in found["spared"]
    text = genatlas("skip", KL, RLHF).stdout
    assert "Without footing then" in text
    assert f"saves {found['minutes']} minutes, with Jensen's Inequality" in text


def test_ready_names_what_can_be_started_and_narrows_to_a_goal(genatlas: Genatlas) -> None:
    first = json.loads(genatlas("ready", "-k", "3", "--json").stdout)
    assert [each["supports"] for each in first] == sorted((each["supports"] for each in first), reverse=True)
    assert "foundations/linear-algebra/vectors-and-matrices" in {each["topic"] for each in first}
    known = ("--known", "foundations/probability/variance")
    narrowed = json.loads(genatlas("ready", *known, "--goal", RLHF, "--json").stdout)
    assert "foundations/probability/monte-carlo-estimation" in {each["topic"] for each in narrowed}


def test_unlocks_tells_what_a_topic_is_good_for(genatlas: Genatlas) -> None:
    found = json.loads(genatlas("unlocks", KL, "--json").stdout)
    assert RLHF in found["supports"]
    assert sum(found["by_section"].values()) == len(found["supports"])
    text = genatlas("unlocks", KL).stdout
    assert found["direct"][0]["why"] in text
    assert f"{len(found['supports'])} topics rest on it" in text


def test_a_budget_keeps_a_closed_part_and_tells_what_it_left_out(genatlas: Genatlas) -> None:
    whole = {step["topic"] for step in json.loads(genatlas("path", RLHF, "--json").stdout)["steps"]}
    fitted = json.loads(genatlas("path", RLHF, "--total", "120", "--json").stdout)
    kept = {step["topic"] for step in fitted["steps"]}
    assert fitted["minutes"] <= 120
    assert kept | {each["topic"] for each in fitted["left_out"]} == whole
    assert fitted["reaches"] == []
    text = genatlas("path", RLHF, "--total", "120").stdout
    assert "There is no time for the rest within 120 minutes" in text
    assert f"Not reached: {RLHF}" in text


def test_minutes_a_day_until_a_date_is_a_budget_over_the_chosen_days(genatlas: Genatlas) -> None:
    times = ("--minutes", "30", "--on", "mon,thu", "--start", "2026-03-02", "--until", "2026-03-13")
    plan = json.loads(genatlas("path", RLHF, *times, "--json").stdout)
    assert plan["budget"] == 120
    days = [date.fromisoformat(day["date"]) for day in plan["days"]]
    assert {day.weekday() for day in days} == {0, 3}
    assert max(days) <= date(2026, 3, 13)
    by_count = json.loads(genatlas("path", RLHF, *times[:6], "--days", "4", "--json").stdout)
    assert by_count["budget"] == 120


@pytest.mark.parametrize(
    ("format_", "start"), [("html", b"<!doctype html>"), ("mermaid", b"flowchart LR"), ("csv", b"number,date,topic")]
)
def test_a_path_as_a_file_of_each_kind(genatlas: Genatlas, tmp_path: Path, format_: str, start: bytes) -> None:
    file = tmp_path / f"path.{format_}"
    done = genatlas("path", RLHF, "--format", format_, "-o", str(file))
    assert file.read_bytes().startswith(start)
    assert done.stdout == ""
    assert genatlas("path", RLHF, "--format", format_).stdout.encode().startswith(start)


def test_a_table_has_the_dates(genatlas: Genatlas) -> None:
    done = genatlas("path", RLHF, "--format", "csv", "--minutes", "60", "--start", "2026-03-02")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows[0]["date"] == "2026-03-02"
    assert rows[-1]["topic"] == RLHF


def test_a_deck_is_a_package_that_needs_a_file(genatlas: Genatlas, tmp_path: Path) -> None:
    file = tmp_path / "path.apkg"
    genatlas("path", RLHF, "--format", "anki", "-o", str(file))
    assert "collection.anki2" in zipfile.ZipFile(file).namelist()
    refused = genatlas("path", RLHF, "--format", "anki")
    assert refused.returncode == 2
    assert "name it, such as -o path.apkg" in refused.stderr


def test_a_file_that_cannot_be_written_is_told(genatlas: Genatlas, tmp_path: Path) -> None:
    done = genatlas("path", KL, "--format", "csv", "-o", str(tmp_path / "nowhere" / "path.csv"))
    assert done.returncode == 2
    assert "cannot be written: No such file or directory" in " ".join(done.stderr.split())


def test_files_link_to_the_pages_of_the_site(genatlas: Genatlas) -> None:
    done = genatlas("path", KL, "--format", "html", "--site", "https://atlas.example/")
    assert "https://atlas.example/topic?id=foundations%2Finformation-theory%2Fkl-divergence" in done.stdout


def test_a_course_has_its_weeks_with_demos_and_readings(genatlas: Genatlas, tmp_path: Path) -> None:
    weeks = json.loads(genatlas("course", RLHF, "--weeks", "4", "--json").stdout)["weeks"]
    assert [week["number"] for week in weeks] == [1, 2, 3, 4]
    assert weeks[-1]["steps"][-1]["topic"] == RLHF
    assert all(week["demos"] and week["readings"] for week in weeks)
    assert genatlas("course", RLHF, "--weeks", "4").stdout.startswith("# Course on RLHF")
    genatlas("course", RLHF, "--weeks", "4", "--format", "html", "-o", str(tmp_path / "course.html"))
    assert "Week 4" in (tmp_path / "course.html").read_text(encoding="utf-8")


def test_a_syllabus_is_held_against_the_atlas(genatlas: Genatlas, tmp_path: Path) -> None:
    file = tmp_path / "syllabus.txt"
    file.write_text("Week 1: DDIM sampling\n- the diffusion kernel\n- baking sourdough bread\n", encoding="utf-8")
    report = json.loads(genatlas("syllabus", str(file), "--json").stdout)
    assert [line["topic"] is None for line in report["lines"]] == [False, False, True]
    assert (1, 2) in {(each["line"], each["needs_line"]) for each in report["too_early"]}
    text = genatlas("syllabus", str(file)).stdout
    for heading in ("Not in the atlas", "Too early", "Learners must bring", "Repaired order"):
        assert heading in text


def test_the_study_page_shows_what_its_commands_print(built_home: Path) -> None:
    text = STUDY.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) == 9
    assert text == renewed(text, built_home)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--until", "2026-03-01", "--minutes", "30", "--start", "2026-03-02"), "lies before the first day"),
        (("--until", "soon", "--minutes", "30"), "soon is no date"),
        (("--start", "9999-12-31", "--minutes", "30"), "the last year is 2199"),
        (("--until", "2026-03-01"), "say how many minutes a day"),
        (("--total", "60", "--days", "3", "--minutes", "30"), "give one of --until, --days and --total"),
        (("--on", "mon,funday", "--minutes", "30"), "days of the week are mon, tue"),
        (("--site", "javascript:alert(1)"), "is no address"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    genatlas: Genatlas, arguments: tuple[str, ...], words: str
) -> None:
    done = genatlas("path", RLHF, *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_too_little_time_for_one_step_is_told_and_a_syllabus_that_is_no_text_too(
    genatlas: Genatlas, tmp_path: Path
) -> None:
    done = genatlas("path", RLHF, "--total", "3")
    assert done.returncode == 1
    assert "Nothing fits 3 minutes" in done.stderr
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert genatlas("syllabus", str(tmp_path / "binary")).returncode == 2
