"""The Placement page: questions, what follows from the answers, and what is kept of it."""

from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from service import Service
from service.learners import Learners
from study import Learner
from study.cards import question_about
from tests.ui.conftest import Open, links, words

VAE = "variational-autoencoders"


def no_fault(at: AppTest) -> None:
    assert not at.exception
    assert not at.error


def press(at: AppTest, key: str) -> None:
    at.button(key=key).click().run()
    no_fault(at)


def is_asking(at: AppTest) -> bool:
    return any(each.key == "yes" for each in at.button)


def question(at: AppTest) -> str:
    """What the page asks now."""
    said, _ = words(at).split("\n\nCould you answer this now")
    return said.splitlines()[-1].strip("“”")


def the_learner(atlas: Service, tmp_path: Path) -> Learner:
    url = SecretStr(f"sqlite:///{tmp_path}/progress.db")
    return Learners(atlas.settings.model_copy(update={"progress_url": url}), atlas.store).learner("me")


def test_without_a_section_the_page_says_what_it_does_and_offers_all(open_page: Open, atlas: Service) -> None:
    at = open_page("place")
    no_fault(at)
    assert "at most 12 questions" in words(at)
    sections = [topic for topic in atlas.store.topics() if topic.depth == 0]
    assert len(at.selectbox(key="place_box").options) == len(sections)
    assert not is_asking(at)
    at.selectbox(key="place_box").set_value(VAE).run()
    assert is_asking(at)


def test_a_question_is_one_that_the_topic_was_written_with(open_page: Open, atlas: Service) -> None:
    at = open_page("place", topic=VAE)
    no_fault(at)
    assert question(at) in {question_about(topic) for topic in atlas.store.subtree(VAE)}
    (bar,) = at.get("progress")
    assert cast("Any", bar).proto.text == "Question 1 of at most 12"


def test_answers_end_within_twelve_and_are_kept_told_and_inferred_apart(
    open_page: Open, atlas: Service, tmp_path: Path
) -> None:
    at = open_page("place", topic=VAE)
    asked = 0
    while is_asking(at):
        press(at, "yes")
        asked += 1
    assert asked <= 12
    assert f"**{asked}** known as you say" in words(at)
    assert not the_learner(atlas, tmp_path).marks, "nothing is kept before it is asked for"
    press(at, "keep")
    assert "Kept." in words(at)
    marks = the_learner(atlas, tmp_path).marks
    inferred = [each for each, mark in marks.items() if mark.origin == "inferred"]
    assert len(marks) - len(inferred) == asked
    assert inferred
    progress = open_page("progress")
    no_fault(progress)
    assert {f"Known ({asked})", f"Known, it seems ({len(inferred)})"} <= {tab.label for tab in progress.tabs}
    assert words(progress).count("sure, from a placement") == len(inferred)
    press(at, "forget")
    assert len(the_learner(atlas, tmp_path).marks) == asked


def test_a_path_leaves_out_what_is_inferred_too(open_page: Open, atlas: Service, tmp_path: Path) -> None:
    at = open_page("place", topic=VAE)
    while is_asking(at):
        press(at, "yes")
    press(at, "keep")
    inferred = {each for each, mark in the_learner(atlas, tmp_path).marks.items() if mark.origin == "inferred"}
    path = open_page("path", goal=VAE)
    no_fault(path)
    boxes = {box.key.removeprefix("done-"): box.value for box in path.checkbox if box.key}
    assert inferred & set(boxes)
    assert words(path).count("known, it seems") == len(inferred & set(boxes))
    assert all(boxes[each] for each in inferred & set(boxes))


def test_an_answer_can_be_taken_back(open_page: Open) -> None:
    at = open_page("place", topic=VAE)
    first = question(at)
    assert at.button(key="back").disabled
    press(at, "no")
    second = question(at)
    assert second != first
    press(at, "back")
    assert question(at) == first
    assert "Nothing yet." in words(at)
    press(at, "no")
    assert question(at) == second, "the same answers lead to the same question"


def test_who_has_enough_sees_what_was_found_and_may_go_on(open_page: Open) -> None:
    at = open_page("place", topic=VAE)
    press(at, "no")
    press(at, "enough_now")
    assert not is_asking(at)
    assert "after 1 question" in words(at)
    press(at, "back")
    assert is_asking(at)
    press(at, "yes")
    press(at, "enough_now")
    press(at, "again")
    assert is_asking(at)
    assert "Nothing yet." in words(at)


def test_an_unknown_topic_is_named_and_the_list_is_offered(open_page: Open) -> None:
    at = open_page("place", topic="no/such-topic")
    no_fault(at)
    assert "There is no topic **no/such-topic**" in words(at)
    assert not is_asking(at)


def test_any_topic_may_be_asked_about_by_its_address(open_page: Open) -> None:
    at = open_page("place", topic=f"{VAE}/training-objectives")
    no_fault(at)
    assert is_asking(at)


def test_the_progress_page_leads_here(open_page: Open) -> None:
    assert "place" in {page for _, page, _ in links(open_page("progress"))}


def test_what_cannot_be_kept_is_told_and_the_answers_stay(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "progress.db").write_text("no database", encoding="utf-8")
    at = open_page("place", topic=VAE)
    for key in ("yes", "enough_now", "keep"):
        at.button(key=key).click().run()
        assert not at.exception
    assert "cannot be read as learners' progress" in at.error[0].value
    assert "**1** known as you say" in words(at)
    assert "Kept." not in words(at)
