"""Each page in its normal, its empty and its faulty state (AppTest: a rerun is a call, no browser)."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from graph import Topic
from service import DemoPending, LiveService, Service, Settings, open_service
from tests.ui.conftest import Open, button, links, pictures, words
from ui import session
from ui.widgets.plain import plain

PAGES = ["explore", "topic", "ask", "path", "compare", "progress", "place", "demo"]
VAE = "variational-autoencoders"
ELBO = "variational-autoencoders/training-objectives/elbo"
KL = "variational-autoencoders/training-objectives/kl-divergence"
FLOOR = "foundations/linear-algebra/vectors-and-matrices"


def no_fault(at: AppTest) -> None:
    assert not at.exception
    assert not at.error


# Any page


@pytest.mark.parametrize("page", PAGES)
def test_without_a_snapshot_a_page_says_how_to_build_one(open_page: Open, tmp_path: Path, page: str) -> None:
    at = open_page(page, home=tmp_path)
    assert not at.exception
    (error,) = at.error
    assert "genatlas build" in error.value


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opened_without_a_query_has_something_to_say(open_page: Open, page: str) -> None:
    at = open_page(page)
    no_fault(at)
    assert words(at) or pictures(at)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_works_on_titles_alone(open_page: Open, small_home: Path, page: str) -> None:
    no_fault(open_page(page, home=small_home))


def test_a_damaged_snapshot_is_named_and_try_again_recovers_once_it_is_mended(
    open_page: Open, small_home: Path
) -> None:
    (file,) = (small_home / "snapshots").glob("*/atlas.json")
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole.replace(b"Collapse", b"Collapsf", 1))
    at = open_page("explore", home=small_home)
    assert not at.exception
    assert "atlas.json" in at.error[0].value
    file.write_bytes(whole)
    button(at, "Try again").click()
    at.run()
    no_fault(at)
    assert pictures(at)


@pytest.mark.parametrize("page", PAGES)
def test_a_visitors_first_page_shows_an_outline_while_the_atlas_opens(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    happened: list[str] = []
    skeleton, opening = st.skeleton, session.LiveService

    def draw_outline(height: int) -> object:
        happened.append("outline")
        return skeleton(height=height)

    def open_noticed(settings: Settings) -> LiveService:
        happened.append("open")
        return opening(settings)

    monkeypatch.setattr(st, "skeleton", draw_outline)
    monkeypatch.setattr(session, "LiveService", open_noticed)
    at = open_page(page)
    no_fault(at)
    assert happened == ["outline", "open"]
    assert not at.get("skeleton")
    assert "Opening the atlas" not in words(at)
    at.run()
    assert happened == ["outline", "open"], "later runs do not flash an outline"


def test_a_title_is_shown_as_it_is_written(open_page: Open, atlas: Service) -> None:
    topic = next(each for each in atlas.store.topics() if each.title.count("$") == 2)
    at = open_page("topic", id=topic.id)
    no_fault(at)
    assert at.title[0].value == topic.title.replace("$", "\\$").replace("~", "\\~")


# Explore


def test_explore_draws_the_neighbourhood_of_the_topic_in_the_address(open_page: Open, atlas: Service) -> None:
    at = open_page("explore", topic=ELBO)
    no_fault(at)
    (picture,) = pictures(at)
    expected = atlas.neighbourhood(ELBO)
    assert picture["centre"] == ELBO
    assert {node["id"] for node in picture["nodes"]} == {topic.id for topic in expected.topics}
    assert f"{len(expected.topics)} topics · {len(expected.links)} links" in words(at)
    assert atlas.store.topic(ELBO).summary in words(at)


def test_the_inspector_lists_what_the_picture_shows(open_page: Open, atlas: Service) -> None:
    at = open_page("explore", topic=ELBO)
    listed = [
        str(each.key).removeprefix("inspector-Learn first-")
        for each in at.button
        if str(each.key).startswith("inspector-Learn first-")
    ]
    assert listed == [edge.before for edge in atlas.store.effective_prerequisites(ELBO)][:6]
    assert ("Open", "topic", f"id={quote(ELBO, safe='')}") in links(at)
    assert [each.key for each in at.button if str(each.key).startswith("inspector-Part of-")] == [
        f"inspector-Part of-{atlas.store.topic(ELBO).parent}"
    ]


@pytest.mark.parametrize(
    "query", [{"topic": "no/such-topic"}, {"view": "Nonsense"}, {"reach": "9 steps"}, {"links": "X"}]
)
def test_an_unknown_value_in_the_address_gives_way_to_the_default(open_page: Open, query: dict[str, str]) -> None:
    at = open_page("explore", **query)
    no_fault(at)
    (picture,) = pictures(at)
    assert picture["centre"] == VAE
    assert len(picture["nodes"]) > 1


def test_a_topic_without_links_of_the_chosen_kinds_stands_alone_with_a_word_on_what_to_do(
    open_page: Open, atlas: Service
) -> None:
    lone = next(t.id for t in atlas.store.topics() if len(atlas.neighbourhood(t.id, ["prerequisite"]).topics) == 1)
    at = open_page("explore", topic=lone, links="Prerequisites")
    no_fault(at)
    (picture,) = pictures(at)
    assert [node["id"] for node in picture["nodes"]] == [lone]
    assert "Turn on Hierarchy" in words(at)


def test_two_steps_reach_further_than_one(open_page: Open) -> None:
    one, two = (pictures(open_page("explore", topic=ELBO, reach=reach))[0] for reach in ("1 step", "2 steps"))
    assert {node["id"] for node in one["nodes"]} < {node["id"] for node in two["nodes"]}


def test_the_section_view_draws_the_section(open_page: Open, atlas: Service) -> None:
    at = open_page("explore", topic=ELBO, view="Section")
    no_fault(at)
    (picture,) = pictures(at)
    assert {node["id"] for node in picture["nodes"]} == {topic.id for topic in atlas.store.subtree(VAE)}
    assert [each.label for each in at.button_group] == ["View"], "Links and Reach are hidden where they do nothing"


def test_the_whole_map_shows_every_section_of_the_outline(open_page: Open, atlas: Service) -> None:
    at = open_page("explore", view="Whole map")
    no_fault(at)
    (picture,) = pictures(at)
    sections = {t.id for t in atlas.store.topics() if t.depth == 0 and t.origin == "outline"}
    assert {box["id"] for box in picture["boxes"] if box["level"] == 0} == sections


def test_a_topic_found_in_the_box_becomes_the_one_in_the_picture_and_the_address(open_page: Open) -> None:
    at = open_page("explore")
    at.selectbox(key="find").set_value(ELBO).run()
    no_fault(at)
    assert pictures(at)[0]["centre"] == ELBO
    assert at.query_params["topic"] == ELBO
    assert at.selectbox(key="find").value is None


# Topic


def test_a_written_topic_shows_its_text_and_formula(open_page: Open, atlas: Service) -> None:
    topic = atlas.store.topic(ELBO)
    at = open_page("topic", id=ELBO)
    no_fault(at)
    assert at.title[0].value == topic.title
    assert topic.summary in words(at)
    assert topic.formula.strip() in at.latex[0].value
    for comparison in atlas.store.comparisons(ELBO):
        assert comparison.choose in words(at)
    for work in atlas.references(topic.refs):
        assert work.link in words(at)


def test_an_unwritten_topic_says_so_and_still_shows_its_place_and_demo(open_page: Open, small_home: Path) -> None:
    at = open_page("topic", home=small_home, id="alpha/mode-collapse")
    no_fault(at)
    assert "not written yet" in words(at)
    assert [each.label for each in at.button if str(each.key).startswith("up-")] == ["Alpha ›"]
    assert "The samples become alike." in words(at)
    assert ("The demo (coming)", "demo", "topic=alpha%2Fmode-collapse") in links(at)
    assert [each.label for each in at.button if str(each.key).startswith("page-")] == ["Signs"]


def test_a_topic_without_parts_shows_what_stands_beside_it(open_page: Open, small_home: Path) -> None:
    at = open_page("topic", home=small_home, id="alpha/latent-space")
    no_fault(at)
    assert [each.key for each in at.button if str(each.key).startswith("page-")] == [
        "page-Beside it-alpha/mode-collapse"
    ]


def test_an_unknown_address_offers_the_nearest_topics(open_page: Open) -> None:
    at = open_page("topic", id="variational-autoencoders/training-objectives/elbow")
    no_fault(at)
    assert "No topic with this address" in words(at)
    near = [each for each in at.button if str(each.key).startswith("near-")]
    assert len(near) == 5
    assert near[0].key == f"near-{ELBO}"
    near[0].click()
    at.run()
    assert at.query_params["id"] == ELBO
    assert "ELBO" in at.title[0].value


def test_a_relation_turns_the_page(open_page: Open, atlas: Service) -> None:
    before = atlas.store.effective_prerequisites(ELBO)[0].before
    at = open_page("topic", id=ELBO)
    at.button(key=f"page-Learn first-{before}").click().run()
    assert at.title[0].value == atlas.store.topic(before).title
    assert at.query_params["id"] == before


def test_a_topic_says_how_much_rests_on_it(open_page: Open, atlas: Service) -> None:
    found = atlas.unlocks(FLOOR)
    said = words(open_page("topic", id=FLOOR))
    assert f"**{len(found.supports)} topics rest on it in the end**" in said
    section, count = next(iter(found.by_section.items()))
    assert f"{atlas.store.topic(section).title} :gray[{count}]" in said


def test_an_address_of_words_finds_topics_by_them(open_page: Open) -> None:
    at = open_page("topic", id="evidence-lower-bound")
    no_fault(at)
    assert ELBO in [str(each.key).removeprefix("near-") for each in at.button]


@pytest.mark.parametrize("address", ["/", "???", "x" * 5000, "<b>", "a`b"])
def test_no_address_is_a_fault(open_page: Open, address: str) -> None:
    at = open_page("topic", id=address)
    no_fault(at)
    assert "No topic with this address" in words(at)


def test_counts_are_of_topics_and_not_of_edges(open_page: Open, atlas: Service) -> None:
    topic = next(
        t
        for t in atlas.store.topics()
        if len(edges := atlas.store.effective_prerequisites(t.id)) > len({edge.before for edge in edges})
    )
    before = {edge.before for edge in atlas.store.effective_prerequisites(topic.id)}
    said = words(open_page("topic", id=topic.id))
    assert re.search(rf"\b{len(before)} prerequisite", said)
    assert f"**Learn first** :gray[{len(before)}]" in said


def test_topics_of_the_same_title_are_told_apart_by_their_place(open_page: Open, atlas: Service) -> None:
    topic = next(t for t in atlas.store.topics() if any(twin.title == t.title for twin in atlas.store.twins(t.id)))
    at = open_page("topic", id=topic.id)
    listed = [each.label for each in at.button if str(each.key).startswith("page-The same concept-")]
    assert topic.title not in listed
    assert any(label.startswith(f"{topic.title} · ") for label in listed)


# Ask


def test_without_a_question_ask_offers_examples_and_one_of_them_asks(open_page: Open) -> None:
    at = open_page("ask")
    no_fault(at)
    (group,) = at.button_group
    assert 4 <= len(group.options) <= 6
    assert not pictures(at)
    group.select(group.options[0]).run()
    no_fault(at)
    assert "**Answer**" in words(at)


def test_a_follow_up_is_completed_from_the_question_before(open_page: Open) -> None:
    at = open_page("ask", q="What is the evidence lower bound?")
    no_fault(at)
    assert "Read as" not in words(at)
    at.text_input[0].set_value("and its gap?").run()
    no_fault(at)
    assert "Read as “ELBO's gap?”" in words(at)
    at.run()  # the same question once more is no follow-up of itself
    assert "Read as “ELBO's gap?”" in words(at)


def test_every_example_has_an_answer(open_page: Open, atlas: Service) -> None:
    for example in open_page("ask").button_group[0].options:
        assert not atlas.ask(str(example)).abstained, example


def test_a_question_is_answered_with_numbered_citations(open_page: Open, atlas: Service) -> None:
    question = "What is the reparameterization trick?"
    answer = atlas.ask(question)
    at = open_page("ask", q=question)
    no_fault(at)
    said = words(at)
    assert "Reading" not in said, "the outline is gone"
    for sentence in answer.sentences:
        assert sentence.text in said
    for number, topic_id in enumerate(answer.citations, start=1):
        assert f"[{number}] **{atlas.store.topic(topic_id).title}**" in said
    cited = {int(each) for each in re.findall(r":gray\[\[(\d+)\]\]", said)}
    assert cited <= set(range(1, len(answer.citations) + 1))
    assert cited, "every sentence names its source"
    assert len(answer.sentences) <= len(re.findall(r":gray\[\[\d+\]\]", said))
    (picture,) = pictures(at)
    assert picture["centre"] in (answer.topic, *answer.citations)


def test_a_question_for_the_order_of_study_leads_to_the_path_and_not_to_a_command(open_page: Open) -> None:
    at = open_page("ask", q="What must I know before the ELBO?")
    no_fault(at)
    assert ("The whole order of study", "path", f"goal={quote(ELBO, safe='')}") in links(at)
    assert "genatlas " not in words(at)


def test_a_question_for_a_demo_leads_to_the_demo_and_not_to_a_command(open_page: Open) -> None:
    at = open_page("ask", q="Show me mode collapse")
    no_fault(at)
    assert any(label.startswith("See it run") for label, page, _ in links(at) if page == "demo")
    assert "genatlas " not in words(at)


def test_an_off_topic_question_is_declined_and_nothing_is_invented(open_page: Open) -> None:
    at = open_page("ask", q="What is the capital of Peru?")
    no_fault(at)
    said = words(at)
    assert "**No answer.**" in said
    assert "**Answer**" not in said
    assert "Lima" not in said


def test_a_question_for_an_unwritten_topic_is_declined_with_the_nearest(open_page: Open, small_home: Path) -> None:
    at = open_page("ask", home=small_home, q="What is mode collapse?")
    no_fault(at)
    assert "**No answer.**" in words(at)
    assert any("Mode Collapse" in label for label, page, _ in links(at) if page == "topic")


@pytest.mark.parametrize("question", ["???", "   ", "x" * 5000, "β", "<script>alert(1)</script>", "$\\frac{", "🎲"])
def test_no_question_is_a_fault(open_page: Open, question: str) -> None:
    assert not open_page("ask", q=question).exception


def test_without_the_encoder_the_words_are_searched_and_the_page_says_so(open_page: Open, small_home: Path) -> None:
    (small_home / "models").unlink()
    at = open_page("ask", home=small_home, q="What is mode collapse?")
    no_fault(at)
    assert "Meaning search is off" in words(at)
    assert any("Mode Collapse" in label for label, _, _ in links(at))


# Path


def steps_shown(at: AppTest) -> list[str]:
    return [str(box.key).removeprefix("done-") for box in at.checkbox if str(box.key).startswith("done-")]


def test_without_a_goal_path_asks_for_one(open_page: Open) -> None:
    at = open_page("path")
    no_fault(at)
    assert "Choose a goal" in words(at)
    assert not at.checkbox


def test_a_goal_gives_its_steps_in_an_order_that_asks_for_nothing_later(open_page: Open, atlas: Service) -> None:
    at = open_page("path", goal=ELBO)
    no_fault(at)
    steps = steps_shown(at)
    assert steps[-1] == ELBO
    assert len(steps) > 3
    for place, topic_id in enumerate(steps):
        for edge in atlas.store.effective_prerequisites(topic_id):
            if edge.strength == "needed" and edge.before in steps:
                assert steps.index(edge.before) < place
    assert "**the goal**" in words(at)
    assert [each.label for each in at.download_button] == ["Markdown", "Calendar", "Print", "Anki", "Table", "JSON"]


def test_a_goal_that_needs_nothing_can_be_started_at_once(open_page: Open) -> None:
    at = open_page("path", goal=FLOOR)
    assert at.success
    no_fault(at)
    assert steps_shown(at) == [FLOOR]
    assert "you can start here" in words(at)


def test_what_an_unwritten_goal_needs_is_not_made_up(open_page: Open, small_home: Path) -> None:
    at = open_page("path", home=small_home, goal="beta/attention")
    no_fault(at)
    assert steps_shown(at) == ["beta/attention"]
    assert not at.success
    assert "Nobody has recorded yet what this topic needs" in words(at)


def test_an_unknown_goal_is_named_and_the_list_is_offered(open_page: Open) -> None:
    at = open_page("path", goal="no/such-topic")
    no_fault(at)
    assert "no/such-topic" in at.warning[0].value
    assert at.selectbox(key="goal_box").value is None


def test_the_full_depth_takes_more_than_the_essential(open_page: Open) -> None:
    at = open_page("path", goal=VAE)
    essential = steps_shown(at)
    at.button_group(key="depth").set_value("Full").run()
    no_fault(at)
    assert set(essential) < set(steps_shown(at))


def progress(at: AppTest) -> tuple[int, int]:
    (text,) = [each.proto.text for each in at.get("progress")]
    done, steps = re.findall(r"\d+", text)[:2]
    assert text.startswith(f"{done} of {steps} steps done")
    return int(done), int(steps)


def test_a_step_that_is_marked_as_known_counts_with_all_that_it_needs(open_page: Open, atlas: Service) -> None:
    at = open_page("path", goal=ELBO)
    steps = steps_shown(at)
    assert progress(at) == (0, len(steps))
    at.checkbox(key=f"done-{KL}" if KL in steps else f"done-{steps[-2]}").check().run()
    no_fault(at)
    marked = next(box for box in at.checkbox if box.value)
    left = atlas.path([ELBO], {str(marked.key).removeprefix("done-")})
    assert progress(at) == (len(steps) - len(left.steps), len(steps))
    assert progress(at)[0] >= 1


def test_the_picture_of_a_path_has_every_step_with_each_need_pointing_down(open_page: Open, atlas: Service) -> None:
    at = open_page("path", goal=ELBO)
    at.button_group(key="path_view").set_value("Picture").run()
    no_fault(at)
    (drawn,) = pictures(at)
    path = atlas.path([ELBO])
    assert {node["id"] for node in drawn["nodes"]} == {step.topic.id for step in path.steps}
    assert drawn["centre"] == ELBO
    y = {node["id"]: node["y"] for node in drawn["nodes"]}
    assert len(drawn["edges"]) == sum(len(step.reasons) for step in path.steps)
    assert all(y[edge["source"]] < y[edge["target"]] for edge in drawn["edges"])
    assert "Click a step" in words(at)


def test_a_picked_step_of_the_picture_tells_its_chain_of_reasons(open_page: Open, atlas: Service) -> None:
    first = atlas.path([ELBO]).steps[0]
    at = open_page("path", goal=ELBO)
    at.session_state["path_step"] = first.topic.id
    at.button_group(key="path_view").set_value("Picture").run()
    no_fault(at)
    chain = [line for line in words(at).splitlines() if " → " in line]
    assert chain[0].startswith(f"**{first.topic.title}** →")
    assert chain[-1].split(" → ")[1].startswith(atlas.store.topic(ELBO).title)


def test_the_days_show_sessions_and_recall_on_the_chosen_days_of_the_week(open_page: Open) -> None:
    at = open_page("path", goal=ELBO)
    at.button_group(key="weekdays").set_value(["Tue"]).run()
    at.button_group(key="path_view").set_value("Days").run()
    no_fault(at)
    dates = re.findall(r"\*\*(\w{3}) \d\d \w{3}\*\*", words(at))
    assert len(dates) > 3
    assert set(dates) == {"Tue"}
    assert "Recall: " in words(at)


def test_a_deadline_leaves_out_what_there_is_no_time_for_and_says_so(open_page: Open, atlas: Service) -> None:
    at = open_page("path", goal=ELBO)
    start = at.date_input(key="start").value
    at.date_input(key="end").set_value(start).run()
    no_fault(at)
    assert "45 minutes until the deadline leave no time for" in at.warning[0].value
    assert "The goal is not reached" in at.warning[0].value
    assert "no time for it" in words(at)
    assert len(steps_shown(at)) == len(atlas.path([ELBO]).steps)


def test_without_time_for_a_single_step_the_page_says_what_it_would_take(open_page: Open) -> None:
    at = open_page("path", goal=ELBO)
    at.slider(key="minutes").set_value(10).run()
    at.date_input(key="end").set_value(at.date_input(key="start").value).run()
    no_fault(at)
    assert "Nothing fits 10 minutes" in at.warning[0].value


def test_knowing_a_topic_on_its_page_shortens_the_path(open_page: Open, atlas: Service) -> None:
    before: Topic = atlas.path([ELBO]).steps[0].topic
    at = open_page("topic", id=before.id)
    at.button_group(key=f"status-{before.id}").set_value("Known").run()
    at.switch_page("views/path.py")
    at.query_params["goal"] = ELBO
    at.run()
    no_fault(at)
    assert progress(at)[0] == 1
    assert at.checkbox(key=f"done-{before.id}").value


# Demos


def test_the_list_of_demos_names_those_that_run(open_page: Open, atlas: Service) -> None:
    at = open_page("demo")
    no_fault(at)
    ready = {plain(info.demo.title) for info in atlas.demos() if info.ready}
    assert {each.label for each in at.button} == ready
    assert f"{len(ready)} demos can be run" in words(at)
    at.button(key="open-gaussian-kl").click().run()
    no_fault(at)
    assert at.query_params["demo"] == "gaussian-kl"
    assert "param-gaussian-kl-seed" in at.session_state


def test_a_demo_that_is_still_to_come_says_so(open_page: Open, small_home: Path) -> None:
    at = open_page("demo", home=small_home, topic="alpha/mode-collapse")
    no_fault(at)
    assert "planned and not built yet" in words(at)
    assert "What will it show?" in words(at)
    assert not [each for each in at.button if each.label == "Run"]
    with pytest.raises(DemoPending, match="not built yet"):
        open_service(Settings(home=small_home)).run_demo("planned-demo", {})


def test_a_demo_shows_its_settings_at_the_topics_and_the_addresss_values(open_page: Open, atlas: Service) -> None:
    at = open_page("demo", topic=KL, seed="7", samples="nonsense", direction="sideways", dim="10000")
    no_fault(at)
    topic = atlas.store.topic(KL)
    assert topic.demo is not None
    assert topic.demo.look_at in words(at)
    description = atlas.describe_demo("gaussian-kl")
    shown = {
        name: at.session_state[f"param-gaussian-kl-{name}"]
        for name in (parameter.name for parameter in description.parameters)
    }
    assert shown == description.defaults | dict(topic.demo.params) | {
        name: description.defaults[name] for name in ("samples", "direction", "dim")
    } | {"seed": 7}
    assert "press Run" in words(at)
    for preset in description.presets.values():
        assert preset.shows in words(at)


def test_a_preset_fills_in_its_settings(open_page: Open) -> None:
    at = open_page("demo", demo="gaussian-kl")
    at.button(key="preset-gaussian-kl-few-samples").click().run()
    no_fault(at)
    assert at.session_state["param-gaussian-kl-samples"] == 100


@pytest.mark.parametrize("query", [{"topic": "no/such-topic"}, {"demo": "no-such-demo"}])
def test_a_wrong_address_of_a_demo_is_named_and_the_list_is_offered(open_page: Open, query: dict[str, str]) -> None:
    at = open_page("demo", **query)
    no_fault(at)
    assert next(iter(query.values())) in at.warning[0].value
    assert "demos can be run" in words(at)
