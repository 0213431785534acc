"""The search of the static site beside `genatlas search`, on the same judged questions, in the browser that runs it.

python -m bench.site_search [FILE…]        exports the atlas that serves to a temporary folder first
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from search.evaluation import DEPTH, GRADED, Judged, Outcome, estimates
from service import Service, open_service
from service.evaluate import evaluate, read_judged
from ui.website import write_site

QUESTIONS = Path(__file__).with_name("questions.jsonl")
MEASURES = ("hit@1", "hit@5", "mrr@10")
FIND = (
    "async questions => { const all = await open(); return questions.map(q => find(all, q).map(topic => topic.id)); }"
)


def main() -> None:
    """Measure both and print a table."""
    service = open_service()
    files = [Path(name) for name in sys.argv[1:]] or [QUESTIONS]
    judged = [each for file in files for each in read_judged(file) if each.grades]
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        write_site(service, site)
        here = _outcomes(service, judged, _ranked(site, [each.question for each in judged]))
    there = list(evaluate(service, judged).outcomes)
    print(f"{len(judged)} graded questions")
    for name, outcomes in (("the site's search", here), ("genatlas search", there)):
        found = estimates(outcomes, GRADED)
        print(f"{name:20}", *(f"{measure} {found[measure].mean:.3f}" for measure in MEASURES), sep="  ")


def _ranked(site: Path, questions: list[str]) -> list[list[str]]:
    """Topic ids for every question, best first, from the page itself."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.goto((site / "search.html").as_uri())
        ranked: list[list[str]] = page.evaluate(FIND, questions)
        browser.close()
    return ranked


def _outcomes(service: Service, judged: list[Judged], ranked: list[list[str]]) -> list[Outcome]:
    """As `genatlas search` counts: a topic's twins are one hit with it."""
    outcomes: list[Outcome] = []
    for each, ids in zip(judged, ranked, strict=True):
        leading = dict.fromkeys(service.store.canonical(topic_id).id for topic_id in ids[: 3 * DEPTH])
        outcomes.append(Outcome(each, tuple(leading)[:DEPTH], 0.0))
    return outcomes


if __name__ == "__main__":
    main()
