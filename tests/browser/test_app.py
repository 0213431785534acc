"""The app in a real browser: what only a browser can show."""

import json
import re
import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PICTURES, Visitor

VAE = "variational-autoencoders"
ELBO = "variational-autoencoders/training-objectives/elbo"
KL = "variational-autoencoders/training-objectives/kl-divergence"
PARENT = "variational-autoencoders/training-objectives"
READY = '.genatlas-graph[data-ready="1"]'


def coded(topic_id: str) -> str:
    return quote(topic_id, safe="")


ADDRESSES = {
    "explore": f"/?topic={coded(ELBO)}",
    "explore-two-steps": f"/?topic={coded(ELBO)}&reach=2+steps",
    "explore-section": f"/?topic={coded(ELBO)}&view=Section",
    "explore-map": "/?view=Whole+map",
    "topic": f"/topic?id={coded(ELBO)}",
    "topic-unknown": "/topic?id=no%2Fsuch-topic",
    "ask": "/ask?q=" + quote("What is the reparameterization trick?"),
    "ask-comparison": "/ask?q=" + quote("What is the difference between a VAE and a GAN?"),
    "ask-declined": "/ask?q=" + quote("What is the capital of Peru?"),
    "ask-empty": "/ask",
    "path": f"/path?goal={coded(ELBO)}",
    "path-empty": "/path",
    "compare": f"/compare?topic={coded(ELBO)}&with={coded(KL)}",
    "compare-authored": f"/compare?topic={VAE}&with=generative-adversarial-networks",
    "compare-empty": "/compare",
    "progress": "/progress",
    "place": f"/place?topic={VAE}",
    "place-empty": "/place",
    "demo": f"/demo?topic={coded(KL)}&seed=3",
    "demo-list": "/demo",
}
HEADINGS = {
    "explore": "ELBO (Evidence Lower Bound)",
    "explore-two-steps": "ELBO (Evidence Lower Bound)",
    "explore-section": "ELBO (Evidence Lower Bound)",
    "explore-map": "Variational Autoencoders (VAEs)",
    "topic": "ELBO (Evidence Lower Bound)",
    "topic-unknown": "No topic with this address",
    "ask": "Ask",
    "ask-comparison": "Ask",
    "ask-declined": "Ask",
    "ask-empty": "Ask",
    "path": "Study path",
    "path-empty": "Study path",
    "compare": "ELBO (Evidence Lower Bound)",
    "compare-authored": "Variational Autoencoders (VAEs)",
    "compare-empty": "Compare",
    "progress": "Progress",
    "place": "What do you know already?",
    "place-empty": "What do you know already?",
    "demo": "KL divergence: formula, sampling, and the two directions",
    "demo-list": "Demos",
}


def graph(page: Page) -> Page:
    expect(page.locator(READY)).to_be_visible()
    return page


def asked(page: Page, expression: str, *arguments: Any) -> Any:
    """Ask the picture's own window into its state."""
    return page.evaluate(f"(given) => window.__genatlas.graph.{expression}", list(arguments))


def click_node(page: Page, topic_id: str) -> None:
    at = asked(page, "rendered(given[0])", topic_id)
    page.mouse.click(at["x"], at["y"])


def inspected(page: Page, title: str) -> None:
    expect(page.locator(".st-key-inspector").get_by_role("heading", name=title, exact=True)).to_be_visible()


def addressed(page: Page, topic_id: str) -> None:
    expect(page).to_have_url(re.compile(rf"[?&]topic={re.escape(coded(topic_id))}(&|$)"))


# Every page, cold


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ADDRESSES)
def test_a_deep_link_opened_cold_shows_its_page(browser: Browser, app_url: str, name: str, theme: str) -> None:
    visitor = Visitor(browser, app_url, theme)
    page = visitor.open(ADDRESSES[name])
    expect(page.get_by_role("heading", name=HEADINGS[name], exact=True).first).to_be_visible()
    if name.startswith("explore") and name != "explore-map":
        graph(page)
    if name == "explore-map":
        expect(page.locator('.map[data-ready="1"]')).to_be_visible()
    if name == "demo":
        expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("3")
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{theme}.png")
    visitor.assert_no_fault()
    visitor.context.close()


# One visit to every page, by its own links


def test_a_walk_over_all_pages_asks_no_other_host_and_meets_no_fault(visitor: Visitor) -> None:
    page = graph(visitor.open("/"))
    navigation = page.get_by_test_id("stTopNavLinkContainer")
    for title, heading in [
        ("Topic", None),
        ("Ask", "Ask"),
        ("Compare", "Compare"),
        ("Study path", "Study path"),
        ("Demos", "Demos"),
    ]:
        navigation.filter(has_text=title).first.click()
        visitor.settled()
        if heading:
            expect(page.get_by_role("heading", name=heading, exact=True).first).to_be_visible()
        visitor.assert_no_fault()
    navigation.filter(has_text="Explore").first.click()
    visitor.settled()
    inspector = graph(page).locator(".st-key-inspector")
    title = inspector.get_by_role("heading").first.inner_text()
    inspector.get_by_role("link", name="Open").click()
    expect(page.get_by_role("heading", name=title, exact=True, level=1)).to_be_visible()
    page.get_by_role("link", name="Build a study path").click()
    expect(page.get_by_text("steps done")).to_be_visible()
    page.locator(".st-key-steps").get_by_role("link", name="Open").first.click()
    expect(page.locator(".st-key-next-steps")).to_be_visible()
    page.get_by_role("link", name="Show in the graph").click()
    graph(page)


# The picture


def test_a_click_on_a_node_turns_inspector_and_address_and_back_returns(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    inspected(page, "ELBO (Evidence Lower Bound)")
    click_node(page, PARENT)
    inspected(page, "Training Objectives")
    addressed(page, PARENT)
    page.go_back()
    inspected(page, "ELBO (Evidence Lower Bound)")
    addressed(page, ELBO)
    page.go_forward()
    inspected(page, "Training Objectives")


def test_a_double_click_opens_the_topic(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    at = asked(page, "rendered(given[0])", PARENT)
    page.mouse.dblclick(at["x"], at["y"])
    expect(page.get_by_role("heading", name="Training Objectives", level=1)).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["id"] == [PARENT]


def test_a_slow_double_click_opens_what_its_first_click_took(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    signature = page.locator(READY).get_attribute("data-sig") or ""
    click_node(page, PARENT)
    expect(page.locator(READY)).not_to_have_attribute("data-sig", signature)
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    expect(page.get_by_role("heading", name="Training Objectives", level=1)).to_be_visible()


def test_the_zoom_stays_when_a_click_leaves_the_picture_alone(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}&view=Section"))
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    zoom = asked(page, "zoom()")
    click_node(page, PARENT)
    inspected(page, "Training Objectives")
    visitor.settled()
    assert asked(page, "zoom()") == zoom
    page.get_by_role("button", name="Show all").click()
    assert asked(page, "zoom()") != zoom


def test_ten_clicks_keep_one_instance_of_the_picture(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    for number in range(10):
        # To and fro between the topic and its parent, which stand at different places: no two make a double click.
        other = (PARENT, ELBO)[number % 2]
        signature = page.locator(READY).get_attribute("data-sig") or ""
        click_node(page, other)
        expect(page.locator(READY)).not_to_have_attribute("data-sig", signature)
        addressed(page, other)
    assert asked(page, "created") == 1


def test_the_picture_works_by_keyboard(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    canvas = page.get_by_role("application")
    assert "ELBO" in (canvas.get_attribute("aria-label") or "")
    page.get_by_role("combobox", name="Find a topic").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if canvas.evaluate("element => element.getRootNode().activeElement === element"):
            break
    expect(canvas).to_be_focused()
    page.keyboard.press("ArrowUp")
    said = page.locator(".genatlas-graph .live").inner_text()
    assert said.startswith("Training Objectives, ")
    page.keyboard.press("Enter")
    inspected(page, "Training Objectives")
    zoom = asked(page, "zoom()")
    canvas.focus()
    page.keyboard.press("+")
    assert asked(page, "zoom()") > zoom
    page.keyboard.press("0")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".st-key-next-steps")).to_be_visible()


def test_the_picture_can_be_saved(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as PNG").click()
    assert saved.value.suggested_filename == "genatlas.png"
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


def test_leaving_and_returning_draws_the_picture_again(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    page.locator(".st-key-inspector").get_by_role("link", name="Open").click()
    expect(page.locator(".st-key-next-steps")).to_be_visible()
    page.get_by_role("link", name="Show in the graph").click()
    graph(page)
    inspected(page, "ELBO (Evidence Lower Bound)")
    assert ELBO in asked(page, "nodes()")


def test_the_search_box_finds_by_letters(visitor: Visitor) -> None:
    page = graph(visitor.open("/"))
    page.get_by_role("combobox", name="Find a topic").fill("evidence lower")
    page.get_by_role("option", name="ELBO (Evidence Lower Bound)").first.click()
    inspected(page, "ELBO (Evidence Lower Bound)")


def test_a_section_names_what_fits_and_more_when_zoomed_in(visitor: Visitor) -> None:
    page = graph(visitor.open("/?topic=generative-adversarial-networks&view=Section"))
    page.wait_for_function("() => window.__genatlas.graph.names().length > 0")
    far = asked(page, "names()")
    nodes = asked(page, "nodes()")
    assert {node for node in nodes if node.count("/") <= 1} <= set(far), "the highest topics have their names at once"
    assert len(far) < len(nodes)
    overlaps = asked(page, "overlaps()")
    assert overlaps == []
    for _ in range(2):  # further in, the middle of the tree has no topics left to name
        page.get_by_role("button", name="Zoom in").click()
    page.wait_for_function("far => window.__genatlas.graph.names().some((name) => !far.includes(name))", arg=far)
    assert asked(page, "overlaps()") == []


def test_on_a_narrow_screen_the_lists_come_first_and_the_picture_unfolds(visitor: Visitor) -> None:
    visitor.page.set_viewport_size({"width": 420, "height": 900})
    page = visitor.open(f"/?topic={coded(ELBO)}")
    inspected(page, "ELBO (Evidence Lower Bound)")
    canvas = page.get_by_role("application")
    expect(canvas).to_be_hidden()
    fold = page.get_by_role("button", name="Picture of the links")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.click()
    expect(canvas).to_be_visible()
    expect(fold).to_have_attribute("aria-expanded", "true")
    graph(page)
    click_node(page, PARENT)
    inspected(page, "Training Objectives")
    expect(canvas).to_be_visible()
    page.screenshot(path=PICTURES / "explore-narrow-light.png", full_page=True)


def test_the_picture_follows_a_change_of_theme(visitor: Visitor) -> None:
    page = graph(visitor.open(f"/?topic={coded(ELBO)}"))
    picture = page.locator(".genatlas-graph")
    expect(picture).not_to_have_class(re.compile("dark"))
    page.emulate_media(color_scheme="dark")
    expect(picture).to_have_class(re.compile("dark"))
    assert asked(page, "created") == 1


# The map


def test_no_name_on_the_map_is_cut_in_the_middle_of_a_line(visitor: Visitor) -> None:
    page = visitor.open("/?view=Whole+map")
    expect(page.locator('.map[data-ready="1"]')).to_be_visible()
    cut = page.locator(".map button:not(.head)").evaluate_all(
        """boxes => boxes.filter((box) => {
            const [inside, name] = [box.getBoundingClientRect(), box.firstChild.getBoundingClientRect()];
            return name.bottom > inside.bottom + 1 || name.right > inside.right + 1;
        }).map((box) => box.title)"""
    )
    assert cut == []


def test_the_map_is_entered_by_a_click_and_left_by_the_breadcrumb(visitor: Visitor) -> None:
    page = visitor.open("/?view=Whole+map")
    boxes = page.locator('.map[data-ready="1"]')
    boxes.get_by_role("button", name="Diffusion Models", exact=True).click(position={"x": 12, "y": 8})
    inspected(page, "Diffusion Models")
    expect(boxes.get_by_role("button", name="Language Models", exact=True)).to_have_count(0)
    page.locator(".st-key-crumbs").get_by_role("button", name="All topics").click()
    expect(boxes.get_by_role("button", name="Language Models", exact=True)).to_be_visible()


# Demos and files


def test_a_demo_runs_to_its_claims_and_shows_its_progress(visitor: Visitor) -> None:
    # A number of samples of its own for each run, so that no kept result answers instead.
    page = visitor.open(f"/demo?demo=gaussian-kl&samples=400000&seed={time.time_ns() % 10_000}")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_test_id("stProgress")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_role("heading", name="What it claims")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.get_by_text("(asked").first).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    page.screenshot(path=PICTURES / "demo-run-light.png", full_page=True)


def test_a_demo_can_be_stopped(visitor: Visitor) -> None:
    page = visitor.open(f"/demo?demo=vae-digits&seed={time.time_ns() % 10_000}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_test_id("stAlert").filter(has_text="cancel")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_a_placement_works_by_keys_alone(visitor: Visitor) -> None:
    page = visitor.open(f"/place?topic={VAE}")
    for number, key in ((1, "y"), (2, "n"), (3, "b")):
        expect(page.get_by_text(f"Question {number} of at most 12")).to_have_count(1)
        visitor.settled()
        page.keyboard.press(key)
    expect(page.get_by_text("Question 2 of at most 12")).to_have_count(1)
    visitor.settled()
    page.keyboard.press("e")
    expect(page.locator(".st-key-found")).to_contain_text("1 known as you say")
    page.keyboard.press("k")
    expect(page.get_by_test_id("stAlert").filter(has_text="Kept.")).to_be_visible()
    page.get_by_role("button", name="Take off what was inferred").click()
    expect(page.get_by_role("button", name="Keep", exact=False)).to_be_visible()
    visitor.assert_no_fault()


def test_a_study_path_is_taken_along_as_files(visitor: Visitor) -> None:
    page = visitor.open(f"/path?goal={coded(ELBO)}")
    contents: dict[str, bytes] = {}
    for name in ("Markdown", "Calendar", "JSON"):
        with page.expect_download() as taken:
            page.get_by_role("button", name=name).click()
        contents[name] = taken.value.path().read_bytes()
    assert b"ELBO" in contents["Markdown"]
    assert contents["Calendar"].startswith(b"BEGIN:VCALENDAR")
    assert json.loads(contents["JSON"])["steps"][-1]["topic"] == ELBO
