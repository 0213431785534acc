"""What the shipped corpus promises its readers: every topic written, linked, cited, and reachable from a floor."""

from collections import Counter

import pytest

from graph import Atlas, Topic
from ingest import lint, read_corpus_with_places
from ingest.corpus import Corpus
from tests.ingest.folders import ROOT


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus_with_places(ROOT / "corpus")


@pytest.fixture(scope="module")
def atlas(corpus: Corpus) -> Atlas:
    return corpus.atlas


def missing(atlas: Atlas, what: str) -> list[str]:
    """Ids of topics whose field is empty."""
    return [topic.id for topic in atlas.topics if not getattr(topic, what)]


def test_it_holds_every_topic_of_the_outline(atlas: Atlas) -> None:
    outline = [topic for topic in atlas.topics if topic.origin == "outline"]
    assert len(outline) == 2063
    assert sum(topic.starred for topic in outline) == 159
    assert sum(topic.depth == 0 for topic in outline) == 12
    assert sum(topic.parent is not None for topic in outline) == 2051
    assert [topic.position for topic in atlas.topics] == list(range(len(atlas.topics)))


@pytest.mark.parametrize("what", ["summary", "questions", "level", "minutes", "refs", "demo"])
def test_every_topic_has_its(atlas: Atlas, what: str) -> None:
    assert missing(atlas, what) == []


def test_topics_down_to_the_third_level_have_a_detail_and_outcomes(atlas: Atlas) -> None:
    high = [topic for topic in atlas.topics if topic.depth <= 2]
    assert [topic.id for topic in high if not topic.detail] == []
    assert [topic.id for topic in high if not topic.outcomes] == []


def test_every_topic_but_true_starting_points_needs_something(atlas: Atlas) -> None:
    """A starting point is a foundation, or stands in the section that introduces the field."""
    held = {edge.after for edge in atlas.prerequisites}

    def needs_something(topic: Topic) -> bool:
        parts = topic.id.split("/")
        return any("/".join(parts[:length]) in held for length in range(1, len(parts) + 1))

    floor = ("foundations", "generative-ai-fundamentals")
    assert [t.id for t in atlas.topics if t.section not in floor and not needs_something(t)] == []


def test_it_has_what_the_readme_counts(atlas: Atlas) -> None:
    assert len(atlas.prerequisites) >= 1_200
    assert len(atlas.comparisons) >= 400
    assert len(atlas.references) >= 350
    assert sum(len(topic.questions) for topic in atlas.topics) >= 4_500
    assert sum(aspect.measured is not None for c in atlas.comparisons for aspect in c.aspects) >= 60


def test_no_two_topics_ask_the_same_question(atlas: Atlas) -> None:
    asked = Counter(question.casefold().strip(" ?") for topic in atlas.topics for question in topic.questions)
    assert [question for question, count in asked.items() if count > 1] == []


@pytest.mark.parametrize(
    "remark",
    [
        "words",  # a summary out of bounds
        '" in "',  # a filler phrase
        "no question in other words",
        "is the title itself",
        "belongs to",  # an alias with two owners
        "nearly the same",  # two summaries
        "only repeats the titles",
        "the same reason stands",
        "cited nowhere",
    ],
)
def test_the_lint_has_no_remark_of_this_kind(corpus: Corpus, remark: str) -> None:
    assert [str(found) for found in lint(corpus) if remark in found.what] == []
