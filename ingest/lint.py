"""What deserves a second look in a corpus that reads without a problem: form can be checked, sense only read."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from rapidfuzz import fuzz, process

from graph import NetworkXStore, Topic, transitive_prerequisites
from ingest.corpus import Corpus, Place
from ingest.problems import Problem

SUMMARY_WORDS = (40, 110)
FILLER = (
    "plays a crucial role",
    "plays a vital role",
    "powerful",
    "various",
    "in the field of",
    "it is important to note",
    "leverages",
    "state-of-the-art",
    "delve",
    "cutting-edge",
)
ALIKE = 88.0
"""Two summaries are near-duplicates from this token-set ratio on (0 to 100)."""

STALEST = 10


def lint(corpus: Corpus) -> list[Problem]:
    """Return remarks on a corpus, by file and line. None of them stops a build."""
    remarks = [*_texts(corpus), *_alike(corpus), *_edges(corpus), *_stale(corpus)]
    return sorted(set(remarks))


def _at(place: Place, what: str, instead: str = "") -> Problem:
    return Problem(place.file, place.line, what, instead)


def _texts(corpus: Corpus) -> Iterator[Problem]:
    for topic in corpus.atlas.topics:
        if not topic.summary:
            continue
        place = corpus.entries[topic.id]
        count = len(topic.summary.split())
        if not SUMMARY_WORDS[0] <= count <= SUMMARY_WORDS[1]:
            yield _at(place, f'the summary of "{topic.title}" has {count} words', "Between 40 and 110 is asked for.")
        text = f"{topic.summary} {topic.detail} {topic.misconception}".casefold()
        for phrase in FILLER:
            if re.search(rf"\b{re.escape(phrase)}\b", text):
                yield _at(place, f'"{phrase}" in "{topic.title}"', "Say what is so, with a number or a name.")
        yield from (_at(place, *remark) for remark in _gaps(topic))


def _gaps(topic: Topic) -> Iterator[tuple[str, str]]:
    bare = {f"what is {topic.title}".casefold(), f"what are {topic.title}".casefold()}
    if all(question.casefold().rstrip(" ?") in bare for question in topic.questions):
        yield f'"{topic.title}" has no question in other words than its title', "Add one as a learner would type it."
    if topic.depth <= 2 and not topic.detail:
        yield f'"{topic.title}" has no detail', "Topics down to the third level have a derivation, steps or an example."
    for name, missing in (("level", topic.level is None), ("minutes", topic.minutes is None), ("refs", not topic.refs)):
        if missing:
            yield f'"{topic.title}" has no {name}', ""


def _alike(corpus: Corpus) -> Iterator[Problem]:
    written = [topic for topic in corpus.atlas.topics if topic.summary]
    texts = [topic.summary for topic in written]
    scores = process.cdist(texts, texts, scorer=fuzz.token_set_ratio, score_cutoff=ALIKE)
    for row, topic in enumerate(written):
        for column in range(row):
            if scores[row][column]:
                other = written[column]
                what = f'the summaries of "{topic.id}" and "{other.id}" are nearly the same'
                yield _at(corpus.entries[topic.id], what, "Say what is special to each, or join them in concepts.yaml.")


def _edges(corpus: Corpus) -> Iterator[Problem]:
    store = NetworkXStore(corpus.atlas)
    after_of: dict[str, list[str]] = defaultdict(list)
    for edge in corpus.atlas.prerequisites:
        after_of[edge.after].append(edge.before)
        titles = f"{store.topic(edge.before).title} {store.topic(edge.after).title}"
        if not _words(edge.why) - _words(titles):
            yield _at(
                corpus.edges[edge.before, edge.after],
                "the reason only repeats the titles",
                "Say what is needed for what.",
            )
    for after, befores in after_of.items():
        implied = {before: {edge.before for edge in transitive_prerequisites(store, before)} for before in befores}
        for before in befores:
            via = next((other for other in befores if other != before and before in implied[other]), None)
            if via is not None:
                what = f'"{before}" is implied already, through "{via}"'
                yield _at(corpus.edges[before, after], what, "Keep it only if its reason is another one.")


def _words(text: str) -> set[str]:
    little = {
        "the",
        "a",
        "an",
        "of",
        "is",
        "are",
        "in",
        "to",
        "for",
        "and",
        "needs",
        "need",
        "uses",
        "requires",
        "on",
        "it",
    }
    return set(re.findall(r"\w+", text.casefold())) - little


def _stale(corpus: Corpus) -> Iterable[Problem]:
    dated = sorted((topic.as_of, topic.id) for topic in corpus.atlas.topics if topic.as_of)
    for as_of, topic_id in dated[:STALEST]:
        yield _at(
            corpus.entries[topic_id],
            f'"{topic_id}" is as of {as_of}',
            "Among the stalest: look whether it still holds.",
        )
