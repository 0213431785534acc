import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from graph import Topic
from tests.browser.conftest import Visitor, serving
from tests.browser.formulas import written_topics

AT_ONCE = 150
TOPICS: list[Topic] = written_topics()


@pytest.fixture(scope="module")
def formulas(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A visitor of the page that typesets formulas."""
    log = tmp_path_factory.mktemp("formulas") / "server.log"
    options = ["--server.headless", "true", "--server.fileWatcherType", "none", "--browser.gatherUsageStats", "false"]
    command = [sys.executable, "-m", "streamlit", "run", "tests/browser/formulas.py", *options]
    with serving(command, {}, log) as url:
        visitor = Visitor(browser, url)
        yield visitor
        visitor.context.close()


@pytest.mark.parametrize("start", range(0, len(TOPICS), AT_ONCE))
def test_every_formula_of_the_corpus_is_typeset(formulas: Visitor, start: int) -> None:
    """In the real page: KaTeX shows what it cannot read in red instead of failing."""
    some = TOPICS[start : start + AT_ONCE]
    page = formulas.open(f"/?from={start}&to={start + AT_ONCE}")
    for topic in some[-1:]:
        page.locator(f".st-key-topic-{topic.position} .katex").first.wait_for()
    unread, unknown = ".katex-error", '.katex [mathcolor="#cc0000"]'  # the second: a command that KaTeX does not know
    faults = page.locator(f"{unread}, {unknown}").evaluate_all(
        """found => found.map(each => /st-key-topic-\\d+/.exec(each.closest('[class*=st-key-topic]').className)
            + ': ' + (each.title || each.textContent))"""
    )
    assert faults == []
    typeset = page.locator(".katex").evaluate_all(
        "found => found.map(each => /st-key-topic-(\\d+)/.exec(each.closest('[class*=st-key-topic]').className)[1])"
    )
    missing = {str(topic.position): topic.id for topic in some}
    assert [topic_id for position, topic_id in missing.items() if position not in typeset] == []
    formulas.assert_no_fault()
