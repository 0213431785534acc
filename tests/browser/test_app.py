"""The app in a real browser: what only a browser can show."""

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
    "demo": "Demos",
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


def topic_in(address: str) -> str:
    return parse_qs(urlsplit(address).query).get("topic", [""])[0]


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
        expect(page.get_by_role("spinbutton", name="seed")).to_have_value("3")
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{theme}.png")
    visitor.assert_no_fault()
    visitor.context.close()
