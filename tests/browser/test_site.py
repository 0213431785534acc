"""The static site in a real browser: the search, formulas, themes and small screens."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PICTURES, Visitor

ELBO = "/topics/variational-autoencoders/training-objectives/elbo.html"
SCALING = "Scaling by √dₖ"
PAGES = {
    "start": "/index.html",
    "topic": ELBO,
    "section": "/topics/variational-autoencoders.html",
    "long-formula": "/topics/foundations/neural-networks/multilayer-perceptron.html",
    "comparison": "/comparisons/masked-vs-causal-language-modeling.html",
    "demo": "/demos/scaled-dot-product-attention.html",
    "outline": "/outline.html",
    "search": "/search.html?q=elbo",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        pass


@pytest.fixture(scope="module")
def site_url(built_site: Path) -> Iterator[str]:
    """The site behind a plain file server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built_site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def reader(browser: Browser, site_url: str) -> Iterator[Visitor]:
    """Somebody who reads the site, and whose visit must end without a fault."""
    someone = Visitor(browser, site_url)
    someone.page.on("console", lambda said: someone.faults.extend([said.text] if said.type == "error" else []))
    yield someone
    someone.assert_no_fault()
    someone.context.close()


def first_hit(page: Page) -> str:
    return page.locator("#results li a").first.inner_text()


@pytest.mark.parametrize(
    ("query", "title"),
    [("elbo", "ELBO (Evidence Lower Bound)"), ("why divide by sqrt d_k", SCALING), ("why divide by √dₖ", SCALING)],
)
def test_the_search_finds(reader: Visitor, query: str, title: str) -> None:
    page = reader.page
    page.goto(f"{reader.url}/index.html")
    page.get_by_role("searchbox").fill(query)
    page.keyboard.press("Enter")
    expect(page.locator("#results li a").first).to_have_text(title)
    page.locator("#results li a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)


def test_the_search_follows_what_is_typed_and_says_how_much_it_found(reader: Visitor) -> None:
    page = reader.page
    page.goto(f"{reader.url}/search.html")
    field, status = page.get_by_role("searchbox"), page.get_by_role("status")
    expect(status).to_contain_text("Ask in words")
    field.fill("mode colapse")
    expect(page.locator("#results li a").first).to_have_text("Mode Collapse")
    expect(status).to_contain_text("for “mode colapse”")
    field.fill("zzzzqqqq")
    expect(status).to_have_text("No topic for “zzzzqqqq”")
    expect(page.locator("#results li")).to_have_count(0)
    assert page.url.endswith("?q=zzzzqqqq")


def test_the_data_of_the_search_comes_when_somebody_searches(reader: Visitor) -> None:
    asked: list[str] = []
    reader.page.on("request", lambda request: asked.append(request.url))
    for address in (PAGES["topic"], "/search.html"):
        reader.page.goto(reader.url + address)
    assert not [url for url in asked if "search-data" in url or "minisearch" in url]


def test_the_site_works_from_a_disk(browser: Browser, built_site: Path) -> None:
    page = browser.new_page()
    page.goto(f"{(built_site / 'search.html').as_uri()}?q=elbo")
    expect(page.locator("#results li a").first).to_have_text("ELBO (Evidence Lower Bound)")
    page.locator("#results li a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ELBO (Evidence Lower Bound)")
    assert page.evaluate("getComputedStyle(document.querySelector('.columns')).display") == "grid"
    page.close()


def test_a_page_is_read_without_scripts(browser: Browser, site_url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site_url + ELBO)
    box = page.locator(".formula math").first.bounding_box()
    assert box is not None
    assert box["height"] > 30  # a fraction was drawn, not a line of letters
    page.goto(f"{site_url}/search.html")
    page.get_by_role("link", name="All topics").last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("All topics")
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_the_screen_of_a_phone(reader: Visitor, name: str) -> None:
    page = reader.page
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(reader.url + PAGES[name])
        if name == "search":
            expect(page.locator("#results li")).not_to_have_count(0)
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"site-{name}-{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_is_the_readers(browser: Browser, site_url: str) -> None:
    papers: list[str] = []
    for theme in ("light", "dark"):
        visitor = Visitor(browser, site_url, theme)
        visitor.page.goto(site_url + ELBO)
        papers.append(visitor.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        visitor.context.close()
    assert papers == ["rgb(255, 255, 255)", "rgb(15, 18, 32)"]


def test_the_keyboard_skips_to_the_content_and_shows_where_it_is(reader: Visitor) -> None:
    page = reader.page
    page.goto(reader.url + ELBO)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Variational Autoencoders (VAEs)").first).to_be_focused()
