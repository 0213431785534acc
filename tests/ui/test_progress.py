"""The Progress page, and what other pages keep for it."""

import sqlite3
from pathlib import Path

from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from service import Service
from service.learners import Learners
from tests.ui.conftest import Open, button, links, words

ELBO = "variational-autoencoders/training-objectives/elbo"
KL = "foundations/information-theory/kl-divergence"


def no_fault(at: AppTest) -> None:
    assert not at.exception
    assert not at.error


def metric(at: AppTest, label: str) -> str:
    (found,) = [each.value for each in at.metric if each.label == label]
    return found


def know(open_page: Open, topic_id: str, status: str = "Known") -> AppTest:
    at = open_page("topic", id=topic_id)
    at.button_group(key=f"status-{topic_id}").set_value(status).run()
    no_fault(at)
    return at


def let_days_pass(tmp_path: Path, days: int) -> None:
    """Move every review into the past."""
    with sqlite3.connect(tmp_path / "progress.db") as connection:
        for column in ("last_review", "due"):
            connection.execute(f"UPDATE genatlas_memory SET {column} = datetime({column}, '-{days} days')")  # noqa: S608
    connection.close()


def test_who_has_kept_nothing_is_told_how_to_begin(open_page: Open, atlas: Service) -> None:
    at = open_page("progress")
    no_fault(at)
    assert metric(at, "Known") == f"0 of {len(atlas.store.topics())}"
    assert "take them into the reviews" in words(at)


def test_a_mark_made_on_a_topics_page_is_there_in_the_next_visit(open_page: Open) -> None:
    know(open_page, ELBO)
    know(open_page, KL, "Planned")
    at = open_page("progress")
    assert metric(at, "Known").startswith("1 of ")
    assert metric(at, "Planned") == "1"
    assert ("topic", f"id={ELBO.replace('/', '%2F')}") in {link[1:] for link in links(at)}
    at.button(key=f"off-Planned-{KL}").click().run()
    no_fault(at)
    assert metric(at, "Planned") == "0"


def test_a_note_is_kept(open_page: Open) -> None:
    at = open_page("topic", id=ELBO)
    at.text_area(key=f"note-{ELBO}").set_value("the gap is a KL").run()
    no_fault(at)
    assert "the gap is a KL" in words(open_page("progress"))
    assert open_page("topic", id=ELBO).text_area(key=f"note-{ELBO}").value == "the gap is a KL"


def test_what_is_known_is_reviewed_and_a_failure_says_where_to_look(open_page: Open, tmp_path: Path) -> None:
    know(open_page, ELBO)
    know(open_page, KL)
    at = open_page("progress")
    button(at, "Review what I know (2)").click().run()
    no_fault(at)
    assert metric(at, "In review") == "2"
    assert metric(at, "Due now") == "0"
    assert "Nothing is due. The next review comes on" in words(at)
    let_days_pass(tmp_path, 40)
    at = open_page("progress")
    assert metric(at, "Due now") == "2"
    assert not [each for each in at.button if each.label == "Yes"], "the answer is hidden first"
    button(at, "Show the answer").click().run()
    button(at, "Not at all").click().run()
    no_fault(at)
    assert "look there first" in words(at)
    assert metric(at, "Due now") == "1"
    button(at, "Show the answer").click().run()
    button(at, "Yes").click().run()
    assert metric(at, "Due now") == "0"


def test_a_new_profile_begins_empty_and_the_first_keeps_its_own(open_page: Open) -> None:
    know(open_page, ELBO)
    at = open_page("progress")
    begin(at, "ann")
    no_fault(at)
    assert at.selectbox(key="whose").value == "ann"
    assert metric(at, "Known").startswith("0 of ")
    at.selectbox(key="whose").set_value("me").run()
    assert metric(at, "Known").startswith("1 of ")


def test_a_name_that_cannot_be_is_refused_and_nothing_changes(open_page: Open) -> None:
    at = open_page("progress")
    begin(at, "???")
    assert "is no name for a profile" in at.error[0].value
    assert at.selectbox(key="whose").value == "me"


def begin(at: AppTest, name: str) -> None:
    at.text_input(key="new_profile").set_value(name).run()
    button(at, "Begin").click().run()


def test_a_profile_is_deleted_with_all_it_has(open_page: Open) -> None:
    know(open_page, ELBO)
    at = open_page("progress")
    button(at, "Delete for good").click().run()
    no_fault(at)
    assert metric(at, "Known").startswith("0 of ")


def test_a_profile_is_brought_back_from_its_file(open_page: Open, atlas: Service, tmp_path: Path) -> None:
    know(open_page, ELBO)
    url = SecretStr(f"sqlite:///{tmp_path}/progress.db")
    learners = Learners(atlas.settings.model_copy(update={"progress_url": url}), atlas.store)
    at = open_page("progress")
    at.file_uploader(key="bring").set_value(("me.json", learners.exported("me"), "application/json")).run()
    at.text_input(key="bring_as").set_value("again").run()
    button(at, "Bring it back").click().run()
    no_fault(at)
    assert at.selectbox(key="whose").value == "again"
    assert metric(at, "Known").startswith("1 of ")
    button(at, "Bring it back").click().run()
    assert 'There is a profile "again" already' in at.error[0].value


def test_pages_work_while_the_database_does_not(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "progress.db").write_text("no database", encoding="utf-8")
    at = open_page("topic", id=ELBO)
    assert not at.exception
    assert "cannot be read as learners' progress" in at.error[0].value
    assert "ELBO" in at.title[0].value


def test_what_can_be_started_changes_with_what_is_known(open_page: Open, atlas: Service) -> None:
    def offered(at: AppTest) -> list[str]:
        found = [query for label, page, query in links(at) if page == "topic" and "rest on it" in label]
        return [query.removeprefix("id=").replace("%2F", "/") for query in found]

    first = offered(open_page("progress"))
    assert first == [each.topic.id for each in atlas.ready()[:6] if each.supports]
    know(open_page, first[0])
    then = offered(open_page("progress"))
    assert then == [each.topic.id for each in atlas.ready([first[0]])[:6] if each.supports]
    assert first[0] not in then


def test_the_page_has_a_bar_for_every_section(open_page: Open, atlas: Service) -> None:
    at = open_page("progress")
    bars = at.get("progress")
    sections = {topic.title for topic in atlas.store.topics() if topic.depth == 0 and topic.origin == "outline"}
    assert len(bars) == len(sections)
